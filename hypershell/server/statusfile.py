"""``--status-file PATH``: how the run stands and how it ended, for scripts, whatever a launcher makes of statuses.

Written whole to a file beside it and then renamed, so that a reader sees one state or the next. It can fail (a full
disk) without harm to the run: the file that is there stays, and one line says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from msgspec import Struct, json

from hypershell.errors import InputError

__all__ = ["StatusFile", "Told"]

log = logging.getLogger("hypershell.server")


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
    ends: float | None
    """When the job ends, where that is known."""
    run: str
    job: str | None
    host: str
    pid: int
    started: float
    written: float


class StatusFile:
    """Writes what `tell` makes to `path`, when it changed and at most every `PERIOD` seconds."""

    PERIOD = 5.0

    def __init__(self, path: str, tell: Callable[[], Told], now: float) -> None:
        self._path = path
        self._tell = tell
        self._due = now + self.PERIOD
        self._state: tuple[object, ...] = ()
        self._failed = False

    def begin(self) -> None:
        """Write it for the first time. Raises ``InputError`` where that cannot be."""
        try:
            self._put(self._tell())
        except OSError as error:
            raise InputError(f"cannot write the status file {self._path}: {error.strerror}") from None

    def turn(self, now: float) -> None:
        """Write it when it is due and something has changed."""
        if now >= self._due:
            self._due = now + self.PERIOD
            self.write(self._tell())

    def write(self, told: Told) -> None:
        """Write it now, unless nothing changed."""
        if self._state == _essence(told):
            return
        try:
            self._put(told)
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("cannot write the status file %s: %s; it tells of an earlier state",
                          self._path, error.strerror)  # fmt: skip
            self._failed = True

    def deadline(self) -> float:
        """When it may be due."""
        return self._due

    def _put(self, told: Told) -> None:
        part = f"{self._path}.{told.run[:8]}.part"
        try:
            with open(part, "wb") as target:
                target.write(json.format(json.encode(told), indent=2) + b"\n")
                target.flush()
                os.fsync(target.fileno())
            os.replace(part, self._path)
        except BaseException:
            try:
                os.unlink(part)
            except OSError:
                pass
            raise
        self._state = _essence(told)


def _essence(told: Told) -> tuple[object, ...]:
    """What makes it worth writing."""
    return (told.state, told.reason, told.exit_status, told.succeeded, told.failed, told.cancelled, told.unfinished,
            told.complete, told.ends)  # fmt: skip
