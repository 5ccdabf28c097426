"""Table ``outliving``: the clients that go on without their server, so that a later one leaves them their tasks.

A row for each, from before it is given anything. Functions over a connection inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Select, delete, select, text
from sqlalchemy.schema import CreateTable

from hypershell.core.actions import ClientChange
from hypershell.data.schema import outliving as _outliving
from hypershell.data.schema import task as _task

__all__ = ["add", "clear", "ensure", "ids"]


def ensure(link: Connection) -> None:
    """Make the table in a database that was made before there was one."""
    if link.dialect.name == "sqlite" or link.execute(text("SELECT to_regclass('outliving')")).scalar() is None:
        link.execute(CreateTable(_outliving, if_not_exists=True))


def add(link: Connection, server_id: str, changes: Iterable[ClientChange]) -> None:
    """Note those of the clients that joined `server_id` which outlive it."""
    found = [change.info.id for change in changes if change.info.outlives and change.left is None]
    if found:
        link.execute(delete(_outliving).where(_outliving.c.id.in_(found)))
        link.execute(_outliving.insert(), [{"id": key, "server_id": server_id} for key in found])


def ids() -> Select[tuple[str]]:
    """The query for all of them."""
    return select(_outliving.c.id)


def clear(link: Connection, server_id: str) -> None:
    """`server_id` ends: forget its clients, except those that have tasks of it."""
    busy = select(_task.c.client_id).where(text("state = 'dispatched'"), _task.c.client_id.is_not(None))
    gone = _outliving.c.server_id == server_id, _outliving.c.id.not_in(busy)
    link.execute(delete(_outliving).where(*gone))
