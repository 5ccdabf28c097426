"""One task: found by its id or the beginning of one, read, and watched until it has ended.

Functions over a connection of ``query.reading``, whose statements are transactions of their own. Called by
``hs info`` and ``hs wait``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, func, select

from hypershell.core.states import FINAL
from hypershell.data.query import pages
from hypershell.data.schema import task as _task
from hypershell.data.where import FIELDS, Condition, Filter

#: The number of the next transaction that writes.
_WRITTEN = select(func.txid_snapshot_xmax(func.txid_current_snapshot()))

__all__ = ["Outcome", "follow", "matches", "read", "version"]

#: The first character behind those of an id: all ids that begin with a text lie below the text and this one.
_BEHIND = "g"


class Outcome(Struct, frozen=True):
    """The newest attempt of a task; `ended` when no other will follow."""

    id: str
    state: str
    exit_status: int | None
    ended: bool


def matches(connection: Connection, beginning: str, most: int) -> list[str]:
    """Up to `most` ids that begin with a text of hexadecimal digits and dashes, in their order."""
    column = _task.c.id
    found = select(column).where(column >= beginning, column < beginning + _BEHIND).order_by(column).limit(most)
    return list(connection.execute(found).scalars())


def read(connection: Connection, task_id: str) -> dict[str, Any] | None:
    """All fields of a task, times as UTC text; None where it is not there."""
    chosen = Filter((Condition("id", "==", task_id),))
    for page in pages(connection, chosen, tuple(FIELDS)):
        for row in page:
            return dict(zip(FIELDS, row, strict=True))
    return None


def follow(connection: Connection, task_id: str) -> Outcome | None:
    """The newest attempt that began with this task; None where it is not there."""
    columns = (_task.c.id, _task.c.state, _task.c.exit_status, _task.c.next_id)
    while True:
        found = connection.execute(select(*columns).where(_task.c.id == task_id)).first()
        if found is None:
            return None
        number, state, exit_status, next_id = found
        if next_id is None:
            return Outcome(number, state, exit_status, state in FINAL)
        task_id = next_id


def version(connection: Connection) -> Callable[[], int]:
    """What tells a number that changes when another process has written (``PRAGMA data_version``).

    PostgreSQL counts the transactions that wrote, those of other databases too.
    """

    def ask() -> int:
        if connection.dialect.name != "sqlite":
            return int(connection.execute(_WRITTEN).scalar_one())
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    return ask
