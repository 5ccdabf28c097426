"""How many rows per second does the writer commit while the main thread is busy?

The main thread computes without pause, as a server under load does; beside it the database thread commits. Rows of
the table: how rows are sent (one at a time with ``executemany``, or many with one statement), the work (tasks that
are only inserted; inserted, loaded, dispatched and finished; the same within one commit), the main thread idle or
busy, and the switch interval of the interpreter. ``cpu`` is the CPU time of the database thread per task, measured
beside an idle main thread; ``main's share`` is how much of its speed a busy main thread keeps.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import report
from hypershell.core.actions import ClientChange, Dispatch, Finish, Finished, LoadMore, Record
from hypershell.core.events import Durable, TasksLoaded
from hypershell.core.model import ClientInfo, Result, Submission, Task
from hypershell.core.states import SUCCEEDED
from hypershell.data.notices import Opened, Plan, Tuning
from hypershell.data.store import describe_run, sqlite_store
from hypershell.data.writer import Writer
from hypershell.ids import IdSource

BUNDLE = 64


class Spinner:
    """Pure Python work in the main thread: how much of it is done tells what the database thread takes away."""

    def __init__(self) -> None:
        self.turns = 0

    def until(self, done: threading.Event, busy: bool) -> float:
        """Work (or wait) until `done`; the seconds that it took."""
        begin = time.perf_counter()
        if not busy:
            done.wait()
            return time.perf_counter() - begin
        while not done.is_set():
            for _ in range(1000):
                pass
            self.turns += 1
        return time.perf_counter() - begin


def spin_rate() -> float:
    """Turns per second of a spinner that is alone."""
    spinner, done = Spinner(), threading.Event()
    timer = threading.Timer(1.0, done.set)
    timer.start()
    seconds = spinner.until(done, True)
    timer.join()
    return spinner.turns / seconds


def plain(path: Path, rows: int, many: bool) -> Callable[[], None]:
    """A bare ``sqlite3`` insert of `rows` narrow rows: the two ways of sending them."""
    values = [(f"{n:036d}", 0, f"echo {n}", "pending") for n in range(rows)]

    def work() -> None:
        link = sqlite3.connect(path, isolation_level=None)
        link.execute("PRAGMA journal_mode=WAL")
        link.execute("CREATE TABLE t (id TEXT PRIMARY KEY, g INTEGER, args TEXT, state TEXT)")
        link.execute("BEGIN")
        if many:
            text = "INSERT INTO t VALUES " + ", ".join(["(?, ?, ?, ?)"] * 500)
            for start in range(0, rows - rows % 500, 500):
                link.execute(text, [value for row in values[start : start + 500] for value in row])
        else:
            link.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", values)
        link.execute("COMMIT")
        link.close()

    return work


def measure_plain(folder: Path, many: bool, busy: bool, interval: float, rows: int, rate: float) -> dict[str, Any]:
    work = plain(folder / f"plain-{time.perf_counter_ns()}.db", rows, many)
    done, spinner = threading.Event(), Spinner()
    seconds = 0.0

    def run() -> None:
        nonlocal seconds
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
        done.set()

    thread = threading.Thread(target=run)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    thread.start()
    spent = spinner.until(done, busy)
    thread.join()
    sys.setswitchinterval(usual)
    label = "sqlite3, rows of 500" if many else "sqlite3, executemany"
    return _line(
        label, "insert", busy, interval, rows / seconds, None, spinner.turns / spent / rate if busy else None
    )


def make_records(submission: int, rows: int, work: str) -> list[Record | LoadMore]:
    """What a scheduler would send: bundles of tasks, in the order of the work."""
    ids, now = IdSource(), time.time()
    info = ClientInfo("client", "host", 1, 2, "0", "linux")
    tasks = [Task(ids.task(), f"echo {n}", submission, submit_time=now) for n in range(rows)]
    items: list[Record | LoadMore] = [Record(1, clients=[ClientChange(1, info, now)])]
    bundles = [tasks[start : start + BUNDLE] for start in range(0, rows, BUNDLE)]
    for bundle in bundles:
        items.append(Record(len(items) + 1, inserted=bundle))
        if work == "at once":
            items += _life(bundle, now, len(items))
    if work == "insert, load, finish":
        items += [LoadMore(0, 4096) for _ in range(rows // 4096 + 1)]
        for bundle in bundles:
            items += _life(bundle, now, len(items))
    return items


def _life(bundle: list[Task], now: float, seq: int) -> list[Record]:
    dispatched = [Dispatch(task.id, 1, 1, now) for task in bundle]
    finished = [
        Finished(1, SUCCEEDED, now, Result(task.id, 1, 0, now, now + 0.01, utime=0.001), None, task)
        for task in bundle
    ]
    return [Record(seq + 1, dispatched=dispatched), Record(seq + 2, finished=finished)]


def measure_writer(folder: Path, work: str, busy: bool, interval: float, rows: int, rate: float) -> dict[str, Any]:
    """The real writer, fed as fast as it lets itself be fed."""
    ids = IdSource()
    submission = Submission(ids.submission(), "file", "/in", "{}", "{}", "/", "me", "here", time.time())
    run = describe_run(
        ids.task(), transport="none", ranks=1, slots=1, job=None, command="", cwd="/", start_time=time.time()
    )
    path = folder / f"writer-{time.perf_counter_ns()}.db"
    waked = threading.Event()
    tuning = Tuning(switch_interval=interval)
    writer = Writer(sqlite_store(path), run, Plan(submission), waked.set, tuning)
    items = make_records(submission.id, rows, work)
    last = max(item.seq for item in items if isinstance(item, Record))
    loads = sum(isinstance(item, LoadMore) for item in items)
    done, opened, spinner = threading.Event(), threading.Event(), Spinner()

    def listen() -> None:
        answers, durable = 0, 0
        while answers < loads or durable < last:
            waked.wait()
            waked.clear()
            for notice in writer.poll():
                if isinstance(notice, Opened):
                    opened.set()
                elif isinstance(notice, Durable):
                    durable = notice.seq
                elif isinstance(notice, TasksLoaded):
                    answers += 1
        done.set()

    listener = threading.Thread(target=listen)
    listener.start()
    writer.start()
    opened.wait()
    cpu, begin = time.process_time(), time.perf_counter()
    for item in items:
        if isinstance(item, Record):
            writer.submit(item)
        else:
            writer.load(item)
    fed = time.perf_counter() - begin
    spent = spinner.until(done, busy)
    seconds = time.perf_counter() - begin
    used = time.process_time() - cpu
    writer.finish(Finish(rows, 0, 0, 0, "complete"))
    writer.join()
    listener.join()
    share = spinner.turns / spent / rate if busy else None
    per_row = None if busy else (used - fed) / rows * 1e6
    return _line("writer", work, busy, interval, rows / seconds, per_row, share)


def _line(
    how: str, work: str, busy: bool, interval: float, rate: float, cpu: float | None, share: float | None
) -> dict[str, Any]:
    return {
        "how": how,
        "work": work,
        "main thread": "busy" if busy else "idle",
        "switch interval, ms": interval * 1000,
        "tasks/s": round(rate),
        "cpu, us/task": "" if cpu is None else round(cpu, 1),
        "main's share": "" if share is None else f"{min(share, 1.0):.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rate = spin_rate()
    usual = sys.getswitchinterval()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases: list[Callable[[], dict[str, Any]]] = []
        for many in (False, True):
            for busy, interval in ((False, usual), (True, usual), (True, 1e-4)):
                slow = not many and busy
                count = 2_000 if slow else given.rows
                cases.append(lambda m=many, b=busy, i=interval, n=count: measure_plain(folder, m, b, i, n, rate))
        for work in ("insert", "insert, load, finish", "at once"):
            for busy, interval in ((False, usual), (True, usual), (True, 1e-3), (True, 1e-4)):
                cases.append(lambda w=work, b=busy, i=interval: measure_writer(folder, w, b, i, given.rows, rate))
        for case in cases:
            rounds = [case() for _ in range(given.rounds)]
            middle = statistics.median_low([line["tasks/s"] for line in rounds])
            lines.append(next(line for line in rounds if line["tasks/s"] == middle))
    sys.setswitchinterval(usual)
    report("writer_rate", lines)


if __name__ == "__main__":
    main()
