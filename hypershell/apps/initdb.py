"""``hs initdb``: create the tables of the database, bring one of another version to ours, and upkeep."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hypershell.apps.frame import parse_initdb, run_command
from hypershell.errors import ExitStatus, UsageError
from hypershell.units import format_size

if TYPE_CHECKING:
    from hypershell.address import Where
    from hypershell.settings import InitSettings

__all__ = ["main"]

log = logging.getLogger("hypershell.data")


def main(argv: Sequence[str]) -> int:
    """Run ``hs initdb ARGV`` and return its exit status."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    settings, _ = parse_initdb(argv)
    action, work = _action(settings, settings.place)
    if not settings.yes:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            # Word for word, and by this logger, as scripts of HyperShell look for it.
            log.critical("RuntimeError: Non-interactive prompt cannot confirm (see --yes).")
            return ExitStatus.RUNTIME_ERROR
        if not _confirmed(action):
            log.info("Nothing was done")
            return ExitStatus.SUCCESS
    return work()


def _action(settings: InitSettings, where: Where) -> tuple[str, Callable[[], int]]:
    """What is to be done, for the question and as a function."""
    if settings.backup is not None:
        path, target = _file(where, "-b/--backup", "pg_dump copies it"), Path(settings.backup)
        return f"Back up database {path} to {target}", lambda: _back_up(path, target)
    if settings.upgrade:
        path = _file(where, "--upgrade", "its tables are of this version, or refused")
        return f"Upgrade database {path}", lambda: _upgrade(path)
    if settings.rotate:
        path = _file(where, "-r/--rotate", "hs export takes tasks away, and hs update --delete removes them")
        return f"Rotate database {path}", lambda: _rotate(path)
    if settings.vacuum:
        return f"Vacuum database {where}", lambda: _vacuum(where)
    if settings.truncate:
        return f"Truncate database {where}", lambda: _truncate(where)
    return f"Initialize database {where}", lambda: _create(where, settings.db_mode)


def _file(where: Where, option: str, instead: str) -> Path:
    """The file that an option is for; raises `UsageError` for a server."""
    if isinstance(where, Path):
        return where
    raise UsageError(f"Using {option} with {where} is invalid: it is for SQLite files ({instead})")


def _vacuum(where: Where) -> int:
    from hypershell.data.places import vacuum

    freed = vacuum(where)
    log.info("Freed %s, %d bytes (%s)", format_size(freed), freed, where)
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


def _truncate(where: Where) -> int:
    from hypershell.data.places import truncate

    done = truncate(where, log.info)
    log.info("Removed %d tasks and %d runs (%s)", done.tasks, done.runs, where)
    return ExitStatus.SUCCESS


def _create(where: Where, mode: int | None) -> int:
    from hypershell.data.owner import Sharing
    from hypershell.data.places import create

    if create(where, Sharing(mode)):
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
    """Ask on the terminal; an empty answer is yes, the end of input is no."""
    # The prompt of input() may go to stderr, as stdout is not the interpreter's own.
    print(f"{action}? [Y]es/no: ", end="", flush=True)
    try:
        answer = input().strip().lower()
    except EOFError:
        return False
    return answer in ("", "y", "yes")
