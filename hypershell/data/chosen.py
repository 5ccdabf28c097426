"""The ids that one command is about, in a temporary table, and the one transaction that changes their tasks.

What the two database systems do differently here, over the connection of the driver in autocommit mode. Used by
``change``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy import Column, Connection, MetaData, Table, Text, func, select

from hypershell.data.schema import submission as _submission
from hypershell.data.schema import task as _task

__all__ = ["Chosen", "PostgresChosen", "SqliteChosen", "chosen"]

#: The table, as SQLAlchemy speaks of it.
chosen = Table("chosen", MetaData(), Column("id", Text, primary_key=True), prefixes=["TEMPORARY"])


class Chosen(Protocol):
    """See the module."""

    def make(self) -> None:
        """Make the table."""

    def add(self, ids: Sequence[str]) -> None:
        """Add ids in a transaction of their own."""

    def transaction(self) -> Any:
        """A context: a transaction in which the chosen tasks are what they are until its end."""


class SqliteChosen:
    """A transaction here is the only one that writes."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    def make(self) -> None:
        self._raw.execute("CREATE TEMPORARY TABLE chosen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, ids: Sequence[str]) -> None:
        self._raw.execute("BEGIN")
        self._raw.executemany("INSERT INTO chosen VALUES (?)", [(key,) for key in ids])
        self._raw.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._raw.execute("COMMIT")
        except BaseException:  # an interrupt too
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
            raise


class PostgresChosen:
    """The rows are locked, those of their submissions before: a takeover waits, and looks at them afterwards."""

    def __init__(self, raw: Any, link: Connection) -> None:
        self._raw = raw
        self._link = link

    def make(self) -> None:
        self._raw.execute('CREATE TEMPORARY TABLE chosen (id text COLLATE "C" PRIMARY KEY)')

    def add(self, ids: Sequence[str]) -> None:
        self._raw.execute("INSERT INTO chosen SELECT unnest(%s::text[])", (list(ids),))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._raw.transaction():
            mine = _task.c.id.in_(select(chosen.c.id))
            numbers = self._link.execute(select(_task.c.submission).where(mine).distinct()).scalars().all()
            owners = select(_submission.c.id).where(_submission.c.id.in_(numbers)).order_by(_submission.c.id)
            self._link.execute(owners.with_for_update()).fetchall()
            locked = select(_task.c.id).where(mine).order_by(_task.c.id).with_for_update().subquery()
            self._link.execute(select(func.count()).select_from(locked)).scalar_one()
            yield
