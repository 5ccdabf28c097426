"""Table ``output``: what tasks printed, where that came back with their results.

Functions over a connection; that of ``ensure`` and ``forget`` is inside of a transaction. The rows are written by
``sql``, with the result that they belong to.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Dialect, delete, exists, inspect, select
from sqlalchemy.sql import Select

from hypershell.core.actions import Finished
from hypershell.core.states import DISPATCHED, PENDING
from hypershell.data.bulk import Bulk, JsonBulk, bulk_insert_from
from hypershell.data.schema import output as _output
from hypershell.data.schema import task as _task

__all__ = ["STREAMS", "Printed", "forget", "kept_of", "read", "read_kept", "row", "statements"]

STREAMS = ("stdout", "stderr")

_NAMES = tuple(column.name for column in _output.columns)


class Printed(Struct, frozen=True):
    """The kept bytes of one stream; `size` is how many the task printed."""

    data: bytes
    size: int

    @property
    def is_cut(self) -> bool:
        return self.size > len(self.data)


def _is_there(link: Connection) -> bool:
    """Whether the database has the table: a program that knew none may have made it."""
    return inspect(link).has_table(_output.name)


def kept_of(link: Connection, first: str, last: str) -> set[str]:
    """The ids, from `first` to `last`, of tasks of which something was kept."""
    if not _is_there(link):
        return set()
    column = _output.c.task_id
    return set(link.execute(select(column).where(column >= first, column <= last)).scalars())


def read(link: Connection, task_id: str, stream: str) -> Printed | None:
    """What was kept of a stream of a task; None: nothing. `stream` is one of `STREAMS`."""
    return read_kept(link, task_id, stream) if _is_there(link) else None


def read_kept(link: Connection, task_id: str, stream: str) -> Printed | None:
    """As `read`, of a database that is known to have the table."""
    columns = (_output.c[stream], _output.c[f"{stream}_size"])
    found = link.execute(select(*columns).where(_output.c.task_id == task_id)).first()
    if found is None or found[0] is None:
        return None
    data = bytes(found[0])
    return Printed(data, len(data) if found[1] is None else int(found[1]))


def forget(link: Connection, tasks: Select[tuple[str]]) -> None:
    """Remove what `tasks` (ids) printed."""
    link.execute(delete(_output).where(_output.c.task_id.in_(tasks)))


def statements(dialect: Dialect) -> dict[str, Bulk | JsonBulk]:
    """The inserts for results of rows that are there, and of those that are inserted together with their result.

    They go before the change of the row itself, for they ask what it asks: of an older execution, or a row that is
    final, nothing is kept.
    """
    alive = _task.c.state.in_([PENDING, DISPATCHED])

    def made(exists_too: bool) -> Bulk | JsonBulk:
        def guard(v: Any) -> Any:
            if exists_too:
                return exists().where(_task.c.id == v.task_id, _task.c.execution <= v.execution, alive)
            return ~exists().where(_task.c.id == v.task_id)

        return bulk_insert_from(dialect, _output, "task_id", [*_output.columns, _task.c.execution], guard)

    return {"printed": made(True), "printed_whole": made(False)}


def row(flat: list[Any], change: Finished) -> None:
    """Append what a result kept, columns of table ``output`` and the execution, where it kept something."""
    result = change.result
    kept = result.kept
    if kept is not None:
        flat.extend((result.id, kept.out, kept.err, kept.out_size, kept.err_size, result.execution))
