"""Opening files that captured what tasks printed: only those, by no link, whatever a row says.

A row names its files, and may come from a peer or from an import; whoever looks at it hands them out. So the name
has to be the one that we give to the file of that very task, below a folder in which such files are: one of the
site's, or one that belongs to us alone (a run can have had another site). From that folder on no link is followed,
and what is opened is what was looked at. Called by ``hs info``, ``hs run`` and ``hs export``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from hypershell.errors import HyperShellError
from hypershell.executor.capture import capture_paths
from hypershell.ostext import escaped

if TYPE_CHECKING:
    from hypershell.site import Sites

__all__ = ["Captured", "NotCaptured"]

#: The name of a folder as it is shown can be longer than any name.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STREAMS = ("stdout", "stderr")
#: A FIFO does not make us wait, nobody inherits it, Windows gives the bytes as they are.
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_WALKS = os.open in os.supports_dir_fd and bool(_NO_LINK)


class NotCaptured(HyperShellError):
    """A row names a file that is none in which we captured what its task printed."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is not opened: {reason}")


class Captured:
    """Opens such files; `folders` are those in which ours are, whoever may write there."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = tuple(dict.fromkeys(folders))

    @classmethod
    def of(cls, sites: Sites) -> Captured:
        """Of the sites that are the user's; what lies where he happens to be is not, unless he named it."""
        return cls((sites.default.task, sites.user.task, sites.system.task))

    def open(self, task_id: str, stream: str, path: str) -> int:
        """A descriptor of the file `path`, which column ``outpath`` or ``errpath`` of a task names.

        :param stream: ``stdout`` or ``stderr``.
        :raises NotCaptured: it is none of ours.
        :raises OSError: it is not there, or cannot be read.
        """
        if not os.path.isabs(path):  # of a client on another system
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        folder, tail = _split(task_id, stream, path)
        for found in _shown_as(folder):
            known = next((one for one in self._folders if _is_same(one, found)), None)
            try:
                return (_open_below if _WALKS else _open_known)(path, found, known, tail)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _split(task_id: str, stream: str, path: str) -> tuple[str, tuple[str, ...]]:
    """The folder of captured output and the names below it, of a path that is right for the task."""
    if _ID.fullmatch(task_id) and "\0" not in path:
        name = capture_paths("", task_id)[_STREAMS.index(stream)]
        # HyperShell puts all into the folder itself.
        for tail in (name, os.path.basename(name)):
            folder = path.removesuffix(os.sep + tail)
            if folder != path and os.path.normpath(folder) == folder:
                return folder, tuple(tail.split(os.sep))
    raise NotCaptured(path, f"it is not the name of captured {stream} of task {task_id}")


def _is_same(known: str, found: str) -> bool:
    try:
        return os.path.samefile(known, found)
    except (OSError, ValueError):
        return False


def _open_below(path: str, found: str, known: str | None, tail: Sequence[str]) -> int:
    """Walk from the folder to the file, each step from what the step before opened."""
    place = os.open(known or found, _FOLDER)
    try:
        if known is None:
            _check_owner(path, os.fstat(place))
        for name in tail[:-1]:
            place = _enter(path, place, name)
            if known is None:
                _check_owner(path, os.fstat(place))
        return _open_regular(path, place, tail[-1], is_known=known is not None)
    finally:
        os.close(place)


def _enter(path: str, place: int, name: str) -> int:
    """The descriptor of a folder in another one, which is closed."""
    try:
        inner = os.open(name, _FOLDER | _NO_LINK, dir_fd=place)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise NotCaptured(path, f"{name} in it is a link, or no folder") from None
        raise
    os.close(place)
    return inner


def _open_regular(path: str, place: int, name: str, is_known: bool) -> int:
    try:
        file = os.open(name, _FILE | _NO_LINK, dir_fd=place)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotCaptured(path, "it is a link") from None
        raise
    try:
        status = os.fstat(file)
        _check_regular(path, status)
        if not is_known and status.st_uid != os.geteuid():
            raise NotCaptured(path, f"it belongs to another user (uid {status.st_uid})")
    except BaseException:
        os.close(file)
        raise
    return file


def _check_regular(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotCaptured(path, "it is no regular file")


def _check_owner(path: str, status: os.stat_result) -> None:
    """A folder of which we do not know that it is one of ours: nobody else can have put anything there."""
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotCaptured(
            path,
            "its folder is none of this site, nor one that only you may write "
            "(HYPERSHELL_SITE names the site of the run)",
        )


def _open_known(path: str, found: str, known: str | None, tail: Sequence[str]) -> int:
    """As `_open_below`, where no folder can be held open (Windows), and none is known to be ours alone."""
    if known is None:
        raise NotCaptured(path, "its folder is none of this site (HYPERSHELL_SITE names the site of the run)")
    inside = os.path.join(os.path.realpath(known), *tail)
    if os.path.realpath(inside) != inside:
        raise NotCaptured(path, "a link is in it")
    before = os.lstat(inside)
    _check_regular(path, before)
    file = os.open(inside, _FILE)
    if not os.path.samestat(before, os.fstat(file)):
        os.close(file)
        raise NotCaptured(path, "it was replaced meanwhile")
    return file


def _shown_as(path: str) -> Iterator[str]:
    """The folders that a column may mean, where bytes that are not UTF-8 are shown as ``\\xNN``.

    The names of captured files hold an id, so only one of them has the file.
    """
    yield path
    if "\\x" not in path:
        return
    places = ["/"]
    for part in path.strip("/").split("/"):
        places = [os.path.join(place, name) for place in places for name in _names(place, part)]
    yield from (place for place in places if place != path)


def _names(folder: str, part: str) -> list[str]:
    """The names in a folder that people see as `part`."""
    if "\\x" not in part:
        return [part]
    try:
        return [name for name in os.listdir(folder) if escaped(name) == part]
    except OSError:
        return []
