"""Long results in short pieces: a statement executed for one range of ids after the other.

Every statement is a read transaction of its own that has ended before its rows are handed on. Knows the order of
ids and nothing of fields and filters; called by ``query`` and ``partitions``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, bindparam, func, select

from hypershell.data.schema import task as _task

__all__ = ["Row", "Walk"]

Row = Sequence[Any]

#: Seconds that one statement should take.
_PIECE = 0.02
#: Rows that the first statement looks at: the first line of output must not wait.
_FIRST = 256
#: Rows that one statement looks at when it returns rows.
_MOST_READ = 10_000

#: Above every text.
_LAST = "\U0010ffff"


class Walk:
    """Executes a statement for the tasks of a condition, range of ids after range of ids.

    The time that one range took is the measure for the next, so that a costly filter, a cold disk or wide rows
    make it smaller. Ids grow with time: what is added meanwhile lies behind the end. `span` are the ids to look at:
    above the first, up to the second. `low` and `high` are the span that is left, `done` is whether none is.
    """

    def __init__(
        self,
        connection: Connection,
        statement: Select[Any],
        where: ColumnElement[bool] | None,
        *,
        descending: bool = False,
        most: int = _MOST_READ,
        span: tuple[str, str] | None = None,
    ) -> None:
        self._connection = connection
        self._descending = descending
        self._most = most
        statement = statement.where(_task.c.id > bindparam("low"), _task.c.id <= bindparam("high"))
        if where is not None:
            statement = statement.where(where)
        self._statement = statement
        self._next_cut = _cut(descending)
        self._size = _FIRST
        first = connection.execute(select(func.min(_task.c.id))).scalar()
        last = connection.execute(select(func.max(_task.c.id))).scalar()
        self.done = first is None or last is None
        # The begin of an id is less than it, and no id lies between. SQLite keeps bytes too, which come last.
        self.low = first[:-1] if isinstance(first, str) else ""
        self.high = last if isinstance(last, str) else _LAST
        if span is not None:
            self.low, self.high = max(self.low, span[0]), min(self.high, span[1])
            self.done = self.done or self.low >= self.high

    def read(self) -> list[Row]:
        """The rows of the next range, perhaps none."""
        low, high, size = self.low, self.high, self._size
        begin = time.monotonic()
        # From below the cut is the last id of the range, from above the first one below it.
        skip = size if self._descending else size - 1
        cut = self._connection.execute(self._next_cut, {"low": low, "high": high, "skip": skip}).scalar()
        if cut is None or not low < cut <= high:  # an id that is not UTF-8 does not come back as it is
            self.done = True
            piece = {"low": low, "high": high}
            return self._connection.execute(self._statement, piece).fetchall()  # type: ignore[return-value]
        piece = {"low": cut, "high": high} if self._descending else {"low": low, "high": cut}
        found = self._connection.execute(self._statement, piece).fetchall()
        spent = time.monotonic() - begin
        self.low, self.high = (low, cut) if self._descending else (cut, high)
        if spent > _PIECE:
            self._size = max(size // 2, 16)
        elif spent < _PIECE / 2:
            self._size = min(size * 2, self._most)
        return found  # type: ignore[return-value]  # a Row of SQLAlchemy is a sequence

    def pages(self) -> Iterator[list[Row]]:
        """All rows, range by range."""
        while not self.done:
            yield self.read()


def _cut(descending: bool) -> Select[Any]:
    column = _task.c.id
    among = select(column).where(column > bindparam("low"), column <= bindparam("high"))
    among = among.order_by(column.desc() if descending else column)
    return among.limit(1).offset(bindparam("skip", type_=BigInteger()))
