"""Table ``request``: what a server reads of it, when it is emptied, and who does what a dead server did not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypershell.core.actions import Dispatch, Finish, Finished, Record, Return
from hypershell.core.events import CancelRequested, TasksChanged
from hypershell.core.model import CANCELLED_BY_USER, Result, Task
from hypershell.core.states import CANCELLED, FAILED
from hypershell.data.change import changing
from hypershell.data.edits import read_edit
from hypershell.data.sql import SqlStore
from hypershell.data.where import Filter
from hypershell.errors import StoreError
from tests.test_data_recover import dead_process, new_run, new_submission
from tests.test_data_sql import IDS, NOW, Watched


class Place:
    """A store whose run is that of this process, with two pending and two dispatched tasks; and its file."""

    def __init__(self, path: Path, **run: Any) -> None:
        self.database = Watched(path)
        self.store = SqlStore(self.database)
        self.store.open()
        self.store.begin_run(new_run(**run))
        self.submission = new_submission(f"/in/{IDS.task()}")
        self.store.add_submission(self.submission)
        self.tasks = [Task(IDS.task(), f"t{n}", self.submission.id, submit_time=NOW) for n in range(4)]
        self.ids = [task.id for task in self.tasks]
        self.store.apply([Record(1, inserted=self.tasks)])
        self.store.apply([Record(2, dispatched=[Dispatch(key, 1, 1, NOW) for key in self.ids[2:]])])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        link = sqlite3.connect(self.database.path)
        try:
            with link:
                return link.execute(query).fetchall()
        finally:
            link.close()

    def update(self, action: str, *ids: str, signal: str | None = None) -> tuple[int, int]:
        edit, _ = read_edit(ids, action=action, signal=signal)
        with changing(self.database.path) as changer:
            changer.choose(Filter(), edit)
            return changer.apply(edit)

    def states(self) -> list[str]:
        return [row[0] for row in self.rows("SELECT state FROM task ORDER BY id")]

    def requests(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT task, settled FROM request ORDER BY id")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "main.db")
    yield place
    place.store.close()


def test_a_cancel_reaches_the_server_that_has_the_tasks(place: Place) -> None:
    assert place.store.requests() is None
    assert place.update("cancel") == (2, 2)
    assert place.states() == [CANCELLED, CANCELLED, "dispatched", "dispatched"]
    asked = place.store.requests()
    assert isinstance(asked, CancelRequested) and sorted(asked.ids) == sorted(place.ids)
    assert sorted(asked.settled) == place.ids[:2] and len(place.requests()) == 4
    place.store.drop_requests()
    assert place.requests() == [(key, 0) for key in place.ids[2:]]
    assert place.store.requests() is None


def test_a_request_stands_until_its_task_has_ended(place: Place) -> None:
    place.update("cancel", place.ids[2])
    assert place.store.requests() == CancelRequested([place.ids[2]], [])
    result = Result(place.ids[2], 1, -2, NOW, NOW + 1, error=CANCELLED_BY_USER)
    place.store.apply([Record(3, finished=[Finished(1, CANCELLED, NOW, result, None, place.tasks[2])])])
    assert place.rows("SELECT state, exit_status, error FROM task WHERE state = 'cancelled'") == [
        (CANCELLED, -2, "cancelled")
    ]
    assert len(place.requests()) == 1
    assert place.store.requests() is None
    place.store.end_run(Finish(0, 0, 0, 0, "complete"))
    assert place.requests() == []


def test_numbers_of_requests_that_are_gone_are_not_used_again(place: Place) -> None:
    for key in place.ids[:2]:
        place.update("cancel", key)
        assert place.store.requests() == CancelRequested([key], [key])
        place.store.drop_requests()
        assert place.requests() == []


def test_nothing_is_read_while_nobody_writes(place: Place) -> None:
    place.store.requests()
    place.database.sent.clear()
    assert place.store.requests() is None
    assert [statement for statement, _ in place.database.sent if "request" in statement] == []


def test_changes_of_a_server_do_not_undo_a_cancel(place: Place) -> None:
    """Defect 25: a result, a dispatch or a return that comes in later hits no row."""
    place.update("cancel", place.ids[0])
    place.update("delete", place.ids[1])
    late = Result(place.ids[0], 1, 0, NOW, NOW + 1)
    place.store.apply([Record(3, dispatched=[Dispatch(key, 1, 1, NOW) for key in place.ids[:2]])])
    place.store.apply([Record(4, finished=[Finished(1, "succeeded", NOW, late, None, place.tasks[0])])])
    place.store.apply([Record(5, returned=[Return(place.ids[0], 1), Return(place.ids[1], 1)])])
    assert place.rows("SELECT state, exit_status FROM task WHERE args = 't0'") == [(CANCELLED, -100)]
    assert place.rows("SELECT * FROM task WHERE args = 't1'") == []


def test_a_result_leaves_what_the_user_owns_alone(place: Place) -> None:
    """Defect 25: only the columns of the result are written."""
    place.rows("UPDATE task SET tag = '{\"a\":1}', \"group\" = 5, timeout = 9 WHERE args = 't2'")
    result = Result(place.ids[2], 1, 3, NOW, NOW + 1)
    place.store.apply([Record(3, finished=[Finished(1, FAILED, NOW, result, None, place.tasks[2])])])
    assert place.rows("SELECT state, tag, \"group\", timeout FROM task WHERE args = 't2'") == [
        (FAILED, '{"a":1}', 5, 9.0)
    ]


def test_who_takes_over_does_what_the_dead_server_did_not(tmp_path: Path) -> None:
    gone = Place(tmp_path / "main.db")
    gone.update("cancel", gone.ids[2])
    dead = dead_process()
    gone.rows(f"UPDATE run SET pid = {dead['pid']}, pid_start = {dead['pid_start']}")
    other = Place(tmp_path / "main.db")
    assert other.store.requests() is None
    assert len(gone.requests()) == 1
    claims = other.store.claims(None)
    assert [claim.submission for claim in claims] == [gone.submission.id]
    assert other.store.take(claims).pending == {0: 3}
    assert other.states()[:4] == ["pending", "pending", CANCELLED, "pending"]
    assert other.requests() == []
    gone.store.close()
    other.store.close()


def test_a_change_reaches_the_server_with_what_the_rows_say(place: Place) -> None:
    place.update("", "timeout=9", "args=new", "x:1", place.ids[1])
    assert place.rows("SELECT task, kind, settled FROM request") == [(place.ids[1], "change", 1)]
    asked = place.store.requests()
    assert isinstance(asked, TasksChanged)
    (task,) = asked.tasks
    assert (task.id, task.args, task.timeout, task.tag) == (place.ids[1], "new", 9.0, {"x": 1})
    place.store.drop_requests()
    assert place.requests() == [] and place.store.requests() is None


def test_requests_of_different_kinds_are_heard_in_their_order(place: Place) -> None:
    """And the newest values count: what was changed twice is read once more."""
    place.update("", "timeout=1", *place.ids[:2])
    place.update("cancel", place.ids[0])
    place.update("", "timeout=2", place.ids[1])
    first = place.store.requests()
    assert isinstance(first, TasksChanged)
    assert [(task.id, task.timeout) for task in first.tasks] == [(place.ids[1], 2.0)], "the other one has ended"
    place.store.drop_requests()
    assert place.requests() == [(place.ids[0], 1), (place.ids[1], 1)], "those that were not heard yet stay"
    assert place.store.requests() == CancelRequested([place.ids[0]], [place.ids[0]])
    last = place.store.requests()
    assert isinstance(last, TasksChanged) and last.tasks[0].timeout == 2.0
    place.store.drop_requests()
    assert place.requests() == []


def test_the_signal_of_a_cancel_is_told(place: Place) -> None:
    place.update("cancel", place.ids[2], signal="USR1")
    place.update("cancel", place.ids[3])
    place.update("cancel", place.ids[3], signal="KILL")
    heard = [place.store.requests() for _ in range(3)]
    assert heard == [
        CancelRequested([place.ids[2]], [], "USR1"),
        CancelRequested([place.ids[3]]),
        CancelRequested([place.ids[3]], [], "KILL"),
    ]


def test_a_change_of_what_was_given_out_is_refused_by_name(place: Place) -> None:
    for words, key in ((["timeout=9"], place.ids[2]), (["group=3", place.ids[0]], place.ids[0])):
        with pytest.raises(StoreError, match=f"task {key} .* a run that goes on .* nothing was changed"):
            place.update("", *words)
    with pytest.raises(StoreError, match="in the hands of a run that goes on"):
        place.rows("UPDATE task SET state = 'failed' WHERE args = 't0'")
        place.update("revert", place.ids[0])
    assert place.requests() == [] and place.store.requests() is None


def test_what_is_reverted_is_cancelled_no_longer(place: Place) -> None:
    place.update("cancel", place.ids[2])
    place.rows("UPDATE task SET state = 'failed' WHERE args = 't2'")
    place.rows("UPDATE run SET end_time = start_time")
    place.update("revert", place.ids[2])
    assert place.requests() == [] and place.states()[2] == "pending"


def test_a_database_without_the_table_gets_it(place: Place) -> None:
    place.store.close()
    place.rows("DROP TABLE request")
    assert place.update("cancel") == (2, 2)
    place.rows("DROP TABLE request")
    again = SqlStore(place.database)
    again.open()
    assert place.requests() == []
    assert place.rows("PRAGMA user_version") == [(1,)]
    again.close()
