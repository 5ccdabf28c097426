"""Kept output on its way: bounds in bytes at client and writer, results that somebody waits for, guarded rows."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from msgspec.structs import replace

from hypershell.core import events as ev
from hypershell.core.actions import Finished, Record, Return
from hypershell.core.model import KEPT_MOST, KEPT_WINDOW, Kept, Result, Task
from hypershell.data.memory import MemoryStore
from hypershell.data.notices import Opened, Plan, Tuning
from hypershell.data.store import Transient
from hypershell.executor.machine import Machine
from hypershell.executor.output import Head
from hypershell.executor.reports import KEPT_BUNDLE
from hypershell.executor.vocabulary import (
    Action,
    Exited,
    KeptDurable,
    Report,
    Start,
    StartFailed,
    TimePassed,
    WorkArrived,
)
from hypershell.proto.messages import Context
from hypershell.server.kept import KeptCredit, kept_size
from hypershell.server.terms import Terms, Wishes
from tests.conformance.test_store import SHARED, PostgresSchema, Session, ended, place_of, sent
from tests.test_data_writer import PATIENCE, Driver, Stubborn, new_submission, threaded
from tests.test_executor_machine import make
from tests.testbed.cli import Hs

SOME = Kept(b"out\0\xff", b"", 5, 0)


# -- the wish ------------------------------------------------------------------------------------------------


def test_a_wish_is_an_option_of_the_submission_and_none_leaves_no_trace() -> None:
    assert Wishes.of_options(Terms().to_options(Wishes(True, True))) == Wishes(True, True)
    assert "keep" not in Terms().to_options(Wishes()) and "waited" not in Terms().to_options(Wishes())
    assert Wishes.of_options("{}") == Wishes.of_options('{"capture":true}') == Wishes()
    assert Terms.of_options(Terms(group=3).to_options(Wishes(True))) == Terms(group=3)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_beginning_of_a_stream_is_what_is_kept(extra: int) -> None:
    head = Head()
    head.add(b"x" * (KEPT_MOST - 2))
    head.add(b"y" * (2 + extra))
    head.add(b"")
    assert len(head.data) == KEPT_MOST + min(extra, 0) and head.size == KEPT_MOST + extra


# -- the client ----------------------------------------------------------------------------------------------


def given(machine: Machine, *ids: str, waited_for: bool = False) -> None:
    context = Context(1, b"{}", b"/", "me", "host", True, waited_for)
    machine.handle(WorkArrived([Task(id, f"run {id}", 1, 1) for id in ids], [context]), 0.0)


def exited(id: str, size: int, status: int = 0) -> Exited:
    return Exited(id, status, 1.0, 2.0, kept=Kept(bytes(size), b"", size, 0))


def reported(actions: list[Action]) -> list[list[str]]:
    return [[result.id for result in action.results] for action in actions if isinstance(action, Report)]


def test_results_go_back_when_their_output_is_large() -> None:
    machine = make()
    given(machine, *"abcdefghijklmnopqrstuvwxyz")
    half = KEPT_BUNDLE // 2
    assert reported(machine.handle(exited("a", half - 1), 1.0)) == []
    assert reported(machine.handle(exited("b", half), 1.0)) == []
    assert reported(machine.handle(exited("c", 1), 1.0)) == [["a", "b", "c"]]
    assert reported(machine.handle(exited("d", half), 1.0)) == []


def test_no_message_has_more_than_a_bundle_and_one_result() -> None:
    """Tasks whose end is not understood yet come to their result all at once."""
    machine = make(slots=6)
    given(machine, *"abcdefghijklmnopqrstuvwxyz")
    half = KEPT_BUNDLE // 2
    for id in "abcde":
        assert reported(machine.handle(exited(id, half, status=-15), 1.0)) == []
    due = machine.deadline()
    assert due is not None
    parts = reported(machine.handle(TimePassed(), due))
    assert parts == [["a", "b"], ["c", "d"], ["e"]]


def test_nothing_starts_while_the_server_has_too_much_that_is_not_durable() -> None:
    machine = make(slots=1)
    given(machine, *map(str, range(100)))
    starts = 1
    for number in range(16):
        assert not any(isinstance(action, Start) for action in machine.handle(KeptDurable(-5), 1.0))
        actions = machine.handle(exited(str(number), KEPT_BUNDLE), 1.0)
        assert reported(actions) == [[str(number)]]
        starts += sum(isinstance(action, Start) for action in actions)
    assert KEPT_WINDOW == 16 * KEPT_BUNDLE and starts == 17
    assert not machine.handle(exited("16", 1), 1.0)
    assert [type(action) for action in machine.handle(KeptDurable(1), 2.0)] == [Start]


@pytest.mark.parametrize("event", [exited("a", 3), StartFailed("a", "no such folder", 1.0)])
def test_a_result_that_somebody_waits_for_goes_back_at_once(event: Exited | StartFailed) -> None:
    for waited_for in (False, True):
        machine = make(slots=1)
        given(machine, "a", waited_for=waited_for)
        plain = Context(2, b"{}", b"/", "me", "host")
        machine.handle(WorkArrived([Task(f"b{n}", "true", 2, 1) for n in range(50)], [plain]), 0.0)
        assert reported(machine.handle(event, 1.0)) == ([["a"]] if waited_for else [])


# -- the server ----------------------------------------------------------------------------------------------


def test_a_client_hears_of_its_output_when_it_is_durable_or_of_no_use() -> None:
    told: list[tuple[int, int]] = []
    credit = KeptCredit(lambda peer, size: told.append((peer, size)))

    def result(size: int) -> Result:
        return Result("id", 1, 0, 0.0, 1.0, kept=Kept(bytes(size), b"x", size, 1))

    credit.received(1, kept_size([result(4), result(5)]), 7)
    credit.received(2, kept_size([Result("id", 1, 0, 0.0, 1.0)]), 8)
    credit.received(2, kept_size([result(0)]), 9)
    assert told == []
    credit.durable(8)
    assert told == [(1, 11)]
    credit.durable(9)
    assert told == [(1, 11), (2, 1)]
    credit.received(3, kept_size([result(2)]), 9)  # nothing was recorded of it: an older execution
    assert told == [(1, 11), (2, 1), (3, 3)]


def test_no_client_has_more_kept_output_on_its_way_than_its_slots_can_add() -> None:
    credit = KeptCredit(lambda peer, size: None)
    most = KEPT_WINDOW + 2 * KEPT_MOST * 4
    assert credit.may_send(1, most, 2) and not credit.may_send(1, most + 1, 2)
    credit.received(1, most, 7)
    assert not credit.may_send(1, 1, 2) and credit.may_send(1, 1, 3) and credit.may_send(2, 1, 0)
    credit.durable(7)
    assert credit.may_send(1, most, 2)


# -- the store -----------------------------------------------------------------------------------------------


class Rows(Session):
    """A session in a database, and what table ``output`` has."""

    def __init__(self, place: Any) -> None:
        self.place = place
        super().__init__(place.store())

    def kept(self) -> dict[str, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in self.query("SELECT * FROM output")}

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, which is committed."""
        if isinstance(self.place, PostgresSchema):
            return self.place.server.query(text, schema=self.place.address.schema)
        with closing(sqlite3.connect(self.place.path)) as link:
            rows = link.execute(text).fetchall()
            link.commit()
            return rows


@pytest.fixture(params=SHARED)
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    session = Rows(place_of(request, request.param))
    yield session
    session.store.close()


def keeping(task: Task, kept: Kept | None = SOME, **how: Any) -> Finished:
    change = ended(task, **how)
    return replace(change, result=replace(change.result, kept=kept))


AS_ROW = (b"out\0\xff", b"", 5, 0)


@pytest.mark.parametrize("together", [False, True], ids=["in a later transaction", "with the row itself"])
def test_output_is_written_with_its_result(rows: Rows, together: bool) -> None:
    tasks = rows.tasks(3)
    results = [keeping(tasks[0]), keeping(tasks[1], None), keeping(tasks[2], status=1)]
    if together:
        rows.apply(inserted=tasks, dispatched=[sent(task) for task in tasks], finished=results)
    else:
        rows.apply(inserted=tasks)
        rows.apply(dispatched=[sent(task) for task in tasks])
        assert rows.kept() == {}
        rows.apply(finished=results)
    assert rows.kept() == {tasks[0].id: AS_ROW, tasks[2].id: AS_ROW}


def test_a_result_that_is_refused_keeps_nothing(rows: Rows) -> None:
    """Of a client that was lost and of a row that is final; the execution that counts keeps its own."""
    late, final, gone = rows.put(3)
    rows.apply(dispatched=[sent(late), sent(final)], finished=[keeping(final)])
    rows.apply(returned=[Return(late.id, 2)])
    rows.apply(dispatched=[sent(late, 3)])
    other = Kept(b"other", b"", 5, 0)
    rows.query(f"DELETE FROM task WHERE id = '{gone.id}'")
    rows.apply(finished=[keeping(one, other) for one in (late, final, gone)])
    assert rows.kept() == {final.id: AS_ROW} and rows.store.refused == 3
    rows.apply(finished=[keeping(late, other, execution=3)])
    assert rows.kept() == {final.id: AS_ROW, late.id: (b"other", b"", 5, 0)}


def test_a_record_that_is_written_twice_keeps_the_first(rows: Rows) -> None:
    """After a commit of which the answer was lost."""
    task = rows.tasks(1)[0]
    whole = rows.record(inserted=[task], dispatched=[sent(task)], finished=[keeping(task)])
    rows.store.apply([whole])
    rows.store.apply([replace(whole, finished=[keeping(task, Kept(b"again", b"", 5, 0))])])
    assert rows.kept() == {task.id: AS_ROW}


def test_what_an_older_program_left_of_a_reverted_task_is_replaced(rows: Rows) -> None:
    task = rows.put(1)[0]
    rows.query(f"INSERT INTO output (task_id, stdout, stdout_size) VALUES ('{task.id}', 'o', 1)")
    rows.apply(dispatched=[sent(task)], finished=[keeping(task)])
    assert rows.kept() == {task.id: AS_ROW}


# -- the writer ----------------------------------------------------------------------------------------------


class Gated(MemoryStore):
    """Writes only when it is let; notes how many bytes came together."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.sizes: list[int] = []

    def apply(self, records: Sequence[Record]) -> None:
        assert self.gate.acquire(timeout=PATIENCE)
        self.sizes.append(sum(one.result.kept.size for record in records for one in record.finished))  # type: ignore[union-attr]
        super().apply(records)


def result_of(task: Task, size: int) -> Finished:
    kept = Kept(bytes(size), b"", size, 0)
    return Finished(1, "succeeded", 0.0, Result(task.id, 1, 0, 0.0, 1.0, kept=kept), None, task)


def test_a_transaction_has_a_limit_in_bytes_and_so_has_what_waits() -> None:
    store = Gated()
    tuning = Tuning(batch_bytes=100, high_bytes=500, low_bytes=250, batch_age=10 * PATIENCE)
    driver = Driver(threaded(lambda: store, tuning), Plan(new_submission()))
    tasks = driver.tasks(10)
    for number, task in enumerate(tasks, 1):
        assert driver.writer.behind == (number > 9)
        driver.writer.submit(Record(number, inserted=[task], finished=[result_of(task, 60)]))
    for count in range(5):
        store.gate.release()
        driver.durable(1 + count)
    for _ in range(10):
        store.gate.release()
    driver.durable(10)
    assert not driver.writer.behind
    driver.finish()
    assert sum(store.sizes) == 600 and max(store.sizes) <= 120


def test_more_output_than_memory_should_hold_is_an_end_and_no_swap() -> None:
    store = Stubborn(Transient("disk full"))
    driver = Driver(threaded(lambda: store, Tuning(batch_bytes=10, most_bytes=100)), Plan(new_submission()))
    driver.until(Opened)
    task = driver.tasks(1)[0]
    driver.writer.submit(Record(1, inserted=[task], finished=[result_of(task, 101)]))
    assert "disk full" in driver.until(ev.StoreFailed).reason
    driver.finish()


#: ``hs`` with a limit of one byte for what waits; at its end the numbers of stalls and of their ends.
LIMITED = """
import sys
from hypershell.__main__ import main
from hypershell.core.events import StoreResumed, StoreStalled
from hypershell.core.scheduler import Scheduler
from hypershell.data import writer

heard = []
handle = Scheduler.handle

def listen(self, event, now):
    heard.append(type(event))
    return handle(self, event, now)

Scheduler.handle = listen
tuning = writer.Tuning(high_bytes=0, low_bytes=0)
writer.Tuning = lambda: tuning
status = main(sys.argv[1:])
print(status, heard.count(StoreStalled), heard.count(StoreResumed))
"""


def test_a_run_far_ahead_of_the_disk_begins_no_more(hs: Hs) -> None:
    """It stops after every result here, and comes to its end all the same."""
    hs.file([f"echo {n}" for n in range(20)])
    words = ["cluster", "tasks.in", "--keep-output", "-o", "out", "-b1"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words],
        cwd=hs.folder,
        env=hs.environ(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    status, held, resumed = map(int, done.stdout.split())
    assert status == 0 and held > 0 and held - resumed in (0, 1)
    assert hs.rows("SELECT count(*), sum(stdout_size) FROM output") == [(20, 50)]
