"""Which kind of database, and the way to each: the one place where settings become a database.

Imports what a kind needs only when it is chosen, so that a run with an SQLite file loads nothing of the other.
Called by ``server/run.py`` and the commands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypershell.address import Address, Where
from hypershell.data.store import Store, sqlite_store

if TYPE_CHECKING:
    from hypershell.data.connected import Database
    from hypershell.data.owner import Sharing
    from hypershell.data.postgres import Postgres
    from hypershell.data.upkeep import Emptied

__all__ = [
    "create",
    "database",
    "open_readonly",
    "open_runs",
    "open_store",
    "preflight",
    "truncate",
    "vacuum",
]


def preflight(where: Where, sharing: Sharing | None = None) -> None:
    """Make sure that the database can be made or used; raises StoreError with what is wrong and the way out.

    `sharing` as for ``engine.preflight``; a database on a server has rights of its own.
    """
    if isinstance(where, Address):
        _server(where).preflight()
        return
    from hypershell.data.engine import preflight

    preflight(where, sharing)


def open_store(where: Where) -> Callable[[], Store]:
    """A function that makes the store; only its call imports SQLAlchemy."""
    if not isinstance(where, Address):
        return sqlite_store(where)

    def make() -> Store:
        from hypershell.data.sql import SqlStore

        return SqlStore(_server(where))

    return make


def database(where: Where) -> Database:
    """What a connection that writes is made of."""
    if isinstance(where, Address):
        return _server(where)
    from hypershell.data.engine import Sqlite

    return Sqlite(where)


def open_readonly(where: Where, with_partitions: bool = False, without_tasks: bool = False) -> Any:
    """A connection of the driver that reads tasks, for ``query.reading``; None where there are none yet.

    `with_partitions` and `without_tasks` as for ``reading.open_readonly``.

    Raises:
        StoreError: it cannot be read, or is of another program or version.
    """
    if isinstance(where, Address):
        return _server(where).open_readonly(None if without_tasks else "task")
    from hypershell.data.reading import open_readonly

    return open_readonly(where, with_partitions, without_tasks)


def open_runs(where: Where) -> Any:
    """A connection of the driver that reads runs, None where there are none yet; raises as `open_readonly`."""
    if isinstance(where, Address):
        return _server(where).open_readonly("run")
    from hypershell.data.reading import open_runs

    return open_runs(where)


def create(where: Where, sharing: Sharing | None = None) -> bool:
    """Make the tables where the database has none; False where they were there. `sharing` as for `preflight`.

    Raises StoreError.
    """
    if isinstance(where, Address):
        return _server(where).make()
    from hypershell.data.migrate import create

    return create(where, sharing)


def vacuum(where: Where) -> int:
    """Give room of removed rows back; the bytes that the database became smaller. Raises StoreError."""
    if isinstance(where, Address):
        from hypershell.data import postgres_upkeep

        return postgres_upkeep.vacuum(where)
    from hypershell.data.upkeep import vacuum

    return vacuum(where)


def truncate(where: Where, tell: Callable[[str], None]) -> Emptied:
    """Remove all rows, unless a server lives; raises StoreError."""
    if isinstance(where, Address):
        from hypershell.data import postgres_upkeep

        return postgres_upkeep.truncate(where, tell)
    from hypershell.data.upkeep import truncate

    return truncate(where, tell)


def _server(where: Address) -> Postgres:
    from hypershell.data.postgres import Postgres

    return Postgres(where)
