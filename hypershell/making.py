"""Making files and folders: with their mode whatever the umask, under names that nobody can guess, through no link.

Knows nothing of what is in them. Called by whoever writes.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress

__all__ = ["NO_LINK", "OLD", "PRIVATE_FILE", "PRIVATE_FOLDER", "beside", "make_folder", "open_new", "set_mode",
           "sweep", "without_links"]  # fmt: skip

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600

#: Makes a file that is new, or nothing. Nobody inherits it, Windows gives the bytes as they are.
_NEW = os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
#: A flag of open(2): fails where the last name of a path is a link.
NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)

#: Bytes of a name that are in the names beside it; a name may have 255.
_NAME_MOST = 200
#: Seconds without a change after which a file beside a name is that of a process that was killed.
OLD = 86_400.0


def open_new(path: str, mode: int | None = PRIVATE_FILE, flags: int = os.O_RDWR) -> int:
    """A descriptor of the new file `path`, which has just this `mode`; None: as the umask says.

    Raises ``FileExistsError`` where anything has that name, a link to nothing too, and other ``OSError``.
    """
    fd = os.open(path, flags | _NEW | NO_LINK, 0o666 if mode is None else mode)
    if mode is not None and mode & 0o077:  # of these the umask takes
        set_mode(fd, mode)
    return fd


def beside(path: str, mode: int | None = PRIVATE_FILE) -> tuple[int, str]:
    """A new file in the folder of `path`, to be renamed to it: its descriptor and name; `mode` as `open_new`."""
    name = _beside(path, os.urandom(8).hex())
    return open_new(name, mode), name


def sweep(path: str, age: float = OLD) -> None:
    """Remove what killed processes of ours left `beside` `path` at least `age` seconds ago; never fails."""
    head, tail = map(re.escape, os.path.basename(_beside(path, "\0")).split("\0"))
    pattern = re.compile(f"{head}[0-9a-f]{{16}}{tail}(-journal)?")
    limit = time.time() - age
    with suppress(OSError), os.scandir(os.path.dirname(path) or ".") as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                with suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and found.st_mtime <= limit and _is_ours(found):
                        os.unlink(entry.path)


def _beside(path: str, middle: str) -> str:
    folder, name = os.path.split(path)
    short = os.fsdecode(os.fsencode(name)[:_NAME_MOST])
    return os.path.join(folder, f".{short}.{middle}.partial")


def _is_ours(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def make_folder(path: str, mode: int = PRIVATE_FOLDER) -> bool:
    """Make the folder `path` and what is above it, each with just this `mode`; False where it is there.

    Raises ``OSError``.
    """
    try:
        os.mkdir(path, mode)
    except FileNotFoundError:
        above = os.path.dirname(path.rstrip(os.sep))
        if not above or above == path:
            raise
        make_folder(above, mode)
        return make_folder(path, mode)
    except OSError:  # on some read-only file systems also of a folder that is there
        if not os.path.isdir(path):
            raise
        return False
    if mode & 0o077:
        set_mode(path, mode)
    return True


def set_mode(file: int | str, mode: int) -> None:
    """Give a file or folder of ours the permissions `mode`, where its file system has any.

    A folder goes on handing its group down (the setgid bit), where it does.
    """
    if os.name == "nt":
        return
    with suppress(OSError):
        os.chmod(file, mode | os.stat(file).st_mode & stat.S_ISGID)


def without_links(path: str, flags: int) -> int:
    """An ``opener`` for `open` that fails where `path` is a link, such as somebody else put there meanwhile."""
    return os.open(path, flags | NO_LINK, 0o666)
