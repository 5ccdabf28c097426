"""Reading all columns of all tasks of an SQLite database fast: it joins the values of many rows itself.

A value that is fetched by itself costs the making of an object; 38 of them a row cost more than all the rest of an
export. So aggregate functions look at a block of rows: of a column that has one value in all rows only this is
made sure, texts of one length come as one text, other texts and integers as one JSON array, and only real numbers
that differ come one by one. What is no block of that kind, such as an id of another length, is read row by row. The
values are the same on every way.

Called by ``export``.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, overload

import msgspec

from hypershell.data.columns import ID_BYTES, ROWS, TABLES, Kind, kind_of

__all__ = ["TIME_BYTES", "Column", "Fixed", "Reader", "Same", "ahead"]

#: The values of one column, one for each row of a block.
Column = Sequence[Any]

#: Characters of a time: ``YYYY-MM-DD HH:MM:SS.ffffff``.
TIME_BYTES = 26

#: Seconds that one block, which is read in one transaction, may take before the next one is made smaller: several
#: times what it usually does. Less would cost much, for a block fills a chunk of the file.
_PIECE = 0.2
_LEAST = 16

#: Dashes of an id; times have more such characters.
_LEAST_MARKS = 4


class Same(Sequence[Any]):
    """`count` times one value."""

    def __init__(self, value: Any, count: int) -> None:
        self.value = value
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> Same: ...
    def __getitem__(self, place: int | slice) -> Any:
        chosen = range(self._count)[place]
        return Same(self.value, len(chosen)) if isinstance(chosen, range) else self.value

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(self.value, self._count)

    def __contains__(self, value: object) -> bool:
        return self._count > 0 and (self.value is value or self.value == value)


class Fixed(Sequence[Any]):
    """Texts of `width` ASCII characters, one after the other; zeros for null."""

    def __init__(self, data: bytes, width: int) -> None:
        self.data = data
        self.width = width

    def array(self) -> Any:
        """The texts as bytes in numpy, nothing for null."""
        import numpy as np

        return np.frombuffer(self.data, dtype=f"S{self.width}")

    def is_regular(self) -> bool:
        """Whether every text has its dashes and colons where the first one has them: none is shorter or longer."""
        import numpy as np

        each = np.frombuffer(self.data, dtype=np.uint8).reshape(-1, self.width)
        is_null = each[:, 0] == 0
        if self.data.count(0) != self.width * int(is_null.sum()):
            return False
        given = each[~is_null] if is_null.any() else each
        if not len(given):
            return True
        marks = [place for place, byte in enumerate(given[0].tobytes()) if not chr(byte).isalnum()]
        return len(marks) >= _LEAST_MARKS and all((given[:, place] == given[0, place]).all() for place in marks)

    def __len__(self) -> int:
        return len(self.data) // self.width

    @overload
    def __getitem__(self, place: int) -> str | None: ...
    @overload
    def __getitem__(self, place: slice) -> list[str | None]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        begin = range(len(self))[place] * self.width
        text = self.data[begin : begin + self.width]
        return text.decode() if text[0] else None

    def __iter__(self) -> Iterator[str | None]:
        joined = self.data.decode()
        for begin in range(0, len(joined), self.width):
            text = joined[begin : begin + self.width]
            yield None if text[0] == "\0" else text


class _IrregularError(Exception):
    """This block must be read row by row."""


class _Source:
    """How one column of table ``task`` is read: at first as a value that all rows have, later, when it `differs`,
    joined or one by one.
    """

    def __init__(self, column: Any) -> None:
        kind = kind_of(column)
        self.name = column.name
        self.quoted = f'"{column.name}"'
        self.differs = False
        self.expected: Any = None
        """The value that all rows should have; `_AS_ARGS` for that of column ``args``."""
        self.is_joined = kind in _WIDTHS or kind in _EXACT
        self._width = _WIDTHS.get(kind, 0)
        self._is_nullable = column.nullable

    def unlike(self) -> tuple[str, tuple[Any, ...]]:
        """The condition for rows that have not the expected value, with its parameters."""
        if self.expected is _AS_ARGS:
            return f"{self.quoted} IS NOT args", ()
        return f"{self.quoted} IS NOT ?", (self.expected,)

    def joined(self) -> str:
        """The expression that joins all values."""
        if not self._width:
            return f"json_group_array({self.quoted})"
        zeros = f"CAST(zeroblob({self._width}) AS TEXT)"
        return f"group_concat({f'coalesce({self.quoted}, {zeros})' if self._is_nullable else self.quoted}, '')"

    def split(self, rows: int, joined: str) -> Column:
        """The values of `joined`."""
        if not self._width:
            values: list[Any] = msgspec.json.decode(joined)
            return values
        column = Fixed(joined.encode(), self._width)
        if len(column.data) != self._width * rows or not column.is_regular():
            raise _IrregularError
        return column


class Reader:
    """All columns of all tasks, block by block in the order of ids, over a connection in autocommit mode."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw
        self._sources = [_Source(column) for column in TABLES["tasks"].columns]

    def blocks(self, limit: int | None = None) -> Iterator[list[Column]]:
        """Blocks of at most `ROWS` rows, or `limit` in all: a sequence for each column of table ``task``."""
        last = self._raw.execute("SELECT max(id) FROM task").fetchone()[0]
        low, size, done = "", ROWS, 0
        if last is not None:
            self._expect()
        while last is not None and low < last and done != limit:
            begin = time.monotonic()
            most = min(size, ROWS - done % ROWS)
            if limit is not None:
                most = min(most, limit - done)
            self._raw.execute("BEGIN")
            try:
                cut = self._raw.execute(_CUT, (low, last, most - 1)).fetchone()
                high = cut[0] if cut else last
                block = self._block(low, high)
            finally:
                self._raw.execute("COMMIT")
            spent = time.monotonic() - begin
            if spent > _PIECE:
                size = max(size // 2, _LEAST)
            elif spent < _PIECE / 2:
                size = min(size * 2, ROWS)
            low = high
            if block:
                done += len(block[0])
                yield block

    def _expect(self) -> None:
        """Expect of all rows what the first one has."""
        names = ", ".join(source.quoted for source in self._sources)
        first = self._raw.execute(f"SELECT {names} FROM task ORDER BY id LIMIT 1").fetchone() or ()
        for source, value in zip(self._sources, first, strict=False):
            source.expected = value
            if source.name == "command" and value is not None:
                source.expected = _AS_ARGS  # no template: most commands are what was submitted

    def _block(self, low: str, high: str) -> list[Column]:
        """The rows above `low` up to `high`; nothing where there are none."""
        try:
            return self._joined(low, high)
        except (_IrregularError, sqlite3.DataError, sqlite3.OperationalError):
            # For instance texts that are together longer than one may be. What is really wrong is raised again.
            return self._single(self._sources, low, high)

    def _joined(self, low: str, high: str) -> list[Column]:
        same = [source for source in self._sources if not source.differs]
        joined = [source for source in self._sources if source.differs and source.is_joined]
        single = [source for source in self._sources if source.differs and not source.is_joined]
        conditions, parameters = zip(*(source.unlike() for source in same), strict=True) if same else (("0",), ())
        words = ["count(*)", f"sum({' OR '.join(conditions)})", *(source.joined() for source in joined)]
        asked = (*itertools.chain(*parameters), low, high)
        rows, unlike, *found = self._raw.execute(f"SELECT {', '.join(words)} {_BETWEEN}", asked).fetchone()
        if rows == 0:
            return []
        if unlike:
            words = [f"sum({condition})" for condition in conditions]
            each = self._raw.execute(f"SELECT {', '.join(words)} {_BETWEEN}", asked).fetchone()
            for source, count in zip(same, each, strict=True):
                source.differs = count > 0
            return self._joined(low, high)
        columns: dict[str, Column] = {source.name: Same(source.expected, rows) for source in same}
        columns.update((one.name, one.split(rows, text)) for one, text in zip(joined, found, strict=True))
        columns.update(zip([one.name for one in single], self._single(single, low, high), strict=True))
        if not _is_ascending(columns["id"]):
            raise _IrregularError
        if any(source.expected is _AS_ARGS for source in same):
            columns["command"] = columns["args"]
        return [columns[source.name] for source in self._sources]

    def _single(self, sources: Sequence[_Source], low: str, high: str) -> list[Column]:
        """Columns of which every value comes by itself."""
        if not sources:
            return []
        names = ", ".join(source.quoted for source in sources)
        rows = self._raw.execute(f"SELECT {names} {_BETWEEN} ORDER BY id", (low, high)).fetchall()
        return list(zip(*rows, strict=True))


def ahead(blocks: Iterator[list[Column]]) -> Iterator[list[Column]]:
    """The same blocks, each read by another thread while the one before is in use.

    SQLite looks for the next block without the lock of the interpreter. The connection belongs to that thread until
    the end, or until this iterator is closed.
    """
    ready: queue.Queue[list[Column] | BaseException | None] = queue.Queue(1)
    is_closed = threading.Event()

    def read() -> None:
        last: BaseException | None = None
        try:
            for block in blocks:
                ready.put(block)
                if is_closed.is_set():
                    return
        except BaseException as error:  # raised again where the blocks are used
            last = error
        ready.put(last)

    reader = threading.Thread(target=read, name="export-reader", daemon=True)
    reader.start()
    try:
        while isinstance(block := ready.get(), list):
            yield block
        if block is not None:
            raise block
    finally:
        is_closed.set()
        while reader.is_alive():
            with contextlib.suppress(queue.Empty):
                ready.get(timeout=0.01)
        reader.join()


_BETWEEN = "FROM task WHERE id > ? AND id <= ?"
_CUT = f"SELECT id {_BETWEEN} ORDER BY id LIMIT 1 OFFSET ?"
_WIDTHS = {Kind.ID: ID_BYTES, Kind.TIME: TIME_BYTES}
#: Kinds of which JSON has every value as it is; of real numbers SQLite writes 15 digits.
_EXACT = (Kind.TEXT, Kind.HOST, Kind.STATE, Kind.INTEGER, Kind.FLAG)
_AS_ARGS = object()


def _is_ascending(ids: Column) -> bool:
    """Whether rows came in the order of ids, as an index gives them, but nothing guarantees."""
    if not isinstance(ids, Fixed):
        return len(ids) <= 1
    each = ids.array()
    return bool((each[1:] > each[:-1]).all())
