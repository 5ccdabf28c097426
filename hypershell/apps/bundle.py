"""``hs bundle OUT``: hypershell and its dependencies in one file, from which ranks start without a search.

Owns the format: a zip file that Python runs, with sources, code and an index (``apps.bundle_entry``).
"""

from __future__ import annotations

import logging
import marshal
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from typing import IO

from hypershell.apps import bundle_entry
from hypershell.errors import ExitStatus, UsageError
from hypershell.making import beside, sweep
from hypershell.trust import SHARED_WRITE, followed

__all__ = ["collect_files", "main", "parse_bundle", "write_bundle"]

log = logging.getLogger("hypershell")

_OURS = "hypershell-mpi"
_COMPILED = (".so", ".pyd", ".dylib", ".dll")
#: Linux reads so many bytes of a first line (execve(2)).
_LONGEST_FIRST_LINE = 250
#: ``cmdkit[toml]>=2.7; python_version > "3"``: name and extras; and the extra for which a line is meant.
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_ENTRY = "apps/bundle_entry.py"


def main(argv: Sequence[str]) -> int:
    """Run ``hs bundle ARGV``; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    target = parse_bundle(argv)
    modules, paths = write_bundle(target)
    log.info("Wrote %s: %d modules, %.1f MiB", target, modules, target.stat().st_size / 2**20)
    log.info("Compiled packages are taken from %s", ", ".join(paths))
    return ExitStatus.SUCCESS


def parse_bundle(argv: Sequence[str]) -> Path:
    """The file to write; raises as `hypershell.apps.frame.parse`."""
    from hypershell.apps.frame import configure, parse_arguments

    given = parse_arguments("bundle", argv)
    configure("bundle", given)
    if "bundle" not in given:
        raise UsageError("the following arguments are required: OUT, the file to write (hs.pyz)")
    return Path(str(given["bundle"]))


def write_bundle(target: Path) -> tuple[int, list[str]]:
    """Write the file, whole or not at all; how many modules it holds, and where the compiled packages are.

    Raises `UsageError` where the target is there and no bundle.
    """
    if target.exists() and not zipfile.is_zipfile(target):
        raise UsageError(f"{target} is there and no bundle: choose another name, or remove it")
    files, paths = collect_files()
    try:
        place = os.path.join(followed(str(target.parent)), target.name)
        sweep(place)
        descriptor, name = beside(place, None)
        with os.fdopen(descriptor, "w+b") as new:
            try:
                modules = _write(new, files, paths, os.path.abspath(target))
                new.flush()
                mode = os.fstat(descriptor).st_mode
                os.chmod(name, (mode | (mode & 0o444) >> 2) & ~SHARED_WRITE)  # who may read it may run it
                os.replace(name, place)
            except BaseException:
                os.unlink(name)
                raise
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror or error}") from None
    return modules, paths


def collect_files() -> tuple[dict[str, Path], list[str]]:
    """The files of ourselves and of dependencies without compiled code, by their names in the bundle.

    And the folders in which the other dependencies are.
    """
    import hypershell

    folder = Path(hypershell.__path__[0])
    files = {f"hypershell/{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*.py"))}
    paths: dict[str, None] = {}
    for dist in _dependencies():
        contents = dist.files or []
        if not contents or any(str(path).endswith(_COMPILED) for path in contents):
            paths[os.path.abspath(str(dist.locate_file("")))] = None
            continue
        for path in contents:
            name = path.as_posix()
            if not name.startswith("..") and name.endswith((".py", ".dist-info/METADATA")):
                files[name] = Path(str(dist.locate_file(path)))
    return {name: path for name, path in files.items() if path.is_file()}, list(paths)


def _dependencies() -> Iterator[Distribution]:
    """What we need, and what that needs, as far as it is installed."""
    todo: list[tuple[str, frozenset[str]]] = [(_OURS, frozenset())]
    seen = set(todo)
    named: set[str] = set()
    while todo:
        name, extras = todo.pop()
        try:
            dist = distribution(name)
        except PackageNotFoundError:  # for another system or version
            continue
        if name != _OURS and name not in named:
            named.add(name)
            yield dist
        for line in dist.requires or ():
            match = _REQUIREMENT.match(line)
            extra = _EXTRA.search(line)
            if match is None or (extra is not None and extra.group(1) not in extras):
                continue
            wanted = (match.group(1).lower(), frozenset((match.group(2) or "").replace(" ", "").split(",")))
            if wanted not in seen:
                seen.add(wanted)
                todo.append(wanted)


def _write(out: IO[bytes], files: dict[str, Path], paths: list[str], place: str) -> int:
    """Write a bundle that will be at `place`."""
    out.write(_first_line())
    modules: dict[str, tuple[bool, str, int, int]] = {}
    with zipfile.ZipFile(out, "w") as archive:
        for name, path in files.items():
            data = path.read_bytes()
            _add(archive, name, data, zipfile.ZIP_DEFLATED)  # read for tracebacks only
            if name.endswith(".py"):
                compiled = _compiled(data, f"{place}/{name}")
                code = _add(archive, f"{name}c", compiled)
                module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                is_package = name.endswith("/__init__.py")
                modules[module] = (is_package, name, code + 16, len(compiled) - 16)
                if name == f"hypershell/{_ENTRY}":
                    _add(archive, "__main__.pyc", compiled)
        index = {"made_for": sys.implementation.cache_tag, "modules": modules, "paths": paths}
        _add(archive, bundle_entry.INDEX, marshal.dumps(index))
    return len(modules)


def _first_line() -> bytes:
    line = f"#!{sys.executable}\n".encode()
    if len(line) > _LONGEST_FIRST_LINE or b" " in line:
        return b"#!/usr/bin/env python3\n"
    return line


def _add(archive: zipfile.ZipFile, name: str, data: bytes, how: int = zipfile.ZIP_STORED) -> int:
    """Add a file; where its bytes begin."""
    info = zipfile.ZipInfo(name)  # of a fixed date: equal contents make equal bundles
    info.compress_type = how
    archive.writestr(info, data)
    return info.header_offset + len(info.FileHeader())


def _compiled(source: bytes, name: str) -> bytes:
    """What a ``.pyc`` holds (PEP 552), not to be compared with any source: 16 bytes, then the code."""
    code = compile(source, name, "exec", dont_inherit=True)
    return MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source) + marshal.dumps(code)
