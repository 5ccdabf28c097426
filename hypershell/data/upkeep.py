"""Upkeep of a database file: making it smaller, copying it, emptying it; and keeping servers out meanwhile.

Uses the bare driver. Called by ``hs initdb``; moving tasks into partitions is in ``rotate``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from hypershell.address import Where
from hypershell.data.engine import check_schema, explain, preflight
from hypershell.data.files import SQL_PATH, check_file
from hypershell.data.lease import SILENCE, Life, Owner, Watch, this_process
from hypershell.errors import StoreError
from hypershell.making import OLD, PRIVATE_FILE, beside, sweep
from hypershell.masking import masked_line
from hypershell.trust import followed

__all__ = [
    "FORGET",
    "Emptied",
    "Tell",
    "back_up",
    "compact",
    "new_beside",
    "opened",
    "place",
    "sync",
    "truncate",
    "vacuum",
    "without_servers",
]

#: Removes what table ``meta`` says of single runs (``formerly``).
FORGET = "DELETE FROM meta WHERE key LIKE 'had %'"

#: Seconds that a statement waits for a lock.
_BUSY = 10.0
#: Seconds between two looks at the lease of another host.
_GLANCE = 0.5

Tell = Callable[[str], None]


class Emptied(Struct, frozen=True):
    """How many rows were removed."""

    tasks: int
    runs: int


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database of ours that is there, in autocommit mode; its errors are ours.

    Raises:
        StoreError: no such file, not ours, not writable.
    """
    check_file(path, "name the file with --db PATH, or make a new one with 'hs initdb'")
    preflight(path)
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY, isolation_level=None)) as link:
            if not check_schema(link, path):
                raise StoreError(f"database {path} has no tables: run 'hs initdb'")
            yield link
    except sqlite3.Error as error:
        raise explain(error, path) from error


def vacuum(path: Path) -> int:
    """Write the file anew without the pages that are empty; the bytes that it became smaller.

    Keys that older versions recorded with the command lines of runs are in it no more. A server may work on it:
    its writes wait meanwhile.

    Raises:
        StoreError: the file cannot be used, or there is no room for the second copy that this needs.
    """
    with opened(path) as link:
        before = _size(link)
        _mask_commands(link)
        compact(link)
        return max(before - _size(link), 0)


def _mask_commands(link: sqlite3.Connection) -> None:
    for run, command in link.execute("SELECT id, command FROM run").fetchall():
        if (line := masked_line(command)) != command:
            link.execute("UPDATE run SET command = ? WHERE id = ?", (line, run))


def compact(link: sqlite3.Connection) -> None:
    """Vacuum, and put what that wrote into the file itself."""
    link.execute("VACUUM")
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _size(link: sqlite3.Connection) -> int:
    pages, page = (link.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * page)


def back_up(path: Path, target: Path) -> int:
    """Copy the database to `target`, as it is at one moment; the size of the copy in bytes.

    It is written beside `target` and has that name only when it is whole and on disk. A server may go on meanwhile.

    Raises:
        StoreError: `target` is there, or cannot be written.
    """
    _refuse_existing(target)
    with opened(path) as link:
        try:
            target = Path(followed(str(target.parent)), target.name)  # through no link of another user
            aside = new_beside(target)
            try:
                try:
                    link.execute(f"VACUUM INTO {SQL_PATH}", (bytes(aside),))
                except sqlite3.Error as error:
                    raise explain(error, aside) from error
                size = aside.stat().st_size
                place(aside, target, like=path)
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"backup {target} cannot be written: {error.strerror}; name another file, or make room"
            ) from error
    return size


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise StoreError(f"{target} exists already, nothing was written; name another file")


def new_beside(path: Path, mode: int = PRIVATE_FILE, *, alone: bool = False) -> Path:
    """A new empty file in the folder of `path`, for a database that is to become `path`; see ``making.beside``.

    :param alone: nobody else can be at it just now, so that others there are left by killed processes.
    """
    sweep(str(path), 0.0 if alone else OLD)
    handle, name = beside(str(path), mode)
    os.close(handle)
    return Path(name)


def place(aside: Path, target: Path, like: Path) -> None:
    """Give a finished file its name, durably, with the permissions of `like`; never over another file.

    Raises:
        StoreError: `target` is there.
    """
    os.chmod(aside, stat.S_IMODE(like.stat().st_mode))
    sync(aside)
    try:
        os.link(aside, target)
    except FileExistsError:
        _refuse_existing(target)
        raise
    except OSError:
        # No hard links here.
        _refuse_existing(target)
        os.rename(aside, target)
    else:
        aside.unlink()
    sync(target.parent)


def sync(path: Path) -> None:
    """Force a file or folder to disk; folders cannot be opened everywhere."""
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def truncate(path: Path, tell: Tell, silence: float = SILENCE) -> Emptied:
    """Remove all rows, and give their space back; partitions stay.

    Raises:
        StoreError: a living server uses the database, or see `vacuum`.
    """
    with opened(path) as link:
        with without_servers(link, path, tell, silence):
            counts = (link.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("task", "run"))
            emptied = Emptied(*counts)
            names = link.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in names:
                if name != "meta" and not name.startswith("sqlite_"):
                    link.execute(f'DELETE FROM "{name}"')
            link.execute(FORGET)
        compact(link)
    return emptied


@contextmanager
def without_servers(
    link: Any, where: Where, tell: Tell, silence: float, begin: str = "BEGIN IMMEDIATE"
) -> Iterator[None]:
    """A write transaction while no server lives, committed at its end; `begin` holds up who would begin a run.

    Servers that died are fenced: one that was only stopped ends itself when it wakes up. Where that cannot be seen
    from this host, their leases are watched for `silence` seconds, which `tell` is told.

    Raises:
        StoreError: a server lives.
    """
    watch = Watch(this_process(), silence)
    while True:
        _wait_until_dead(link, where, watch, tell)
        link.execute(begin)
        try:
            if not _living(link, where, watch):
                break
            link.execute("ROLLBACK")
        except BaseException:  # an interrupt too
            link.execute("ROLLBACK")
            raise
    try:
        link.execute("UPDATE run SET fenced = TRUE WHERE end_time IS NULL AND NOT fenced")
        yield
        link.execute("COMMIT")
    except BaseException:  # an interrupt too
        # Where SQLite has rolled back by itself there is nothing to do.
        if getattr(link, "in_transaction", True):
            link.execute("ROLLBACK")
        raise


def _wait_until_dead(link: Any, where: Where, watch: Watch, tell: Tell) -> None:
    waiting = False
    while unknown := _living(link, where, watch):
        if not waiting:
            waiting = True
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            tell(f"waiting up to {SILENCE:.0f} s for a sign of life from {unknown[0].describe()}{more}")
        time.sleep(_GLANCE)


def _living(link: Any, where: Where, watch: Watch) -> list[Owner]:
    """Servers of which it is not known whether they live; raises `StoreError` for one that does."""
    query = (
        "SELECT id, host, boot_id, pid, pid_start, job, counter, FALSE, FALSE FROM run "
        "WHERE end_time IS NULL AND NOT fenced ORDER BY id DESC"
    )
    unknown = []
    for row in link.execute(query).fetchall():
        owner = Owner(*row)
        life = watch.life(owner, time.monotonic())
        if life is Life.ALIVE:
            raise StoreError(
                f"database {where} is in use by {owner.describe()} (run {owner.run}): wait for its end, or end it; "
                "nothing was changed"
            )
        if life is Life.UNKNOWN:
            unknown.append(owner)
    return unknown
