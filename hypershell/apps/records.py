"""How records of other kinds than tasks (runs, clients) are printed: which format, and its writer."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hypershell.ostext import one_line

if TYPE_CHECKING:
    from hypershell.apps.formats import Format
    from hypershell.data.where import Kind

__all__ = ["format_name", "is_narrow", "make_format"]


def format_name(asked: str | None, delimiter: str | None, is_one: bool) -> str:
    """The format that is asked for; else blocks for one record, a table on a terminal, plain lines elsewhere."""
    from hypershell.apps.list import check_delimiter

    by_place = "table" if sys.stdout.isatty() else "plain"
    name = asked or ("normal" if is_one else by_place)
    if delimiter is not None:
        check_delimiter(name, delimiter)
    return name


def is_narrow(columns: int) -> bool:
    """Whether stdout is a terminal of fewer columns."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < columns


def make_format(
    name: str, fields: Sequence[str], delimiter: str | None, kinds: Mapping[str, Kind], is_one: bool
) -> Format:
    """The writer of a format for records with these fields; `kinds` are those of a table's columns."""
    from hypershell.apps import formats

    if name == "table":
        from hypershell.apps.table import Table

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        encoding = (sys.stdout.encoding or "ascii").lower()
        return Table(fields, width, ascii_only=not encoding.startswith("utf"), kinds=dict(kinds))
    if name == "normal":
        return _Blocks(fields, is_one)
    if name == "plain":
        return formats.Plain(delimiter)
    return formats.Csv(fields, delimiter) if name == "csv" else formats.Json(fields)


class _Blocks:
    """For each record lines ``name: value``, of several after a line ``---``."""

    def __init__(self, fields: Sequence[str], is_one: bool) -> None:
        self._fields = fields
        self._head = "" if is_one else "---\n"

    def page(self, rows: Sequence[Sequence[Any]]) -> str:
        from hypershell.apps.formats import value_text

        return "".join(
            self._head
            + "".join(
                f"{name:>12}: {one_line(value_text(value))}\n"
                for name, value in zip(self._fields, row, strict=True)
            )
            for row in rows
        )

    def end(self) -> str:
        return ""
