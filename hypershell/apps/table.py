"""A table for people: columns as wide as their values, and together no wider than the terminal.

The widths come from the first rows, so that any number of rows can follow. Knows nothing of databases and streams.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypershell.apps.formats import value_text
from hypershell.data.where import FIELDS, Kind
from hypershell.ostext import one_line

__all__ = ["Table", "cut_front", "cut_to", "width_of"]

#: Rows that decide how wide the columns are.
_SAMPLE = 200
#: A column is not cut below this.
_LEAST = 10
_GAP = "  "

#: Fields that hold paths: their end says more than their begin.
_PATHS = ("source",)

_NUMBERS = (Kind.NUMBER, Kind.SECONDS, Kind.SIZE)


class Table:
    """Rows in columns under a header; nothing at all without rows. See `formats.Format`.

    `width` is that of the terminal in characters: values are cut to fit in. None: nothing is cut. `ascii_only` for
    a terminal that shows no other characters. `kinds` are those of the fields.
    """

    def __init__(
        self,
        fields: Sequence[str],
        width: int | None,
        ascii_only: bool = False,
        kinds: Mapping[str, Kind] = FIELDS,
    ) -> None:
        self._fields = fields
        self._kinds = [kinds[field] for field in fields]
        self._cuts = [cut_front if field in _PATHS else cut_to for field in fields]
        self._width = width
        self._rule, self._mark = ("-", "~") if ascii_only else ("─", "…")
        self._waiting: list[list[str]] = []
        self._widths: list[int] | None = None

    def page(self, rows: Sequence[Sequence[Any]]) -> str:
        lines = [[_cell(value) for value in row] for row in rows]
        if self._widths is not None:
            return "".join(map(self._line, lines))
        self._waiting += lines
        return self._open() if len(self._waiting) >= _SAMPLE else ""

    def end(self) -> str:
        return self._open() if self._widths is None and self._waiting else ""

    def _open(self) -> str:
        lines = [list(self._fields), *self._waiting]
        self._widths = [max(map(width_of, column)) for column in zip(*lines, strict=True)]
        if self._width is not None:
            cuttable = list(map(_may_be_cut, self._fields, self._kinds))
            _shrink(self._widths, cuttable, self._width)
        rule = [self._rule * width for width in self._widths]
        return "".join(map(self._line, [lines[0], rule, *self._waiting]))

    def _line(self, cells: list[str]) -> str:
        assert self._widths is not None
        columns = zip(cells, self._widths, self._kinds, self._cuts, strict=True)
        parts = [self._padded(*column) for column in columns]
        return _GAP.join(parts).rstrip() + "\n"

    def _padded(self, text: str, width: int, kind: Kind, cut: Callable[[str, int, str], str]) -> str:
        if self._width is not None:
            text = cut(text, width, self._mark)
        space = " " * (width - width_of(text))
        return space + text if kind in _NUMBERS else text + space


def width_of(text: str) -> int:
    """The columns of a terminal that a text takes (Unicode Standard Annex 11; combining marks take none)."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def cut_to(text: str, width: int, mark: str) -> str:
    """The text, or its begin and a mark, in at most `width` columns."""
    if width_of(text) <= width:
        return text
    kept, left = [], width - 1
    for character in text:
        left -= _width(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + mark


def cut_front(text: str, width: int, mark: str) -> str:
    """The text, or a mark and its end, in at most `width` columns."""
    return cut_to(text[::-1], width, mark)[::-1]


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return one_line(value_text(value)).replace("\t", " ")


def _shrink(widths: list[int], cuttable: Sequence[bool], most: int) -> None:
    """Make columns narrower until all fit: the widest first; ids, numbers and times only if nothing else helps."""
    free = [index for index, may_be_cut in enumerate(cuttable) if may_be_cut]
    for among in (free, range(len(cuttable))):
        while (over := sum(widths) + len(_GAP) * (len(widths) - 1) - most) > 0:
            widest = max(among, key=widths.__getitem__, default=None)
            if widest is None or widths[widest] <= _LEAST:
                break
            next_width = max((widths[index] for index in among if widths[index] < widths[widest]), default=_LEAST)
            widths[widest] = max(widths[widest] - over, min(next_width, widths[widest] - 1), _LEAST)


def _may_be_cut(field: str, kind: Kind) -> bool:
    return kind is Kind.TAGS or (kind is Kind.TEXT and field != "id" and not field.endswith("_id"))
