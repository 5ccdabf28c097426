"""How short may tasks be before ranks wait for rank 0? The minimum effective task granularity (METG).

A job of N ranks in virtual time (`benchmarks.fleet`). METG(50 %) is the length of tasks at which ranks are busy for
half of the time (Slaughter et al., "Task Bench", SC20); short of it a job is limited by rank 0, not by its tasks.
Busy is the share of time in which tasks run, from when a quarter of all tasks has begun to when 85 % have.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from benchmarks.fleet import Shape, simulate
from benchmarks.report import report
from benchmarks.shared import BUDGETS

#: Tasks last between these shares of the length in question.
SPREAD = (0.8, 1.2)
#: One rank for each core, and the same cores with one rank for each node.
SHAPES = (Shape(10, 1), Shape(100, 1), Shape(1000, 1), Shape(10_000, 1), Shape(8, 125), Shape(80, 125))


def busy(shape: Shape, seconds: float, per_slot: int) -> float:
    """The share of time for which slots are busy with tasks of `seconds`."""
    tasks = max(shape.ranks * shape.slots * per_slot, 2000)
    return simulate(shape, tasks, lambda draw: seconds * draw.uniform(*SPREAD)).busy()


def metg(shape: Shape, share: float, per_slot: int, steps: int) -> float:
    """The shortest tasks, seconds, with which the slots of a job are busy for `share` of the time."""
    length = max(40e-6 * shape.ranks * shape.slots, 2e-3) / (1 - share) / 2
    low = high = 0.0
    while not (low and high):
        if busy(shape, length, per_slot) >= share:
            high, length = length, length / 1.6
        else:
            low, length = length, length * 1.6
    for _ in range(steps):
        length = (low * high) ** 0.5
        if busy(shape, length, per_slot) >= share:
            high = length
        else:
            low = length
    return high


def measure(shape: Shape, per_slot: int, steps: int, judged: bool) -> dict[str, Any]:
    """The row of a job; a `judged` one has bars."""
    row: dict[str, Any] = {"ranks": shape.ranks, "slots": shape.slots}
    for share, key in ((0.5, "metg_half"), (0.95, "metg_most")):
        row[f"metg {share:.0%} (s)"] = float(f"{metg(shape, share, per_slot, steps):.3g}")
        row[f"bar {share:.0%}"] = BUDGETS[key].bar if judged else ""
        row[f"goal {share:.0%}"] = BUDGETS[key].goal if judged else ""
    return row


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metg", description=__doc__)
    parser.add_argument("--shape", type=_shape, action="append", metavar="RANKSxSLOTS")
    parser.add_argument("--per-slot", type=int, default=12, metavar="NUM", help="tasks for each slot")
    parser.add_argument("--steps", type=int, default=3, metavar="NUM", help="halvings of the range that was found")
    parser.add_argument(
        "--at", type=float, metavar="SEC", help="print the busy share of tasks of this length alone"
    )
    given = parser.parse_args(argv)
    shapes = given.shape or SHAPES
    if given.at is None:
        largest = max(shape for shape in shapes if shape.slots == 1)
        rows = [measure(shape, given.per_slot, given.steps, shape == largest) for shape in shapes]
        report("metg", rows)
        return
    for shape in shapes:
        share = busy(shape, given.at, given.per_slot)
        print(f"{shape.ranks:,} ranks of {shape.slots} slots, tasks of {given.at:g} s: {share:.3f} busy")


def _shape(text: str) -> Shape:
    ranks, _, slots = text.partition("x")
    return Shape(int(ranks), int(slots or 1))


if __name__ == "__main__":
    main()
