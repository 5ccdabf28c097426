"""``hs info ID``: one task, one field of it, or what it printed."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any

from hypershell.errors import ExitStatus

if TYPE_CHECKING:
    from hypershell.settings import InfoSettings

__all__ = ["main"]

_PIECE = 1024 * 1024


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _info(argv))


def _info(argv: list[str]) -> int:
    from hypershell.apps import one
    from hypershell.apps.list import prepare_stdout
    from hypershell.apps.parse_task import parse_info

    settings, _ = parse_info(argv)
    one.full_form(settings.task_id)
    with one.open_tasks(settings.place, settings.task_id) as connection:
        task = one.read_task(connection, one.find(connection, settings.task_id, settings.place), settings.place)
    prepare_stdout()
    if settings.show_stdout or settings.show_stderr:
        _print_output(task, settings)
    elif settings.extract is not None:
        print(_field(task, settings.extract, settings.info_format), end="")
    else:
        print(one.to_text(task, settings.info_format), end="")
    return ExitStatus.SUCCESS


def _field(task: dict[str, Any], field: str, form: str | None) -> str:
    """The value alone; text is exactly what is stored."""
    from hypershell.apps.formats import tags_text, value_text
    from hypershell.apps.one import value_as

    value = task[field]
    if form in ("json", "yaml"):
        return value_as(value, form)
    return (tags_text(value) if isinstance(value, dict) else value_text(value)) + "\n"


def _print_output(task: dict[str, Any], settings: InfoSettings) -> None:
    """The bytes that were captured, as they are. Raises ``NotFound`` where there are none here."""
    from hypershell.apps.one import NotFound
    from hypershell.apps.stdout import write_bytes

    name, field = ("stdout", "outpath") if settings.show_stdout else ("stderr", "errpath")
    path = task[field]
    if path is None:
        raise NotFound(f"{name} of task {task['id']} was not kept: {_why_not_kept(task['state'])}")
    try:
        with open(path, "rb") as source:
            while piece := source.read(_PIECE):
                if settings.show_stdout:
                    write_bytes(piece)
                else:
                    sys.stderr.buffer.write(piece)
        sys.stderr.flush()
    except FileNotFoundError:
        raise NotFound(f"{name} of task {task['id']}: {path} {_where(task['client_host'])}") from None
    except IsADirectoryError as error:
        raise NotFound(f"{name} of task {task['id']}: {path}: {error.strerror}") from None
    except PermissionError as error:
        raise NotFound(f"{name} of task {task['id']}: {path}: {error.strerror}") from None


def _why_not_kept(state: str) -> str:
    if state in ("pending", "dispatched"):
        return f"the task is {state}"
    return "output is kept only by a run with --capture"


def _where(host: str | None) -> str:
    if host is None or host == platform.node():
        return "is not there any more"
    return f"is on host {host}, not on this one ({platform.node()}): look there"
