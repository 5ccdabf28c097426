"""Whose the file of a database is, and who else may read or write it. Called by ``engine``.

Its tasks run as whoever schedules them: a row that somebody else could write is a command that somebody else could
give. SQLite makes what lies beside the file (``-wal``, ``-shm``, ``-journal``) with the mode of the file.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

from hypershell.data.files import ANOTHER, FILES
from hypershell.errors import StoreError
from hypershell.making import PRIVATE_FILE, open_new, set_mode
from hypershell.trust import SHARED_WRITE, followed, is_exposed, is_foreign, open_to, owner_of

__all__ = ["Sharing", "own"]

log = logging.getLogger("hypershell.data")


class Sharing(NamedTuple):
    """What is known of those who share a database."""

    mode: int | None = None
    """The mode that ``database.mode`` names; None: it is private, and other users are told of."""
    runs: bool = False
    """The tasks in it will run as us."""

    @property
    def is_shared(self) -> bool:
        """Whether somebody said that others have a hand in it."""
        return self.mode is not None and self.mode & 0o070 != 0


def own(path: Path, sharing: Sharing | None) -> None:
    """Make the file `path` where it is not there; else see whose it is and who may read or write it.

    Raises:
        StoreError: it cannot be made, a link to it is another user's, or it is and its tasks would run.
    """
    try:
        real = followed(str(path))
        if not _is_made(real, sharing) and sharing is not None and sys.platform != "win32":
            _look_at(real, path, sharing)
    except OSError as error:
        raise StoreError(f"database {path} cannot be opened: {error.strerror}; {ANOTHER}") from error


def _is_made(real: str, sharing: Sharing | None) -> bool:
    mode = PRIVATE_FILE if sharing is None or sharing.mode is None else sharing.mode
    try:
        os.close(open_new(real, mode))
    except FileExistsError:
        return False
    return True


def _look_at(real: str, path: Path, sharing: Sharing) -> None:
    for suffix in FILES:
        try:
            found = os.lstat(real + suffix)
        except FileNotFoundError:
            continue
        name = f"{path}{suffix}"
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"database {path}: {name} is no regular file: remove it, or {ANOTHER}")
        if is_foreign(found) and not sharing.is_shared:
            _name_owner(found, name, sharing)
        if sharing.mode is not None and found.st_uid == os.geteuid():
            set_mode(real + suffix, sharing.mode)
    if sharing.mode is None:
        _tell_openness(os.stat(real), real, path)


def _name_owner(found: os.stat_result, name: str, sharing: Sharing) -> None:
    text = f"database {name} belongs to another user, {owner_of(found)}"
    if sharing.runs:
        raise StoreError(
            f"{text}, who could have any command run as you: {ANOTHER}, or set database.mode to 0660 if you share "
            "it"
        )
    log.warning("%s; database.mode = 0660 says that you share it", text)


def _tell_openness(found: os.stat_result, real: str, path: Path) -> None:
    extra = open_to(found, 0)
    if extra and found.st_uid == os.geteuid() and is_exposed(real):
        can = "read and write" if extra & SHARED_WRITE else "read"
        log.warning(
            "other users can %s database %s (mode %04o): chmod 600 it, or set database.mode to share it",
            can, path, stat.S_IMODE(found.st_mode),
        )  # fmt: skip
