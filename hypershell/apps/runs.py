"""``hs runs [ID]``: the runs that a database remembers, or one of them in full."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hypershell.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from hypershell.apps.formats import Format
    from hypershell.data.runs import Run
    from hypershell.settings import RunsSettings

__all__ = ["main"]

#: What a table shows, from the columns of a terminal on that it needs.
_GLANCE = ("id", "source", "succeeded", "failed", "unfinished", "duration", "ended")
_GLANCE_WIDE = ("id", "start", "host", "ranks", "slots", "job", *_GLANCE[1:])
_WIDE = 130

#: What is shown of all runs on a line each; the rest is for one.
_ONLY_IN_FULL = ("command", "cwd", "pid")

#: Characters of an id in a table: its time to a millisecond, which is enough to name a run.
_SHORT = 13


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _runs(argv))


def _runs(argv: list[str]) -> int:
    from hypershell.apps.frame import parse_runs
    from hypershell.apps.list import prepare_stdout
    from hypershell.apps.place import is_absent
    from hypershell.apps.records import format_name
    from hypershell.data.places import open_runs

    settings, config = parse_runs(argv)
    prepare_stdout()
    name = format_name(settings.format, settings.delimiter, settings.run is not None)
    raw = None if is_absent(settings, config) else open_runs(settings.place)
    if raw is not None:
        return _show(settings, name, raw)
    if settings.run is not None:
        raise UsageError(f"there are no runs in {settings.place}")
    if name == "table" and sys.stdout.isatty():
        print(f"no runs in {settings.place}")
    elif name != "table":
        print(_format(settings, name, _fields(name)).end(), end="")
    return ExitStatus.SUCCESS


def _show(settings: RunsSettings, name: str, raw: Any) -> int:
    from hypershell.data import query, runs

    fields = _fields(name)
    form = _format(settings, name, fields)
    with query.reading(raw, settings.place) as connection:
        if settings.run is not None:
            pages: Iterator[list[Run]] = iter([[runs.find(connection, settings.run)]])
        else:
            pages = runs.newest(connection, settings.limit)
        for page in pages:
            sys.stdout.write(form.page([_row(run, fields, name == "table") for run in page]))
            sys.stdout.flush()
    sys.stdout.write(form.end())
    return ExitStatus.SUCCESS


def _fields(name: str) -> tuple[str, ...]:
    from hypershell.apps.records import is_narrow
    from hypershell.data.runs import FIELDS

    if name == "table":
        return _GLANCE if is_narrow(_WIDE) else _GLANCE_WIDE
    if name == "plain":
        return tuple(field for field in FIELDS if field not in _ONLY_IN_FULL)
    return FIELDS


def _format(settings: RunsSettings, name: str, fields: tuple[str, ...]) -> Format:
    from hypershell.apps.records import make_format

    return make_format(name, fields, settings.delimiter, _kinds(), is_one=settings.run is not None)


def _kinds() -> dict[str, Any]:
    from hypershell.data.where import Kind

    numbers = ("ranks", "slots", "succeeded", "failed", "unfinished")
    kinds = dict.fromkeys(numbers, Kind.NUMBER) | {"start": Kind.TIME, "duration": Kind.SECONDS}
    return dict.fromkeys(_GLANCE_WIDE, Kind.TEXT) | kinds


def _row(run: Run, fields: Sequence[str], is_table: bool) -> list[Any]:
    from hypershell.units import format_duration

    values = [getattr(run, field) for field in fields]
    if is_table:
        for place, field in enumerate(fields):
            if values[place] is None:
                values[place] = "-"
            elif field == "id":
                values[place] = str(run.id)[:_SHORT]
            elif field == "start":
                values[place] = run.start[:19]
            elif field == "duration":
                values[place] = format_duration(run.duration or 0.0)
    return values
