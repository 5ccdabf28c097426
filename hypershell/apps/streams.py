"""What a task printed, for ``hs info`` and ``hs run``: from its captured file, else from the database."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from hypershell.apps.captured import Captured, NotCaptured
from hypershell.apps.one import NotFound
from hypershell.hosts import host_name

if TYPE_CHECKING:
    from hypershell.data.partitions import Tasks

__all__ = ["print_stream"]

log = logging.getLogger("hypershell.task")

_PIECE = 1024 * 1024
_PATHS = {"stdout": "outpath", "stderr": "errpath"}


def print_stream(tasks: Tasks, task: Mapping[str, Any], stream: str, captured: Captured) -> None:
    """Print, byte for byte, what a task wrote to `stream` (``stdout``, ``stderr``) to the same stream of ours.

    What was kept only in part is followed by a warning that says so. Raises ``NotFound`` where nothing was kept.
    """
    path = task[_PATHS[stream]]
    obstacle, is_refused = None, False
    if path is not None:
        try:
            file = captured.open(task["id"], stream, path)
        except FileNotFoundError:
            obstacle = f"{path} {_where(task['client_host'])}"
        except OSError as error:
            obstacle = f"{path}: {error.strerror}"
        except NotCaptured as error:
            obstacle, is_refused = str(error), True
        else:
            with open(file, "rb") as source:
                _copy(source, stream)
            return
    kept = tasks.printed(task["id"], stream)
    if kept is not None:
        if is_refused:
            log.warning("%s", obstacle)
        _write(stream, kept.data)
        if kept.is_cut:
            log.warning(
                "%s of task (%s) was cut: these are the first %d of %d bytes",
                stream, task["id"], len(kept.data), kept.size,
            )  # fmt: skip
        return
    if obstacle is not None:
        way_out = "" if is_refused else " (--keep-output keeps it in the database too)"
        raise NotFound(f"{stream} of task {task['id']}: {obstacle}{way_out}")
    raise NotFound(f"{stream} of task {task['id']} was not kept: {_why(task)}")


def _copy(source: IO[bytes], stream: str) -> None:
    while piece := source.read(_PIECE):
        _write(stream, piece)


def _write(stream: str, data: bytes) -> None:
    from hypershell.apps.stdout import write_bytes

    if stream == "stdout":
        write_bytes(data)
    else:
        sys.stderr.flush()
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def _why(task: Mapping[str, Any]) -> str:
    from hypershell.core.model import WINDOWS_STATUS

    if task["state"] in ("pending", "dispatched"):
        return f"the task is {task['state']}"
    if task["exit_status"] is not None and WINDOWS_STATUS < task["exit_status"] < -99:
        return f"it did not run ({task['error'] or task['state']})"
    return "output is kept of tasks that are submitted or run with --keep-output, and by a run with --capture"


def _where(host: str | None) -> str:
    if host is None or host == host_name():
        return "is not there any more"
    return f"is on host {host}, not on this one ({host_name()}): look there"
