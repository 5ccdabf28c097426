"""Which kind of database, and the way to each: the one place where settings become a database.

Imports what a kind needs only when it is chosen, so that a run with an SQLite file loads nothing of the other.
Called by ``server/run.py`` and the commands.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hypershell.address import Address
from hypershell.data.store import Store, sqlite_store

if TYPE_CHECKING:
    from hypershell.data.postgres import Postgres

__all__ = ["Where", "create", "open_readonly", "open_store", "preflight"]

Where: TypeAlias = Path | Address
"""An SQLite file, or a database on a server."""


def preflight(where: Where) -> None:
    """Make sure that the database can be made or used; raises StoreError with what is wrong and the way out."""
    if isinstance(where, Address):
        _server(where).preflight()
        return
    from hypershell.data.engine import preflight

    preflight(where)


def open_store(where: Where) -> Callable[[], Store]:
    """A function that makes the store; only its call imports SQLAlchemy."""
    if not isinstance(where, Address):
        return sqlite_store(where)

    def make() -> Store:
        from hypershell.data.sql import SqlStore

        return SqlStore(_server(where))

    return make


def open_readonly(where: Where) -> Any:
    """A connection of the driver that reads tasks, for ``query.reading``; None where there are none yet.

    Raises:
        StoreError: it cannot be read, or is of another program or version.
    """
    if isinstance(where, Address):
        return _server(where).open_readonly()
    from hypershell.data.reading import open_readonly

    return open_readonly(where)


def create(where: Where) -> bool:
    """Make the tables where the database has none; False where they were there. Raises StoreError."""
    if isinstance(where, Address):
        return _server(where).make()
    from hypershell.data.migrate import create

    return create(where)


def _server(where: Address) -> Postgres:
    from hypershell.data.postgres import Postgres

    return Postgres(where)
