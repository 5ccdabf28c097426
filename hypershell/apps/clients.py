"""``hs clients``: the clients that a database remembers, the newest first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypershell.errors import ExitStatus

if TYPE_CHECKING:
    from hypershell.data.clients import ClientRow
    from hypershell.data.where import Kind

__all__ = ["main"]

#: What a table shows, from the columns of a terminal on that it needs.
_GLANCE = ("id", "host", "rank", "slots", "connected", "ended")
_GLANCE_WIDE = (
    "id",
    "host",
    "rank",
    "system",
    "version",
    "slots",
    "run",
    "connected",
    "disconnected",
    "ended",
    "reason",
)
_WIDE = 150
#: Characters of an id in a table: its time to a millisecond.
_SHORT = 13


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _clients(argv))


def _clients(argv: list[str]) -> int:
    from hypershell.apps.frame import parse_runs
    from hypershell.apps.list import prepare_stdout
    from hypershell.apps.place import is_absent
    from hypershell.apps.records import format_name, is_narrow, make_format
    from hypershell.data.clients import FIELDS
    from hypershell.data.places import open_runs

    settings, config = parse_runs(argv, "clients")
    prepare_stdout()
    name = format_name(settings.format, settings.delimiter, is_one=False)
    fields = FIELDS if name != "table" else _GLANCE if is_narrow(_WIDE) else _GLANCE_WIDE
    form = make_format(name, fields, settings.delimiter, _kinds(), is_one=False)
    raw = None if is_absent(settings, config) else open_runs(settings.place)
    if raw is None:
        if name == "table":
            print(f"no clients in {settings.place}")
        else:
            print(form.end(), end="")
        return ExitStatus.SUCCESS
    from hypershell.data import query
    from hypershell.data.clients import newest

    with query.reading(raw, settings.place) as connection:
        for page in newest(connection, settings.limit, settings.run):
            sys.stdout.write(form.page([_row(one, fields, name == "table") for one in page]))
            sys.stdout.flush()
    sys.stdout.write(form.end())
    return ExitStatus.SUCCESS


def _kinds() -> dict[str, Kind]:
    from hypershell.data.where import Kind

    kinds = dict.fromkeys(_GLANCE_WIDE, Kind.TEXT)
    return kinds | dict.fromkeys(("rank", "slots"), Kind.NUMBER)


def _row(one: ClientRow, fields: Sequence[str], is_table: bool) -> list[Any]:
    values = [getattr(one, field) for field in fields]
    if is_table:
        for place, field in enumerate(fields):
            if values[place] is None:
                values[place] = "-"
            elif field in ("id", "run"):
                values[place] = str(values[place])[:_SHORT]
            elif field in ("connected", "disconnected"):
                values[place] = values[place][:19]
    return values
