"""``hs initdb``: create the tables of the database, or bring one of another version to ours."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hypershell.apps.frame import parse_initdb, run_command
from hypershell.errors import ExitStatus, StoreError, UsageError

if TYPE_CHECKING:
    from hypershell.data.places import Where

__all__ = ["main"]

log = logging.getLogger("hypershell.data")


def main(argv: Sequence[str]) -> int:
    """Run ``hs initdb ARGV`` and return its exit status."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    settings, _ = parse_initdb(argv)
    if settings.upgrade and settings.server is not None:
        raise UsageError(f"Using --upgrade with {settings.server} is invalid: it is for SQLite files (--db PATH)")
    where: Where = settings.server or Path(settings.db)
    if not settings.yes and not _confirmed(f"{'Upgrade' if settings.upgrade else 'Initialize'} database {where}"):
        log.info("Nothing was done")
        return ExitStatus.SUCCESS
    return _upgrade(Path(settings.db)) if settings.upgrade else _create(where)


def _create(where: Where) -> int:
    from hypershell.data.places import create

    if create(where):
        log.info("Database initialized automatically (%s)", where)
    else:
        log.info("Database is up to date (%s)", where)
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
    """Ask on the terminal; an empty answer is yes.

    Raises:
        StoreError: there is nobody to ask.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise StoreError("Non-interactive prompt cannot confirm (see --yes).")
    answer = input(f"{action}? [Y]es/no: ").strip().lower()
    return answer in ("", "y", "yes")
