"""The end of a run's job: finds out when it comes, and keeps the status file true until it has come.

Made by ``server.run`` before anything else, so that a run that cannot begin says so in the file too.
"""

from __future__ import annotations

import logging
import os
import time
from math import inf

from hypershell import allocation
from hypershell.core import events as ev
from hypershell.core.actions import Finish
from hypershell.core.scheduler import Scheduler
from hypershell.errors import HyperShellError
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
        self._ends: float | None = None
        path = settings.status_file
        self._file = None if path is None else StatusFile(path, self._told, time.monotonic())

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

    def begin(self) -> None:
        """Write the status file for the first time. Raises ``InputError`` where that cannot be."""
        if self._file is not None:
            self._file.begin()

    def watch(self, server: Server, scheduler: Scheduler, reporter: Reporter) -> None:
        """The run can begin: from now on the file tells how it stands."""
        self._server, self._scheduler = server, scheduler
        reporter.status_file = self._file

    def failed(self, error: BaseException) -> None:
        """The run could not begin."""
        if self._file is not None and isinstance(error, HyperShellError):
            self._status, self._error = error.exit_status, str(error)
            self._file.write(self._told())

    def ended(self, status: int, finish: Finish | None) -> int:
        """Write the file for the last time; `status` is the exit status, which is returned."""
        self._status, self._finish = status, finish
        if self._asking is not None:
            self._asking.stop()
        if self._file is not None:
            self._file.write(self._told())
        return status

    def _told(self) -> Told:
        scheduler = self._scheduler
        if scheduler is None or self._server is None:
            return self._made("ended" if self._error else "starting", self._error, 0, 0, 0, 0, False)
        counts, complete = scheduler.counts, self._server.feed_complete
        succeeded, failed, cancelled = counts.succeeded, counts.failed, counts.cancelled
        unfinished, reason, state = scheduler.unfinished(), scheduler.stopping, "running"
        if self._status is not None:
            state, reason = "ended", self._finish.reason if self._finish is not None else "store failed"
        elif reason is not None:
            state = "draining"
        return self._made(state, reason, succeeded, failed, cancelled, unfinished, complete)

    def _made(
        self, state: str, reason: str | None, succeeded: int, failed: int, cancelled: int, left: int, complete: bool
    ) -> Told:
        return Told(
            state, reason, self._status, succeeded, failed, cancelled, left, complete, self._ends,
            self._run, self._job, self._host, os.getpid(), self._started, time.time(),
        )  # fmt: skip
