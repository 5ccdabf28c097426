"""What ``hs info``, ``hs wait`` and ``hs run`` share: finding the one task that is meant, and showing it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypershell.core.states import SUCCEEDED
from hypershell.errors import ExitStatus, HyperShellError, UsageError
from hypershell.units import shown

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hypershell.address import Where
    from hypershell.data.partitions import Tasks

__all__ = ["NotFound", "find", "full_form", "open_tasks", "read_task", "status_for", "to_text", "value_as"]

_HEX = re.compile(r"[0-9a-f]{1,32}")
_PARTS = (8, 12, 16, 20)
#: Ids that are counted, and shown, of those that an ambiguous beginning could mean.
_COUNTED = 1000
_SHOWN = 3

_UNSAFE = re.compile(r'["\\]|[^ -~]')


class NotFound(HyperShellError):
    """There is no such task, or no such output of it."""


def full_form(text: str) -> str:
    """An id, or the beginning of one, in the form of the database; dashes may be left out.

    Raises `UsageError` for a text that no id begins with.
    """
    digits = text.strip().lower().replace("-", "")
    if not _HEX.fullmatch(digits):
        raise UsageError(f"Bad UUID: {shown(text)} (hs list id args shows the ids of tasks)")
    cuts = [0, *(place for place in _PARTS if place < len(digits)), len(digits)]
    return "-".join(digits[begin:end] for begin, end in itertools.pairwise(cuts))


def open_tasks(db: Where, task_id: str, ignore_partitions: bool) -> AbstractContextManager[Tasks]:
    """The database for reading; raises `NotFound` where it has no tasks."""
    from hypershell.data.places import open_readonly

    raw = open_readonly(db, with_partitions=not ignore_partitions)
    if raw is None:
        raise _not_there(task_id, db)
    from hypershell.data.partitions import reading

    return reading(raw, db, ignore_partitions)


def find(tasks: Tasks, text: str, db: Where) -> str:
    """The id of the only task whose id begins with `text`; raises `NotFound`."""
    found = tasks.matches(full_form(text), _COUNTED + 1)
    if not found:
        raise _not_there(text, db)
    if len(found) > 1:
        count = f"{len(found)}" if len(found) <= _COUNTED else f"more than {_COUNTED}"
        more = ", ..." if len(found) > _SHOWN else ""
        some = ", ".join(found[:_SHOWN])
        raise NotFound(f"{count} tasks have an id that begins with {text} ({some}{more}): give more of it")
    return found[0]


def read_task(tasks: Tasks, task_id: str, db: Where) -> dict[str, Any]:
    """All fields of a task; raises `NotFound`."""
    task = tasks.read(task_id)
    if task is None:
        raise _not_there(task_id, db)
    return task


def status_for(exit_status: int | None, state: str) -> int:
    """The exit status, 0 to 255, with which a command tells how a task ended.

    That of the task; modulo 256 where it is outside of that, so 256 - n for a death by signal n. A task that failed
    although its own is 0 (it was stopped at its time limit) has that of a run with failures.
    """
    status = (exit_status or 0) % 256
    return ExitStatus.TASKS_FAILED if status == 0 and state != SUCCEEDED else status


def to_text(task: Mapping[str, Any], form: str | None) -> str:
    """A task as a block of lines, as JSON or as YAML."""
    if form in ("json", "yaml"):
        return value_as(dict(task), form, is_task=True)
    from hypershell.apps.formats import BLOCK_FIELDS, block

    return block([task[field] for field in BLOCK_FIELDS])


def value_as(value: Any, form: str, *, is_task: bool = False) -> str:
    """A value in JSON or YAML, with a newline at its end; `is_task`: its keys are names of fields."""
    if form == "json":
        import msgspec

        return msgspec.json.format(msgspec.json.encode(value), indent=4).decode() + "\n"
    if isinstance(value, dict):
        return _mapping(value, 0, not is_task) if value else "{}\n"
    return _scalar(value) + "\n"


def _mapping(values: Mapping[str, Any], depth: int, quoted: bool) -> str:
    lines = []
    for key, value in values.items():
        # Keys of tags may look like numbers or truth values; names of fields do not.
        head = "    " * depth + (_scalar(key) if quoted else key)
        if isinstance(value, dict) and value:
            lines.append(f"{head}:\n{_mapping(value, depth + 1, True)}")
        else:
            lines.append(f"{head}: {'{}' if isinstance(value, dict) else _scalar(value)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    """A scalar that every reader of YAML 1.1 and 1.2 takes for what it is; text is always in double quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        digits, e, exponent = repr(value).partition("e")
        return f"{digits if '.' in digits else digits + '.0'}{e}{exponent}"
    if isinstance(value, int):
        return str(value)
    return f'"{_UNSAFE.sub(_escape, value)}"'


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in '"\\':
        return "\\" + character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _not_there(text: str, db: Where) -> NotFound:
    return NotFound(f"there is no task {text} in {db} (hs list shows all, --db PATH names another database)")
