"""Do bundles that adapt keep up with the best fixed size?

64 ranks in virtual time (`benchmarks.fleet`) with tasks of three kinds: about equally long, of two lengths, and
heavy-tailed; and of three means. For each the time until the last task has ended with the best of the fixed sizes
is divided by that with bundles that adapt. Then the same with 64 real ranks, many to a core, whose tasks sleep.
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from random import Random
from statistics import median
from typing import Any

from benchmarks.fleet import Shape, simulate
from benchmarks.report import report
from benchmarks.shared import BUDGETS, HS, mpi_command, place, timed, verify

Length = Callable[[Random], float]

#: Of mean 1.
KINDS: Mapping[str, Length] = {
    "uniform": lambda draw: draw.uniform(0.5, 1.5),
    "bimodal": lambda draw: 5.5 if draw.random() < 0.1 else 0.5,
    "heavy-tailed": lambda draw: min(0.6 * draw.paretovariate(2.5), 50.0),
}
MEANS = (0.003, 0.03, 0.3)
SIZES = (1, 2, 4, 8, 16, 32, 64)
SHAPE = Shape(64, 1)
#: Of tasks of real ranks: long enough that two cores can start them all.
REAL_MEAN = 1.0
REAL_TASKS = 12
REAL_SIZES = (1, 4)
_SPAN = "SELECT (julianday(max(completion_time)) - julianday(min(start_time))) * 86400 FROM task"


def ratio(kind: str, mean: float, per_slot: int, sizes: Sequence[int], rounds: int = 1) -> dict[str, Any]:
    """The row of one kind of tasks with this mean, seconds; of each size the median of so many rounds."""
    draw = KINDS[kind]
    choices = [*sizes, None]
    spans: dict[int | None, list[float]] = {size: [] for size in choices}

    def makespan(size: int | None) -> float:
        return simulate(SHAPE, SHAPE.ranks * per_slot, lambda random: mean * draw(random), size).makespan

    for _ in range(rounds):
        for size in choices:
            spans[size].append(makespan(size))
    return _row(kind, mean, {size: median(spans[size]) for size in sizes}, median(spans[None]))


def _row(kind: str, mean: float, spans: Mapping[int, float], adapting: float) -> dict[str, Any]:
    best = min(spans, key=lambda size: spans[size])
    return {
        "tasks": kind,
        "mean s": mean,
        "best -b": best,
        "its seconds": float(f"{spans[best]:.4g}"),
        "adapting": float(f"{adapting:.4g}"),
        "ratio": float(f"{spans[best] / adapting:.4g}"),
        "bar": BUDGETS["bundles"].bar,
    }


def _rounds(mean: float) -> int:
    """With short tasks our own computing, which is measured, is much of the time."""
    return 5 if mean < 0.01 else 1


def real(kind: str, mean: float, per_slot: int, sizes: Sequence[int]) -> dict[str, Any]:
    """The same with ranks of our MPI on this machine; from the first start of a task to the last end."""
    drawn = Random(per_slot)
    lines = [f"sleep {mean * KINDS[kind](drawn):.4f}" for _ in range(SHAPE.ranks * per_slot)]

    def makespan(size: int | None) -> float:
        with place() as at:
            words = ["mpi", at.lines(lines), *([] if size is None else [f"-b{size}"])]
            timed(mpi_command(SHAPE.ranks + 1, [*HS, *words]), at)
            verify(at, len(lines))
            with closing(sqlite3.connect(at.database)) as link:
                span = link.execute(_SPAN).fetchone()[0]
        return float(span)

    return _row(f"{kind}, real ranks", mean, {size: makespan(size) for size in sizes}, makespan(None))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bundles", description=__doc__)
    parser.add_argument("--per-slot", type=int, default=100, metavar="NUM", help="tasks for each rank")
    parser.add_argument("--quick", action="store_true", help="one size and one mean")
    given = parser.parse_args(argv)
    means, sizes = (MEANS[1:2], SIZES[:1]) if given.quick else (MEANS, SIZES)
    rows = [ratio(kind, mean, given.per_slot, sizes, _rounds(mean)) for kind in KINDS for mean in means]
    if not given.quick:
        rows += [real(kind, REAL_MEAN, REAL_TASKS, REAL_SIZES) for kind in KINDS]
    report("bundles", rows)


if __name__ == "__main__":
    main()
