"""Conditions on tasks, from words of the command line to checked values: ``FIELD OP VALUE`` and tag filters.

Owns the fields that a task has for its users, what kind of value each holds, and the grammar of conditions. Knows
nothing of SQL or connections, and imports no SQLAlchemy, so that bad input is named at once. Called by the commands
that select tasks; ``query`` makes SQL of what it returns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from hypershell.core.states import CANCELLED, DISPATCHED, FAILED, FINAL, PENDING, SUCCEEDED
from hypershell.errors import UsageError
from hypershell.ostext import escaped, escaped_pattern
from hypershell.tags import Scalar, coerce, parse_tags
from hypershell.units import UnitError, parse_duration, parse_size, shown

__all__ = [
    "FIELDS",
    "OPERATORS",
    "OUTCOMES",
    "Condition",
    "Filter",
    "Kind",
    "Order",
    "TagCondition",
    "WhereError",
    "check_field",
    "parse_condition",
    "parse_tag_filter",
]


class WhereError(UsageError):
    """A condition that is not understood, or whose field or value cannot be."""


class Kind(Enum):
    """What a field holds."""

    TEXT = "text"
    NUMBER = "number"
    SIZE = "size in bytes"
    SECONDS = "number of seconds"
    TIME = "time"
    FLAG = "truth value"
    TAGS = "tags"


_KINDS: tuple[tuple[str, Kind], ...] = (
    ("id", Kind.TEXT),
    ("group", Kind.NUMBER),
    ("args", Kind.TEXT),
    ("submit_id", Kind.TEXT),
    ("submit_time", Kind.TIME),
    ("submit_host", Kind.TEXT),
    ("cores", Kind.NUMBER),
    ("memory", Kind.SIZE),
    ("cores_max", Kind.NUMBER),
    ("memory_max", Kind.SIZE),
    ("timeout", Kind.SECONDS),
    ("server_id", Kind.TEXT),
    ("server_host", Kind.TEXT),
    ("schedule_time", Kind.TIME),
    ("client_id", Kind.TEXT),
    ("client_host", Kind.TEXT),
    ("command", Kind.TEXT),
    ("start_time", Kind.TIME),
    ("completion_time", Kind.TIME),
    ("exit_status", Kind.NUMBER),
    ("outpath", Kind.TEXT),
    ("errpath", Kind.TEXT),
    ("csvpath", Kind.TEXT),
    ("attempt", Kind.NUMBER),
    ("retried", Kind.FLAG),
    ("waited", Kind.SECONDS),
    ("duration", Kind.SECONDS),
    ("previous_id", Kind.TEXT),
    ("next_id", Kind.TEXT),
    ("tag", Kind.TAGS),
    ("state", Kind.TEXT),
    ("execution", Kind.NUMBER),
    ("submission", Kind.NUMBER),
    ("error", Kind.TEXT),
    ("user_time", Kind.SECONDS),
    ("system_time", Kind.SECONDS),
    ("max_rss", Kind.SIZE),
)

#: The fields in the order of the table: those of HyperShell first. ``args_raw`` is not for people.
FIELDS: dict[str, Kind] = dict(_KINDS)

OPERATORS = ("==", "!=", ">=", "<=", ">", "<", "~")

#: What the options for the outcome mean: states.
OUTCOMES: dict[str, tuple[str, ...]] = {
    "failed": (FAILED,),
    "succeeded": (SUCCEEDED,),
    "completed": tuple(sorted(FINAL)),
    "cancelled": (CANCELLED,),
    "remaining": (DISPATCHED, PENDING),
}

#: All states, in the order of a task's life.
_STATES = (PENDING, DISPATCHED, SUCCEEDED, FAILED, CANCELLED)

_CONDITION = re.compile(rf"\s*([a-z_]+)\s*({'|'.join(OPERATORS)})\s*(.*)", re.DOTALL)
_TIME = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[ T](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?Z?")
_NULLS = frozenset({"null", "none"})
_INT64 = range(-(2**63), 2**63)  # the integers of a database
_FLAGS = {"true": True, "1": True, "false": False, "0": False}

Value = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Condition:
    """``field op value``; None only with ``==`` and ``!=``. With ``~`` the value is a pattern of `re`.

    A time is text as it is stored: ``YYYY-MM-DD HH:MM:SS.ffffff``, UTC.
    """

    field: str
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class TagCondition:
    """A tag that is there and not null (`any_value`), or that has this value; None: null or not there."""

    key: str
    value: Scalar = None
    any_value: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """Tasks for which all of this holds; `states` or `ids` empty: any."""

    conditions: tuple[Condition, ...] = ()
    tags: tuple[TagCondition, ...] = ()
    states: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        where: Iterable[str] = (),
        tags: Iterable[str] = (),
        group: int | None = None,
        retries: bool = False,
        states: tuple[str, ...] = (),
        ids: tuple[str, ...] = (),
    ) -> Filter:
        """The filter of a command line; raises `WhereError` and `hypershell.tags.TagError`."""
        conditions = [parse_condition(word) for word in where]
        of_tags: list[TagCondition] = []
        for word in tags:
            found = parse_tag_filter(word)
            if isinstance(found, TagCondition):
                of_tags.append(found)
            elif found is not None:
                conditions.append(found)
        if group is not None:
            conditions.append(Condition("group", "==", group))
        if retries:
            conditions.append(Condition("attempt", ">", 1))
        return cls(tuple(conditions), tuple(of_tags), states, ids)

    def span(self) -> tuple[str, str]:
        """Ids between which all tasks of the filter lie: above the first, up to the second."""
        low, high = "", "\U0010ffff"
        for one in self.conditions:
            if one.field == "id" and isinstance(one.value, str):
                if one.operator in ("==", ">=", ">"):
                    low = max(low, one.value[:-1])  # the begin of an id is less than it
                if one.operator in ("==", "<=", "<"):
                    high = min(high, one.value)
        return (max(low, min(self.ids)[:-1]), min(high, max(self.ids))) if self.ids else (low, high)


@dataclass(frozen=True, slots=True)
class Order:
    """By a field, and by id where that is equal. Null comes before everything else, `descending` after it."""

    field: str = "id"
    descending: bool = False


def check_field(name: str) -> str:
    """The name of a field; raises `WhereError` for another."""
    if name in FIELDS:
        return name
    if _CONDITION.fullmatch(name):
        raise WhereError(f"Invalid field name {_quoted(name)} (a condition goes after -w, one after each)")
    raise WhereError(f"Invalid field name {_quoted(name)} (the names: hs list --fields)")


def parse_condition(text: str) -> Condition:
    """The condition in a text such as ``exit_status != 0`` or ``args ~ case_[0-9]+``.

    :raises WhereError: another form, an unknown field, or a value that the field cannot have.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise WhereError(
            f"Where clause not understood ({shown(text)}): expected FIELD OP VALUE, OP one of {' '.join(OPERATORS)}"
        )
    field, operator, value = match.groups()
    kind = FIELDS[check_field(field)]
    if operator == "~":
        return Condition(field, operator, _pattern(text, value))
    if value.strip().lower() in _NULLS:
        if operator not in ("==", "!="):
            raise WhereError(f"Where clause {shown(text)}: null is compared with == or != only")
        return Condition(field, operator, None)
    if field == "state" and operator in ("==", "!=") and value not in _STATES:
        raise WhereError(f"Where clause {shown(text)}: state is one of {', '.join(_STATES)}; not {shown(value)}")
    return Condition(field, operator, _typed(text, field, kind, value))


def parse_tag_filter(word: str) -> TagCondition | Condition | None:
    """The filter in ``key`` or ``key:value``; for a key that is a field of its own (``cores:4``) the condition.

    ``part:N`` are the tasks of partition N, ``part:0`` those of the database itself; None for ``part``, which every
    task has. Raises `hypershell.tags.TagError`.
    """
    directives = parse_tags((word,), stored=True)
    if word.startswith("part:"):
        return TagCondition("part", coerce(word.partition(":")[2]))
    for field in ("group", "cores", "memory", "timeout"):
        value = getattr(directives, field)
        if value is not None:
            return Condition(field, "==", value)
    for key, value in directives.tags.items():
        return TagCondition(key, value) if ":" in word else TagCondition(key, any_value=True)
    return None


def _pattern(text: str, value: str) -> str:
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise WhereError(f"Where clause {shown(text)}: no regular expression: {error}") from None
    return escaped_pattern(value)


def _typed(text: str, field: str, kind: Kind, value: str) -> Value:
    if kind is Kind.TEXT:
        return escaped(value)
    word = value.strip()
    if kind is Kind.TAGS:
        raise WhereError(f"Where clause {shown(text)}: tags are compared with -t KEY:VALUE, or as JSON text with ~")
    if kind is Kind.FLAG:
        typed: Value = _FLAGS.get(word.lower())
        expected = "true or false"
    elif kind is Kind.TIME:
        typed = _time(word)
        expected = "a time (UTC) such as 2026-01-31 or '2026-01-31 12:30:00'"
    else:
        typed = _number(kind, word)
        expected = f"a {kind.value}"
    if typed is None:
        raise WhereError(f"Where clause {shown(text)}: {field} takes {expected}, or null; not {shown(word)}")
    return typed


def _number(kind: Kind, word: str) -> int | float | None:
    try:
        number: int | float = int(word) if len(word) < 20 and int(word) in _INT64 else float(word)
    except ValueError:
        try:
            number = float(word)
        except ValueError:
            return _measure(kind, word)
    return number if math.isfinite(number) else None


def _measure(kind: Kind, word: str) -> int | float | None:
    try:
        if kind is Kind.SIZE:
            return parse_size(word)
        return parse_duration(word) if kind is Kind.SECONDS else None
    except (UnitError, OverflowError):
        return None


def _time(word: str) -> str | None:
    """The time as the database has it; what is left out is the begin of the year, month, day, hour, minute."""
    match = _TIME.fullmatch(word)
    if match is None or not word.isascii():
        return None
    year, month, day, hour, minute, second, fraction = match.groups()
    numbers = [int(part) for part in (year, month or 1, day or 1, hour or 0, minute or 0, second or 0)]
    from datetime import datetime

    try:
        datetime(*numbers)  # type: ignore[arg-type]  # checks each number
    except ValueError:
        return None
    head = "{:04d}-{:02d}-{:02d} {:02d}:{:02d}:{:02d}".format(*numbers)
    return f"{head}.{(fraction or '').ljust(6, '0')}"


def _quoted(name: str) -> str:
    return '"' + shown(name)[1:-1] + '"'
