"""``hs initdb``: create the tables of the database, bring one of another version to ours, and upkeep."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hypershell.apps.frame import parse_initdb, run_command
from hypershell.errors import ExitStatus, StoreError
from hypershell.units import format_size

if TYPE_CHECKING:
    from hypershell.settings import InitSettings

__all__ = ["main"]

log = logging.getLogger("hypershell.data")


def main(argv: Sequence[str]) -> int:
    """Run ``hs initdb ARGV`` and return its exit status."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    settings, _ = parse_initdb(argv)
    path = Path(settings.db)
    action, work = _action(settings, path)
    if not settings.yes and not _confirmed(action):
        log.info("Nothing was done")
        return ExitStatus.SUCCESS
    return work()


def _action(settings: InitSettings, path: Path) -> tuple[str, Callable[[], int]]:
    """What is to be done, for the question and as a function."""
    if settings.backup is not None:
        target = Path(settings.backup)
        return f"Back up database {path} to {target}", lambda: _back_up(path, target)
    for wanted, word, work in (
        (settings.upgrade, "Upgrade", _upgrade),
        (settings.vacuum, "Vacuum", _vacuum),
        (settings.rotate, "Rotate", _rotate),
        (settings.truncate, "Truncate", _truncate),
    ):
        if wanted:
            return f"{word} database {path}", partial(work, path)
    return f"Initialize database {path}", lambda: _create(path)


def _vacuum(path: Path) -> int:
    from hypershell.data.upkeep import vacuum

    freed = vacuum(path)
    log.info("Freed %s, %d bytes (%s)", format_size(freed), freed, path)
    return ExitStatus.SUCCESS


def _back_up(path: Path, target: Path) -> int:
    from hypershell.data.upkeep import back_up

    size = back_up(path, target)
    log.info("Backup of %s: %s (%s)", path, target, format_size(size))
    return ExitStatus.SUCCESS


def _rotate(path: Path) -> int:
    from hypershell.data.rotate import rotate

    done = rotate(path, log.info)
    if done is None:
        log.info("Nothing to rotate (%s)", path)
        return ExitStatus.SUCCESS
    log.info("Rotated %d tasks into partition %d (%s)", done.tasks, done.number, done.partition)
    if not done.compacted:
        log.warning("The database is in use and keeps its size: 'hs initdb --vacuum' makes it smaller (%s)", path)
    return ExitStatus.SUCCESS


def _truncate(path: Path) -> int:
    from hypershell.data.upkeep import truncate

    done = truncate(path, log.info)
    log.info("Removed %d tasks and %d runs (%s)", done.tasks, done.runs, path)
    return ExitStatus.SUCCESS


def _create(path: Path) -> int:
    from hypershell.data.migrate import create

    if create(path):
        log.info("Database initialized automatically (%s)", path)
    else:
        log.info("Database is up to date (%s)", path)
    return ExitStatus.SUCCESS


def _upgrade(path: Path) -> int:
    from hypershell.data.migrate import upgrade

    done = upgrade(path)
    if done is None:
        log.info("Database is up to date (%s)", path)
        return ExitStatus.SUCCESS
    log.info("Backup of the old database: %s", done.backup)
    log.info("Upgraded %d tasks and %d clients (%s)", done.tasks, done.clients, path)
    if done.dropped:
        log.warning("%d values without a meaning were dropped; the backup has them", done.dropped)
    return ExitStatus.SUCCESS


def _confirmed(action: str) -> bool:
    """Ask on the terminal; an empty answer is yes, the end of input is no.

    Raises:
        StoreError: there is nobody to ask.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise StoreError("Non-interactive prompt cannot confirm (see --yes).")
    # The prompt of input() may go to stderr, as stdout is not the interpreter's own.
    print(f"{action}? [Y]es/no: ", end="", flush=True)
    try:
        answer = input().strip().lower()
    except EOFError:
        return False
    return answer in ("", "y", "yes")
