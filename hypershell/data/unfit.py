"""Rows that no run can use: what is wrong with each, in words, and their end as failed tasks.

The file of a database may come from anywhere, and SQLite keeps any value in any column. Whoever reads tasks to run
them decodes a whole page at once; only where that fails are its rows looked at one by one, here. What can be read
stays as it is. Functions over a connection inside a transaction of ``sql``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.types import NullType

from hypershell.core.faults import fault_in
from hypershell.core.fields import Count, Int64, Name, Real, is_name
from hypershell.core.model import Special, Task
from hypershell.core.options import wrong_options
from hypershell.core.states import DISPATCHED, FAILED, PENDING
from hypershell.data.schema import JsonObject, UtcTime
from hypershell.data.schema import task as _task
from hypershell.data.times import seconds_of

__all__ = ["READ_ERRORS", "end_group", "end_submission", "is_group", "rows_of", "settle", "task_of",
           "wrong_submission"]  # fmt: skip

#: What a page of rows may raise besides the errors of the driver.
READ_ERRORS = (msgspec.DecodeError, UnicodeError, TypeError, ValueError, OverflowError, AttributeError)

_GROUPS = range(2**31)
_LIVE = _task.c.state.in_([PENDING, DISPATCHED])
#: Columns that ``Task`` is made of, beside those that the store adds.
_NAMES = tuple(name for name in Task.__struct_fields__ if name not in ("raw", "tried", "deaths"))


class _Stored(Struct, array_like=True, frozen=True):
    """What a row of table ``submission`` must hold."""

    id: Int64
    source: Name
    path: str | None
    template: str
    options: str
    cwd: str
    submit_id: Name
    submit_host: Name
    submit_time: Real
    offset: Count
    lines: Count
    digest: Name


def wrong_submission(row: RowMapping) -> str | None:
    """Why no task of a submission with this row can be run; None: they can."""
    fields = {name: row[name] for name in _Stored.__struct_fields__}
    try:
        _encodable(fields)
        msgspec.convert(list(fields.values()), _Stored)
    except READ_ERRORS as error:
        return _named(error, _Stored)
    return wrong_options(fields["options"])


def settle(link: Connection, chosen: Select[Any]) -> list[tuple[Task, str]]:
    """End the tasks among `chosen`, a statement of `rows_of`, that cannot be run; what they were, and why."""
    ended: list[tuple[Task, str]] = []
    for row in link.execute(chosen).mappings():
        found = task_of(row)
        if isinstance(found, str):
            reason = f"this row cannot be run: {found}"
            id = _id_of(row)
            _end(link, reason, _key(link.dialect.name) == _given(row["key"]), id=id)
            ended.append((_named_task(row, id), reason))
    return ended


def rows_of(dialect: str) -> Select[Any]:
    """Tasks as they lie in the database, without a conversion that could fail."""
    sqlite = dialect == "sqlite"

    def plain(name: str) -> Any:
        column = _task.c[name]
        if isinstance(column.type, UtcTime):
            return type_coerce(column, NullType()) if sqlite else func.extract("epoch", column).cast(_double())
        if isinstance(column.type, JsonObject):
            return type_coerce(column, NullType()) if sqlite else cast(column, Text)
        return type_coerce(column, NullType()) if sqlite else column

    names = (*_NAMES, "args_raw", "error")
    return select(_key(dialect).label("key"), *(plain(name).label(name) for name in names))


def is_group(number: object) -> bool:
    """Whether a value of column ``group`` is the number of a group."""
    return isinstance(number, int) and number in _GROUPS


def end_group(link: Connection, number: int, group: object) -> int:
    """End the pending tasks of a submission in a group that is none; how many they are."""
    same = type_coerce(_task.c.group, NullType()) == _given(group)
    reason = "this row cannot be run: group: Expected `int` from 0 to 2147483647"
    return _end(link, reason, text("state = 'pending'"), _task.c.submission == number, same)


def end_submission(link: Connection, number: int, reason: str) -> int:
    """End all tasks of a submission that cannot be run; how many they are."""
    return _end(link, f"this submission cannot be run: {reason}", _task.c.submission == number, _LIVE)


def _end(link: Connection, reason: str, *which: Any, **more: Any) -> int:
    ended = {
        "state": FAILED,
        "exit_status": int(Special.NOT_STARTED),
        "error": reason,
        "completion_time": time.time(),
        **more,
    }
    return link.execute(update(_task).where(*which).values(ended)).rowcount


def _given(value: object) -> Any:
    """A value as the driver gave it."""
    return bindparam(None, value, type_=NullType())


def _key(dialect: str) -> Any:
    """What finds a row again, whatever its id is."""
    return literal_column("rowid") if dialect == "sqlite" else _task.c.id


def _double() -> Any:
    from sqlalchemy import Double

    return Double()


def task_of(row: RowMapping) -> Task | str:
    """The task of a row, or what is wrong with it."""
    fields = {name: row[name] for name in _NAMES}
    try:
        _encodable(fields)
        tag = fields["tag"]
        if not isinstance(tag, str):
            return f"tag: Expected JSON, got `{type(tag).__name__}`"
        try:
            fields["tag"] = msgspec.json.decode(tag)
        except READ_ERRORS as error:
            return f"tag: {error}"
        for name in ("submit_time", "schedule_time"):
            if isinstance(fields[name], str):
                try:
                    fields[name] = seconds_of(fields[name])
                except ValueError:
                    return f"{name}: {fields[name][:40]!r} is no time"
        if fields["schedule_time"] is None:
            fields["schedule_time"] = 0.0
        task = msgspec.convert([fields.get(name, _REST.get(name)) for name in Task.__struct_fields__], Task)
    except READ_ERRORS as error:
        return _named(error, Task)
    raw, error_text = row["args_raw"], row["error"]
    if not is_name(task.id):
        return "id: Expected `str` that is printable"
    if raw is not None and not isinstance(raw, bytes | memoryview):
        return "args_raw: Expected `bytes`"
    if error_text is not None and not isinstance(error_text, str):
        return "error: Expected `str`"
    if "\0" in task.args or (raw is not None and b"\0" in bytes(raw)):
        return "args: a NUL byte"
    return task


_REST: dict[str, Any] = {"tried": 0, "deaths": 0}


def _encodable(fields: Mapping[str, Any]) -> None:
    """Raises ValueError for text of bytes that are not UTF-8, which the connection gives as lone surrogates."""
    for name, value in fields.items():
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{name}: bytes that are not UTF-8") from None


def _named(error: Exception, kind: type) -> str:
    return fault_in(error, kind)


def _id_of(row: RowMapping) -> str:
    """The id of a row; a new one where no command could name it."""
    id = row["id"]
    return id if isinstance(id, str) and _shown(id) == id else f"unreadable-{row['key']}"


def _named_task(row: RowMapping, id: str) -> Task:
    """A task for those who report its end."""
    group = row["group"]
    return Task(
        id,
        _shown(row["args"]),
        row["submission"],
        group=group if is_group(group) else 0,
    )


def _shown(value: object) -> str:
    shown = value if isinstance(value, str) else repr(value)
    return shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
