"""What a field may hold that comes from a peer or out of a row: types with bounds, for ``msgspec`` to check.

Numbers fit into the columns of every database, times and sizes are finite, names are printable and short. Pure.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

__all__ = ["MOST_TEXT", "Count", "Id", "Int32", "Int64", "Name", "Natural", "Path", "Real", "Scalar", "Seconds",
           "Slots", "Text", "is_name"]  # fmt: skip

#: Characters of an id, of a name (host, label, system, version), and of a text for people.
MOST_ID = 100
MOST_NAME = 256
MOST_TEXT = 65_536

Int32: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Natural: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Slots: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: Neither infinite nor no number: bounds refuse both.
Real: TypeAlias = Annotated[float, Meta(ge=-1e18, le=1e18)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e18)]

#: The value of a tag.
Scalar: TypeAlias = bool | Int64 | float | str | None

#: Of the hot messages; what it is made of is looked at where it is used (`is_name`), since a pattern would cost
#: ten times what all else of the field does.
Id: TypeAlias = Annotated[str, Meta(max_length=MOST_ID)]
#: No control characters, nothing that ends a line or turns the direction of writing.
Name: TypeAlias = Annotated[
    str,
    Meta(max_length=MOST_NAME, pattern="^[^\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]*\\Z"),
]
#: For people; may hold anything, and is escaped where it is shown.
Text: TypeAlias = Annotated[str, Meta(max_length=MOST_TEXT)]
Path: TypeAlias = Annotated[bytes, Meta(max_length=MOST_TEXT)]


def is_name(text: str) -> bool:
    """Whether a text can be an id: something, printable and not too long."""
    return 0 < len(text) <= MOST_NAME and text.isprintable()
