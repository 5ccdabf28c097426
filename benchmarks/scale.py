"""Does size cost? Memory of the server for an input of many lines, and its rate when the database is already big.

Each run is a process of its own: the server of ``benchmarks.server_rate`` with its null clients. The first reads an
input of LINES lines into an empty database; its peak of resident memory is told. That database, then full of
finished tasks, is the big one: runs of TASKS tasks on it and on an empty one take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import report
from benchmarks.shared import Place, judged, place, plain, resident

_CLIENTS, _SLOTS = 10, 2
#: The whole length that the budget names.
_FULL = 10_000_000


def serve(file: str, database: str) -> dict[str, float]:
    """In a process of its own: one run; its seconds and its peak of memory in MiB."""
    from benchmarks.server_rate import NullClients
    from hypershell import reactor
    from hypershell.server.run import Place as Where
    from hypershell.server.run import Run
    from hypershell.settings import RunSettings

    poller = reactor.Poller()
    where = Where(transport="loopback", ranks=1, clients=_CLIENTS, slots=_SLOTS, host="null")
    run = Run(poller, NullClients(_CLIENTS), RunSettings(file=file, db=database), where, ["cluster"])
    begun = time.perf_counter()
    run.start()
    reactor.run(poller, [run.server])
    status = run.close()
    seconds = time.perf_counter() - begun
    if status:
        raise SystemExit(f"scale: the run ended with status {status}")
    return {"seconds": seconds, "peak": resident()}


def once(at: Place, file: str, database: str) -> dict[str, float]:
    """`serve` in a new process, in `at`."""
    argv = [sys.executable, "-m", "benchmarks.scale", "--serve", file, str(at.folder / database)]
    done = subprocess.run(argv, cwd=at.folder, env=at.environ(), stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def write_lines(at: Place, name: str, count: int) -> str:
    """A task file, written line by line: millions of lines need not fit into our memory."""
    with open(at.folder / name, "w", encoding="utf-8") as target:
        target.writelines(f"./program --case {number}\n" for number in range(count))
    return name


def pairs(at: Place, tasks: int, rounds: int) -> tuple[list[float], list[float]]:
    """Rates on the big and on an empty database; every second pair begins with the empty one.

    The big one grows by TASKS rows in each round. The empty one is a copy of a database that holds one task, so
    that neither run creates tables.
    """
    name = write_lines(at, "some.in", tasks)
    once(at, write_lines(at, "one.in", 1), "template.db")
    big: list[float] = []
    empty: list[float] = []
    for number in range(rounds):
        fresh = f"empty-{number}.db"
        shutil.copyfile(at.folder / "template.db", at.folder / fresh)
        turns = [("big.db", big), (fresh, empty)]
        for database, rates in turns if number % 2 == 0 else reversed(turns):
            rates.append(tasks / once(at, name, database)["seconds"])
        (at.folder / fresh).unlink()
    return big, empty


def measure(lines: int, tasks: int, rounds: int) -> list[dict[str, Any]]:
    with place() as at:
        tenth = once(at, write_lines(at, "tenth.in", max(1, lines // 10)), "tenth.db")
        whole = once(at, write_lines(at, "whole.in", lines), "big.db")
        big, empty = pairs(at, tasks, rounds)
    size = f"{lines:,}"
    ratios = [one / other for one, other in zip(big, empty, strict=True)]
    return [
        judged("big_database", ratios, f"{size} rows, runs of {tasks:,} tasks"),
        judged("server_memory", [whole["peak"]], f"peak RSS, {size} lines"),
        plain("memory_tenth", "server memory, a tenth of the lines", "MiB", [tenth["peak"]], "peak RSS"),
        plain("rate_whole", "server alone, the whole input", "tasks/s", [lines / whole["seconds"]]),
        plain("rate_big", "server alone, big database", "tasks/s", big),
        plain("rate_empty", "server alone, empty database", "tasks/s", empty),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines, then rows (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks of a run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help=f"{_FULL:,} lines, whatever --lines says")
    parser.add_argument("--serve", nargs=2, metavar=("FILE", "DB"), help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.serve:
        print(json.dumps(serve(*given.serve)))
        return 0
    report("scale", measure(_FULL if given.full else given.lines, given.tasks, given.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
