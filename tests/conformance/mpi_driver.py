"""Runs one case of ``transport_cases`` with every rank in its role; rank 0 prints the verdict."""

from __future__ import annotations

import sys
import time
from typing import Any

from hypershell.mpi.launch import run_mpi
from hypershell.mpi.transport import MpiClientEnd, MpiServerEnd
from hypershell.mpi.world import World
from tests.conformance.transport_cases import CASES, Case, Program


def drive(end: MpiServerEnd | MpiClientEnd, program: Program) -> None:
    for _ in program:
        time.sleep(end.wait_hint(time.monotonic()) or 0.0)


def extra(case: Case, end: Any) -> list[Any]:
    """A way to send bytes that are no message, for the cases that want it."""
    if not case.bytes_only:
        return []
    return [lambda peer, data: end._isend(data, peer, 11).Wait()]


def main() -> int:
    name = sys.argv[1]
    case = CASES[name]

    def serve(world: World, end: MpiServerEnd) -> int:
        drive(end, case.server(end, list(range(1, world.size)), *extra(case, end)))
        print(f"PASS {name} on {world.library} with {world.size} ranks", flush=True)
        return 0

    def work(world: World, end: MpiClientEnd) -> int:
        drive(end, case.client(end, world.rank, *extra(case, end)))
        return 0

    return run_mpi(serve, work, warn=lambda line: None)


if __name__ == "__main__":
    sys.exit(main())
