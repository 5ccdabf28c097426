"""One statement for many rows.

SQLAlchemy compiles each statement for a single row. For PostgreSQL all rows travel in one JSON text (`JsonBulk`);
for SQLite `Bulk` repeats the row of parameters, and sends hundreds of rows with one call to the driver. The reason
is the interpreter lock: ``sqlite3`` gives it up at every row of ``executemany``, and beside a busy main thread gets
it back only after a switch interval (benchmarks/writer_rate.py). Used by ``sql`` only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Dialect, Table, and_, column, table, update
from sqlalchemy.sql.elements import ColumnElement

__all__ = ["Bulk", "JsonBulk", "bulk_insert", "bulk_update", "incoming", "insert_once"]

#: SQLite allows 32,766 parameters in a statement (sqlite3.h since 3.32).
_MAX_PARAMETERS = 32_000
_MAX_ROWS = 512

_to_json = msgspec.json.encode


class Bulk:
    """`head` + rows of parameters + `tail`; rows go out in chunks whose sizes repeat, so drivers can cache them."""

    def __init__(self, head: str, row: str, tail: str, width: int) -> None:
        self.width = width
        self._parts = (head, row, tail)
        largest = max(1, min(_MAX_ROWS, _MAX_PARAMETERS // width))
        sizes = [largest]
        while sizes[-1] > 1:
            sizes.append(max(1, sizes[-1] // 8))
        self._sizes = sizes
        self._texts: dict[int, str] = {}

    def text(self, rows: int) -> str:
        """The statement for so many rows."""
        known = self._texts.get(rows)
        if known is None:
            head, row, tail = self._parts
            known = self._texts[rows] = head + ", ".join([row] * rows) + tail
        return known

    def run(self, connection: Connection, flat: Sequence[Any]) -> int:
        """Send rows given as one flat sequence of parameters; the number of rows that were hit."""
        width, hit, start, left = self.width, 0, 0, len(flat) // self.width
        execute = connection.exec_driver_sql
        for size in self._sizes:
            text = self.text(size) if left >= size else ""
            while left >= size:
                stop = start + size * width
                hit += execute(text, tuple(flat[start:stop])).rowcount
                start = stop
                left -= size
        return hit


def _row(width: int) -> str:
    return "(" + ", ".join(["?"] * width) + ")"


class JsonBulk:
    """Rows for PostgreSQL: one JSON text for many of them, which the server takes apart.

    Its driver converts each parameter by itself, which costs four times as much as all the rest of the writer.
    """

    def __init__(self, text: str, width: int) -> None:
        self.width = width
        self._text = text

    def run(self, connection: Connection, flat: Sequence[Any]) -> int:
        """Send rows given as one flat sequence of parameters; the number of rows that were hit."""
        width, hit, step = self.width, 0, _MAX_ROWS * self.width
        for start in range(0, len(flat), step):
            chunk = flat[start : start + step]
            rows = _to_json([chunk[at : at + width] for at in range(0, len(chunk), width)])
            if b"u0000" in rows:  # a text of PostgreSQL holds no NUL
                chunk = [one.replace("\0", "\ufffd") if isinstance(one, str) else one for one in chunk]
                rows = _to_json([chunk[at : at + width] for at in range(0, len(chunk), width)])
            hit += connection.exec_driver_sql(self._text, (rows.decode(),)).rowcount
        return hit


def _from_json(dialect: Dialect, columns: Sequence[Column[Any]]) -> str:
    """The rows of the one parameter, each an array, as a table ``v``."""
    quote = dialect.identifier_preparer.quote
    fields = []
    for number, col in enumerate(columns):
        kind = col.type.compile(dialect).partition(" COLLATE ")[0]
        # Bytes travel as base64, as msgspec writes them.
        value = (
            f"decode(w.row ->> {number}, 'base64')" if kind == "BYTEA" else f"CAST(w.row ->> {number} AS {kind})"
        )
        fields.append(f"{value} AS {quote(col.name)}")
    return f"(SELECT {', '.join(fields)} FROM json_array_elements(CAST(%s AS JSON)) AS w(row)) AS v"


def insert_once(dialect: Dialect, target: Table) -> Any:
    """An insert that leaves a row alone whose id is there already, so that it may be repeated."""
    if dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(target).on_conflict_do_nothing(index_elements=["id"])
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(target).on_conflict_do_nothing(index_elements=["id"])


def bulk_insert(dialect: Dialect, target: Table, names: Sequence[str]) -> Bulk | JsonBulk:
    """Insert rows with the columns `names`; a row whose id is there already stays as it is."""
    statement = insert_once(dialect, target).values(dict.fromkeys(names))
    text = str(statement.compile(dialect=dialect, column_keys=list(names)))
    before, _, rest = text.partition(" VALUES ")
    after = rest[rest.index(" ON CONFLICT") :]
    # The compiler orders columns as the table does; so must the parameters.
    order = [col for col in target.columns if col.name in set(names)]
    if [col.name for col in order] != list(names):
        raise ValueError("columns of a bulk insert must come in the order of the table")
    if dialect.name == "postgresql":
        return JsonBulk(f"{before} SELECT * FROM {_from_json(dialect, order)}{after}", len(names))
    return Bulk(before + " VALUES ", _row(len(names)), after, len(names))


def bulk_update(
    dialect: Dialect,
    target: Table,
    given: Sequence[Column[Any]],
    values: dict[str, ColumnElement[Any]],
    guards: Sequence[ColumnElement[bool]],
) -> Bulk | JsonBulk:
    """Update the rows whose id is in the list of values ``v`` with the columns `given`, where `guards` hold.

    `values` and `guards` speak of the new values as columns of `incoming`.
    """
    statement = update(target).values(values).where(and_(*guards))
    text = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    before, after = re.split(r"\s+FROM v\s+WHERE\s+", text)
    if dialect.name == "postgresql":
        return JsonBulk(f"{before} FROM {_from_json(dialect, given)} WHERE {after}", len(given))
    quote = dialect.identifier_preparer.quote
    # SQLite calls the columns of a bare list column1, column2, ... and has no way to name them in place.
    names = ", ".join(f"column{number} AS {quote(col.name)}" for number, col in enumerate(given, 1))
    head = f"{before} FROM (SELECT {names} FROM (VALUES "
    return Bulk(head, _row(len(given)), f") AS w) AS v WHERE {after}", len(given))


def incoming(given: Sequence[Column[Any]]) -> Any:
    """The list of values of a bulk update as a table named ``v``."""
    return table("v", *(column(col.name, col.type) for col in given))
