"""Final failures that are given again (``--restart --retry-failed``): rows after them, and which those are.

The next attempt of a failed task is a row as that of any retry. Its tries are counted from there, so the ranges of
ids of such rows are kept with the submission (key ``again`` of column ``options``), and what comes from the store
later learns from the chain of its attempts how many of them no longer count (``Task.tried``). Functions over a
connection inside a transaction of ``sql``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Connection, and_, bindparam, literal, null, or_, select, text

from hypershell.core.model import Special, Task
from hypershell.data import lines
from hypershell.data.bulk import Bulk, JsonBulk, bulk_update, incoming
from hypershell.data.how import merged
from hypershell.data.schema import submission as _submission
from hypershell.data.schema import task as _task

__all__ = ["Ranges", "failures", "forget_attempts", "next_attempts", "note", "ranges_in", "relink"]

#: First and last ids of rows that were made together.
Ranges: TypeAlias = list[tuple[str, str]]

#: Ranges that are kept: what was given again before is final, or has been given again since.
_MOST_RANGES = 100
#: Rows that one look for earlier attempts, or for failures, reads.
_ROWS = 500
_PAGE = 8192

_t = _task.c
_FINAL = (text("state = 'failed' AND next_id IS NULL"), _t.submission == bindparam("number"))
#: Not a line that no client ever saw, since it cannot be run.
_COULD_RUN = or_(_t.client_id.is_not(None), _t.exit_status.is_(None), _t.exit_status != Special.NOT_STARTED)
#: What may succeed. What is given again leaves the index, so the next look finds the next ones.
_FAILED = (
    select(*lines.COLUMNS, _t.attempt, _t.submit_time)
    .where(*_FINAL, _COULD_RUN)
    .order_by(_t.group, _t.id)
    .limit(bindparam("most"))
    .with_for_update()
)
_BEHIND = or_(_t.group > bindparam("grp"), and_(_t.group == bindparam("grp"), _t.id > bindparam("after")))
_LINES = select(*lines.COLUMNS).where(*_FINAL, _BEHIND).order_by(_t.group, _t.id).limit(_PAGE)


class _Options(msgspec.Struct):
    again: Ranges = []


def ranges_in(options: str) -> Ranges:
    """The ranges in column ``options``."""
    return msgspec.json.decode(options, type=_Options).again


def next_attempts(link: Connection, number: int, new_id: Callable[[], str], most: int) -> list[Task]:
    """The next attempts of up to `most` final failures of submission `number`, for the caller to insert."""
    found = []
    for row in link.execute(_FAILED, {"number": number, "most": most}):
        task = lines.task_of(row)
        task.id, task.previous_id = new_id(), row.id
        task.attempt, task.tried = row.attempt + 1, row.attempt
        task.submit_time = row.submit_time
        found.append(task)
    return found


def relink(dialect: Any) -> Bulk | JsonBulk:
    """The statement that names the next attempt (``next_id``) of failures (``id``)."""
    given = [_t.id, _t.next_id]
    v = incoming(given).c
    guards = (_t.id == v.id, _t.state == "failed", _t.next_id.is_(null()))
    return bulk_update(dialect, _task, given, {"next_id": v.next_id, "retried": literal(True)}, guards)


def note(link: Connection, number: int, tasks: Sequence[Task], more: bool) -> str:
    """Keep the ids of `tasks` with their submission, `more`: in the last range; column ``options`` then."""
    # As it is there: a commit that was not acknowledged may have changed it already.
    options = link.execute(select(_submission.c.options).where(_submission.c.id == number)).scalar_one()
    ranges = ranges_in(options)
    first = ranges.pop()[0] if more else tasks[0].id
    options = merged(options, {"again": [*ranges, (first, tasks[-1].id)][-_MOST_RANGES:]})
    link.execute(_submission.update().where(_submission.c.id == number).values(options=options))
    return options


def forget_attempts(link: Connection, tasks: Iterable[Task], ranges: Ranges) -> None:
    """Set ``tried`` of tasks that were given again, or are retries of such a one."""
    steps = [(task, task.id, task.previous_id, task.attempt) for task in tasks if task.previous_id is not None]
    while steps:
        earlier: dict[str, tuple[Task, int]] = {}
        for task, key, previous, attempt in steps:
            if any(first <= key <= last for first, last in ranges):
                task.tried = attempt - 1
            elif previous is not None:
                earlier[previous] = (task, attempt - 1)
        keys, steps = list(earlier), []
        for start in range(0, len(keys), _ROWS):
            query = select(_t.id, _t.previous_id).where(_t.id.in_(keys[start : start + _ROWS]))
            for key, previous in link.execute(query):
                task, attempt = earlier[key]
                steps.append((task, key, previous, attempt))


def failures(reading: Callable[[], AbstractContextManager[Connection]], number: int) -> Iterator[list[Task]]:
    """The final failures of submission `number` by group and id, in pieces with a connection each."""
    after: dict[str, Any] = {"number": number, "grp": -1, "after": ""}
    while True:
        with reading() as link:
            page = [lines.task_of(row) for row in link.execute(_LINES, after)]
        if page:
            after = {"number": number, "grp": page[-1].group, "after": page[-1].id}
            yield page
        if len(page) < _PAGE:
            return
