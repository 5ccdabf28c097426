"""The file of a database as the system sees it: is it there, is it a file.

Knows nothing of what is in it. Called by ``reading`` and ``migrate``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hypershell.errors import StoreError

__all__ = ["ANOTHER", "check_file"]

ANOTHER = "name another file with --db PATH"


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
