"""Rotation: tasks that ended leave the database for a partition, a file beside it (``main.1.db`` for ``main.db``).

What may leave: whole chains of attempts whose last one ended. Failures of a submission with unfinished work stay,
because they hold back its higher groups and count when it is restarted.

Nothing is lost whenever this is killed: the partition is built aside and named when it is whole and on disk; only
then one transaction removes the tasks from the database and notes the number of the partition. Readers
(``partitions``) look only at partitions that are noted; of one that is not, the next rotation takes out again what
the database still has. Called by ``hs initdb --rotate``.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from hypershell.core.states import FINAL
from hypershell.data.engine import Sqlite, check_schema, explain
from hypershell.data.files import SQL_PATH
from hypershell.data.lease import SILENCE
from hypershell.data.reading import (
    PARTITION,
    ROTATED,
    is_any_partition,
    is_partition,
    partition_files,
    partition_path,
    rotated,
)
from hypershell.data.upkeep import Tell, compact, new_beside, opened, place, without_servers
from hypershell.errors import StoreError

__all__ = ["Rotated", "rotate"]

#: Rows that are copied by one statement, so that Ctrl-C is heard between two.
_ROWS = 20_000

#: What stays although it is final: attempts before one that is not, and failures of unfinished submissions.
_KEPT = """
INSERT OR IGNORE INTO temp.kept
WITH RECURSIVE unfinished(number) AS (
    SELECT id FROM {schema}.submission WHERE NOT complete AND source = 'file'
    UNION SELECT submission FROM {schema}.task WHERE state = 'pending'
    UNION SELECT submission FROM {schema}.task WHERE state = 'dispatched'
), chain(id, previous) AS (
    SELECT id, previous_id FROM {schema}.task WHERE state = 'pending' AND previous_id IS NOT NULL
    UNION ALL SELECT id, previous_id FROM {schema}.task WHERE state = 'dispatched' AND previous_id IS NOT NULL
    UNION ALL SELECT id, previous_id FROM {schema}.task
        WHERE state = 'failed' AND next_id IS NULL AND submission IN (SELECT number FROM unfinished)
    UNION ALL SELECT task.id, task.previous_id FROM {schema}.task JOIN chain ON task.id = chain.previous
)
SELECT id FROM chain
"""
_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))
_MOVES = f"state IN ({_FINAL}) AND id NOT IN (SELECT id FROM temp.kept)"

#: Rows of other tables that go with the tasks of a partition; they stay in the database too.
_COMPANIONS = (
    ("submission", "id IN (SELECT submission FROM main.task)"),
    ("run", "id IN (SELECT server_id FROM main.task UNION SELECT owner FROM main.submission)"),
    ("client", "id IN (SELECT client_id FROM main.task)"),
    ("output", "task_id IN (SELECT id FROM main.task)"),
)


class Rotated(Struct, frozen=True):
    """What a rotation did. `compacted` is whether the space of the tasks was given back."""

    number: int
    partition: Path
    tasks: int
    compacted: bool


def rotate(path: Path, tell: Tell, silence: float = SILENCE) -> Rotated | None:
    """Move what has ended into a new partition; None where nothing has. `tell` hears what is waited for.

    Raises:
        StoreError: a living server uses the database, it is a partition itself, or the disk is full.
    """
    with opened(path) as link:
        real = Path(os.path.realpath(path))
        if is_any_partition(link):
            raise StoreError(f"database {path} is a partition itself: rotate the one that it belongs to")
        try:
            with without_servers(link, path, tell, silence):
                done = _rotate(link, real)
        except OSError as error:
            raise StoreError(
                f"database {path} cannot be rotated: {error.strerror}; make room, or see to its folder"
            ) from error
        return done and Rotated(*done, _compacted(link))


def _rotate(link: sqlite3.Connection, real: Path) -> tuple[int, Path, int] | None:
    """Inside of the transaction of `link`, which keeps other writers out."""
    numbers = set(rotated(link))
    numbers |= _settle(real, numbers)
    taken = [number for number, _ in partition_files(real)]
    number = max([0, *numbers, *taken]) + 1
    aside = new_beside(real, alone=True)  # we have the write lock
    target = partition_path(real, number)
    try:
        count = _build(aside, real, number)
        if count:
            place(aside, target, like=real)
    finally:
        _remove(aside)
    if count:
        _keep(link, "main")
        if _has_table(link, "main", "output"):
            link.execute(f"DELETE FROM main.output WHERE task_id IN (SELECT id FROM main.task WHERE {_MOVES})")
        removed = link.execute(f"DELETE FROM main.task WHERE {_MOVES}").rowcount
        if removed != count:
            raise StoreError(f"{count} tasks were copied to {target}, {removed} were to go: all of them stay")
        numbers.add(number)
    if numbers:
        noted = " ".join(map(str, sorted(numbers)))
        link.execute("INSERT OR REPLACE INTO main.meta (key, value) VALUES (?, ?)", (ROTATED, noted))
    return (number, target, count) if count else None


def _settle(real: Path, noted: set[int]) -> set[int]:
    """See to partitions that are not noted: interrupted rotations, or newer than a backup that was restored.

    The database counts. What it does not have is kept; the numbers of these partitions.
    """
    found = set()
    for number, path in partition_files(real):
        if number in noted or not path.is_file():
            continue
        with closing(sqlite3.connect(path, isolation_level=None)) as part:
            if not _is_ours(part, path, number):
                continue
            part.execute(f"ATTACH {SQL_PATH} AS whole", (bytes(real),))
            part.execute("DELETE FROM main.task WHERE id IN (SELECT id FROM whole.task)")
            if _has_table(part, "main", "output"):
                part.execute("DELETE FROM main.output WHERE task_id IN (SELECT id FROM whole.task)")
            is_empty = part.execute("SELECT 1 FROM main.task LIMIT 1").fetchone() is None
        if is_empty:
            _remove(path)
        else:
            found.add(number)
    return found


def _is_ours(part: sqlite3.Connection, path: Path, number: int) -> bool:
    try:
        return check_schema(part, path) and is_partition(part, number)
    except (StoreError, sqlite3.Error):
        return False


def _build(aside: Path, real: Path, number: int) -> int:
    """Make the partition; how many tasks it has."""
    database = Sqlite(aside, journal="DELETE")
    engine = database.engine()
    try:
        with engine.connect() as connection, connection.begin():
            database.create(connection, create=True)
    except database.errors as error:
        raise database.explain(error) from error
    finally:
        engine.dispose()
    try:
        with closing(sqlite3.connect(aside, isolation_level=None)) as part:
            return _copy(part, real, number)
    except sqlite3.Error as error:
        raise explain(error, aside) from error


def _copy(part: sqlite3.Connection, real: Path, number: int) -> int:
    # Whatever interrupts this, the file is thrown away.
    part.execute("PRAGMA journal_mode=OFF").fetchall()
    part.execute("PRAGMA synchronous=OFF")
    part.execute(f"ATTACH {SQL_PATH} AS whole", (bytes(real),))
    part.execute("BEGIN")
    _keep(part, "whole")
    names = _columns(part, "task")
    values = names.replace('"tag"', "json_set(tag, '$.part', ?)")
    insert = (
        f"INSERT INTO main.task ({names}) SELECT {values} FROM whole.task "
        f"WHERE id > ? AND {_MOVES} ORDER BY id LIMIT {_ROWS}"
    )
    count, last = 0, ""
    while copied := part.execute(insert, (number, last)).rowcount:
        count += copied
        last = part.execute("SELECT max(id) FROM main.task").fetchone()[0]
    for table, condition in _COMPANIONS:
        if not _has_table(part, "whole", table):
            continue
        names = _columns(part, table)
        part.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM whole.{table} WHERE {condition}")
    part.execute("INSERT INTO main.meta (key, value) VALUES (?, ?)", (PARTITION, str(number)))
    part.execute("COMMIT")
    return count


def _has_table(link: sqlite3.Connection, schema: str, table: str) -> bool:
    """Databases that were made before there was a table have it only once they are written."""
    query = f"SELECT 1 FROM {schema}.sqlite_master WHERE type = 'table' AND name = ?"
    return link.execute(query, (table,)).fetchone() is not None


def _columns(link: sqlite3.Connection, table: str) -> str:
    return ", ".join(f'"{row[1]}"' for row in link.execute(f"PRAGMA main.table_info({table})"))


def _keep(link: sqlite3.Connection, schema: str) -> None:
    link.execute("CREATE TEMP TABLE kept (id TEXT PRIMARY KEY) WITHOUT ROWID")
    link.execute(_KEPT.format(schema=schema))


def _compacted(link: sqlite3.Connection) -> bool:
    """Give the space back, unless somebody reads or writes just now or the disk has no room for it."""
    try:
        compact(link)
    except sqlite3.Error:
        return False
    return True


def _remove(path: Path) -> None:
    for suffix in ("", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
