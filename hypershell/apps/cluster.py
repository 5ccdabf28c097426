"""``hs cluster [FILE]``: server and executor in one process, joined by the loopback transport."""

from __future__ import annotations

import os
import sys

from hypershell.hosts import host_name

__all__ = ["available_cores", "main"]


def available_cores() -> int:
    """Cores that this process may use (sched_getaffinity(2) where there is one)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _cluster(argv))


def _warn_of_copies() -> None:
    """Each of several ranks would run the whole file."""
    from hypershell.mpi.environ import expected_size, launcher_name, rank_hint

    size = expected_size(os.environ) or 1
    if size > 1 and not rank_hint(os.environ):
        import logging

        logging.getLogger("hypershell").warning(
            "%s started %d of us, and each runs the whole input: use hs mpi to share it",
            launcher_name(os.environ), size,
        )  # fmt: skip


def _cluster(argv: list[str]) -> int:
    from hypershell import reactor
    from hypershell.apps.frame import parse
    from hypershell.limits import ENOUGH, raise_descriptors, require_descriptors

    soft_limit = raise_descriptors()
    require_descriptors(ENOUGH)
    settings, _ = parse("cluster", argv)
    _warn_of_copies()

    from hypershell import __version__
    from hypershell.core.model import ClientInfo
    from hypershell.executor.guard import start_guard
    from hypershell.executor.loop import Executor
    from hypershell.loopback import loopback
    from hypershell.mpi.environ import job_id
    from hypershell.server.run import Place, Run

    slots = settings.slots or available_cores()
    host = host_name()
    poller = reactor.Poller()
    server_end, client_end = loopback()
    place = Place("loopback", 1, 1, slots, host, job_id(os.environ))
    run = Run(poller, server_end, settings, place, ["cluster", *argv])
    info = ClientInfo(run.client_id(), host, os.getpid(), slots, __version__, sys.platform)
    guard = start_guard(info.id)
    executor = Executor(poller, client_end, info, guard=guard, soft_limit=soft_limit)
    run.on_signal(executor.heard)
    run.start()
    return run.turns([executor])
