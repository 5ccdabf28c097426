"""The file of a database as the system sees it: what it is, and what keeps it from being opened or written.

SQLite says that it cannot, but not why; the reason is looked for here. Knows nothing of what is in the file. Called
by ``engine``, ``reading`` and ``migrate``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hypershell.errors import StoreError
from hypershell.room import file_limit, lack, shortage

__all__ = [
    "ANOTHER",
    "FILES",
    "SQL_PATH",
    "check_file",
    "denied",
    "folder_denied",
    "is_full",
    "no_descriptors",
    "no_room",
    "obstacle",
]

ANOTHER = "name another file with --db PATH"

#: A path in SQL whose parameter is bytes: Python gives sqlite3 no text that is not UTF-8.
SQL_PATH = "CAST(? AS TEXT)"

#: Bytes that SQLite needs at once for the index of a write-ahead log and its first pages.
_ROOM = 64 * 1024

#: A database and what may lie beside it.
FILES = ("", "-wal", "-shm", "-journal")

#: Descriptors that SQLite may need at once: the file, its journal, the index of that, the folder.
_DESCRIPTORS = 4


def check_file(path: Path, way_out: str = ANOTHER) -> None:
    """Make sure that `path` is a file and there. SQLite would wait for ever for the other end of a FIFO.

    Raises:
        StoreError: with the path, what is wrong and `way_out`.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise StoreError(f"database {path} {_missing(path)}; {way_out}") from None
    except OSError as error:
        raise StoreError(f"database {path}: {error.strerror}; {way_out}") from error
    if stat.S_ISDIR(mode):
        raise StoreError(f"database {path} is a directory; {way_out}")
    if not stat.S_ISREG(mode):
        raise StoreError(f"database {path} is not a regular file; {way_out}")


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"is a symbolic link to {os.path.realpath(path)}, which does not exist"
    return "does not exist"


def denied(path: Path, mode: int) -> str | None:
    """Why the system forbids `mode` (of access(2)); None where it allows it."""
    if os.access(path, mode):
        return None
    return "read-only file system" if mode & os.W_OK and _is_readonly(path) else "permission denied"


def folder_denied(path: Path) -> str | None:
    """Why SQLite cannot make its journal beside the file `path`; None where it can, or the journal is there."""
    if all(os.access(f"{path}{suffix}", os.W_OK) for suffix in ("-wal", "-shm")):
        return None
    reason = denied(path.parent, os.W_OK | os.X_OK)
    return reason and f"SQLite needs its journal beside it, and folder {path.parent} is not writable ({reason})"


def obstacle(path: Path, is_writing: bool) -> str | None:
    """What keeps SQLite from opening or writing `path`, None where nothing is seen."""
    path = Path(os.path.realpath(path))
    if not os.path.lexists(path):
        return None if os.access(path.parent, os.X_OK) and path.parent.is_dir() else _unreachable(path.parent)
    file = denied(path, os.R_OK) or (denied(path, os.W_OK) if is_writing else None)
    return file or folder_denied(path) or ("no space is left on its disk" if is_full(path) else None)


def _unreachable(folder: Path) -> str:
    return f"folder {folder}: permission denied" if os.path.lexists(folder) else f"folder {folder} does not exist"


def is_full(path: Path) -> bool:
    """Whether the file system of `path` has no room left for SQLite's files. A quota is not seen."""
    if not hasattr(os, "statvfs"):
        return False
    try:
        status = os.statvfs(path)
    except OSError:
        return False
    # Some file systems have no fixed number of files and say 0.
    no_files_left = status.f_files > 0 and status.f_favail == 0
    return status.f_bavail * status.f_frsize < _ROOM or no_files_left


def no_descriptors() -> str | None:
    """What is said where too few descriptors are left to open a database; None where there are enough."""
    error = shortage(_DESCRIPTORS)
    return None if error is None else lack(error)


def no_room(path: Path) -> str | None:
    """What keeps SQLite from letting `path` grow, or from its temporary files; None where nothing is seen."""
    limit = file_limit()
    if limit is not None and any(_size(f"{path}{suffix}") + _ROOM > limit for suffix in FILES):
        return f"cannot grow: a file may have {limit} bytes here (ulimit -f); raise the limit, or {ANOTHER}"
    # Also for the index of a write-ahead log that could not grow, even for a reader.
    if is_full(path):
        return f"cannot be read or written: no space is left on its disk; make room, or {ANOTHER}"
    folder = temporary_folder()
    if is_full(folder):
        return f"needs a temporary file: no space is left in {folder}; make room, or name another folder in TMPDIR"
    return None


def temporary_folder() -> Path:
    """Where SQLite puts what it sorts and copies (https://www.sqlite.org/tempfiles.html, section 5)."""
    named = (os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR"))
    for folder in (*named, "/var/tmp", "/usr/tmp", "/tmp"):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    return Path(".")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _is_readonly(path: Path) -> bool:
    try:
        return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
