"""``hs mpi [FILE]``: rank 0 schedules and keeps the database, the other ranks run tasks.

Every rank comes through here; only rank 0 parses arguments and reads configuration. The guard process starts
before MPI does (design, section 6).
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from hypershell.config import Config
    from hypershell.core.model import ClientInfo
    from hypershell.executor.guard import Guard
    from hypershell.mpi.transport import MpiClientEnd, MpiServerEnd
    from hypershell.mpi.world import World
    from hypershell.settings import DoorSettings, RunSettings
    from hypershell.transport import Endpoint

    Parsed: TypeAlias = tuple[RunSettings, DoorSettings, Config]

__all__ = ["main"]


class Start(NamedTuple):
    """What a rank has before it knows its number."""

    client_id: str
    guard: Guard
    began: float
    """When our first line ran, seconds since the epoch."""
    soft_limit: int | None
    """Of descriptors, for its tasks; None: as this process has."""


def main(argv: list[str]) -> int:
    """Run the command on this rank; the exit status."""
    began = time.time()
    from hypershell.mpi.environ import launcher_name

    if launcher_name(os.environ) is None:
        return _alone(argv, began)
    from hypershell.errors import HyperShellError

    try:
        return _rank(argv, None, began)
    except HyperShellError as error:
        from hypershell.ostext import one_line

        sys.stderr.write(f"CRITICAL [hypershell] {one_line(str(error))}\n")
        return error.exit_status


def _alone(argv: list[str], began: float) -> int:
    """Outside of a launcher: start one (``-n``), or be the only rank."""
    from hypershell.apps.frame import run_command
    from hypershell.apps.parse_net import parse_mpi

    def start() -> int:
        parsed = parse_mpi(argv, launched=False)
        if parsed[0].ranks is None:
            return _rank(argv, parsed, began)
        if (status := _signalled()) is not None:
            return status
        from hypershell.itself import own_words
        from hypershell.masking import take_out
        from hypershell.mpi.launch import start_under_launcher

        reads = _reads_input(parsed[0], parsed[1])
        words, secrets = take_out(["mpi", *argv])
        start_under_launcher(parsed[0].ranks, [*own_words(), *words], reads_input=reads, secrets=secrets)

    return run_command(start)


def _signalled() -> int | None:
    """The exit status where a signal has come already: a new program would know nothing of it."""
    import signal

    from hypershell.errors import ExitStatus
    from hypershell.signal_desk import SignalDesk

    desk = SignalDesk.of_process()
    stops = [] if desk is None else [number for number in desk.kept if number != signal.SIGHUP]
    if not stops:
        return None
    return ExitStatus.INTERRUPTED if signal.SIGINT in stops else ExitStatus.UNFINISHED


def _rank(argv: list[str], parsed: Parsed | None, began: float) -> int:
    """One rank of the job, which becomes server or client once it knows its number.

    :param began: when our first line ran, seconds since the epoch.
    """
    start = _begin(began)
    from hypershell.mpi.environ import SECRETS
    from hypershell.mpi.input import VARIABLE
    from hypershell.mpi.launch import run_mpi

    stdin = os.environ.pop(VARIABLE, None)  # nothing for tasks
    secrets = os.environ.pop(SECRETS, None)

    def serve(world: World, end: MpiServerEnd) -> int:
        from hypershell.apps.frame import run_command

        if parsed is not None:
            return _serve(world, end, parsed, argv, start)
        return run_command(lambda: _parse_and_serve(world, end, _whole(argv, secrets), start, stdin))

    def work(world: World, end: MpiClientEnd) -> int:
        return _work(world, end, start)

    try:
        return run_mpi(serve, work)
    finally:
        start.guard.close()


def _begin(began: float) -> Start:
    """What a rank has before MPI. What goes wrong here ends the job, whose other ranks would wait for this one."""
    from hypershell.mpi.environ import launcher_name

    try:
        from hypershell.executor.guard import start_guard
        from hypershell.ids import IdSource
        from hypershell.limits import ENOUGH_FOR_MPI, raise_descriptors, require_descriptors

        client_id = IdSource().task()
        soft_limit = raise_descriptors()
        require_descriptors(ENOUGH_FOR_MPI)
        return Start(client_id, start_guard(client_id), began, soft_limit)
    except Exception as error:
        if launcher_name(os.environ) is None:
            raise
        from hypershell.mpi.not_begun import leave_before_init

        leave_before_init(error, os.environ)


def _work(world: World, end: MpiClientEnd, start: Start) -> int:
    """A worker rank: it learns all that it must know from rank 0; whose end is no failure of this rank."""
    from hypershell.apps.mpi_node import node_of_worker
    from hypershell.executor.client import run_client
    from hypershell.mpi.started import startup_of

    info = _info(world, start.client_id, 0)
    node = node_of_worker(info, lambda text: _warn(text, world))
    run_client(
        end,
        info,
        start.guard,
        launcher_kills=_kills_at_once(world),
        node=node,
        startup=startup_of(world, start.began),
        soft_limit=start.soft_limit,
    )
    return 0


def _warn(text: str | None, world: World) -> None:
    if text is not None:
        import logging

        logging.getLogger("hypershell.client").warning("rank %d: %s", world.rank, text)


def _whole(argv: list[str], secrets: str | None) -> list[str]:
    """The arguments with what `_alone` took out of them; raises ``LaunchError`` where that is missing."""
    from hypershell.masking import MASK, put_back, take_out

    words = ["mpi", *argv]
    if secrets is not None:
        import json

        words = put_back(words, json.loads(secrets))
    if MASK in take_out(words)[1]:
        from hypershell.errors import LaunchError

        raise LaunchError("the key of the command line has not come to rank 0: name a file with --auth-file PATH")
    return words[1:]


def _parse_and_serve(world: World, end: MpiServerEnd, argv: list[str], start: Start, stdin: str | None) -> int:
    from hypershell.apps.frame import EndEarly
    from hypershell.apps.parse_net import parse_mpi
    from hypershell.errors import UsageError

    try:
        parsed = parse_mpi(argv)
    except EndEarly as early:
        print(early.text)
        return early.status
    settings = parsed[0]
    if settings.ranks is not None and settings.ranks != world.size:
        raise UsageError(f"-n {settings.ranks} inside a launcher that started {world.size} ranks: leave out -n")
    if _reads_input(settings, parsed[1]):
        _take_input(stdin, world)
    return _serve(world, end, parsed, argv, start)


def _serve(world: World, end: MpiServerEnd, parsed: Parsed, argv: list[str], start: Start) -> int:
    """Rank 0: the server, and an executor beside it where slots are left for it."""
    from hypershell import reactor
    from hypershell.apps.cluster import available_cores
    from hypershell.apps.mpi_node import node_of_server
    from hypershell.executor.loop import Executor
    from hypershell.mpi.environ import job_id
    from hypershell.mpi.started import startup_of
    from hypershell.server.run import Place, Run

    settings, door, config = parsed
    end.evict(door.evict)
    node, warning = node_of_server(settings.task_bind, world.size)
    _warn(warning, world)
    slots, own = _slots(settings, world.size, available_cores(), door.door is not None)
    poller = reactor.Poller()
    clients = world.size - 1 + (own > 0)
    _say_how_many(world, slots, own)
    kills = _kills_at_once(world)
    place = Place("mpi", world.size, clients, slots, world.host, job_id(os.environ), kills, door.door is not None)
    with ExitStack() as stack:
        server_end: Endpoint = end
        way_in = None
        if door.door is not None:
            from hypershell.apps.door import open_door
            from hypershell.server.feed import check_file
            from hypershell.several import Several

            if settings.file is not None:
                check_file(settings.file)
            way_in = stack.enter_context(open_door(poller, door, config))
            server_end = Several([end, way_in.listener])
        if settings.startup_report:
            from hypershell.server.startup import Rank, Tapped

            own_start = Rank(0, world.host, startup_of(world, start.began))
            server_end = Tapped(server_end, world.size, clients, own_start)
            stack.callback(server_end.end)
        run = Run(poller, server_end, settings, place, ["mpi", *argv])
        if way_in is not None:
            run.receive(way_in.listener)
        world.on_crash(lambda: run.commit_now(2.0))
        parts: list[reactor.Part] = []
        if own > 0:
            executor = Executor(
                poller,
                end.own_client(),
                _info(world, start.client_id, own),
                guard=start.guard,
                node=node,
                startup=startup_of(world, start.began),
                soft_limit=start.soft_limit,
            )
            run.on_signal(executor.heard)
            parts.append(executor)
        run.start()
        return run.turns(parts)


def _reads_input(settings: RunSettings, door: DoorSettings) -> bool:
    """Whether rank 0 reads standard input: for task lines, or for a key."""
    return (settings.file is None and not settings.restart) or door.auth_file == "-"


def _take_input(stdin: str | None, world: World) -> None:
    """Read the standard input of ``hs mpi -n``, or the launcher's; raises ``LaunchError``.

    :param stdin: what ``mpi.input`` says of it.
    """
    from hypershell.errors import LaunchError
    from hypershell.mpi.environ import HYDRA, launcher_name
    from hypershell.mpi.input import TERMINAL, take

    reason = take(stdin)
    if reason is not None:
        raise LaunchError(f"{reason}: give a FILE")
    if stdin is not None and stdin != TERMINAL:
        return
    if _kills_at_once(world):
        # openpmix pull request 4024, prrte issue 2579; measured in docs/decisions/0003.
        _warn("Open MPI's mpirun may repeat stdin beyond 64 KiB and never pass on its end: give a FILE", world)
    elif stdin is None and launcher_name(os.environ) == HYDRA:
        ends = "MPICH's mpiexec ends the job when its stdin runs more than 64 KiB ahead of rank 0"
        _warn(f"{ends}: give a FILE, or start with hs mpi -n NUM", world)


def _say_how_many(world: World, slots: int, own: int) -> None:
    """With how many ranks the run goes: a launcher that is asked for none may start one, or one for each core."""
    import logging

    others = f", {slots} on each other rank" if world.size > 1 else ""
    ranks = "1 rank" if world.size == 1 else f"{world.size} ranks"
    logging.getLogger("hypershell.mpi").info("Running with %s: %d tasks at a time on rank 0%s", ranks, own, others)


def _slots(settings: RunSettings, ranks: int, cores: int, is_open: bool) -> tuple[int, int]:
    """Tasks at a time of each other rank, and of rank 0; raises ``UsageError`` where nobody would run any."""
    from hypershell.errors import UsageError

    alone = ranks == 1
    slots = cores if alone and not settings.slots_given else settings.slots or cores
    own = settings.rank0_tasks
    if own is None:
        own = slots if alone else slots - 1
    elif own == 0 and alone and not is_open:
        raise UsageError("--rank0-tasks 0 with a single rank: nobody would run a task; start more ranks")
    return slots, own


def _kills_at_once(world: World) -> bool:
    """Open MPI's mpirun kills its ranks within half a second after it has passed on SIGTERM."""
    return world.size > 1 and "open mpi" in world.library.lower()


def _info(world: World, client_id: str, slots: int) -> ClientInfo:
    from hypershell import __version__
    from hypershell.core.model import ClientInfo

    return ClientInfo(client_id, world.host, os.getpid(), slots, __version__, sys.platform, world.rank)
