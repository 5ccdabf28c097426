"""``hs run ARGS...``: a command through the database and a server, and back: its output and its exit status."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from hypershell.errors import ExitStatus, StoreError

if TYPE_CHECKING:
    from hypershell.address import Where
    from hypershell.apps.captured import Captured
    from hypershell.config import Config
    from hypershell.data.partitions import Tasks
    from hypershell.settings import RunTaskSettings

__all__ = ["main"]

log = logging.getLogger("hypershell.task")

#: Attempts to cancel a task that meanwhile fails and is tried again under another id.
_TRIES = 3


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    from hypershell.apps.parse_task import parse_run
    from hypershell.apps.submit import join_words, prepare
    from hypershell.ids import IdSource

    settings, config = parse_run(argv)
    line = join_words(settings.words)
    prepare(settings, None, config)
    task_id = IdSource().task()
    try:
        with _term_interrupts():
            return _run_one(settings, config, argv, line, task_id)
    except KeyboardInterrupt:
        _cancel(settings.place, task_id)
        return ExitStatus.INTERRUPTED


def _run_one(settings: RunTaskSettings, config: Config, argv: list[str], line: str, task_id: str) -> int:
    from hypershell.apps import one
    from hypershell.apps.captured import Captured
    from hypershell.apps.list import prepare_stdout
    from hypershell.apps.submit import Opened
    from hypershell.apps.wait import until_ended
    from hypershell.server.terms import Wishes

    with Opened(settings, ["run", *argv], Wishes(keep_output=True, waited_for=True)) as opened:
        opened.handing.command(line, task_id)
        log.info("Submitted task (%s)", task_id)
        opened.tell_servers(logging.WARNING)
    outcome = until_ended(settings.place, task_id, settings.interval)
    with one.open_tasks(settings.place, outcome.id, ignore_partitions=False) as tasks:
        task = one.read_task(tasks, outcome.id, settings.place)
        prepare_stdout()
        _print_output(tasks, task, Captured.of(config.sites))
    _tell(task)
    return one.status_for(task["exit_status"], task["state"])


def _print_output(tasks: Tasks, task: dict[str, Any], captured: Captured) -> None:
    """Both streams; that there are none is told only of a task that ran. A reader that is gone changes nothing."""
    from hypershell.apps.one import NotFound
    from hypershell.apps.stdout import silence_stdout
    from hypershell.apps.streams import print_stream

    for stream in ("stdout", "stderr"):
        try:
            print_stream(tasks, task, stream, captured)
        except BrokenPipeError:
            if stream == "stdout":
                silence_stdout()
        except NotFound as error:
            if task["start_time"] is not None and not _never_ran(task):
                log.error("%s", error)


def _never_ran(task: dict[str, Any]) -> bool:
    from hypershell.core.model import WINDOWS_STATUS

    return task["exit_status"] is not None and WINDOWS_STATUS < task["exit_status"] < -99


def _tell(task: dict[str, Any]) -> None:
    """Say what exit status and output do not."""
    from hypershell.core.model import WINDOWS_STATUS

    task_id, state, status, reason = (task[name] for name in ("id", "state", "exit_status", "error"))
    if state == "cancelled":
        log.error("Task (%s) was cancelled", task_id)
    elif reason is not None:
        log.error("Task (%s) failed: %s", task_id, reason)
    elif status is not None and WINDOWS_STATUS < status < 0:
        log.error("Task (%s) was ended by signal %d", task_id, -status)
    else:
        log.info("Completed task (%s)", task_id)


def _cancel(db: Where, task_id: str) -> None:
    """The user does not wait any longer: then nobody needs the task."""
    for last in (False,) * (_TRIES - 1) + (True,):
        outcome = _newest(db, task_id)
        if outcome is None:
            log.error("Interrupted: nothing was submitted")
            return
        if outcome.ended:
            log.error("Interrupted: task (%s) had ended already (hs info shows it)", outcome.id)
            return
        try:
            stopped = _cancel_one(db, outcome.id)
        except StoreError:
            if last:
                raise
            continue
        if stopped is not None:
            log.error("Interrupted: %s task (%s)", stopped, outcome.id)
            return


def _newest(db: Where, task_id: str) -> Any:
    """The newest attempt of the task; None where it never came into the database."""
    from hypershell.apps import one

    try:
        with one.open_tasks(db, task_id, ignore_partitions=False) as tasks:
            return tasks.follow(task_id)
    except one.NotFound:
        return None


def _cancel_one(db: Where, task_id: str) -> str | None:
    """Cancel as ``hs update --cancel`` does; what was done, None where the task has just ended."""
    from hypershell.data.change import changing
    from hypershell.data.edits import Edit
    from hypershell.data.where import Filter

    edit = Edit(action="cancel", ids=(task_id,))
    with changing(db) as changer:
        changer.choose(Filter(), edit)
        changed, asked = changer.apply(edit)
    if asked:
        return "asked the server to stop"
    return "cancelled" if changed else None


@contextlib.contextmanager
def _term_interrupts() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C, unless it is ignored or somebody else's."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
