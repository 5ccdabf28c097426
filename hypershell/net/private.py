"""Files that nobody else may read: keys, certificates, connect files. Written whole or not at all."""

from __future__ import annotations

import os
import stat
import sys

from hypershell.errors import ConfigError
from hypershell.making import beside, sweep
from hypershell.smallfile import read_small
from hypershell.trust import followed

__all__ = ["check_private", "read_private", "write_private"]

#: Nobody inherits it, a pipe does not make us wait, Windows gives the bytes as they are.
_WAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_private(path: str, what: str, most: int) -> bytes:
    """The content of a file that only its owner may read.

    :param what: what it is, for texts.
    :param most: bytes; a longer file is none of ours.
    Raises ``ConfigError`` where it cannot be read, is no regular file, is too long, or where others can read it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | _WAYS)
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from None
    try:
        check_private(path, what, os.fstat(fd))
        return read_small(fd, path, what, most)
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from None
    finally:
        os.close(fd)


def check_private(path: str, what: str, found: os.stat_result, forbidden: int = 0o077) -> None:
    """Raises ``ConfigError`` unless `found` is a regular file of ours (or root's) that others cannot touch.

    :param forbidden: the bits of the mode that others must not have.
    """
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"the {what} {path} is no regular file")
    if sys.platform == "win32":
        return
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"the {what} {path} belongs to another user (uid {found.st_uid})")
    if found.st_mode & forbidden:
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError(f"the {what} {path} can be read by others (mode {mode:04o}): chmod 600 {path}")


def write_private(path: str, data: bytes, *, keep: bool = False) -> None:
    """Write `path` with mode 0600 so that any reader sees the old content or the new one, whole.

    :param keep: where the file is already there, or another process is faster, its content stays.
    Raises ``OSError``.
    """
    folder, name = os.path.split(os.path.abspath(path))
    path = os.path.join(followed(folder), name)  # a link that has the name itself is replaced
    sweep(path)
    fd, temporary = beside(path)
    try:
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if keep:
                _publish(temporary, path)
            else:
                os.replace(temporary, path)
        finally:
            _remove(temporary)
    except FileExistsError:
        if not keep:
            raise


def _publish(temporary: str, path: str) -> None:
    """Give `temporary` its name unless somebody has it; raises ``FileExistsError``. Atomic, on NFS too."""
    if sys.platform == "win32":
        os.rename(temporary, path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the last one wins, whole
        if os.path.exists(path):
            raise FileExistsError(path) from None
        os.replace(temporary, path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # it has its name
