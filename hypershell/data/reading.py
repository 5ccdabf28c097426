"""Opening a database only to read it: nothing is made, changed or locked for longer than a page takes.

Uses the bare driver, so that a database without tasks is answered before SQLAlchemy is imported. Called by the
commands that query; ``query`` does the rest.
"""

from __future__ import annotations

import os
import re
import sqlite3
from functools import partial
from pathlib import Path

from hypershell.data.engine import check_schema, explain
from hypershell.data.files import check_file
from hypershell.errors import StoreError

__all__ = [
    "PARTITION",
    "ROTATED",
    "is_any_partition",
    "is_partition",
    "open_partition",
    "open_readonly",
    "open_runs",
    "partition_files",
    "partition_path",
    "rotated",
]

#: Keys of table ``meta``: the number of a partition, in its own file, and in the database those of all of them.
PARTITION = "partition"
ROTATED = "rotated"

#: Seconds that one statement waits for a lock.
_BUSY = 10.0

#: Result codes after which another way of opening may help.
_CLOSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def open_readonly(
    path: Path, with_partitions: bool = False, without_tasks: bool = False
) -> sqlite3.Connection | None:
    """A connection that reads the tasks of `path`, None where there is none yet.

    `with_partitions`: tasks in a partition beside it count too. `without_tasks` also opens a database that has
    tables but no task; None is then one without tables.

    Raises:
        StoreError: no such file, no regular file, no database, or one of another version or program.
    """
    check_file(path)
    query = "SELECT 1 FROM task LIMIT 1"
    if without_tasks or (with_partitions and partition_files(path)):
        query = "SELECT 1"
    return _open(path, query)


def open_runs(path: Path) -> sqlite3.Connection | None:
    """A connection that reads the runs of `path`, None where there is none yet; raises as `open_readonly`."""
    check_file(path)
    return _open(path, "SELECT 1 FROM run LIMIT 1")


def open_partition(path: Path, number: int) -> sqlite3.Connection:
    """A connection that reads the partition `number`, the file `path`.

    Raises:
        StoreError: it cannot be read, or is another file; the way out is to leave partitions out.
    """
    try:
        raw = _open(path, "SELECT 1")
        if raw is not None and is_partition(raw, number):
            return raw
    except StoreError as error:
        reason = str(error).rpartition("; ")[0] or str(error)
        raise StoreError(f"partition {number}: {reason}; leave it out with -i/--ignore-partitions") from error
    raise StoreError(
        f"partition {number}: database {path} is not the one that was rotated; put that one in its place, or leave "
        "partitions out with -i/--ignore-partitions"
    )


def is_partition(connection: sqlite3.Connection, number: int) -> bool:
    """Whether this database of ours is the partition `number` of another one."""
    return _meta(connection, PARTITION) == str(number)


def is_any_partition(connection: sqlite3.Connection) -> bool:
    """Whether this database of ours is a partition."""
    return _meta(connection, PARTITION) != ""


def rotated(connection: sqlite3.Connection) -> tuple[int, ...]:
    """The numbers of the partitions to which tasks of this database were moved, ascending."""
    return tuple(int(number) for number in _meta(connection, ROTATED).split())


def _meta(connection: sqlite3.Connection, key: str) -> str:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row else ""


def partition_path(path: Path, number: int) -> Path:
    """The file of a partition of the database `path`: ``main.1.db`` for ``main.db``.

    Of a symbolic link it is beside the file that it names.
    """
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.stem}.{number}{real.suffix}")


def partition_files(path: Path) -> list[tuple[int, Path]]:
    """Files beside the database `path` that are named as its partitions, with their numbers, ascending."""
    real = Path(os.path.realpath(path))
    pattern = re.compile(rf"{re.escape(real.stem)}\.([1-9][0-9]{{0,8}}){re.escape(real.suffix)}", re.DOTALL)
    try:
        names = os.listdir(real.parent)
    except OSError:
        return []
    found = [(int(match[1]), real.with_name(name)) for name in names if (match := pattern.fullmatch(name))]
    return sorted(found)


def _open(path: Path, query: str) -> sqlite3.Connection | None:
    """Open `path`, where `query` finds something."""
    for way in _ways(path):
        try:
            return _opened(path, way, query)
        except sqlite3.Error as error:
            last = error
            if (error.sqlite_errorcode or 0) & 0xFF not in _CLOSED:
                break
    raise explain(last, path) from last


def _ways(path: Path) -> list[str]:
    """How the file may be opened (https://www.sqlite.org/uri.html).

    A rollback journal that a killed writer left must be played back, which needs write access. A write-ahead log
    needs an index file beside it; where we may not make one and no log is there, nobody writes either.
    """
    ways = ["mode=ro", "mode=rw"]
    if not any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-journal")):
        ways.append("immutable=1")
    return ways


def _opened(path: Path, way: str, query: str) -> sqlite3.Connection | None:
    uri = f"{path.absolute().as_uri()}?{way}"
    # An export reads in a thread of its own; never are two of them at it at the same time.
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    connection.text_factory = partial(str, encoding="utf-8", errors="backslashreplace")
    try:
        connection.execute("PRAGMA query_only=ON")
        if check_schema(connection, path) and connection.execute(query).fetchone():
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None
