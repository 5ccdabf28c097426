"""What is wrong with a message or a row, by the names of fields: ``Results.results[].start: Expected `float` ...``.

Both are arrays, so a decoder can only count places. Nothing here costs what is good. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

import msgspec

__all__ = ["fault", "fault_in"]

#: The end of an error of msgspec: the place, one step after the other.
_PLACE = re.compile(r" - at (key in )?`\$((?:\[[0-9.]*\]|\.[^`]*)*)`$")
_STEP = re.compile(r"\[([0-9.]*)\]")
_PATTERN = re.compile(r"matching regex '.*'$", re.DOTALL)
#: Characters of a fault: a decoder may quote what it was given.
_MOST = 300


def fault(error: Exception, data: bytes | memoryview, kinds: Iterable[type]) -> str:
    """The text of `error`, which decoding `data` as one of `kinds` led to, with the place by name."""
    kind = _kind_of(data, kinds)
    return fault_in(error, kind, kind.__name__) if kind is not None else _words(error)[:_MOST]


def fault_in(error: Exception, kind: type, name: str = "") -> str:
    """The text of `error`, which making a `kind` led to; `name` stands before the names of its fields."""
    text = _words(error)
    found = _PLACE.search(text)
    if found is None:
        return text[:_MOST]
    what = _PATTERN.sub("that is printable", text[: found.start()])
    named = _named(kind, name, _STEP.findall(found[2])).removeprefix(".")
    return f"{named}: {what}"[:_MOST]


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _kind_of(data: bytes | memoryview, kinds: Iterable[type]) -> type | None:
    """Which message these bytes mean to be: its number is the first value of the array."""
    try:
        tag = msgspec.msgpack.decode(data, type=list[msgspec.Raw])[0]
        number = msgspec.msgpack.decode(tag)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        return None
    return next((kind for kind in kinds if _config(kind).tag == number), None)


def _named(kind: type, name: str, steps: Iterable[str]) -> str:
    hint = kind
    for step in steps:
        struct = _struct_in(hint)
        if struct is None or not step.isdecimal():
            name += "[]"
            hint = _element_of(hint)
            continue
        fields = _config_fields(struct)
        place = int(step) - (_config(struct).tag is not None)
        if not 0 <= place < len(fields):
            return name
        name += f".{fields[place]}"
        hint = get_type_hints(struct, include_extras=True)[fields[place]]
    return name


def _struct_in(hint: Any) -> Any:
    """The struct that a type is, or is beside None."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    if getattr(hint, "__origin__", None) in (list, tuple, dict):
        return None
    return next((found for part in get_args(hint) if (found := _struct_in(part)) is not None), None)


def _element_of(hint: Any) -> Any:
    """What a list, or a list beside None, consists of."""
    parts = get_args(hint)
    if getattr(hint, "__origin__", None) in (list, tuple):
        return parts[0]
    return next((_element_of(part) for part in parts if get_args(part)), None)


def _config(kind: Any) -> Any:
    return kind.__struct_config__


def _config_fields(kind: Any) -> tuple[str, ...]:
    return tuple(kind.__struct_fields__)
