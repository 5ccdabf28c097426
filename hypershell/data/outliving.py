"""Table ``outliving``: the clients that go on without their server, so that a later one leaves them their tasks.

A row for each, from before it is given anything. Functions over a connection inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Select, bindparam, delete, select, text

from hypershell.core.actions import ClientChange
from hypershell.data.schema import outliving as _outliving
from hypershell.data.schema import task as _task

__all__ = ["add", "clear", "ids"]

#: Clients in one statement.
_MOST = 500

_BUSY = select(_task.c.client_id).where(
    text("state = 'dispatched'"), _task.c.submission == bindparam("number"), _task.c.client_id.is_not(None)
)


def add(link: Connection, server_id: str, changes: Iterable[ClientChange]) -> list[str]:
    """Note those of the clients that joined `server_id` which outlive it; their ids."""
    found = [change.info.id for change in changes if change.info.outlives and change.left is None]
    for start in range(0, len(found), _MOST):
        ids_ = found[start : start + _MOST]
        link.execute(delete(_outliving).where(_outliving.c.id.in_(ids_)))
        link.execute(_outliving.insert(), [{"id": key, "server_id": server_id} for key in ids_])
    return found


def ids() -> Select[tuple[str]]:
    """The query for all of them."""
    return select(_outliving.c.id)


def clear(link: Connection, clients: Iterable[str], submissions: Iterable[int]) -> None:
    """A server ends: forget these clients of it, except those that have tasks of its submissions."""
    busy: set[str] = set()
    for number in submissions:
        busy.update(link.execute(_BUSY, {"number": number}).scalars())
    gone = sorted(set(clients) - busy)
    for start in range(0, len(gone), _MOST):
        link.execute(delete(_outliving).where(_outliving.c.id.in_(gone[start : start + _MOST])))
