"""``--status-file PATH``: how the run stands and how it ended, for scripts, whatever a launcher makes of statuses.

Written whole to a file beside it and then renamed, so that a reader sees one state or the next. It can fail (a full
disk) without harm to the run: the file that is there stays, and one line says so. While its run lives, the file is
locked (`locks`), so that no other run writes over it.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from math import inf

import msgspec
from msgspec import Struct

from hypershell.errors import InputError
from hypershell.making import NO_LINK, beside, sweep
from hypershell.server import locks
from hypershell.smallfile import TooLarge, read_small
from hypershell.trust import followed

__all__ = ["StatusFile", "Told"]

log = logging.getLogger("hypershell.server")

#: Bytes of such a file.
_MOST = 64 << 10
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | NO_LINK


class Told(Struct, omit_defaults=False):
    """What is in the file, each on a line of its own. Times are seconds since the epoch."""

    state: str
    """``starting``, ``running``, ``draining`` or ``ended``."""
    reason: str | None
    """Why it drains or ended, as in ``hs runs``; of one that could not begin the error."""
    exit_status: int | None
    """None until it ended: a run that was killed leaves it so."""
    succeeded: int
    failed: int
    cancelled: int
    unfinished: int
    """Tasks without a final state, as far as they are known."""
    complete: bool
    """The whole input has been read."""
    rate: float
    """Tasks per second over the last minute."""
    eta: float | None
    """Seconds until the last task ends at that rate; None while the input is being read."""
    clients: int
    """How many are connected."""
    ends: float | None
    """When the job ends, where that is known."""
    run: str
    job: str | None
    host: str
    pid: int
    started: float
    written: float


class _Known(Struct):
    """What is read of a file that is there."""

    state: str
    run: str


class StatusFile:
    """Writes what `tell` makes to `path`: at once after a quiet time, then every `PERIOD` seconds while it changes.

    Writes nothing before `begin`.
    """

    PERIOD = 1.0

    def __init__(self, path: str, tell: Callable[[], Told]) -> None:
        self._path = path
        self._file = path
        self._tell = tell
        self.begun = False
        """Whether it is written at all."""
        self._due = -inf
        self._stale = False
        """Something may have changed since it was written."""
        self._state: tuple[object, ...] = ()
        self._failed = False
        self._lock: int | None = None
        self.found: str | None = None
        """The id of the run that is told of in a file from before, where that run has no end in it."""

    def claim(self) -> None:
        """Make sure that it may be replaced; changes nothing.

        Raises ``InputError`` where it is no status file, that of a living run, or cannot be written.
        """
        try:
            self._file = followed(self._path)  # a link to it stays one
            if not os.path.lexists(self._file):
                folder = os.path.dirname(self._file)
                os.stat(folder)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise InputError(f"cannot write the status file {self._path}: no file can be made in {folder}")
                return
            fd = os.open(self._file, _READ)
        except OSError as error:
            raise InputError(f"cannot write the status file {self._path}: {error.strerror}") from None
        try:
            self._look_at(fd)
        finally:
            os.close(fd)

    def _look_at(self, fd: int) -> None:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InputError(f"{self._path} is no regular file: --status-file would replace it, name another")
        try:
            text = read_small(fd, self._path, "status file", _MOST)
            if not text:
                return
            known = msgspec.json.decode(text, type=_Known)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TooLarge):
            raise InputError(
                f"{self._path} is no status file: --status-file would replace it, remove it or name another"
            ) from None
        if not locks.would_give(fd):
            who = locks.holder(fd)
            raise InputError(f"{self._path} is the status file of {who}: wait for its end, or name another file")
        self.found = None if known.state == "ended" else known.run

    def begin(self) -> None:
        """Write it for the first time. Raises ``InputError`` where that cannot be."""
        self.claim()  # another run may have begun meanwhile
        self.begun = True
        sweep(self._file)
        try:
            self._put(self._tell())
        except OSError as error:
            raise InputError(f"cannot write the status file {self._path}: {error.strerror}") from None

    def turn(self, now: float) -> None:
        """Write it when it is due and something has changed."""
        self._stale = self.begun
        if now >= self._due and self._stale:
            self._stale = False
            if self.write(self._tell()):
                self._due = now + self.PERIOD

    def deadline(self) -> float | None:
        """When it may be due."""
        return self._due if self._stale else None

    def write(self, told: Told) -> bool:
        """Write it now; False where there is nothing new in it."""
        if not self.begun or self._state == _essence(told):
            return False
        try:
            self._put(told)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("cannot write the status file %s: %s; it tells of an earlier state",
                          self._path, error.strerror)  # fmt: skip
            self._failed = True
        return True

    def end(self, told: Told) -> None:
        """Write it for the last time; where it was not begun, unless it is another's."""
        if not self.begun:
            try:
                self.claim()
            except InputError:
                return
            self.begun = True
        self.write(told)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _put(self, told: Told) -> None:
        fd, part = beside(self._file, None)
        try:
            text = memoryview(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
            while text:
                text = text[os.write(fd, text) :]
            if told.exit_status is not None:  # a power cut may take any other state, but not the last
                os.fsync(fd)
            locks.take(fd)
            if not locks.ARE_THERE:
                os.close(fd)  # Windows renames no file that is open
            os.replace(part, self._file)
        except BaseException:
            _quietly(lambda: os.close(fd))
            _quietly(lambda: os.unlink(part))
            raise
        if locks.ARE_THERE:
            if self._lock is not None:
                os.close(self._lock)
            self._lock = fd
        self._state = _essence(told)


def _quietly(step: Callable[[], None]) -> None:
    try:
        step()
    except OSError:
        pass


def _essence(told: Told) -> tuple[object, ...]:
    """What makes it worth writing."""
    return (told.state, told.reason, told.exit_status, told.succeeded, told.failed, told.cancelled, told.unfinished,
            told.complete, told.clients, told.ends)  # fmt: skip
