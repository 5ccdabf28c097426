"""A process that is a client and nothing else: its loop and signals. Called by the MPI driver on worker ranks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from hypershell import log
from hypershell.core.model import ClientInfo
from hypershell.executor.affinity import Node
from hypershell.executor.guard import Guard
from hypershell.executor.loop import Executor
from hypershell.executor.spawn import seal_descriptors
from hypershell.proto.messages import ClientSettings, Startup
from hypershell.reactor import Poller, run
from hypershell.signal_desk import listening
from hypershell.transport import Endpoint

__all__ = ["run_client", "signals_to"]

#: Seconds in which a second INT is still the first one: launchers send it twice, a hand is slower.
_SAME_INT = 0.3


def run_client(
    endpoint: Endpoint,
    info: ClientInfo,
    guard: Guard | None = None,
    *,
    launcher_kills: bool | None = None,
    node: Callable[[ClientSettings], Node] | None = None,
    startup: Startup | None = None,
    soft_limit: int | None = None,
) -> str | None:
    """Serve until the server says that it is enough, is lost, or a signal ends it.

    :param guard: started before MPI_Init by ``start_guard``; closed at the end.
    :param launcher_kills: TERM and INT are soon followed by KILL: stop the tasks within 0.2 s. None: as Open MPI's
        mpirun does, where it started this process.
    :param node, startup, soft_limit: see ``Executor``.
    :returns: why the server was lost; None where it was not.
    """

    def begin(settings: ClientSettings) -> None:
        seal_descriptors()  # the first traffic may have opened more
        log.setup(settings)

    if launcher_kills is None:
        launcher_kills = "OMPI_COMM_WORLD_SIZE" in os.environ
    seal_descriptors()
    poller = Poller()
    executor = Executor(
        poller, endpoint, info, guard=guard, welcomed=begin, alone=True, node=node, startup=startup,
        soft_limit=soft_limit,
    )  # fmt: skip
    try:
        with signals_to(executor, launcher_kills):
            run(poller, [executor])
    except BaseException:
        executor.close()  # the endpoint stays as it is: an orderly farewell would wait for the end of the run
        raise
    executor.close()
    endpoint.close()
    poller.close()
    return executor.lost


def signals_to(executor: Executor, launcher_kills: bool = False) -> AbstractContextManager[None]:
    """While it lasts, signals to this process go to `executor`; for `launcher_kills` see `run_client`."""
    return listening(_ClientSignals(executor, launcher_kills))


class _ClientSignals:
    """The table of ``docs/tasks.md``: USR1, TERM, INT drain; USR2, another signal or a second INT interrupt."""

    def __init__(
        self, executor: Executor, launcher_kills: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._executor = executor
        self._kills = launcher_kills
        self._clock = clock
        self._last: tuple[int, float] | None = None

    def __call__(self, number: int) -> None:
        if number == getattr(signal, "SIGHUP", None):  # rotate the log file: a rank has none
            return
        if number == getattr(signal, "SIGBREAK", None):  # Ctrl-Break of Windows: a Ctrl-C that others can send too
            number = signal.SIGINT
        self._executor.heard(number)
        now = self._clock()
        last, self._last = self._last, (number, now)
        repeated = last is not None and last[0] == number
        if self._kills and number in (signal.SIGTERM, signal.SIGINT):
            self._executor.interrupt(hurry=True)
        elif last is not None and repeated:
            if number == signal.SIGINT and now - last[1] >= _SAME_INT:
                self._executor.interrupt()
        elif number == getattr(signal, "SIGUSR2", None) or last is not None:
            self._executor.interrupt()
        else:
            self._executor.drain()
