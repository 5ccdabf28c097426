"""Which lines of a FILE have no task yet: two multisets of hashes, compared in a temporary file.

A line is its command. Among lines with one command those are told apart that differ in group, tags or resources, so
that the right ones of them are new; one that differs from its task in these alone is not new. Memory stays flat
however long the FILE is. Knows neither files of lines nor the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b
from types import TracebackType

import msgspec
from msgspec import Struct

from hypershell.core.model import Task
from hypershell.errors import StoreError

__all__ = ["Difference", "Tally"]

Key = tuple[bytes, bytes]

_HASH = 16
_KIB = 32_768
"""Of memory; what does not fit goes into the file."""

_ADD = """
INSERT INTO line VALUES (?, ?, {step}) ON CONFLICT DO UPDATE SET surplus = surplus {sign} 1
"""
#: Per command, lines without a task stand for tasks without a line as far as these go; the rest of them is new.
_SETTLE = """
INSERT INTO fresh
SELECT command, whole, min(-surplus, lines - tasks) FROM (
    SELECT command, whole, surplus,
        sum(max(-surplus, 0)) OVER (PARTITION BY command ORDER BY whole) AS lines,
        sum(max(surplus, 0)) OVER (PARTITION BY command) AS tasks
    FROM line
) WHERE surplus < 0 AND lines > tasks
"""
_COUNT = """
SELECT total(max(lines - tasks, 0)), total(max(tasks - lines, 0)), total(min(tasks, lines)) FROM (
    SELECT sum(max(-surplus, 0)) AS lines, sum(max(surplus, 0)) AS tasks FROM line GROUP BY command
)
"""
_LEFT = "WHERE command = ? AND whole = ? AND lines > 0"


class Difference(Struct, frozen=True):
    """Lines without a task, tasks without a line, and tasks whose line differs in group, tags or resources."""

    new: int
    gone: int
    reworded: int


class Tally:
    """Count tasks (`have`) and lines (`want`), `settle`, and then ask of each line whether to `take` it.

    Every method raises ``StoreError`` where the temporary file cannot grow.
    """

    def __init__(self) -> None:
        self._left = 0
        self._file = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_KIB}"):
            self._file.execute(f"PRAGMA {pragma}")
        for name, column in (("line", "surplus"), ("fresh", "lines")):
            self._file.execute(
                f"CREATE TABLE {name} (command BLOB, whole BLOB, {column} INTEGER, PRIMARY KEY (command, whole)) "
                "WITHOUT ROWID"
            )

    def __enter__(self) -> Tally:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if isinstance(error, sqlite3.Error):
            raise StoreError(
                f"the lines cannot be compared: temporary file: {error}; set SQLITE_TMPDIR to a place with room"
            ) from error

    def have(self, tasks: Iterable[Task]) -> None:
        """The database has these tasks."""
        self._add(tasks, _ADD.format(step=1, sign="+"))

    def want(self, tasks: Iterable[Task]) -> None:
        """The FILE has lines that make these tasks."""
        self._add(tasks, _ADD.format(step=-1, sign="-"))

    def settle(self) -> Difference:
        """Compare; nothing is added to either side afterwards."""
        self._file.execute("BEGIN")  # until the end: each statement of its own would write the file
        self._file.execute(_SETTLE)
        new, gone, reworded = map(int, self._file.execute(_COUNT).fetchone())
        self._left = new
        return Difference(new, gone, reworded)

    def take(self, task: Task) -> bool:
        """Whether the line that makes this task is a new one; one of several equal ones is so only once."""
        if not self._left:
            return False
        key = _key(task)
        if self._file.execute(f"SELECT 1 FROM fresh {_LEFT}", key).fetchone() is None:
            return False
        self._file.execute(f"UPDATE fresh SET lines = lines - 1 {_LEFT}", key)
        self._left -= 1
        return True

    def _add(self, tasks: Iterable[Task], statement: str) -> None:
        self._file.execute("BEGIN")
        self._file.executemany(statement, map(_key, tasks))
        self._file.execute("COMMIT")


def _key(task: Task) -> Key:
    """The hashes of the command, and of all that a line says where that is more."""
    command = task.args.encode() if task.raw is None else task.raw
    more = (task.group, task.cores, task.memory, task.timeout, task.tag or None)
    short = blake2b(command, digest_size=_HASH).digest()
    if more == (0, None, None, None, None):
        return short, b""
    rest = msgspec.json.encode(more, order="sorted")
    return short, blake2b(command + b"\0" + rest, digest_size=_HASH).digest()
