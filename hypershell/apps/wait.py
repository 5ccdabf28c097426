"""``hs wait ID``: until a task has ended."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from hypershell.errors import ExitStatus

if TYPE_CHECKING:
    from hypershell.address import Where
    from hypershell.data.single import Outcome

__all__ = ["main", "until_ended"]

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
    with one.open_tasks(settings.place, settings.task_id, settings.without_partitions) as tasks:
        task_id = one.find(tasks, settings.task_id, settings.place)
    outcome = until_ended(settings.place, task_id, settings.interval, settings.without_partitions)
    _tell(outcome)
    prepare_stdout()
    if settings.show_info:
        with one.open_tasks(settings.place, outcome.id, settings.without_partitions) as tasks:
            print(one.to_text(one.read_task(tasks, outcome.id, settings.place), settings.info_format), end="")
    if settings.show_status:
        print("null" if outcome.exit_status is None else outcome.exit_status)
    if settings.return_status:
        return one.status_for(outcome.exit_status, outcome.state)
    return ExitStatus.SUCCESS


def until_ended(db: Where, task_id: str, interval: float, without_partitions: bool = False) -> Outcome:
    """Look whenever another process has written, every `interval` seconds at most.

    Raises ``NotFound`` for a task that is removed meanwhile.
    """
    from hypershell.apps import one
    from hypershell.data import single

    told = False
    while True:
        with one.open_tasks(db, task_id, without_partitions) as tasks:
            connection = tasks.main.connection
            version = single.version(connection)
            again = time.monotonic() + _REOPEN
            while time.monotonic() < again:
                seen = version()
                # Partitions are looked at when the task is not here any more.
                outcome = single.follow(connection, task_id) or tasks.follow(task_id)
                if outcome is None:
                    raise one.NotFound(f"task {task_id} was removed from {db} while we waited")
                if outcome.ended:
                    return outcome
                if not told:
                    told = True
                    log.info("Waiting for task (%s)", task_id)
                while version() == seen and time.monotonic() < again:
                    time.sleep(interval)


def _tell(outcome: Outcome) -> None:
    if outcome.exit_status:
        log.warning("Non-zero exit status (%d) for task (%s)", outcome.exit_status, outcome.id)
    else:
        log.info("Completed task (%s)", outcome.id)
