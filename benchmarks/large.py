"""Does a large database cost? Choosing the next bundle at 1,000 to 10,000,000 rows, and looking at the largest.

One database for each power of ten, half of it pending. A bundle is what a server loads next from the store in which
it took over that submission: loads at all sizes take turns. Then commands look at the largest database, each as a
whole process, and one of them sees its reader go away: ``hs list | head``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import report
from benchmarks.rows import fill, task_id
from benchmarks.shared import BUDGETS, HS, Place, judged, place, plain, timed

#: The smallest database that is measured.
_LEAST = 1_000
#: Tasks of one load, and loads of one round: together fewer than the smallest database has.
_BUNDLE, _LOADS = 32, 12


def sizes(largest: int) -> list[int]:
    """Powers of ten from the smallest to the largest database, and that."""
    found = [_LEAST]
    while found[-1] * 10 < largest:
        found.append(found[-1] * 10)
    return [*found, largest] if largest > _LEAST else [largest]


@contextmanager
def store_of(path: Path) -> Iterator[Any]:
    """The store of a server that has taken over what is in the database."""
    from hypershell.data.store import describe_run, sqlite_store
    from hypershell.ids import IdSource

    store = sqlite_store(path)()
    store.open()
    try:
        run = describe_run(
            IdSource().task(), transport="loopback", ranks=1, slots=2, job=None, command="", cwd="/", start_time=0.0
        )
        store.begin_run(run)
        store.take(store.claims(None))
        yield store
    finally:
        store.close()


def load_time(path: Path, rows: int) -> float:
    """Microseconds for each task of loading bundle after bundle; after the first, which compiles the statement."""
    with store_of(path) as store:
        store.load(0, _BUNDLE)
        begun = time.perf_counter()
        found = sum(len(store.load(0, _BUNDLE)[0]) for _ in range(_LOADS))
        spent = time.perf_counter() - begun
    if found != _LOADS * _BUNDLE:
        raise SystemExit(f"large: {found} tasks were loaded of {_LOADS * _BUNDLE} at {rows} rows")
    return spent / found * 1e6


def until_closed(at: Place) -> float:
    """Seconds of ``hs list | head -n 5``, from the start to the end of both."""
    begun = time.perf_counter()
    lister = subprocess.Popen(
        [*HS, "list", "id", "args"],
        cwd=at.folder,
        env=at.environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    head = subprocess.Popen(["head", "-n", "5"], stdin=lister.stdout, stdout=subprocess.PIPE)
    assert lister.stdout is not None
    lister.stdout.close()
    lines = head.communicate()[0].splitlines()
    lister.wait()
    seconds = time.perf_counter() - begun
    if len(lines) != 5:
        raise SystemExit(f"large: hs list | head gave {len(lines)} lines")
    return seconds


def looks(rows: int) -> dict[str, tuple[str, list[str]]]:
    """Key: what is asked, and the arguments of ``hs``."""
    return {
        "large_newest": ("hs list of the newest tasks", ["list", "-s", "id", "--desc", "-l", "20"]),
        "large_info": ("hs info ID", ["info", task_id(rows // 3)]),
        "large_count": ("hs list --count", ["list", "--count"]),
        "large_failed": ("hs list -F --count", ["list", "-F", "--count"]),
        "large_page": ("hs list -F, the first 20", ["list", "id", "args", "-F", "-l", "20"]),
        "large_all_failed": ("hs list -F, all of them", ["list", "id", "-F"]),
        "large_where": ("hs list --count of a condition", ["list", "--count", "-w", "exit_status == 1"]),
    }


def bundles(at: Place, among: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Load bundles from databases of every size; one row for each, and how much they differ."""
    spent: dict[int, list[float]] = {rows: [] for rows in among}
    for number in range(rounds):
        for rows in among if number % 2 == 0 else reversed(among):
            spent[rows].append(load_time(database_of(at, rows), rows))
    middle = {rows: statistics.median(times) for rows, times in spent.items()}
    ratio = max(middle.values()) / min(middle.values())
    note = f"{among[0]:,} to {among[-1]:,} rows, {rounds} rounds"
    each = [plain(f"bundle_{rows}", f"next bundle at {rows:,} rows", "us/task", spent[rows]) for rows in among]
    return [judged("bundle_flat", [ratio], note), *each]


def database_of(at: Place, rows: int) -> Path:
    return at.folder / f"{rows}.db"


def measure(rows: int, rounds: int, loads: int) -> list[dict[str, Any]]:
    among = sizes(rows)
    with place() as at:
        begun = time.perf_counter()
        for size in among:
            fill(database_of(at, size), size)
        made = time.perf_counter() - begun
        told = bundles(at, among, loads)
        at.database.parent.mkdir(parents=True)
        database_of(at, rows).rename(at.database)
        seconds: dict[str, list[float]] = {key: [] for key in ("large_head", *looks(rows))}
        for _ in range(rounds):
            seconds["large_head"].append(until_closed(at))
            for key, (_, args) in looks(rows).items():
                seconds[key].append(timed([*HS, *args], at))
    note = f"{rows:,} rows"
    for key, times in seconds.items():
        label = looks(rows)[key][0] if key in looks(rows) else ""
        told.append(judged(key, times, note) if key in BUDGETS else plain(key, label, "s", times, note))
    return [*told, plain("large_made", "making these databases", "s", [made])]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="the largest database (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of commands (default: %(default)s)")
    parser.add_argument("--loads", type=int, default=21, help="rounds of loads (default: %(default)s)")
    given = parser.parse_args(argv)
    if given.rows < _LEAST:
        parser.error(f"--rows: at least {_LEAST}")
    report("large", measure(given.rows, given.rounds, given.loads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
