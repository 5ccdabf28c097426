"""How fast does ``hs submit FILE`` take lines, and does its memory grow with them?

The whole command as a process, start-up and the last sync included, each round into a fresh database: LINES lines,
and a tenth of them, whose memory stands beside it.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from benchmarks.report import report
from benchmarks.scale import write_lines
from benchmarks.shared import HS, Place, judged, place, plain


@dataclass(frozen=True, slots=True)
class Ran:
    """One process: seconds, and its peak of resident memory in MiB."""

    seconds: float
    peak: float


def submit(at: Place, name: str, lines: int) -> Ran:
    """Submit a file of the place into a database that does not exist yet, and remove that.

    The peak is ``ru_maxrss``, which is at least the size of this process; it is smaller than any ``hs submit``.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*HS, "submit", name],
        cwd=at.folder,
        env=at.environ(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"benchmark: hs submit ended with status {process.returncode}: {said[-2000:]}")
    check(at, lines)
    for path in at.database.parent.iterdir():
        path.unlink()
    return Ran(seconds, used.ru_maxrss / 1024)


def check(at: Place, lines: int) -> None:
    """Stop where not every line became a pending task."""
    with closing(sqlite3.connect(at.database)) as link:
        states = dict(link.execute("SELECT state, count(*) FROM task GROUP BY state").fetchall())
    if states != {"pending": lines}:
        raise SystemExit(f"benchmark: {lines} tasks should wait, the database says {states}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.submit_rate", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    given = parser.parse_args(argv)
    tenth = max(1, given.lines // 10)
    with place() as at:
        many, few = write_lines(at, "many.in", given.lines), write_lines(at, "few.in", tenth)
        rounds = [(submit(at, many, given.lines), submit(at, few, tenth)) for _ in range(given.rounds)]
    size = f"{given.lines:,} lines"
    report(
        "submit_rate",
        [
            judged("submit", [given.lines / one.seconds for one, _ in rounds], size),
            judged("submit_memory", [one.peak for one, _ in rounds], f"peak RSS, {size}"),
            judged("submit_flat", [one.peak / other.peak for one, other in rounds], f"{size}, of {tenth:,}"),
            plain("submit_tenth", "hs submit of a tenth", "rows/s", [tenth / one.seconds for _, one in rounds]),
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
