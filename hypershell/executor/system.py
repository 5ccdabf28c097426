"""The one place that knows on which kind of system a client runs: POSIX, or Windows.

What is chosen here has the same surface on both: processes (``make_spawner``), their ends (``make_reaper``), what
they print (``Pipes``), what ends them when their client dies (``begin_guard``), and the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypershell.executor.guard import Guard
    from hypershell.reactor import Poller

__all__ = [
    "IS_WINDOWS",
    "Pipes",
    "Processes",
    "Reaping",
    "begin_guard",
    "make_reaper",
    "make_spawner",
    "own_environ",
]

#: Whether commands are those of cmd.exe.
IS_WINDOWS = sys.platform == "win32"


class Pipes(Protocol):
    """Reading ends of pipes: read without waiting, closed, waited for."""

    def begin(self, fd: int) -> None:
        """Make `fd` one of these."""

    def read(self, fd: int, size: int) -> bytes:
        """What is there, empty at the end; raises ``BlockingIOError`` where nothing is."""

    def close(self, fd: int) -> None:
        """Close it."""

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever something can be read."""

    def remove(self, fd: int) -> None:
        """Forget the callback."""


class Processes(Protocol):
    """Starts processes, ends them, and tells who has ended."""

    def start(
        self,
        command: bytes,
        shared: Mapping[bytes, bytes],
        out: int,
        err: int,
        cwd: str | None = None,
        own: Mapping[bytes, bytes] = ...,
        cores: frozenset[int] | None = None,
    ) -> int:
        """Start `command`; its process id. Raises ``NotStarted``."""

    def signal(self, pid: int, number: int) -> None:
        """Signal `pid` and all that it started; what is gone is left alone."""

    def next_exit(self) -> tuple[int, int, tuple[float, float, int]] | None:
        """Process id, exit status and usage (seconds of user and system, bytes) of one that ended."""

    def close(self) -> None:
        """Give back what is held."""


class Reaping(Protocol):
    """Notes in `pending` that processes have ended, and wakes the loop."""

    pending: bool

    @property
    def pipes(self) -> Pipes:
        """What tasks print into."""

    def exited(self) -> None:
        """A process has ended; from any thread."""

    def close(self) -> None:
        """Leave loop and signals alone; idempotent."""


def make_reaper(poller: Poller) -> Reaping:
    """Who hears of ended processes in this loop."""
    if sys.platform == "win32":
        from hypershell.executor.windows_reap import WindowsReaper

        return WindowsReaper(poller)
    from hypershell.executor.reap import Reaper

    return Reaper(poller)


def make_spawner(
    environ: Mapping[bytes, bytes], threads: bool, exited: Callable[[], None], soft_limit: int | None = None
) -> Processes:
    """What starts processes that share `environ`; parameters as of ``spawn.Spawner`` and ``WindowsSpawner``."""
    if sys.platform == "win32":
        from hypershell.executor.windows_spawn import WindowsSpawner

        return WindowsSpawner(environ, threads, exited)
    from hypershell.executor.spawn import Spawner

    return Spawner(environ, threads, soft_limit)


def begin_guard(client_id: str) -> Guard | None:
    """What ends the tasks of a client that was killed: a process, or on Windows its job object (None).

    Raises ``LaunchError``.
    """
    if sys.platform == "win32":
        return None
    from hypershell.executor.guard import start_guard

    return start_guard(client_id)


def own_environ() -> dict[bytes, bytes]:
    """The environment of this process as bytes (UTF-8 on Windows)."""
    found = cast("Mapping[bytes, bytes] | None", getattr(os, "environb", None))
    if found is not None:
        return dict(found)
    return {_bytes(name): _bytes(value) for name, value in os.environ.items()}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
