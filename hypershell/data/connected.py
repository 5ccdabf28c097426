"""One connection to a database that is written, and its transactions: what the store and ``submit`` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, bindparam, false, update

from hypershell.data.schema import run as _run
from hypershell.errors import StoreError

__all__ = ["RENEW", "Connected", "Database"]

#: Renews the lease of run ``:me``; hits no row once another server has taken over.
RENEW = (
    update(_run).where(_run.c.id == bindparam("me"), _run.c.fenced.is_(false())).values(counter=_run.c.counter + 1)
)


class Database(Protocol):
    """What differs between database systems: ``engine.Sqlite`` and ``postgres.Postgres``."""

    @property
    def errors(self) -> tuple[type[Exception], ...]: ...
    @property
    def file(self) -> Path | None: ...
    def engine(self) -> Engine: ...
    def create(self, connection: Connection, create: bool) -> bool: ...
    def version(self, connection: Connection) -> int: ...
    def changed(self, connection: Connection) -> bool: ...
    def check_place(self) -> None: ...
    def explain(self, error: BaseException) -> StoreError: ...


class Connected:
    """A connection, used by one thread. Every method raises ``StoreError`` for what the driver raises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine: Any = None
        self._link: Connection | None = None

    def connect(self, create: bool) -> Connection:
        """Connect anew; make the tables where they are missing and `create` is true."""
        self.close()
        with self.explained():
            self._engine = self._database.engine()
            link: Connection = self._engine.connect()
            self._link = link
            with link.begin():
                self._database.create(link, create)
            self._database.check_place()
        return link

    def close(self) -> None:
        """Release the connection; idempotent."""
        if self._link is not None:
            with self.explained():
                self._link.close()
            self._link = None
            self._engine.dispose()

    @property
    def link(self) -> Connection:
        """The connection; raises ``StoreError`` where there is none."""
        if self._link is None:
            raise StoreError("the database is not open")
        return self._link

    def unbegun(self) -> Connection:
        """The connection with no transaction: want of memory may have kept the last one from being rolled back."""
        link = self.link
        with self.explained():
            if link.in_transaction():
                link.rollback()
            raw: Any = link.connection.dbapi_connection
            raw.rollback()  # nothing is sent where there is nothing to roll back
        return link

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One read transaction."""
        link = self.unbegun()
        with self.explained():
            link.execution_options(reading=True)
            try:
                with link.begin():
                    yield link
            finally:
                link.execution_options(reading=False)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the driver into ours."""
        try:
            yield
        except self._database.errors as error:
            raise self._database.explain(error) from error
