"""Many seeds, or one again: ``python -m tests.sim --seeds 1000``, ``--seed 7``, ``--large 10000``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.sim.plan import draw, large
from tests.sim.world import SimulationFailed, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="run so many seeds, from --seed on")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first or only seed")
    parser.add_argument("--clients", type=int, default=None, metavar="M", help="clients per run (drawn by default)")
    parser.add_argument("--large", type=int, default=0, metavar="M", help="one run with so many clients")
    parser.add_argument("--digests", type=int, default=0, metavar="N", help="print the digests of so many traces")
    given = parser.parse_args()
    if given.large:
        begun = time.perf_counter()
        outcome = simulate(large(given.seed, given.large))
        print(f"{outcome} in {time.perf_counter() - begun:.1f} s")
        return 0
    if given.digests:
        for seed in range(given.seed, given.seed + given.digests):
            print(simulate(draw(seed, given.clients)).digest)
        return 0
    failed, steps, ends = 0, 0, Counter[str]()
    for seed in range(given.seed, given.seed + max(1, given.seeds)):
        try:
            outcome = simulate(draw(seed, given.clients))
        except SimulationFailed as error:
            print(error, flush=True)
            failed += 1
            continue
        steps += outcome.steps
        ends.update(outcome.ends)
        if not given.seeds:
            print(outcome)
    if given.seeds:
        print(f"{given.seeds} seeds, {failed} failed, {steps} steps, lives ended: {dict(sorted(ends.items()))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
