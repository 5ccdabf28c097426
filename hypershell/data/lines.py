"""The lines that a submission consists of, read back from its tasks.

First attempts only, those in partitions too, page by page: memory holds one page, and no transaction is open
between two. Called by ``sql`` where a FILE is compared with what was submitted of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, select

from hypershell.core.model import Task
from hypershell.data import query
from hypershell.data.reading import open_partition, open_readonly, partition_path, rotated
from hypershell.data.schema import task as _task
from hypershell.errors import StoreError

__all__ = ["COLUMNS", "in_partitions", "pages", "task_of"]

_ROWS = 8192
_t = _task.c
#: What `task_of` needs.
COLUMNS = (_t.id, _t.submission, _t.args, _t.args_raw, _t.group, _t.cores, _t.memory, _t.timeout, _t.tag)
#: By id: no index serves a submission, and one that only this needs would cost every insert.
_PAGE = (
    select(*COLUMNS)
    .where(_t.submission.in_(bindparam("numbers", expanding=True)))
    .where(_t.id > bindparam("after"), _t.previous_id.is_(None))
    .order_by(_t.id)
    .limit(_ROWS)
)


def pages(
    reading: Callable[[], AbstractContextManager[Connection]], numbers: Sequence[int]
) -> Iterator[list[Task]]:
    """The tasks of submissions, as they were submitted; `reading` gives a connection for each page."""
    after = ""
    while True:
        with reading() as link:
            found = link.execute(_PAGE, {"numbers": list(numbers), "after": after}).fetchall()
        if found:
            after = found[-1].id
            yield [task_of(row) for row in found]
        if len(found) < _ROWS:
            return


def in_partitions(path: Path, numbers: Sequence[int]) -> Iterator[list[Task]]:
    """The same of what was moved out of the SQLite file `path`.

    Raises:
        StoreError: a partition is not there: what it holds would count as new.
    """
    raw = open_readonly(path, without_tasks=True)
    if raw is None:
        return
    try:
        parts = rotated(raw)
    finally:
        raw.close()
    for part in parts:
        place = partition_path(path, part)
        if not place.exists():
            raise StoreError(
                f"partition {part} of database {path} is not there, so which lines are new cannot be told: put "
                f"{place} back, or run all of them again with --repeat"
            )
        with query.reading(open_partition(place, part), place) as link:
            yield from pages(_Open(link), numbers)


class _Open:
    """A connection that stays open."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    def __call__(self) -> AbstractContextManager[Connection]:
        return nullcontext(self._link)


def task_of(row: Any) -> Task:
    """A task with what a line says, and a user may change, of a row with `COLUMNS`."""
    raw = None if row.args_raw is None else bytes(row.args_raw)
    return Task(
        row.id,
        row.args,
        row.submission,
        group=row.group,
        raw=raw,
        timeout=row.timeout,
        tag=row.tag or None,
        cores=row.cores,
        memory=row.memory,
    )
