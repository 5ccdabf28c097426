"""Files that take a task's stdout and stderr byte for byte (``--capture``). Called by ``executor.loop``."""

from __future__ import annotations

import errno
import os

from hypershell.core.model import KEPT_MOST, Kept
from hypershell.executor.spawn import NotStarted, not_started
from hypershell.limits import move_above
from hypershell.making import NO_LINK, PRIVATE_FOLDER, make_folder, set_mode

__all__ = ["capture_paths", "kept_of", "open_again", "open_capture"]

#: No process inherits it by itself; Windows does not change its bytes.
_PRIVATE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

#: What means something else than a letter of a name, on one system or another.
_NO_NAMES = dict.fromkeys(map(ord, '/\\:\0'), "_")


def capture_paths(folder: str, id: str) -> tuple[str, str]:
    """Paths of stdout and stderr of the task `id`: ``folder/ab/cd/ID.out`` and ``.err``.

    ``ab`` and ``cd`` are the last four hex digits of the id, for those of neighbours differ (the first are a time).
    An id that is no file name cannot leave the folder.
    """
    digits = "".join(letter for letter in id if letter in "0123456789abcdefABCDEF")[-4:].rjust(4, "0").lower()
    name = id.translate(_NO_NAMES)
    stem = os.path.join(folder, digits[:2], digits[2:], name)
    return f"{stem}.out", f"{stem}.err"


def open_capture(
    paths: tuple[str, str], ceiling: int | None = None, folder_mode: int = PRIVATE_FOLDER
) -> tuple[int, int]:
    """Create both files, empty, and give their descriptors.

    :param ceiling: descriptors from this number on are for others.
    :param folder_mode: permissions of folders; those of the files are the same without x.
    :raises NotStarted: they cannot be created.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | _PRIVATE | NO_LINK
    mode = folder_mode & 0o666
    opened: list[int] = []
    try:
        for path in paths:
            try:
                opened.append(os.open(path, flags, mode))
            except FileNotFoundError:
                make_folder(os.path.dirname(path), folder_mode)
                opened.append(os.open(path, flags, mode))
            if mode & 0o077:  # of these the umask takes
                set_mode(opened[-1], mode)
            if ceiling is not None and opened[-1] >= ceiling:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    except (OSError, ValueError) as error:
        for fd in opened:
            os.close(fd)
        failed = f"cannot create {path}"
        if not isinstance(error, OSError):
            raise NotStarted(f"{failed}: {error}") from None
        raise not_started(failed, error, "cannot create the files that capture what a task prints") from None
    return opened[0], opened[1]


def open_again(paths: tuple[str, str], soft_limit: int | None = None) -> tuple[int, int]:
    """Descriptors that read both files.

    :param soft_limit: see ``limits.move_above``.
    :raises NotStarted: they cannot be opened.
    """
    opened: list[int] = []
    try:
        for path in paths:
            opened.append(os.open(path, os.O_RDONLY | _PRIVATE))
            opened[-1] = move_above(opened[-1], soft_limit)
    except OSError as error:
        for fd in opened:
            os.close(fd)
        shown = "cannot read the files that capture what a task prints"
        raise not_started(f"cannot read {path}", error, shown) from None
    return opened[0], opened[1]


def kept_of(files: tuple[int, int]) -> Kept:
    """What the two files hold, read from descriptors of ours: the task may have renamed or removed them."""
    (out, out_size), (err, err_size) = (_beginning(fd) for fd in files)
    return Kept(out, err, out_size, err_size)


def _beginning(fd: int) -> tuple[bytes, int]:
    """The first bytes of a file, and its size; a file that cannot be read any more counts as empty."""
    parts: list[bytes] = []
    begin = 0
    try:
        while begin < KEPT_MOST and (part := os.read(fd, KEPT_MOST - begin)):
            parts.append(part)
            begin += len(part)
        return b"".join(parts), max(begin, os.fstat(fd).st_size)
    except OSError:
        return b"".join(parts), begin
