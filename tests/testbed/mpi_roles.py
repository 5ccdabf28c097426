"""Ranks that play a part, for the tests of ``mpi.launch``: ``python -m tests.testbed.mpi_roles PART [ARGS]``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from hypershell.errors import ConfigError, HyperShellError
from hypershell.mpi import launch
from hypershell.mpi.transport import MAX_PER_POLL, MpiClientEnd, MpiServerEnd
from hypershell.mpi.world import World
from hypershell.proto.messages import Bye, Leave, OutputTaken, Results, Work
from hypershell.transport import SERVER, Lost


def say(*words: object) -> None:
    print(*words, flush=True)


def note(path: str, word: str) -> Callable[[], None]:
    """Adds a line to a file: what is printed just before MPI_Abort may be lost on its way."""

    def write() -> None:
        with open(path, "a", encoding="ascii") as file:
            file.write(f"{word}\n")

    return write


def wait_for(end: MpiServerEnd | MpiClientEnd, enough: Callable[[list[Any]], bool]) -> list[Any]:
    got: list[Any] = []
    while not enough(got):
        got += end.poll()
        time.sleep(end.wait_hint(time.monotonic()) or 0.0)
    return got


def until_told(end: MpiClientEnd) -> int:
    wait_for(end, lambda got: any(isinstance(d.message, (Bye, Lost)) for d in got))
    return 0


class Plain:
    """Rank 0 ends at once with the status that it was given."""

    def __init__(self, args: list[str]) -> None:
        self.args = args

    def serve(self, world: World, end: MpiServerEnd) -> int:
        world.on_crash(lambda: say("never in an orderly end"))
        say(world.size, "ranks,", *self.args)
        return int(self.args[0]) if self.args else 0

    def work(self, world: World, end: MpiClientEnd) -> int:
        return until_told(end)


class Refuses(Plain):
    def serve(self, world: World, end: MpiServerEnd) -> int:
        raise ConfigError("bad config")


class ServerCrash(Plain):
    def serve(self, world: World, end: MpiServerEnd) -> int:
        world.on_crash(note(self.args[0], "committed"))
        world.on_crash(note(self.args[0], "stopped"))
        raise ValueError("broken\nbadly")


class WorkerCrash(Plain):
    def serve(self, world: World, end: MpiServerEnd) -> int:
        wait_for(end, lambda got: False)
        return 0

    def work(self, world: World, end: MpiClientEnd) -> int:
        if world.rank != 2:
            return until_told(end)
        world.on_crash(note(self.args[0], "stopped"))
        raise ValueError("broken")


class Hangs(ServerCrash):
    def serve(self, world: World, end: MpiServerEnd) -> int:
        launch.CRASH_GRACE = 1
        world.on_crash(lambda: time.sleep(3600))
        raise ValueError("broken")


class Pid(Plain):
    """Every rank tells its process id and waits for ever."""

    def serve(self, world: World, end: MpiServerEnd) -> int:
        told = wait_for(end, lambda got: len(got) == world.size - 1)
        say(*[os.getpid(), *(d.message.returned[0][1] for d in sorted(told))])
        wait_for(end, lambda got: False)
        return 0

    def work(self, world: World, end: MpiClientEnd) -> int:
        end.send(SERVER, Results([], [("pid", os.getpid())]))
        return until_told(end)


class Alone(Plain):
    """Rank 0 is its own client."""

    def serve(self, world: World, end: MpiServerEnd) -> int:
        assert end.wait_hint(0.0) is None
        client = end.own_client()
        client.send(SERVER, Leave("x"))
        assert end.wait_hint(0.0) == 0.0
        end.send(0, Bye())
        say(world.size, end.poll(), client.poll())
        return 0


class Bounded(Plain):
    """More messages than one poll may take."""

    def serve(self, world: World, end: MpiServerEnd) -> int:
        total = 0
        while total < 3000 * (world.size - 1):
            taken = len(end.poll())
            assert taken <= MAX_PER_POLL
            assert taken < MAX_PER_POLL or end.wait_hint(time.monotonic()) == 0.0
            total += taken
        say("took", total)
        return 0

    def work(self, world: World, end: MpiClientEnd) -> int:
        for _ in range(3000):
            end.send(SERVER, Results([]))
        return until_told(end)


class Deaf(Plain):
    """Rank 1 does not look at its messages before rank 0 has given it up."""

    def serve(self, world: World, end: MpiServerEnd) -> int:
        end._max_queued = 1 << 20
        from hypershell.core.model import Task

        for _ in range(300):
            end.send(1, Work([Task("id", "w" * 100_000, 1)]))
        told = wait_for(end, lambda got: len(got) == 1)
        end.send(1, OutputTaken(1))
        note(self.args[0], f"{told[0].message.reason} {end.stuck()}")()
        return 0

    def work(self, world: World, end: MpiClientEnd) -> int:
        time.sleep(3600)
        return 0


class Broken(Plain):
    """MPI returns an error to rank 0, which asks for messages of a rank that there is not."""

    def serve(self, world: World, end: MpiServerEnd) -> int:
        world.on_crash(note(self.args[0], "committed"))
        end._source = world.size
        wait_for(end, lambda got: False)
        return 0


PARTS: dict[str, type[Plain]] = {
    part.__name__: part
    for part in (Plain, Refuses, ServerCrash, WorkerCrash, Hangs, Pid, Alone, Bounded, Broken, Deaf)
}


def main() -> int:
    if sys.argv[1] == "relaunch":
        launch.start_under_launcher(3, [sys.executable, "-m", "tests.testbed.mpi_roles", *sys.argv[2:]])
    part = PARTS[sys.argv[1]](sys.argv[2:])
    return launch.run_mpi(part.serve, part.work)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HyperShellError as error:
        sys.stderr.write(f"hs: {error}\n")
        sys.exit(error.exit_status)
