"""The database thread: order, durability, back-pressure, retries, and how it ends."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hypershell.core.actions import Finish, LoadMore, Record
from hypershell.core.events import Durable, StoreFailed, StoreResumed, StoreStalled, TasksLoaded, WorkFound
from hypershell.core.model import Submission, Task
from hypershell.data.memory import MemoryStore, MemoryWriter
from hypershell.data.notices import Notice, Opened, Plan, Told, Tuning, WriterLike
from hypershell.data.store import Fenced, Refused, RunInfo, Store, Transient, describe_run, sqlite_store
from hypershell.data.writer import Writer
from hypershell.errors import StoreError
from hypershell.ids import IdSource

NOW = 1_795_345_284.25
IDS = IdSource()
DONE = Finish(1, 0, 0, 0, "complete")
N = TypeVar("N")
PATIENCE = 30.0


def new_run() -> RunInfo:
    words: dict[str, Any] = {"transport": "loopback", "job": None, "command": "hs", "cwd": "/"}
    return describe_run(IDS.task(), ranks=1, slots=1, start_time=NOW, **words)


def new_submission() -> Submission:
    return Submission(IDS.submission(), "file", "/in/tasks", "{}", "{}", "/", "me", "here", NOW)


class Driver:
    """A writer, and what it has said so far."""

    def __init__(self, make: Callable[[RunInfo, Plan, Callable[[], None]], WriterLike], plan: Plan) -> None:
        self.waked = threading.Event()
        self.heard: list[Notice] = []
        self.plan = plan
        self.writer = make(new_run(), plan, self.waked.set)
        self.writer.start()

    def until(self, kind: type[N], accept: Callable[[N], bool] = lambda notice: True) -> N:
        """The first notice of a kind that is acceptable; waits for it."""
        at = 0
        while True:
            self.heard += self.writer.poll()
            for notice in self.heard[at:]:
                if isinstance(notice, kind) and accept(notice):
                    return notice
            at = len(self.heard)
            assert self.waked.wait(PATIENCE), self.heard
            self.waked.clear()

    def durable(self, seq: int) -> None:
        self.until(Durable, lambda notice: notice.seq >= seq)

    def finish(self) -> list[Notice]:
        self.writer.finish(DONE)
        assert self.writer.join(PATIENCE)
        assert self.writer.ended
        self.heard += self.writer.poll()
        return self.heard

    def tasks(self, count: int, group: int = 0) -> list[Task]:
        assert self.plan.submission is not None
        number = self.plan.submission.id
        return [Task(IDS.task(), f"echo {n}", number, group=group, submit_time=NOW) for n in range(count)]


def threaded(make: Callable[[], Store], tuning: Tuning | None = None) -> Callable[..., WriterLike]:
    return lambda run, plan, wake: Writer(make, run, plan, wake, tuning)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "main.db"


@pytest.fixture(params=["memory", "sqlite"])
def driver(request: pytest.FixtureRequest, path: Path) -> Driver:
    make = MemoryWriter if request.param == "memory" else threaded(sqlite_store(path))
    return Driver(make, Plan(new_submission()))


def query(path: Path, text: str) -> Any:
    with closing(sqlite3.connect(path)) as link:
        return link.execute(text).fetchall()


def test_it_opens_with_the_submission(driver: Driver) -> None:
    opened = driver.until(Opened)
    assert (opened.submissions, opened.resumed, opened.left_alone) == ([driver.plan.submission], None, 0)
    driver.finish()


def test_a_load_sees_all_records_before_it(driver: Driver) -> None:
    tasks = driver.tasks(30)
    for n, task in enumerate(tasks, 1):
        driver.writer.submit(Record(n, inserted=[task]))
    driver.writer.load(LoadMore(0, 20))
    driver.writer.load(LoadMore(0, 20))
    first = driver.until(TasksLoaded)
    second = driver.until(TasksLoaded, lambda notice: notice.exhausted)
    assert [task.id for task in first.tasks + second.tasks] == [task.id for task in tasks]
    kinds = [type(notice) for notice in driver.finish()]
    assert Durable in kinds[: kinds.index(TasksLoaded)]


def test_every_record_becomes_durable_in_order(driver: Driver) -> None:
    for n in range(1, 101):
        driver.writer.submit(Record(n, inserted=driver.tasks(3)))
    told = [notice.seq for notice in driver.finish() if isinstance(notice, Durable)]
    assert told == sorted(told)
    assert told[-1] == 100
    assert driver.writer.backlog == 0


def test_a_single_record_is_committed_without_being_asked(driver: Driver) -> None:
    driver.writer.submit(Record(1, inserted=driver.tasks(1)))
    driver.durable(1)
    driver.finish()


@pytest.mark.parametrize("again", [False, True])
def test_hurry_commits_what_would_wait(path: Path, again: bool) -> None:
    driver = Driver(threaded(sqlite_store(path), Tuning(batch_age=10 * PATIENCE)), Plan(new_submission()))
    driver.until(Opened)
    driver.writer.submit(Record(1, inserted=driver.tasks(1)))
    driver.writer.hurry()
    driver.durable(1)
    if again:
        driver.writer.submit(Record(2, inserted=driver.tasks(1)))
        driver.writer.submit(Record(3, inserted=driver.tasks(1)))
        driver.writer.hurry()
        driver.durable(3)
    driver.finish()


def test_a_large_batch_does_not_wait_for_its_age(path: Path) -> None:
    tuning = Tuning(batch_age=10 * PATIENCE, batch_rows=50)
    driver = Driver(threaded(sqlite_store(path), tuning), Plan(new_submission()))
    driver.until(Opened)
    for n in range(1, 51):
        driver.writer.submit(Record(n, inserted=driver.tasks(1)))
    driver.durable(50)
    driver.finish()


def test_the_end_of_the_run_is_recorded(path: Path) -> None:
    driver = Driver(threaded(sqlite_store(path)), Plan(new_submission()))
    driver.writer.submit(Record(1, inserted=driver.tasks(5)))
    driver.writer.finish(Finish(3, 1, 2, 4, "drained"))
    assert driver.writer.join(PATIENCE)
    text = "SELECT outcome, succeeded, failed, unfinished, end_time IS NOT NULL FROM run"
    assert query(path, text) == [("drained", 3, 1, 6, 1)]
    assert query(path, "SELECT count(*) FROM task") == [(5,)]


class Stubborn(MemoryStore):
    """Fails to write until it is told to work."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(keep=True)
        self.error = error
        self.failing = True
        self.tried = threading.Semaphore(0)
        self.written: list[int] = []

    def apply(self, records: Sequence[Record]) -> None:
        if self.failing:
            self.tried.release()
            raise self.error
        self.written += [record.seq for record in records]
        super().apply(records)


def test_what_may_pass_is_tried_again_and_nothing_is_acknowledged_meanwhile() -> None:
    store = Stubborn(Transient("database x is locked"))
    driver = Driver(threaded(lambda: store, Tuning(tell_after=0.0)), Plan(new_submission()))
    for n in range(1, 6):
        driver.writer.submit(Record(n, inserted=driver.tasks(1)))
    for _ in range(3):
        assert store.tried.acquire(timeout=PATIENCE)
    driver.heard += driver.writer.poll()
    assert not any(isinstance(notice, Durable) for notice in driver.heard)
    store.failing = False
    driver.durable(5)
    heard = driver.finish()
    assert store.written == [1, 2, 3, 4, 5]
    assert [notice.level for notice in heard if isinstance(notice, Told)] == ["warning", "info"]
    turns = [type(notice) for notice in heard if isinstance(notice, StoreStalled | StoreResumed)]
    assert turns == [StoreStalled, StoreResumed]


def test_it_gives_up_after_a_while_and_says_so() -> None:
    store = Stubborn(Transient("database x is full"))
    driver = Driver(threaded(lambda: store, Tuning(give_up=0.0)), Plan(new_submission()))
    driver.writer.submit(Record(1, inserted=driver.tasks(1)))
    assert "database x is full (gave up" in driver.until(StoreFailed).reason
    assert driver.writer.join(PATIENCE)
    assert isinstance(driver.writer.error, StoreError)
    driver.writer.submit(Record(2, inserted=driver.tasks(1)))
    assert not any(isinstance(notice, Durable) for notice in driver.heard + driver.writer.poll())


@pytest.mark.parametrize("error", [Fenced("another server took over"), StoreError("damaged"), ValueError("a bug")])
def test_what_cannot_pass_ends_it_at_once(error: Exception) -> None:
    store = Stubborn(error)  # type: ignore[arg-type]
    driver = Driver(threaded(lambda: store), Plan(new_submission()))
    driver.writer.submit(Record(1, inserted=driver.tasks(1)))
    assert str(error) in driver.until(StoreFailed).reason
    assert driver.writer.join(PATIENCE)
    assert type(driver.writer.error) is (type(error) if isinstance(error, StoreError) else StoreError)


def test_a_store_that_cannot_be_opened_is_told() -> None:
    def make() -> Store:
        raise StoreError("database /x cannot be opened")

    driver = Driver(threaded(make), Plan(new_submission()))
    assert driver.until(StoreFailed).reason == "database /x cannot be opened"
    driver.finish()


def test_the_feed_pauses_between_high_and_low_water() -> None:
    store = Stubborn(Transient("locked"))
    driver = Driver(threaded(lambda: store, Tuning(high=100, low=40)), Plan(new_submission()))
    driver.writer.submit(Record(1, inserted=driver.tasks(99)))
    assert not driver.writer.full
    driver.writer.submit(Record(2, inserted=driver.tasks(1)))
    assert driver.writer.full
    assert driver.writer.backlog == 100
    store.failing = False
    driver.durable(2)
    assert not driver.writer.full
    driver.finish()


class Slow(MemoryStore):
    """Writes only when it is let; notes how many records came together."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.sizes: list[int] = []

    def apply(self, records: Sequence[Record]) -> None:
        assert self.gate.acquire(timeout=PATIENCE)
        self.sizes.append(len(records))
        super().apply(records)


def test_what_piles_up_is_committed_together_up_to_the_size() -> None:
    store = Slow()
    driver = Driver(threaded(lambda: store, Tuning(batch_rows=20)), Plan(new_submission()))
    for n in range(1, 12):
        driver.writer.submit(Record(n, inserted=driver.tasks(10)))
    for _ in range(11):
        store.gate.release()
    driver.finish()
    assert sum(store.sizes) == 11
    assert max(store.sizes) <= 2


def test_a_restart_tells_what_it_found_before_it_is_open(path: Path) -> None:
    submission = new_submission()
    first = Driver(threaded(sqlite_store(path)), Plan(submission))
    first.writer.submit(Record(1, inserted=first.tasks(7) + first.tasks(2, group=3)))
    first.finish()
    second = Driver(threaded(sqlite_store(path)), Plan(new_submission(), restart=True))
    assert second.until(WorkFound).pending == {0: 7, 3: 2}
    opened = second.until(Opened)
    assert opened.submissions == [submission]
    assert opened.resumed is not None
    assert opened.resumed.submission == submission.id
    second.finish()


_KILLED = """
import sys, threading, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_data_writer import Driver, Plan, Record, new_submission, sqlite_store, threaded
from hypershell.core.events import Durable
driver = Driver(threaded(sqlite_store(Path(sys.argv[1]))), Plan(new_submission()))
count = 0
while True:
    tasks = driver.tasks(5)
    count += 1
    driver.writer.submit(Record(count, inserted=tasks))
    for task in tasks:
        print("sent", count, task.id)
    for notice in driver.writer.poll():
        if isinstance(notice, Durable):
            print("durable", notice.seq)
    sys.stdout.flush()
"""


@pytest.mark.parametrize("acknowledgements", [1, 3, 10])
def test_what_was_acknowledged_survives_kill_nine(path: Path, acknowledgements: int) -> None:
    here = str(Path(__file__).resolve().parent)
    child = subprocess.Popen([sys.executable, "-c", _KILLED, str(path), here], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    sent: dict[int, list[str]] = {}
    durable = 0
    for line in child.stdout:
        word, number, *rest = line.split()
        if word == "sent":
            sent.setdefault(int(number), []).append(rest[0])
            continue
        durable = int(number)
        acknowledgements -= 1
        if not acknowledgements:
            break
    child.kill()
    child.stdout.close()
    child.wait()
    there = {row[0] for row in query(path, "SELECT id FROM task")}
    assert durable > 0
    for number, keys in sent.items():
        if number <= durable:
            assert there.issuperset(keys)
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


_FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_data_writer import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tuning = Tuning(give_up=0.2, tell_after=0.0)
driver = Driver(threaded(sqlite_store(Path(sys.argv[1])), tuning), Plan(new_submission()))
driver.until(Opened)
driver.writer.submit(Record(1, inserted=driver.tasks(10)))
driver.durable(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
driver.writer.submit(Record(2, inserted=driver.tasks(20_000)))
print("failed:", driver.until(StoreFailed).reason)
print("durable:", max(notice.seq for notice in driver.heard if isinstance(notice, Durable)))
print("told:", sum(isinstance(notice, Told) for notice in driver.heard))
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(path: Path) -> None:
    here = str(Path(__file__).resolve().parent)
    done = subprocess.run([sys.executable, "-c", _FULL, str(path), here], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"failed: database {path} "), done.stderr
    assert lines[1:] == ["durable: 1", "told: 1"]
    assert query(path, "SELECT count(*) FROM task") == [(10,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_plan_that_asks_writes_nothing_until_it_is_accepted(path: Path) -> None:
    tuning = Tuning(batch_age=0.0, beat=0.01)
    driver = Driver(threaded(sqlite_store(path), tuning), Plan(new_submission(), asks=True))
    driver.until(Opened)
    driver.writer.submit(Record(1, inserted=driver.tasks(1)))
    driver.writer.hurry()
    beats = query(path, "SELECT counter FROM run")
    while query(path, "SELECT counter FROM run") == beats:
        pass  # it lives, and does not write
    assert query(path, "SELECT * FROM task") == []
    driver.writer.accept()
    driver.durable(1)
    driver.finish()
    assert query(path, "SELECT outcome FROM run") == [("complete",)]


def test_a_plan_that_is_refused_leaves_nothing_behind(path: Path) -> None:
    driver = Driver(threaded(sqlite_store(path)), Plan(new_submission(), asks=True))
    driver.until(Opened)
    driver.writer.submit(Record(1, inserted=driver.tasks(1)))
    driver.writer.refuse(StoreError("not like this"))
    assert driver.until(StoreFailed).reason == "not like this"
    assert driver.writer.join(PATIENCE) and isinstance(driver.writer.error, Refused)
    assert query(path, "SELECT * FROM run") == query(path, "SELECT * FROM task") == []


def test_a_plan_that_asks_ends_without_an_answer(path: Path) -> None:
    driver = Driver(threaded(sqlite_store(path)), Plan(new_submission(), asks=True))
    driver.until(Opened)
    driver.finish()
    assert query(path, "SELECT outcome FROM run") == [("complete",)]
