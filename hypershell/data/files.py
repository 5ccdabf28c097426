"""The file of a database as the system sees it: what it is, and what keeps it from being opened or written.

SQLite says that it cannot, but not why; the reason is looked for here. Knows nothing of what is in the file. Called
by ``engine``, ``reading`` and ``migrate``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hypershell.errors import StoreError
from hypershell.room import Spare, descriptor_limit, file_limit

__all__ = ["ANOTHER", "check_file", "denied", "folder_denied", "is_full", "is_too_large", "no_descriptors", "obstacle"]

ANOTHER = "name another file with --db PATH"

#: Bytes that SQLite needs at once for the index of a write-ahead log and its first pages.
_ROOM = 64 * 1024

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


def is_too_large(path: Path) -> int | None:
    """The limit on the size of files (bytes), where the database or its journal has reached it; else None."""
    limit = file_limit()
    if limit is None:
        return None
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            if os.stat(f"{path}{suffix}").st_size + _ROOM > limit:
                return limit
        except OSError:
            pass
    return None


def no_descriptors() -> str | None:
    """Where too few descriptors are left for a database, a text that says so."""
    spare = Spare(_DESCRIPTORS)
    missing = len(spare) < _DESCRIPTORS
    spare.give()
    return f"no file descriptor is left (ulimit -n is {descriptor_limit()}): raise the limit" if missing else None


def _is_readonly(path: Path) -> bool:
    try:
        return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False
