"""Table ``request``: what a user wants of tasks that a living server has in memory or gave out.

``hs update`` leaves a row in the transaction of its change, the server that owns the submission reads it. A settled
request only tells that a row of table ``task`` was changed; any other stands until its task has ended, so that
nothing is forgotten if the server dies first. Functions over a connection inside a transaction; knows no rule.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from msgspec import Struct
from sqlalchemy import Connection, delete, exists, false, literal, or_, select, true, update
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import Select

from hypershell.core.events import CancelRequested
from hypershell.core.model import CANCELLED_BY_USER, Special
from hypershell.core.states import CANCELLED, DISPATCHED, PENDING
from hypershell.data.schema import request as _request
from hypershell.data.schema import task as _task

__all__ = ["CANCEL", "Page", "drop", "ensure", "forget", "leave", "read", "take_over"]

#: The one kind of request so far.
CANCEL = "cancel"

#: Rows that one look reads.
_MOST = 10_000

_r = _request.c


class Page(Struct, frozen=True):
    """The next requests: the last number that was looked at, and what of it is for us, None: nothing."""

    last: int
    cancel: CancelRequested | None = None


def ensure(link: Connection) -> None:
    """Make the table in a file that was made before there was one."""
    if link.dialect.name != "sqlite":
        return
    link.execute(CreateTable(_request, if_not_exists=True))
    for index in _request.indexes:
        link.execute(CreateIndex(index, if_not_exists=True))


def leave(link: Connection, tasks: Select[tuple[str, int]], settled: bool) -> int:
    """Add a request to cancel each of `tasks` (id, submission); how many they are."""
    if link.dialect.name != "sqlite":
        # Numbers are given before the commit: of two that leave requests the second waits, so that whoever has
        # read a number has read all below it.
        link.exec_driver_sql("LOCK TABLE request IN EXCLUSIVE MODE")
    found = tasks.subquery("found").c
    stamp = literal(time.time(), _r.time.type)
    rows = select(found.id, found.submission, literal(CANCEL), literal(settled), stamp)
    names = ("task", "submission", "kind", "settled", "time")
    added = _request.insert().from_select(names, rows).execution_options(preserve_rowcount=True)
    return link.execute(added).rowcount


def read(link: Connection, after: int, owned: Collection[int]) -> Page:
    """The requests with numbers above `after` about submissions in `owned`."""
    query = select(_r.id, _r.task, _r.submission, _r.settled).where(_r.id > after).order_by(_r.id).limit(_MOST)
    found = link.execute(query).fetchall()
    ours = [row for row in found if row.submission in owned]
    last = found[-1].id if found else after
    if not ours:
        return Page(last)
    return Page(last, CancelRequested([row.task for row in ours], [row.task for row in ours if row.settled]))


def drop(link: Connection, ids: Collection[str]) -> set[str]:
    """Remove the requests about these tasks that have been met: settled ones, and those whose task has ended.

    Returns the tasks whose requests are left.
    """
    alive = exists().where(_task.c.id == _r.task, _task.c.state.in_([PENDING, DISPATCHED]))
    met = or_(_r.settled.is_(true()), ~alive)
    names = list(ids)
    left: set[str] = set()
    for start in range(0, len(names), 500):
        these = _r.task.in_(names[start : start + 500])
        link.execute(delete(_request).where(these, met))
        left.update(link.execute(select(_r.task).where(these)).scalars())
    return left


def forget(link: Connection, tasks: Select[tuple[str]]) -> None:
    """Remove all requests about `tasks` (ids): they live again."""
    link.execute(delete(_request).where(_r.task.in_(tasks)))


def take_over(link: Connection, number: int) -> None:
    """Cancel what users asked for in submission `number`, where its server was gone before it could do so."""
    asked = select(_r.task).where(_r.submission == number, _r.settled.is_(false()))
    cancelled = {
        "state": CANCELLED,
        "exit_status": Special.CANCELLED,
        "error": CANCELLED_BY_USER,
        "completion_time": time.time(),
    }
    alive = _task.c.state.in_([PENDING, DISPATCHED])
    link.execute(update(_task).where(_task.c.id.in_(asked), alive).values(cancelled))
    link.execute(delete(_request).where(_r.submission == number))
