"""Filling an empty database in one transaction, by the driver: the writing side of ``restore``.

Values are as an export has them: times are UTC text, tags are JSON text, flags are 0 and 1.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hypershell.address import Address, Where
from hypershell.data.engine import explain

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = ["BadRow", "Filler", "filling"]


class BadRow(Exception):
    """A row that cannot be in the table, with the reason of the database."""


class Filler(Protocol):
    """See the module."""

    def has_rows(self, table: Table) -> bool: ...

    def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows of all columns; raises `BadRow`."""


@contextmanager
def filling(where: Where) -> Iterator[Filler]:
    """The transaction; it is rolled back where its block raises. The tables must be there.

    Raises:
        StoreError: the database cannot be written.
    """
    with _on_server(where) if isinstance(where, Address) else _in_file(where) as filler:
        yield filler


@contextmanager
def _in_file(path: Path) -> Iterator[Filler]:
    try:
        with closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as link:
            link.execute("PRAGMA synchronous=FULL")
            link.execute("BEGIN IMMEDIATE")
            yield _SqliteFiller(link)
            link.execute("COMMIT")
    except sqlite3.Error as error:
        raise explain(error, path) from error


class _SqliteFiller:
    def __init__(self, link: sqlite3.Connection) -> None:
        self._link = link

    def has_rows(self, table: Table) -> bool:
        return self._link.execute(f'SELECT 1 FROM "{table.name}" LIMIT 1').fetchone() is not None

    def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(table.columns))
        try:
            self._link.executemany(f'INSERT INTO "{table.name}" ({_names(table)}) VALUES ({marks})', rows)
        except sqlite3.IntegrityError as error:
            raise BadRow(str(error)) from error


@contextmanager
def _on_server(address: Address) -> Iterator[Filler]:
    from hypershell.data.postgres import Postgres

    server = Postgres(address)
    raw, _ = server.connect_checked()
    with closing(raw):
        try:
            with raw.transaction():
                names = ", ".join(f'"{name}"' for name in _all_tables())
                # Whoever would begin a run or submit waits, and finds the tables full.
                raw.execute(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
                yield _PostgresFiller(raw)
        except server.errors as error:
            raise server.explain(error) from error


class _PostgresFiller:
    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def has_rows(self, table: Table) -> bool:
        return self._raw.execute(f'SELECT 1 FROM "{table.name}" LIMIT 1').fetchone() is not None

    def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        from psycopg import DataError, IntegrityError

        try:
            statement = f'COPY "{table.name}" ({_names(table)}) FROM STDIN'
            with self._raw.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except (IntegrityError, DataError) as error:
            raise BadRow(str(error).splitlines()[0]) from error


def _names(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


def _all_tables() -> list[str]:
    from hypershell.data.schema import metadata

    return [name for name in metadata.tables if name != "meta"]
