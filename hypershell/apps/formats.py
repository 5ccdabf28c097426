"""How tasks are printed: plain, csv, json, and the blocks of normal.

A format turns rows into text, page after page, and keeps nothing of them. Knows nothing of databases and streams.
Called by the commands that show tasks; the table for people is in ``table``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from hypershell.data.where import FIELDS
from hypershell.ostext import one_line
from hypershell.units import format_duration, format_size

__all__ = [
    "BLOCK_FIELDS",
    "Blocks",
    "Csv",
    "Format",
    "Json",
    "Plain",
    "block",
    "tags_text",
    "value_text",
]

_to_json = json.JSONEncoder(ensure_ascii=False).encode


class Format(Protocol):
    """Text of a sequence of rows; what `page` returns may be empty."""

    def page(self, rows: Sequence[Sequence[Any]]) -> str:
        """The text of the next rows."""

    def end(self) -> str:
        """What follows the last row."""


def value_text(value: Any) -> str:
    """A value as plain and csv show it: text raw, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, dict)):
        return _to_json(value)
    return "null" if value is None else repr(value)


class Plain:
    """Values of a row on a line, between them a delimiter (a tab where None)."""

    def __init__(self, delimiter: str | None) -> None:
        self._delimiter = "\t" if delimiter is None else delimiter

    def page(self, rows: Sequence[Sequence[Any]]) -> str:
        return "".join(self._line(row) for row in rows)

    def end(self) -> str:
        return ""

    def _line(self, row: Sequence[Any]) -> str:
        values = [one_line(value_text(value)) for value in row]
        if len(values) > 1 and "\t" in self._delimiter:
            values = [value.replace("\t", "\\t") for value in values]
        return self._delimiter.join(values) + "\n"


class Csv:
    """RFC 4180: a header, CRLF; `delimiter` is one character (a comma where None)."""

    def __init__(self, fields: Sequence[str], delimiter: str | None) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, delimiter=delimiter or ",", lineterminator="\r\n")
        self._writer.writerow(fields)

    def page(self, rows: Sequence[Sequence[Any]]) -> str:
        self._writer.writerows([value_text(value) for value in row] for row in rows)
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text

    def end(self) -> str:
        return self.page(())


class Json:
    """One array of objects, indented by 4."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields
        self._opened = False

    def page(self, rows: Sequence[Sequence[Any]]) -> str:
        parts = []
        for row in rows:
            parts.append(",\n    " if self._opened else "[\n    ")
            self._opened = True
            line = msgspec.json.encode(dict(zip(self._fields, row, strict=True)))
            parts.append(msgspec.json.format(line, indent=4).decode().replace("\n", "\n    "))
        return "".join(parts)

    def end(self) -> str:
        return "\n]\n" if self._opened else "[]\n"


class Blocks:
    """For each task a line ``---`` and a block, of rows of all ``BLOCK_FIELDS``."""

    def page(self, rows: Sequence[Sequence[Any]]) -> str:
        return "".join("---\n" + block(row) for row in rows)

    def end(self) -> str:
        return ""


#: The fields that `block` wants, in this order.
BLOCK_FIELDS = tuple(FIELDS)

_Task = dict[str, Any]


def block(row: Sequence[Any]) -> str:
    """The lines ``name: value`` of one task, a row of ``BLOCK_FIELDS``."""
    task: _Task = dict(zip(BLOCK_FIELDS, row, strict=True))
    return "".join(f"{name:>12}: {one_line(text(task))}\n" for name, text in _LINES)


def _own(field: str) -> Callable[[_Task], str]:
    return lambda task: value_text(task[field])


def _host(place: str) -> Callable[[_Task], str]:
    def text(task: _Task) -> str:
        host = task[f"{place}_host"]
        return "null" if host is None else f"{host} ({task[f'{place}_id']})"

    return text


def _after(field: str, name: str, other: str, text: Callable[[float], str]) -> Callable[[_Task], str]:
    """The value of a field, then one that belongs to it in brackets."""

    def joined(task: _Task) -> str:
        value = task[field]
        extra = _number(task[other], text)
        shown = _number(value, format_size) if field == "memory" else value_text(value)
        return f"{shown} ({name}: {extra})"

    return joined


def _max_rss(task: _Task) -> str:
    return _number(task["max_rss"], format_size)


def _number(value: Any, text: Callable[[float], str]) -> str:
    """A number as `text` shows it; what SQLite keeps in its place as it is."""
    return text(value) if isinstance(value, (int, float)) else value_text(value)


def tags_text(tags: dict[str, Any]) -> str:
    """Tags as words that may stand after ``-t``, or null."""
    words = (key if value == "" else f"{key}:{value_text(value)}" for key, value in tags.items())
    return " ".join(words) or "null"


def _tags(task: _Task) -> str:
    return tags_text(task["tag"])


_LINES: tuple[tuple[str, Callable[[_Task], str]], ...] = (
    ("id", _own("id")),
    ("group", _own("group")),
    ("args", _own("args")),
    ("command", _own("command")),
    ("cores", _after("cores", "used", "cores_max", "{:.2f}".format)),
    ("memory", _after("memory", "used", "memory_max", format_size)),
    ("timeout", _own("timeout")),
    ("state", _own("state")),
    ("exit_status", _own("exit_status")),
    ("error", _own("error")),
    ("submitted", _own("submit_time")),
    ("scheduled", _own("schedule_time")),
    ("started", _after("start_time", "waited", "waited", format_duration)),
    ("completed", _after("completion_time", "duration", "duration", format_duration)),
    ("user_time", _own("user_time")),
    ("system_time", _own("system_time")),
    ("max_rss", _max_rss),
    ("submit_host", _host("submit")),
    ("server_host", _host("server")),
    ("client_host", _host("client")),
    ("submission", _own("submission")),
    ("execution", _own("execution")),
    ("attempt", _own("attempt")),
    ("retried", _own("retried")),
    ("outpath", _own("outpath")),
    ("errpath", _own("errpath")),
    ("csvpath", _own("csvpath")),
    ("previous_id", _own("previous_id")),
    ("next_id", _own("next_id")),
    ("tags", _tags),
)
