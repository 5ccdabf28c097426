"""``hs list [FIELD...]``: tasks of the database, filtered, in one of five formats."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypershell.errors import ExitStatus, UsageError
from hypershell.ostext import one_line

if TYPE_CHECKING:
    from hypershell.address import Where
    from hypershell.apps.formats import Format
    from hypershell.data.where import Filter
    from hypershell.settings import ListSettings, Selection

__all__ = ["build_filter", "check_delimiter", "main", "open_database", "prepare_stdout"]

#: What is shown where nobody says what to show, from the columns of a terminal on that they need.
_GLANCE = ("id", "state", "exit_status", "args")
_GLANCE_WIDE = ("id", "state", "exit_status", "duration", "client_host", "args")
_WIDE = 110

#: Lines of a terminal that are not for rows: the header, the rule, and the prompt before and after.
_OTHER_LINES = 4


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _list(argv))


def _list(argv: list[str]) -> int:
    from hypershell.apps.frame import parse_list
    from hypershell.apps.place import is_absent

    settings, config = parse_list(argv)
    from hypershell.data.where import FIELDS

    prepare_stdout()
    if settings.list_fields:
        print(*FIELDS)
        return ExitStatus.SUCCESS
    chosen = build_filter(settings)
    absent = is_absent(settings, config)
    if settings.count or settings.tag_keys or settings.tag_values is not None:
        return _summarize(settings, chosen, absent)
    return _show(settings, chosen, absent)


def build_filter(settings: Selection) -> Filter:
    """The filter that the options of a command ask for."""
    from hypershell.data.where import OUTCOMES, Filter

    outcome = next((name for name in OUTCOMES if getattr(settings, name)), None)
    return Filter.build(
        settings.where,
        settings.tags,
        settings.group,
        settings.retries,
        OUTCOMES[outcome] if outcome else (),
    )


def _summarize(settings: ListSettings, chosen: Filter, absent: bool) -> int:
    from hypershell.apps.formats import value_text

    lines: Sequence[object] = [0] if settings.count else []
    raw = open_database(settings.place, absent, with_partitions=not settings.ignore_partitions)
    if raw is not None:
        from hypershell.data.partitions import reading

        with reading(raw, settings.place, settings.ignore_partitions) as tasks:
            if settings.count:
                found = tasks.count(chosen)
                lines = [found if settings.limit is None else min(found, settings.limit)]
            elif settings.tag_values is not None:
                lines = tasks.tag_values(chosen, settings.tag_values)
            else:
                lines = tasks.tag_keys(chosen)
    for line in lines:
        print(one_line(value_text(line)))
    return ExitStatus.SUCCESS


def _show(settings: ListSettings, chosen: Filter, absent: bool) -> int:
    from hypershell.data.where import Order, check_field

    fields = tuple(check_field(name) for name in settings.fields)
    order = Order(check_field(settings.order_by), settings.desc) if settings.order_by else Order()
    limit = settings.limit
    name = settings.format or ("plain" if fields else "normal")
    size = shutil.get_terminal_size() if sys.stdout.isatty() else None
    if settings.is_bare:
        name = "plain" if size is None else "table"
        order = Order(descending=True)
        limit = None if size is None or settings.all_rows else max(size.lines - _OTHER_LINES, 1)
    if name == "table" or settings.is_bare:
        fields = fields or (_GLANCE if size is not None and size.columns < _WIDE else _GLANCE_WIDE)
    form, fields = _format(settings, name, fields, None if size is None else size.columns)
    raw = open_database(settings.place, absent, with_partitions=not settings.ignore_partitions)
    if raw is None:
        _print_none(form, size is not None and name == "table", str(settings.place))
        return ExitStatus.SUCCESS
    from hypershell.data.partitions import reading

    with reading(raw, settings.place, settings.ignore_partitions) as tasks:
        for page in tasks.pages(chosen, fields, order, limit):
            _write(form.page(page))
        _write(form.end())
    return ExitStatus.SUCCESS


def _write(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def _format(
    settings: ListSettings, name: str, fields: tuple[str, ...], width: int | None
) -> tuple[Format, tuple[str, ...]]:
    """The format, and the fields of its rows."""
    from hypershell.apps import formats
    from hypershell.data.where import FIELDS

    delimiter = settings.delimiter
    if delimiter is not None:
        check_delimiter(name, delimiter)
    if name == "normal":
        if fields:
            raise UsageError("Using --format=normal with FIELD is invalid: the blocks show all fields")
        return formats.Blocks(), formats.BLOCK_FIELDS
    if name == "table":
        from hypershell.apps.table import Table

        encoding = (sys.stdout.encoding or "ascii").lower()
        return Table(fields, width, ascii_only=not encoding.startswith("utf")), fields
    fields = fields or tuple(FIELDS)
    if name == "plain":
        return formats.Plain(delimiter), fields
    return (formats.Csv(fields, delimiter) if name == "csv" else formats.Json(fields)), fields


def check_delimiter(name: str, delimiter: str) -> None:
    """Make sure that the format `name` can have this delimiter; raises `UsageError`."""
    if name not in ("plain", "csv"):
        raise UsageError(f"Using -d/--delimiter with --format={name} is invalid: it is for plain and csv")
    if len(delimiter) > 100:
        raise UsageError(f"argument -d/--delimiter: at most 100 characters are allowed, not {len(delimiter)}")
    if name == "csv" and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise UsageError("argument -d/--delimiter: csv takes one character, no quote and no end of line")


def open_database(where: Where, absent: bool, *, with_partitions: bool = False, without_tasks: bool = False) -> Any:
    """The database for reading, None where it has no tasks or is `absent` (`hypershell.apps.place.is_absent`)."""
    if absent:
        return None
    from hypershell.data.places import open_readonly

    return open_readonly(where, with_partitions, without_tasks)


def _print_none(form: Format, is_for_people: bool, path: str) -> None:
    print(f"no tasks in {path}" if is_for_people else form.end(), end="\n" if is_for_people else "")


def prepare_stdout() -> None:
    """Text of tasks goes out as it is: UTF-8 and our own ends of line, whatever the system prefers for files."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace", newline="\n")
