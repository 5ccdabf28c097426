"""What a run tells people: log lines for each end of a task, the failures file, the last line.

Reads counts of the scheduler; decides nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence

from hypershell.core import actions as act
from hypershell.core.model import Task
from hypershell.core.scheduler import Scheduler
from hypershell.core.states import FAILED
from hypershell.errors import ExitStatus
from hypershell.ostext import from_bytes, printable
from hypershell.server.output import Screen
from hypershell.server.progress import Progress
from hypershell.server.status import Pace
from hypershell.server.statusfile import StatusFile

__all__ = ["Failures", "Reporter", "exit_status", "last_line", "nothing_done"]

log = logging.getLogger("hypershell.server")


class Failures:
    """``--failures PATH``: the arguments of every final failure, one line each, byte for byte but on a terminal.

    Holds what comes until `begin`. `name` is for messages; `screen` is what else stands on a terminal.
    """

    def __init__(self, name: str, screen: Screen | None = None) -> None:
        self._name = name
        self._fd: int | None = None
        self._screen = screen
        self._held = b""
        self._torn = self._told = False
        self._is_terminal = False

    def begin(self, fd: int) -> None:
        """Write to `fd` from now on; it is somebody else's to close."""
        self._fd = fd
        self._is_terminal = os.isatty(fd)
        if self._screen is not None and not self._screen.is_shown_on(fd):
            self._screen = None
        held, self._held = self._held, b""
        if held:
            self._write(held)

    def add(self, changes: Sequence[act.Finished]) -> None:
        """Take results that the scheduler has accepted."""
        lines = [
            _line(task)
            for change in changes
            if change.state == FAILED and change.next_id is None and (task := change.task) is not None
        ]
        self._put(lines)

    def add_earlier(self, tasks: Sequence[Task]) -> None:
        """Final failures of an earlier run, which are not tried again."""
        self._put([_line(task) for task in tasks])

    def _put(self, lines: list[bytes]) -> None:
        if lines:
            self._write(b"\n".join(lines) + b"\n")

    def _write(self, data: bytes) -> None:
        if self._fd is None:
            self._held += data
            return
        if self._is_terminal:
            data = printable(from_bytes(data)).encode()
        rest = b"\n" + data if self._torn else data
        if self._screen is not None:
            self._screen.clear()
            self._screen.printed(b"\n")
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._torn = False
        except OSError as error:
            self._torn = True  # a part of it may be there
            if not self._told:
                log.error("%s: %s; failures are missing there, the database has them", self._name, error.strerror)
            self._told = True


def _line(task: Task) -> bytes:
    return task.raw if task.raw is not None else task.args.encode()


class Reporter:
    """All of it together, as the server calls it."""

    def __init__(self, failures: Failures | None, progress: Progress, restart_hint: str) -> None:
        self._failures = failures
        self._progress = progress
        self._hint = restart_hint
        self._debug = log.isEnabledFor(logging.DEBUG)
        self._warn = log.isEnabledFor(logging.WARNING)
        self._complete = False
        self.pace = Pace(time.monotonic())
        self.status_file: StatusFile | None = None

    def finished(self, changes: Sequence[act.Finished]) -> None:
        """Results that the scheduler has accepted."""
        for change in changes:
            result = change.result
            if self._debug:
                log.debug("Completed task (%s)", result.id)
            if change.state == FAILED and self._warn:
                why = f"; {result.error}" if result.error else ""
                log.warning("Non-zero exit status (%s) for task (%s)%s", result.exit_status, result.id, why)
        if self._failures is not None:
            self._failures.add(changes)

    def failed_before(self, tasks: Sequence[Task]) -> None:
        """Final failures of an earlier run, where the others were given again (``--retry-failed``)."""
        if self._failures is not None:
            self._failures.add_earlier(tasks)

    def fed(self, lines: int) -> None:
        self._complete = True
        logging.getLogger("hypershell.submit").debug("Read %d lines", lines)

    def left_alone(self, count: int) -> None:
        """Unfinished tasks of others in the same database: said once, never touched."""
        if count:
            log.warning("%s of earlier runs left alone, unfinished (to run them: %s)", _tasks(count), self._hint)

    def turn(self, now: float, scheduler: Scheduler) -> None:
        self._progress.turn(now, scheduler, self._complete)
        if self.status_file is not None:
            self.status_file.turn(now)
        counts = scheduler.counts
        self.pace.note(now, counts.succeeded + counts.failed + counts.cancelled)

    def deadline(self) -> float | None:
        due = self._progress.deadline()
        other = None if self.status_file is None else self.status_file.deadline()
        return due if other is None else other if due is None else min(due, other)

    def end_progress(self) -> None:
        """The line that says how far it is goes."""
        self._progress.close()

    def close(self) -> None:
        self._progress.close()


#: The way out where tasks failed that can never run, such as lines with a bad tag.
_HOPELESS = "correct the lines and add them by --restart --update, remove the failed tasks by hs update --delete"


def nothing_done(finish: act.Finish, file: str | None) -> str | None:
    """What a restart of `file` (None: of all that is unfinished) says that had nothing to do; None where it had."""
    if finish.reason != "complete" or finish.succeeded or finish.failed or finish.cancelled:
        return None
    if file is None:
        return "nothing to go on with: there is no unfinished task without a living server"
    return f"all of {file} was done before, so nothing was run (without --restart all of it runs again)"


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def exit_status(
    finish: act.Finish, feed_complete: bool, allow_failures: bool, was_interrupted: bool = False
) -> int:
    """The exit status of a run (0, 7, 75, 4; unfinished work outranks failures). `was_interrupted`: by Ctrl-C."""
    if finish.reason == "store failed":
        return ExitStatus.RUNTIME_ERROR
    if finish.unfinished or not feed_complete:
        return ExitStatus.INTERRUPTED if was_interrupted else ExitStatus.UNFINISHED
    if (finish.failed or finish.failed_before or finish.held) and not allow_failures:
        return ExitStatus.TASKS_FAILED
    return ExitStatus.SUCCESS


def last_line(
    finish: act.Finish,
    feed_complete: bool,
    find: str,
    resume: str | None,
    unwritten: int = 0,
    unread: int = 0,
    retry: str | None = None,
    tried_again: bool = False,
) -> str | None:
    """What stands on stderr at the end, or None where all is well.

    `find` lists the failures, `resume` is the command that finishes the rest (None: nothing can). `unwritten`
    changes did not reach a store that failed; `unread` files of earlier runs could not be read on. `retry` is the
    command that tries failed tasks again; where `tried_again`, earlier failures are those that it cannot try.
    """
    parts = []
    if finish.failed:
        total = finish.succeeded + finish.failed
        parts.append(f"{finish.failed} of {_tasks(total)} failed ({find})")
    if finish.failed_before:
        hopeless = " and cannot be tried again" if tried_again else ""
        where = "" if parts else f" ({find})"
        parts.append(f"{_tasks(finish.failed_before)} failed in earlier runs{hopeless}{where}")
    if finish.cancelled:
        parts.append(f"{_tasks(finish.cancelled)} cancelled")
    if finish.held:
        parts.append(f"{_tasks(finish.held)} in later groups held back")
    if finish.unfinished or (not feed_complete and finish.reason != "store failed"):
        more = "" if feed_complete else " and the input was not read to its end"
        first = "restore the files named above, then " if unread else ""
        hint = f" ({first}go on with: {resume})" if resume else ""
        parts.append(f"{_tasks(finish.unfinished)} unfinished{more}{hint}")
    if tried_again and finish.failed_before:
        parts.append(_HOPELESS)
    if retry is not None and (finish.failed or (finish.failed_before and not tried_again)):
        parts.append(f"failed tasks are tried again by: {retry}")
    if unwritten and finish.reason == "store failed":
        parts.append(f"{unwritten} changes did not reach the database: what they tell of is unfinished there")
    return "; ".join(parts) if parts else None
