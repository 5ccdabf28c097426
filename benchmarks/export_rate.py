"""How many rows per second does ``hs export`` write?

The whole command as a process, start-up and sync included, on a database of tasks that have ended: as HDF5, which
has the bar, and beside it as CSV and JSON lines.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.report import report
from benchmarks.shared import Place, judged, place, plain, timed
from tests.testbed.tables import many_tasks

FORMATS = ("h5", "csv", "jsonl")


def rate(at: Place, ending: str, rows: int) -> float:
    """Rows per second of one export."""
    argv = [sys.executable, "-m", "hypershell", "export", f"tasks.{ending}", "--force"]
    return rows / timed(argv, at)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export_rate", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    given = parser.parse_args()
    with place() as at:
        at.database.parent.mkdir(parents=True)
        many_tasks(at.database, given.rows)
        rates: dict[str, list[float]] = {ending: [] for ending in FORMATS}
        for _ in range(given.rounds):
            for ending in FORMATS:
                rates[ending].append(rate(at, ending, given.rows))
    note = f"{given.rows:,} rows"
    others = [
        plain(f"export_{ending}", f"hs export to {ending}", "rows/s", rates[ending], note)
        for ending in ("csv", "jsonl")
    ]
    report("export_rate", [judged("export", rates["h5"], note), *others])
    return 0


if __name__ == "__main__":
    sys.exit(main())
