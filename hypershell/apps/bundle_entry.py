"""The first code of a bundle (``hs bundle``), where it is ``__main__``; not imported anywhere else.

The interpreter's own importer of zip files opens the file anew for each module. This one opens it once, and takes
the code of a module from where the index says; nothing is searched for. What the bundle does not hold, compiled
packages, is found by the paths that it has recorded.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

__all__ = ["INDEX", "Bundle", "start"]

#: The entry with the index: what `Bundle` takes, and the interpreter that it was made for.
INDEX = "bundle.marshal"


class Bundle:
    """Finds and loads the modules of a bundle.

    :param archive: its path.
    :param modules: name -> whether a package, path inside, where its code begins, and its size.
    """

    def __init__(self, archive: str, modules: dict[str, tuple[bool, str, int, int]]) -> None:
        self.archive = archive
        self._modules = modules
        self._fd = _open_above_2(archive)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Called by ``import``."""
        known = self._modules.get(name)
        if known is None:
            return None
        place = f"{self.archive}/{known[1]}"
        spec = ModuleSpec(name, self, origin=place, is_package=known[0])  # type: ignore[arg-type]
        spec.has_location = True
        if known[0]:
            spec.submodule_search_locations = [place.rpartition("/")[0]]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The usual one."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the code of a module."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        """The code of a module."""
        _, _, start, size = self._modules[name]
        code = marshal.loads(self._read(start, size))
        assert isinstance(code, CodeType)
        return code

    def get_source(self, name: str) -> str:
        """The source of a module, for tracebacks."""
        return self.get_data(self._modules[name][1]).decode("utf-8", "replace")

    def is_package(self, name: str) -> bool:
        """Whether a module has modules in it."""
        return self._modules[name][0]

    def get_filename(self, name: str) -> str:
        """Where a module is, as ``__file__``."""
        return f"{self.archive}/{self._modules[name][1]}"

    def get_data(self, path: str) -> bytes:
        """A file of the bundle that is no module."""
        from zipimport import zipimporter

        return zipimporter(self.archive).get_data(path)

    def _read(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):  # threads may import at the same time
            return os.pread(self._fd, size, start)
        with open(self.archive, "rb") as archive:
            archive.seek(start)
            return archive.read(size)


def _open_above_2(path: str) -> int:
    """Open a file to read, not with a number that a closed standard stream has left free."""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    if fd > 2:
        return fd
    higher = _open_above_2(path)
    os.close(fd)
    return higher


def start(loader: Any) -> None:
    """Make the modules of the bundle importable; ends the program where it is of another interpreter.

    :param loader: what has loaded us from the bundle.
    """
    index = marshal.loads(loader.get_data(INDEX))
    if index["made_for"] != sys.implementation.cache_tag:
        sys.exit(
            f"CRITICAL [hypershell] {loader.archive} was made for {index['made_for']}, this is "
            f"{sys.implementation.cache_tag} ({sys.executable}): make it again with this one (hs bundle)"
        )
    sys.meta_path.insert(0, Bundle(os.path.abspath(loader.archive), index["modules"]))
    sys.path.extend(path for path in index["paths"] if path not in sys.path)


if __name__ == "__main__":
    start(sys.modules["__main__"].__loader__)
    sys.exit(import_module("hypershell.__main__").main())
