"""What every store must do: one suite for the store in memory and those in databases.

A database is added by one more `Place` in `place_of`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hypershell.core.actions import ClientChange, Dispatch, Finish, Finished, Record, Return
from hypershell.core.model import ClientInfo, FeedMark, Result, Submission, Task
from hypershell.core.states import DISPATCHED, FAILED, PENDING, SUCCEEDED
from hypershell.data.memory import MemoryStore
from hypershell.data.places import open_store
from hypershell.data.store import Fenced, RunInfo, Store, describe_run, sqlite_store
from hypershell.ids import IdSource
from tests.testbed.postgres import Server

NOW = 1_795_345_284.25
IDS = IdSource()
CLIENT = ClientInfo("00000000-0000-7000-8000-00000000c001", "node-1", 99, 2, "1", "linux", 3)


class Place(Protocol):
    """Where stores of one kind keep their rows."""

    shared: bool

    def store(self) -> Store: ...
    def rows(self) -> dict[str, dict[str, Any]]: ...


class Memory:
    shared = False

    def __init__(self, folder: Path) -> None:
        self._store = MemoryStore(keep=True)

    def store(self) -> Store:
        return self._store

    def rows(self) -> dict[str, dict[str, Any]]:
        found = {}
        for key, row in self._store._rows.items():
            found[key] = _row(row.task, row.state, row.execution)
        for key, (task, change) in self._store.finished.items():
            last = change.result
            found[key] = _row(task, change.state, last.execution) | {
                "exit_status": last.exit_status,
                "next_id": change.next_id,
                "retried": change.next_id is not None,
                "command": last.command or task.args,
                "duration": last.end - last.start,
                "waited": last.start - task.submit_time,
            }
        return found


def _row(task: Task, state: str, execution: int) -> dict[str, Any]:
    empty = dict.fromkeys(("exit_status", "next_id", "command", "duration", "waited"))
    known = {"id": task.id, "args": task.args, "group": task.group, "attempt": task.attempt, "retried": False}
    return known | empty | {"previous_id": task.previous_id, "state": state, "execution": execution}


class SqliteFile:
    shared = True

    def __init__(self, folder: Path) -> None:
        self.path = folder / "main.db"

    def store(self) -> Store:
        return sqlite_store(self.path)()

    def rows(self) -> dict[str, dict[str, Any]]:
        import sqlite3

        link = sqlite3.connect(self.path)
        link.row_factory = sqlite3.Row
        found = {row["id"]: dict(row) for row in link.execute("SELECT * FROM task")}
        link.close()
        for row in found.values():
            row["retried"] = bool(row["retried"])
        return found


class PostgresSchema:
    shared = True

    def __init__(self, server: Server) -> None:
        self.server = server
        self.address = server.address()

    def store(self) -> Store:
        return open_store(self.address)()

    def rows(self) -> dict[str, dict[str, Any]]:
        query = "SELECT id, to_jsonb(task) FROM task"
        return dict(self.server.query(query, schema=self.address.schema))


NAMES = ("memory", "sqlite", "postgres")
SHARED = ("sqlite", "postgres")


def place_of(request: pytest.FixtureRequest, name: str) -> Place:
    if name == "postgres":
        return PostgresSchema(request.getfixturevalue("postgres"))
    folder = request.getfixturevalue("tmp_path")
    return Memory(folder) if name == "memory" else SqliteFile(folder)


@pytest.fixture(params=NAMES)
def place(request: pytest.FixtureRequest) -> Place:
    return place_of(request, request.param)


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest) -> Place:
    return place_of(request, request.param)


def new_run() -> RunInfo:
    return describe_run(
        IDS.task(), transport="loopback", ranks=1, slots=2, job="77", command="hs x", cwd="/work", start_time=NOW
    )


def new_submission(path: str | None = "/in/tasks", options: str = "{}") -> Submission:
    source = "file" if path else "stdin"
    return Submission(IDS.submission(), source, path, "{}", options, "/work", "sub-id", "login-1", NOW)


class Session:
    """A store with a run and a submission in it, and short words to change it."""

    def __init__(self, store: Store, submission: Submission | None = None) -> None:
        self.store = store
        self.run = new_run()
        store.open()
        store.begin_run(self.run)
        self.submission = submission or new_submission()
        store.add_submission(self.submission)
        self.seq = 0
        self.apply(clients=[ClientChange(1, CLIENT, NOW)])

    def apply(self, **changes: Any) -> None:
        self.store.apply([self.record(**changes)])

    def record(self, **changes: Any) -> Record:
        self.seq += 1
        return Record(self.seq, **changes)

    def tasks(self, count: int, **fields: Any) -> list[Task]:
        made = {"submission": self.submission.id, "submit_time": NOW} | fields
        return [Task(IDS.task(), f"echo {n}", **made) for n in range(count)]

    def put(self, count: int, **fields: Any) -> list[Task]:
        tasks = self.tasks(count, **fields)
        self.apply(inserted=tasks)
        return tasks

    def drain(self, group: int = 0, limit: int = 7) -> list[Task]:
        """Everything that can be loaded of a group."""
        taken: list[Task] = []
        while True:
            tasks, exhausted = self.store.load(group, limit)
            assert len(tasks) <= limit
            taken += tasks
            if exhausted:
                return taken


@pytest.fixture
def session(place: Place) -> Iterator[Session]:
    session = Session(place.store())
    yield session
    session.store.close()


def ended(
    task: Task, execution: int = 1, status: int = 0, next_id: str | None = None, command: str | None = None
) -> Finished:
    state = SUCCEEDED if status == 0 else FAILED
    result = Result(task.id, execution, status, NOW + 2, NOW + 5.5, command)
    return Finished(1, state, NOW + 1, result, next_id, task)


def sent(task: Task, execution: int = 1) -> Dispatch:
    return Dispatch(task.id, execution, 1, NOW + 1)


def ids(tasks: Sequence[Task]) -> list[str]:
    return [task.id for task in tasks]


# -- loading -------------------------------------------------------------------------------------------------


def test_tasks_are_loaded_in_input_order_once_each(session: Session) -> None:
    tasks = session.put(20)
    assert ids(session.drain()) == ids(tasks)
    assert session.drain() == []


def test_a_loaded_task_is_the_one_that_was_inserted(session: Session) -> None:
    full = Task(
        IDS.task(), 'echo "a\t\u20ac" \\ \x01', session.submission.id, 0, 3, 5, b"\xff\xfe\x01", 12.5,
        {"a": 1, "b": None, "c": True, "d": "x", "e": 0.25}, NOW, 0.0, "previous", 4, 1 << 40,
    )  # fmt: skip
    session.apply(inserted=[full])
    assert session.drain(group=5) == [full]


def test_groups_are_loaded_apart(session: Session) -> None:
    low, high = session.put(3, group=1), session.put(4, group=2)
    assert ids(session.drain(2)) == ids(high)
    assert ids(session.drain(1)) == ids(low)
    assert session.drain(3) == []


def test_only_pending_tasks_are_loaded(session: Session) -> None:
    tasks = session.put(5)
    session.apply(dispatched=[sent(tasks[1]), sent(tasks[3])], finished=[ended(tasks[3])])
    assert ids(session.drain()) == [tasks[0].id, tasks[2].id, tasks[4].id]


def test_an_exhausted_group_goes_on_after_new_tasks(session: Session) -> None:
    session.put(3)
    session.drain()
    more = session.put(2)
    assert ids(session.drain()) == ids(more)


def test_submissions_follow_each_other(session: Session) -> None:
    second = replace(new_submission("/in/other"), id=session.submission.id + 1)
    session.store.add_submission(second)
    later = session.put(3, submission=second.id)
    first = session.put(3)
    assert ids(session.drain()) == ids(first + later)


def test_a_returned_task_keeps_its_execution(session: Session) -> None:
    (task,) = session.put(1)
    session.apply(dispatched=[sent(task, 1)])
    session.apply(returned=[Return(task.id, 1)])
    (loaded,) = session.drain()
    assert (loaded.id, loaded.execution) == (task.id, 1)


# -- changes -------------------------------------------------------------------------------------------------


def test_a_life_in_one_record_and_in_many_looks_the_same(place: Place, session: Session) -> None:
    one, other = session.tasks(2)
    session.apply(inserted=[one], dispatched=[sent(one)], finished=[ended(one, command="echo expanded")])
    session.apply(inserted=[other])
    session.apply(dispatched=[sent(other)])
    session.apply(finished=[ended(other, command="echo expanded")])
    rows = place.rows()
    for key in ("id", "args"):
        assert rows[one.id].pop(key) != rows[other.id].pop(key)
    assert rows[one.id] == rows[other.id]
    assert rows[one.id]["state"] == SUCCEEDED
    assert (rows[one.id]["duration"], rows[one.id]["waited"]) == (3.5, 2.0)
    assert rows[one.id]["command"] == "echo expanded"
    assert session.store.refused == 0


def test_command_is_that_of_the_line_where_the_client_sends_none(place: Place, session: Session) -> None:
    one, other = session.tasks(2)
    session.apply(inserted=[one, other], finished=[ended(one)])
    session.apply(finished=[ended(other)])
    assert [place.rows()[task.id]["command"] for task in (one, other)] == [one.args, other.args]


def test_an_older_execution_is_never_applied(place: Place, session: Session) -> None:
    (task,) = session.put(1)
    session.apply(dispatched=[sent(task, 2)])
    session.apply(finished=[ended(task, 1)])
    session.apply(returned=[Return(task.id, 1)])
    row = place.rows()[task.id]
    assert (row["state"], row["execution"], row["exit_status"]) == (DISPATCHED, 2, None)
    assert session.store.refused == 2


def test_a_final_row_is_never_touched(place: Place, session: Session) -> None:
    (task,) = session.put(1)
    session.apply(dispatched=[sent(task)])
    session.apply(finished=[ended(task, status=3)])
    before = place.rows()
    session.apply(finished=[ended(task, 9)])
    session.apply(dispatched=[sent(task, 9)], returned=[Return(task.id, 9)])
    assert place.rows() == before
    assert session.store.refused >= 2


def test_unknown_rows_are_counted(place: Place, session: Session) -> None:
    (stranger,) = session.tasks(1)
    session.apply(finished=[ended(stranger)])
    assert place.rows() == {}
    assert session.store.refused == 1


def test_inserting_twice_keeps_the_first(place: Place, session: Session) -> None:
    (task,) = session.put(1)
    session.apply(finished=[ended(task)])
    session.apply(inserted=[task])
    assert place.rows()[task.id]["state"] == SUCCEEDED


def test_a_retry_is_linked_both_ways(place: Place, session: Session) -> None:
    (task,) = session.put(1, cores=2, memory=1 << 33, timeout=60.0)
    session.apply(dispatched=[sent(task)])
    again = Task(IDS.task(), task.args, task.submission, attempt=2, previous_id=task.id, submit_time=NOW)
    session.apply(inserted=[again], finished=[ended(task, status=1, next_id=again.id)])
    rows = place.rows()
    assert (rows[task.id]["next_id"], rows[task.id]["retried"], rows[task.id]["state"]) == (again.id, True, FAILED)
    assert (rows[again.id]["previous_id"], rows[again.id]["attempt"], rows[again.id]["state"]) == (
        task.id,
        2,
        PENDING,
    )
    assert ids(session.drain()) == [again.id]


def test_many_records_at_once_do_what_they_do_one_by_one(place: Place) -> None:
    session = Session(place.store())

    def play(steps: list[tuple[str, int, int]], together: bool) -> list[dict[str, Any]]:
        tasks = session.tasks(3)
        records = _records(session, tasks, steps)
        for batch in [records] if together else [[record] for record in records]:
            session.store.apply(batch)
        rows = place.rows()
        return [{**rows[task.id], "id": n, "args": n} for n, task in enumerate(tasks) if task.id in rows]

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("idfr"), st.integers(0, 2), st.integers(0, 3)), max_size=12))
    def check(steps: list[tuple[str, int, int]]) -> None:
        assert play(steps, together=True) == play(steps, together=False)

    check()
    session.store.close()


def _records(session: Session, tasks: list[Task], steps: list[tuple[str, int, int]]) -> list[Record]:
    """One record for each step: insert, dispatch, finish or return of a task in an execution."""
    records = [session.record(inserted=tasks[:1])]
    known = {0}
    for what, index, execution in steps:
        task = tasks[index]
        if what == "i" and index not in known:
            known.add(index)
            records.append(session.record(inserted=[task]))
        elif index in known and what == "d":
            records.append(session.record(dispatched=[sent(task, execution)]))
        elif index in known and what == "f":
            records.append(session.record(finished=[ended(task, execution)]))
        elif index in known and what == "r":
            records.append(session.record(returned=[Return(task.id, execution)]))
    return records


# -- shared stores: runs, leases, takeover --------------------------------------------------------------------


def test_two_runs_never_see_each_others_tasks(shared: Place) -> None:
    one, two = Session(shared.store()), Session(shared.store(), new_submission("/in/other"))
    mine, theirs = one.put(3), two.put(4)
    assert ids(one.drain()) == ids(mine)
    assert ids(two.drain()) == ids(theirs)


def test_a_takeover_returns_what_was_in_flight_and_fences_the_old_run(shared: Place) -> None:
    old = Session(shared.store())
    tasks = old.put(5)
    failed = old.put(2, group=1)
    old.apply(dispatched=[sent(tasks[0]), sent(tasks[1])], finished=[ended(tasks[1])])
    old.apply(finished=[ended(failed[0], status=1)], mark=FeedMark(old.submission.id, 120, 7, "abc", True))

    new = Session(shared.store(), new_submission("/in/other"))
    (claim,) = new.store.claims(None)
    assert claim.owner is not None
    assert (claim.submission, claim.holder, claim.owner.job) == (old.submission.id, old.run.id, "77")
    taken = new.store.take([claim])
    assert taken.submissions == [old.submission]
    assert taken.marks == [FeedMark(old.submission.id, 120, 7, "abc", True)]
    assert (taken.pending, taken.failed) == ({0: 4, 1: 1}, {1: 1})

    loaded = new.drain()
    assert ids(loaded) == [tasks[0].id, *ids(tasks[2:])]
    assert [task.execution for task in loaded] == [2, 0, 0, 0]
    for write in (old.store.beat, lambda: old.apply(finished=[ended(tasks[0])]), lambda: old.put(1)):
        with pytest.raises(Fenced, match="took over"):
            write()
    assert shared.rows()[tasks[0].id]["state"] == PENDING
    new.apply(dispatched=[sent(tasks[0], 3)], finished=[ended(tasks[0], 1)])
    assert (shared.rows()[tasks[0].id]["state"], new.store.refused) == (DISPATCHED, 1)


def test_taking_what_is_ours_already_changes_nothing(shared: Place) -> None:
    old = Session(shared.store())
    old.put(2)
    new = Session(shared.store(), new_submission("/in/other"))
    claims = new.store.claims(None)
    assert new.store.take(claims) == new.store.take(claims)
    assert new.store.claims(None) == []


def test_an_owner_that_moved_meanwhile_keeps_its_tasks(shared: Place) -> None:
    old = Session(shared.store())
    old.put(2)
    new = Session(shared.store(), new_submission("/in/other"))
    claims = new.store.claims(None)
    old.store.beat()
    assert new.store.take(claims).submissions == []
    old.put(1)
    assert len(old.drain()) == 3


def test_only_one_of_two_takers_gets_it(shared: Place) -> None:
    old = Session(shared.store())
    old.put(2)
    takers = [Session(shared.store(), new_submission(f"/in/{n}")) for n in range(2)]
    claims = [claim for claim in takers[0].store.claims(None) if claim.submission == old.submission.id]
    taken = [[one.id for one in taker.store.take(claims).submissions] for taker in takers]
    assert taken == [[old.submission.id], []]


def test_a_submission_is_known_by_its_work_and_not_by_how_it_is_run(shared: Place) -> None:
    old = Session(shared.store())
    other = Session(shared.store(), new_submission("/in/elsewhere"))
    for options in ("{}", '{"task_timeout":10.0,"exports":{"A":"b"},"capture":true,"keep_output":true}'):
        assert [claim.submission for claim in other.store.claims(new_submission(options=options))] == [
            old.submission.id
        ]
    for change in ({"template": "echo {}"}, {"cwd": "/in"}, {"path": None}, {"options": '{"submit":{}}'}):
        assert other.store.claims(replace(new_submission(), **change)) == []


@pytest.mark.parametrize("name", ["path", "template", "cwd"])
def test_a_submission_of_bytes_is_not_that_of_the_text_that_shows_them(shared: Place, name: str) -> None:
    bytes_, text = (replace(new_submission(), **{name: word}) for word in ("/caf\udce9", r"/caf\xe9"))
    one, two = Session(shared.store(), bytes_), Session(shared.store(), replace(text, id=text.id + 1))
    assert [claim.submission for claim in two.store.claims(replace(bytes_, id=0))] == [bytes_.id]
    assert [claim.submission for claim in one.store.claims(replace(text, id=0))] == [text.id + 1]
    assert two.store.take(two.store.claims(replace(bytes_, id=0))).submissions == [bytes_]


def test_the_newest_of_several_like_it_is_meant(shared: Place) -> None:
    first = Session(shared.store())
    again = replace(first.submission, id=first.submission.id + 1)
    second = Session(shared.store(), again)
    third = Session(shared.store(), new_submission("/in/other"))
    second.apply(mark=FeedMark(again.id, 10, 1, "x", True))
    assert [(c.submission, c.unfinished) for c in third.store.claims(new_submission())] == [(again.id, False)]


def test_what_is_left_alone_is_counted_without_live_owners(shared: Place) -> None:
    gone, live = Session(shared.store()), Session(shared.store(), new_submission("/in/live"))
    me = Session(shared.store(), new_submission("/in/mine"))
    tasks = gone.put(5)
    gone.apply(dispatched=[sent(tasks[0])], finished=[ended(tasks[1])])
    live.put(3)
    me.put(2)
    assert me.store.left_alone(lambda owner: owner.run == gone.run.id) == 4
    gone.store.end_run(Finish(1, 0, 0, 4, "drained"))
    live.store.end_run(Finish(0, 0, 0, 3, "drained"))
    assert me.store.left_alone(lambda owner: owner.ended) == 7


def test_changes_of_others_are_noticed(shared: Place) -> None:
    one, two = Session(shared.store()), Session(shared.store(), new_submission("/in/other"))
    one.store.changed()
    assert not one.store.changed()
    two.put(1)
    until = time.monotonic() + 60
    while not one.store.changed():  # what is announced arrives a moment after the commit
        assert time.monotonic() < until
    assert not one.store.changed()


def test_a_run_that_is_forgotten_leaves_what_it_found_and_nothing_of_its_own(shared: Place) -> None:
    first = Session(shared.store())
    tasks = first.put(3)
    first.store.end_run(Finish(0, 0, 0, 3, "drained"))
    first.store.close()
    second, run = shared.store(), new_run()
    second.open()
    second.begin_run(run)
    assert second.take(second.claims(None)).submissions == [first.submission]
    second.add_submission(replace(new_submission("/in/other"), submit_id=run.id))
    second.forget_run()
    with pytest.raises(Fenced):
        second.beat()  # it is no run any more
    second.close()
    third = shared.store()
    third.open()
    third.begin_run(new_run())
    (claim,) = third.claims(None)
    assert (claim.submission, claim.holder, claim.owner) == (first.submission.id, None, None)
    assert third.take([claim]).pending == {0: 3}
    assert ids(third.load(0, 10)[0]) == ids(tasks)
    third.close()
