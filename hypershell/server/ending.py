"""The end of a run's job: finds out when it comes, and keeps the status file true until it has come.

Made by ``server.run`` before anything else, so that a run that cannot begin says so in the file too.
"""

from __future__ import annotations

import logging
import os
import time
from math import inf

from msgspec import structs

from hypershell import allocation
from hypershell.core import events as ev
from hypershell.core.actions import Finish
from hypershell.core.scheduler import Scheduler
from hypershell.data.store import Owned, Refused
from hypershell.errors import HyperShellError, StoreError
from hypershell.reactor import Poller
from hypershell.server.loop import Server
from hypershell.server.report import Reporter
from hypershell.server.statusfile import StatusFile, Told
from hypershell.settings import RunSettings
from hypershell.units import format_duration

__all__ = ["Ending"]

log = logging.getLogger("hypershell.server")


class Ending:
    """Of the run with id `run`, which began at `started` (seconds since the epoch)."""

    def __init__(self, settings: RunSettings, run: str, host: str, job: str | None, started: float) -> None:
        self._settings = settings
        self._run, self._host, self._job, self._started = run, host, job, started
        self._server: Server | None = None
        self._scheduler: Scheduler | None = None
        self._finish: Finish | None = None
        self._status: int | None = None
        self._asking: allocation.Asking | None = None
        self._error: str | None = None
        self._reporter: Reporter | None = None
        self._claimed = False
        """The status file is nobody else's."""
        self._ends: float | None = None
        path = settings.status_file
        self._file = None if path is None else StatusFile(path, self._told)

    # -- when it comes -----------------------------------------------------------------------------------

    def find_walltime(self, poller: Poller) -> None:
        """Tell the scheduler when the allocation ends: at once, or when a command of the batch system has told."""
        walltime = self._settings.walltime
        if walltime == 0:
            return
        end = allocation.end_from_environ(os.environ) if walltime is None else time.time() + walltime
        asked = None if end is not None else allocation.question(os.environ)
        if end is None and asked is None:
            return
        if end is not None and end > time.time():
            self._allocation_ends(end)
            return
        # One that is over is told through the pipe, too: a run can only end when all parts of the loop have begun.
        read, write = os.pipe()

        def told(end: float | None) -> None:
            os.write(write, b"" if end is None else str(end).encode())
            os.close(write)

        def answered() -> None:
            poller.remove(read)
            answer = os.read(read, 64)
            os.close(read)
            words = "" if asked is None else " ".join(asked.command)
            if not answer:
                log.warning("%s does not tell when this job ends: --walltime does", words)
            elif float(answer) == inf:
                log.info("%s tells that this job has no time limit", words)
            else:
                self._allocation_ends(float(answer))

        poller.add(read, answered)
        if asked is None:
            told(end)
        else:
            self._asking = allocation.Asking(asked, told)

    def _allocation_ends(self, end: float) -> None:
        """It does at this time (seconds since the epoch)."""
        self._ends = end
        now, left = time.monotonic(), end - time.time()
        log.info("The allocation ends in %s", format_duration(max(0.0, left)))
        if self._server is not None:
            self._server.tell(ev.AllocationEnds(now + left), now)
        if self._file is not None:
            self._file.write(self._told())

    # -- how it went -------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Make sure that the status file can be ours; raises ``InputError``. Changes nothing."""
        if self._file is not None:
            self._file.claim()
            self._claimed = True

    def begin(self) -> None:
        """Write the status file for the first time. Raises ``InputError`` where that cannot be.

        One that tells of a run without an end stays until the database is ours (`opened`): where the file
        system has no locks, only the database knows whether that run lives.
        """
        if self._file is not None and (self._file.found is None or not self._settings.restart):
            self._file.begin()

    def watch(self, server: Server, scheduler: Scheduler, reporter: Reporter) -> None:
        """The run can begin: from now on the file tells how it stands."""
        self._server, self._scheduler, self._reporter = server, scheduler, reporter
        reporter.status_file = self._file

    def opened(self) -> None:
        """The database is ours, and so is the status file. Raises as `begin`."""
        if self._file is not None and not self._file.begun:
            self._file.begin()

    def failed(self, error: BaseException) -> None:
        """The run could not begin."""
        if self._file is not None and isinstance(error, HyperShellError):
            self._status, self._error = error.exit_status, str(error)
            self._end(error)

    def ended(self, status: int, finish: Finish | None, error: StoreError | None) -> int:
        """Write the file for the last time; `status` is the exit status, which is returned.

        :param error: why the store failed, where it did.
        """
        self._status, self._finish = status, finish
        if isinstance(error, Refused):
            self._error = str(error)
        if self._asking is not None:
            self._asking.stop()
        self._end(error)
        return status

    def _end(self, error: BaseException | None) -> None:
        """Write the file for the last time, unless it tells of the living run that kept us from running."""
        if self._file is None or not self._claimed:
            return
        if isinstance(error, Owned) and not self._file.begun and error.run == self._file.found:
            return
        self._file.end(self._told())

    def _told(self) -> Told:
        scheduler = self._scheduler
        if self._error is not None or scheduler is None or self._server is None or self._reporter is None:
            return self._made("starting" if self._error is None else "ended", self._error)
        counts, complete = scheduler.counts, self._server.feed_complete
        unfinished, reason, state = scheduler.unfinished(), scheduler.stopping, "running"
        if self._status is not None:
            state, reason = "ended", self._finish.reason if self._finish is not None else "store failed"
        elif reason is not None:
            state = "draining"
        done = counts.succeeded + counts.failed + counts.cancelled
        rate = self._reporter.pace.rate(time.monotonic(), done)
        return structs.replace(
            self._made(state, reason),
            succeeded=counts.succeeded,
            failed=counts.failed,
            cancelled=counts.cancelled,
            unfinished=unfinished,
            complete=complete,
            rate=round(rate, 3),
            eta=round(unfinished / rate, 1) if complete and rate > 0 and state != "ended" else None,
            clients=scheduler.connected() if state != "ended" else 0,
        )

    def _made(self, state: str, reason: str | None) -> Told:
        """Without a task."""
        return Told(
            state, reason, self._status, 0, 0, 0, 0, False, 0.0, None, 0, self._ends,
            self._run, self._job, self._host, os.getpid(), self._started, time.time(),
        )  # fmt: skip
