"""Many ranks on few cores: what rank 0 holds in memory beyond a bare rank 0 of as many ranks, and the rate.

64 ranks on a laptop are no use to anybody, but containers and tests have as many; and what rank 0 holds for each
rank and each task shows here. Its peak of resident memory is its own word (proc(5)) at its end; bare
is a program that only imports mpi4py and exchanges one message with each rank. The rate has no bar: it is that of
the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

_RANKS = 64


def rank(out: str, file: str | None) -> int:
    """One rank of the job: ``hs mpi FILE``, or bare; rank 0 writes its peak of memory, in MiB, to `out`."""
    number = os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]  # MPI has ended when it is asked
    if file is None:
        from mpi4py import MPI

        _greet(MPI)
        status = 0
    else:
        from hypershell.__main__ import main as run

        status = run(["mpi", file])
    if number == "0":
        from benchmarks.shared import resident

        Path(out).write_text(json.dumps(resident()), encoding="ascii")
    return status


def _greet(mpi: Any) -> None:
    comm, buffer = mpi.COMM_WORLD, bytearray(100)
    if comm.Get_rank():
        comm.Send([buffer, 100, mpi.BYTE], 0)
        comm.Recv([buffer, 100, mpi.BYTE], 0)
        return
    for _ in range(1, comm.Get_size()):
        comm.Recv([buffer, 100, mpi.BYTE], mpi.ANY_SOURCE)
    for peer in range(1, comm.Get_size()):
        comm.Send([buffer, 100, mpi.BYTE], peer)


def once(ranks: int, tasks: int | None) -> tuple[float, float]:
    """A job of so many `ranks`: seconds, and MiB of rank 0; bare without `tasks`."""
    from benchmarks.shared import mpi_command, place, timed, verify

    with place() as at:
        out = at.folder / "peak.json"
        argv = [sys.executable, str(Path(__file__).resolve()), "--rank", str(out)]
        if tasks is not None:
            argv.append(at.lines(["true"] * tasks))
        seconds = timed(mpi_command(ranks, argv), at)
        if tasks is not None:
            verify(at, tasks)
        return seconds, float(json.loads(out.read_text(encoding="ascii")))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowded", description=__doc__)
    parser.add_argument("--ranks", type=int, default=_RANKS, help="default: %(default)s")
    parser.add_argument("--tasks", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of jobs (default: %(default)s)")
    parser.add_argument("--rank", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.rank:
        return rank(given.rank[0], given.rank[1] if len(given.rank) > 1 else None)
    from benchmarks.report import report
    from benchmarks.shared import judged, plain

    beyond, rates = [], []
    for _ in range(given.rounds):
        empty, bare = once(given.ranks, None)
        seconds, full = once(given.ranks, given.tasks)
        beyond.append(full - bare)
        rates.append(given.tasks / max(seconds - empty, 1e-3))
    note = f"{given.ranks} ranks, {given.tasks:,} tasks"
    report(
        "crowded",
        [
            judged("rank0_mib", beyond, note),
            plain("crowded", "many ranks on these cores", "tasks/s", rates, f"{note}, without the bare start"),
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
