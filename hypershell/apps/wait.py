"""``hs wait ID``: until a task has ended."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from hypershell.errors import ExitStatus

if TYPE_CHECKING:
    from hypershell.data.single import Outcome
    from hypershell.settings import WaitSettings

__all__ = ["main"]

log = logging.getLogger("hypershell.task")

#: Seconds after which the database is opened anew: it may have been replaced, or opened as one that never changes.
_REOPEN = 5.0


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _wait(argv))


def _wait(argv: list[str]) -> int:
    from hypershell.apps import one
    from hypershell.apps.list import prepare_stdout
    from hypershell.apps.parse_task import parse_wait

    settings, _ = parse_wait(argv)
    one.full_form(settings.task_id)
    with one.open_tasks(settings.place, settings.task_id) as connection:
        task_id = one.find(connection, settings.task_id, settings.place)
    outcome = _until_ended(settings, task_id)
    _tell(outcome)
    prepare_stdout()
    if settings.show_info:
        with one.open_tasks(settings.place, outcome.id) as connection:
            print(one.to_text(one.read_task(connection, outcome.id, settings.place), settings.info_format), end="")
    if settings.show_status:
        print("null" if outcome.exit_status is None else outcome.exit_status)
    if settings.return_status:
        return (outcome.exit_status or 0) % 256
    return ExitStatus.SUCCESS


def _until_ended(settings: WaitSettings, task_id: str) -> Outcome:
    """Look whenever another process has written; raises ``NotFound`` for a task that is removed meanwhile."""
    from hypershell.apps import one
    from hypershell.data import single

    told = False
    while True:
        with one.open_tasks(settings.place, task_id) as connection:
            version = single.version(connection)
            again = time.monotonic() + _REOPEN
            while time.monotonic() < again:
                seen = version()
                outcome = single.follow(connection, task_id)
                if outcome is None:
                    raise one.NotFound(f"task {task_id} was removed from {settings.place} while we waited")
                if outcome.ended:
                    return outcome
                if not told:
                    told = True
                    log.info("Waiting for task (%s)", task_id)
                while version() == seen and time.monotonic() < again:
                    time.sleep(settings.interval)


def _tell(outcome: Outcome) -> None:
    if outcome.exit_status:
        log.warning("Non-zero exit status (%d) for task (%s)", outcome.exit_status, outcome.id)
    else:
        log.info("Completed task (%s)", outcome.id)
