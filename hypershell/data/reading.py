"""Opening a database only to read it: nothing is made, changed or locked for longer than a page takes.

Uses the bare driver, so that a database without tasks is answered before SQLAlchemy is imported. Called by the
commands that query; ``query`` does the rest.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hypershell.data.engine import check_schema, explain
from hypershell.data.files import check_file

__all__ = ["open_readonly"]

#: Seconds that one statement waits for a lock.
_BUSY = 10.0

#: Result codes after which another way of opening may help.
_CLOSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def open_readonly(path: Path, without_tasks: bool = False) -> sqlite3.Connection | None:
    """A connection that reads the tasks of `path`, None where there is none yet.

    `without_tasks` also opens a database that has tables but no task; None is then one without tables.

    Raises:
        StoreError: no such file, no regular file, no database, or one of another version or program.
    """
    check_file(path)
    for way in _ways(path):
        try:
            return _opened(path, way, without_tasks)
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


def _opened(path: Path, way: str, without_tasks: bool) -> sqlite3.Connection | None:
    uri = f"{path.absolute().as_uri()}?{way}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only=ON")
        is_ours = check_schema(connection, path)
        if is_ours and (without_tasks or connection.execute("SELECT 1 FROM task LIMIT 1").fetchone()):
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None
