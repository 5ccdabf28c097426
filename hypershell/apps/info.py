"""``hs info ID``: one task, one field of it, or what it printed."""

from __future__ import annotations

import sys
from typing import Any

from hypershell.errors import ExitStatus
from hypershell.ostext import one_line

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _info(argv))


def _info(argv: list[str]) -> int:
    from hypershell.apps import one
    from hypershell.apps.captured import Captured
    from hypershell.apps.list import prepare_stdout
    from hypershell.apps.parse_task import parse_info
    from hypershell.apps.streams import print_stream

    settings, config = parse_info(argv)
    one.full_form(settings.task_id)
    with one.open_tasks(settings.place, settings.task_id, settings.ignore_partitions) as tasks:
        task = one.read_task(tasks, one.find(tasks, settings.task_id, settings.place), settings.place)
        prepare_stdout()
        if settings.show_stdout or settings.show_stderr:
            stream = "stdout" if settings.show_stdout else "stderr"
            print_stream(tasks, task, stream, Captured.of(config.sites))
            return ExitStatus.SUCCESS
    if settings.extract is not None:
        print(_field(task, settings.extract, settings.info_format), end="")
    else:
        print(one.to_text(task, settings.info_format), end="")
    return ExitStatus.SUCCESS


def _field(task: dict[str, Any], field: str, form: str | None) -> str:
    """The value alone; text is exactly what is stored, but on a terminal one line."""
    from hypershell.apps.formats import tags_text, value_text
    from hypershell.apps.one import value_as

    value = task[field]
    if form in ("json", "yaml"):
        return value_as(value, form)
    text = tags_text(value) if isinstance(value, dict) else value_text(value)
    return (one_line(text) if sys.stdout.isatty() else text) + "\n"
