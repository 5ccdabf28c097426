"""Table ``request``: what a user wants of tasks that a living server has in memory or gave out.

``hs update`` leaves a row in the transaction of its change, the server that owns the submission reads it. A settled
request only tells that a row of table ``task`` was changed; any other stands until its task has ended, so that
nothing is forgotten if the server dies first. A change is always settled: the new values are in the row. Functions
over a connection inside a transaction; knows no rule.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from msgspec import Struct
from sqlalchemy import Connection, delete, exists, false, literal, or_, select, true, update
from sqlalchemy.sql import Select

from hypershell.core.events import CancelRequested, TasksChanged
from hypershell.core.model import CANCELLED_BY_USER, Special, Task
from hypershell.core.states import CANCELLED, DISPATCHED, PENDING
from hypershell.data import lines
from hypershell.data.schema import request as _request
from hypershell.data.schema import task as _task

__all__ = ["CANCEL", "CHANGE", "Page", "cancel_by", "drop", "forget", "leave", "read", "take_over"]

#: Kinds of requests. After ``cancel`` and a blank may stand the first signal that a running task gets.
CANCEL = "cancel"
CHANGE = "change"

#: Rows that one look reads.
_MOST = 10_000

_r = _request.c


class Page(Struct, frozen=True):
    """The next requests: the last number that was looked at, and what of it is for us, None: nothing."""

    last: int
    event: CancelRequested | TasksChanged | None = None
    ids: list[str] = []
    """The tasks that it is about."""


def cancel_by(signal: str | None) -> str:
    """The kind of a request to cancel, with the first signal that a running task gets; None: the usual one."""
    return CANCEL if signal is None else f"{CANCEL} {signal}"


def leave(link: Connection, tasks: Select[tuple[str, int]], kind: str, settled: bool) -> int:
    """Add a request about each of `tasks` (id, submission); how many they are."""
    if link.dialect.name != "sqlite":
        # Numbers are given before the commit: of two that leave requests the second waits, so that whoever has
        # read a number has read all below it.
        link.exec_driver_sql("LOCK TABLE request IN EXCLUSIVE MODE")
    found = tasks.subquery("found").c
    stamp = literal(time.time(), _r.time.type)
    rows = select(found.id, found.submission, literal(kind), literal(settled), stamp)
    names = ("task", "submission", "kind", "settled", "time")
    added = _request.insert().from_select(names, rows).execution_options(preserve_rowcount=True)
    return link.execute(added).rowcount


def read(link: Connection, after: int, owned: Collection[int]) -> Page:
    """The requests with numbers above `after` about submissions in `owned`, up to the first of another kind."""
    columns = (_r.id, _r.task, _r.submission, _r.kind, _r.settled)
    found = link.execute(select(*columns).where(_r.id > after).order_by(_r.id).limit(_MOST)).fetchall()
    kind, last, ours = None, after, []
    for row in found:
        if row.submission in owned:
            if kind not in (None, row.kind):
                break
            kind = row.kind
            ours.append(row)
        last = row.id
    ids = [row.task for row in ours]
    if kind is None:
        return Page(last)
    if kind == CHANGE:
        return Page(last, TasksChanged(_tasks(link, ids)), ids)
    settled = [row.task for row in ours if row.settled]
    return Page(last, CancelRequested(ids, settled, kind.removeprefix(CANCEL).strip() or None), ids)


def _tasks(link: Connection, ids: list[str]) -> list[Task]:
    """What the rows of these tasks say now, where they have not ended."""
    found: list[Task] = []
    for start in range(0, len(ids), 500):
        wanted = _task.c.id.in_(ids[start : start + 500])
        query = select(*lines.COLUMNS).where(wanted, _task.c.state.in_([PENDING, DISPATCHED]))
        found += [lines.task_of(row) for row in link.execute(query)]
    return found


def drop(link: Connection, ids: Collection[str], last: int) -> set[str]:
    """Remove the requests up to `last` about these tasks that have been met: settled ones, and those whose task has
    ended.

    Returns the tasks whose requests are left.
    """
    alive = exists().where(_task.c.id == _r.task, _task.c.state.in_([PENDING, DISPATCHED]))
    met = or_(_r.settled.is_(true()), ~alive)
    names = list(ids)
    left: set[str] = set()
    for start in range(0, len(names), 500):
        these = _r.task.in_(names[start : start + 500])
        link.execute(delete(_request).where(these, met, _r.id <= last))
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
