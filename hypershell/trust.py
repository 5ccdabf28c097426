"""Who else has a hand in a file: its owner, its mode, and the links on the way to it.

Looks at files and changes nothing. On Windows, where owners are not numbers, everybody is trusted.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

__all__ = ["SHARED_WRITE", "followed", "is_exposed", "is_foreign", "open_to", "owner_of"]

#: Bits of a mode with which group or others may write.
SHARED_WRITE = stat.S_IWGRP | stat.S_IWOTH

_SEARCH = stat.S_IXGRP | stat.S_IXOTH

#: Links on one way (Linux allows as many, path_resolution(7)).
_MOST_LINKS = 40


def is_foreign(found: os.stat_result) -> bool:
    """Whether a file belongs neither to us nor to root, who could do everything anyway."""
    return sys.platform != "win32" and found.st_uid not in (os.geteuid(), 0)


def owner_of(found: os.stat_result) -> str:
    """Who owns a file, for a message: name and number."""
    try:
        import pwd

        return f"{pwd.getpwuid(found.st_uid).pw_name} (uid {found.st_uid})"
    except (ImportError, KeyError):
        return f"uid {found.st_uid}"


def open_to(found: os.stat_result, allowed: int) -> int:
    """The bits for group and others in the mode of a file that are not in `allowed`."""
    return 0 if sys.platform == "win32" else stat.S_IMODE(found.st_mode) & 0o077 & ~allowed


def is_exposed(path: str) -> bool:
    """Whether another user gets as far as `path`: no folder above it keeps all others out."""
    above = os.path.dirname(os.path.realpath(path))
    while os.stat(above).st_mode & _SEARCH:
        if above == os.path.dirname(above):
            return True
        above = os.path.dirname(above)
    return False


def followed(path: str) -> str:
    """The real path of `path`, where the links on the way may be followed to write; nothing needs to be there.

    A link counts that is ours or root's. One of another user is refused where it stands for the file itself; as a
    folder on the way it counts only where its owner alone could have put it there (so are the folders of projects
    made), never in a folder that others may write (``/tmp``).

    Raises:
        OSError: a link is refused, or there are too many.
    """
    whole = os.path.abspath(path)
    if sys.platform == "win32" or os.path.realpath(path) == whole:
        return os.path.realpath(path)
    todo = os.path.join(os.getcwd(), path).split("/")[::-1]
    here, links = "/", 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        place = os.path.join(here, name)
        try:
            found = os.lstat(place)
        except OSError:  # what is not there is made, or told of by whoever opens it
            here = place
            continue
        if not stat.S_ISLNK(found.st_mode):
            here = place
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        _check_link(place, found, os.stat(here), is_last=not any(todo))
        target = os.readlink(place)
        here = "/" if target.startswith("/") else here
        todo.extend(target.split("/")[::-1])
    return here


def _check_link(place: str, link: os.stat_result, folder: os.stat_result, is_last: bool) -> None:
    if not is_foreign(link):
        return
    if not is_last and link.st_uid == folder.st_uid and not folder.st_mode & SHARED_WRITE:
        return
    raise OSError(
        errno.ELOOP, f"the link {place} belongs to {owner_of(link)}: if you mean that, name where it leads to"
    )
