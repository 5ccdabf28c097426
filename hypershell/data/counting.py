"""Counting tasks by an index alone, where one holds just those that are asked for.

The partial indexes of ``schema`` are of the states in which tasks need attention. With ten million rows they are
read in a fraction of a second, the table in several. Called by ``query``.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select, text

from hypershell.core.states import DISPATCHED, FAILED, PENDING
from hypershell.data.schema import task as _task

__all__ = ["count_by_index"]

#: State: conditions, each with an index over just those rows, that together are the state.
_INDEXED = {
    PENDING: ("state = 'pending'",),
    DISPATCHED: ("state = 'dispatched'",),
    FAILED: ("state = 'failed' AND next_id IS NULL", "state = 'failed' AND next_id IS NOT NULL"),
}


def count_by_index(connection: Connection, states: Sequence[str]) -> int | None:
    """How many tasks are in these states, or there are at all, at one moment.

    None where no index knows one of the states, or where a writer would have to wait for a statement that takes
    longer than the pieces of ``walk``.
    """
    if not _INDEXED.keys() >= set(states) or not _is_nobody_waiting(connection):
        return None
    return int(connection.execute(statement(states)).scalar_one())


def statement(states: Sequence[str]) -> Select[Any]:
    """One statement for all: a task that changes meanwhile must not be counted twice."""
    count = select(func.count()).select_from(_task)
    conditions = itertools.chain.from_iterable(_INDEXED[state] for state in dict.fromkeys(states))
    each: list[Any] = [count.where(text(condition)).scalar_subquery() for condition in conditions]
    return select(functools.reduce(operator.add, each)) if each else count


def _is_nobody_waiting(connection: Connection) -> bool:
    """Whether writers go on beside a reader: all but those of SQLite without its write-ahead log."""
    if connection.dialect.name != "sqlite":
        return True
    return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()) == "wal"
