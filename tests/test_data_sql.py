"""The statements of the store: their plans in SQLite, and the shape of the tables."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from hypershell.core.actions import ClientChange, Dispatch, Finish, Finished, Record, Return
from hypershell.core.model import ClientInfo, Result, Submission, Task
from hypershell.core.states import FAILED
from hypershell.data import schema
from hypershell.data.engine import Sqlite
from hypershell.data.sql import SqlStore
from hypershell.data.store import describe_run
from hypershell.errors import StoreError
from hypershell.ids import IdSource

NOW = 1_795_345_284.25
IDS = IdSource()

#: HyperShell's columns, in its order, as users query them.
COLUMNS = (
    "id group args submit_id submit_time submit_host cores memory cores_max memory_max timeout server_id"
    " server_host schedule_time client_id client_host command start_time completion_time exit_status outpath"
    " errpath csvpath attempt retried waited duration previous_id next_id tag"
)


class Watched(Sqlite):
    """Remembers every statement that is sent."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sent: list[tuple[str, object]] = []

    def engine(self):  # type: ignore[no-untyped-def]
        engine = super().engine()

        def note(link: Connection, cursor: object, statement: str, parameters: object, *rest: object) -> None:
            self.sent.append((statement, parameters))

        event.listen(engine, "before_cursor_execute", note)
        return engine


@pytest.fixture
def database(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "main.db")


@pytest.fixture
def store(database: Watched) -> Iterator[SqlStore]:
    store = SqlStore(database)
    store.open()
    store.begin_run(_run())
    yield store
    store.close()


def _run():  # type: ignore[no-untyped-def]
    words = {"transport": "loopback", "job": None, "command": "hs", "cwd": "/"}
    return describe_run(IDS.task(), ranks=1, slots=1, start_time=NOW, **words)  # type: ignore[arg-type]


def _submission() -> Submission:
    return Submission(IDS.submission(), "file", f"/in/{IDS.task()}", "{}", "{}", "/", "me", "here", NOW)


def work(store: SqlStore) -> list[Task]:
    """One of everything that a server does."""
    one = _submission()
    store.add_submission(one)
    client = ClientInfo("client", "node", 1, 1, "1", "linux")
    tasks = [Task(IDS.task(), "true", one.id, submit_time=NOW) for _ in range(600)]
    store.apply([Record(1, inserted=tasks, clients=[ClientChange(1, client, NOW)])])
    store.load(0, 100)
    store.apply([Record(2, dispatched=[Dispatch(task.id, 1, 1, NOW) for task in tasks[:100]])])
    ended = [Finished(1, FAILED, NOW, Result(task.id, 1, 1, NOW, NOW), None, task) for task in tasks[:90]]
    store.apply([Record(3, finished=ended, returned=[Return(task.id, 1) for task in tasks[90:95]])])
    store.apply([Record(4, clients=[ClientChange(1, client, NOW, "lost: silent")])])
    return tasks


def test_nothing_is_sorted_or_scanned(store: SqlStore, database: Watched) -> None:
    work(store)
    other = SqlStore(database)
    other.open()
    other.begin_run(_run())
    other.take(other.claims(None))
    other.claims(_submission())
    other.left_alone(lambda owner: True)
    other.load(0, 100)
    other.beat()
    other.end_run(Finish(0, 0, 0, 0, "complete"))
    other.close()
    looked = 0
    with closing(sqlite3.connect(database.path)) as link:
        for statement, parameters in database.sent:
            if not statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
                continue
            plan = [row[3] for row in link.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            looked += 1
            assert not [step for step in plan if _BAD.match(step)], (statement[:300], plan)
    assert looked > 20


#: A walk through a whole table. The index of the few FILEs that are not read to their end may be walked through.
_BAD = re.compile(
    r"SCAN (task|client|run|meta)\b|SCAN submission(?! USING INDEX submission_incomplete)|USE TEMP B-TREE"
)


def test_the_next_page_is_found_by_the_partial_index(store: SqlStore, database: Watched) -> None:
    work(store)
    statement, parameters = next(one for one in database.sent if "json_group_array" in one[0])
    with closing(sqlite3.connect(database.path)) as link:
        plan = [row[3] for row in link.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert any("USING INDEX task_pending (submission=? AND group=? AND id>?)" in step for step in plan), plan


def test_rows_are_sent_many_at_a_time(store: SqlStore, database: Watched) -> None:
    one = _submission()
    store.add_submission(one)
    database.sent.clear()
    store.apply([Record(1, inserted=[Task(IDS.task(), "true", one.id) for _ in range(5000)])])
    assert len(database.sent) < 40


def test_the_first_thirty_columns_are_those_of_hypershell() -> None:
    assert [column.name for column in schema.task.columns][:30] == COLUMNS.split()


def test_values_arrive_in_their_columns(store: SqlStore, database: Watched) -> None:
    tasks = work(store)
    with closing(sqlite3.connect(database.path)) as link:
        link.row_factory = sqlite3.Row
        row = dict(link.execute("SELECT * FROM task WHERE id = ?", (tasks[0].id,)).fetchone())
        client = dict(link.execute("SELECT * FROM client").fetchone())
        run = dict(link.execute("SELECT * FROM run").fetchone())
    stamp = "2026-11-22 11:01:24.250000"
    assert row["submit_time"] == row["start_time"] == row["completion_time"] == row["schedule_time"] == stamp
    assert (row["client_id"], row["client_host"], row["submit_host"]) == ("client", "node", "here")
    assert (row["server_id"], row["server_host"]) == (run["id"], run["host"])
    assert (row["state"], row["execution"], row["exit_status"], row["tag"]) == (FAILED, 1, 1, "{}")
    assert (client["connected_at"], client["disconnected_at"], client["evicted"]) == (stamp, stamp, 1)
    assert client["reason"] == "lost: silent"


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 511, 512, 513, 1300])
def test_any_number_of_rows_is_written(store: SqlStore, database: Watched, count: int) -> None:
    one = _submission()
    store.add_submission(one)
    tasks = [Task(IDS.task(), f"echo {n}", one.id, submit_time=NOW) for n in range(count)]
    store.apply([Record(1, inserted=tasks)])
    store.apply(
        [Record(2, finished=[Finished(1, FAILED, NOW, Result(t.id, 1, 1, NOW, NOW), None, t) for t in tasks])]
    )
    assert store.refused == 0
    with closing(sqlite3.connect(database.path)) as link:
        assert link.execute("SELECT count(*), min(state), max(state) FROM task").fetchone() == (
            count,
            FAILED,
            FAILED,
        )


def test_a_page_of_a_failed_read_is_read_again(store: SqlStore, database: Watched) -> None:
    tasks = work(store)
    second = _submission()
    store.add_submission(second)
    last = Task(IDS.task(), "true", second.id, submit_time=NOW)
    store.apply([Record(9, inserted=[last])])
    for renamed in ("task RENAME TO gone", "gone RENAME TO task"):
        with closing(sqlite3.connect(database.path)) as link:
            link.execute(f"ALTER TABLE {renamed}")
        if renamed.startswith("task"):
            with pytest.raises(StoreError, match="no such table"):
                store.load(0, 1000)
    found, exhausted = store.load(0, 1000)
    assert exhausted
    assert [task.id for task in found] == [*(task.id for task in tasks[100:]), last.id]


def test_a_row_that_cannot_be_read_has_failed_and_is_not_loaded(store: SqlStore, database: Watched) -> None:
    tasks = work(store)
    with closing(sqlite3.connect(database.path)) as link:
        link.execute("UPDATE task SET tag = 'no json' WHERE id = ?", (tasks[150].id,))
        link.commit()
    found, exhausted = store.load(0, 1000)
    assert exhausted and tasks[150].id not in [task.id for task in found] and len(found) == len(tasks) - 101
    ((task, reason),) = store.unfit()
    assert (task.id, reason.partition(": ")[0]) == (tasks[150].id, "this row cannot be run")
    assert store.unfit() == []


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_a_file_that_is_no_longer_there_is_noticed_by_the_next_write(
    store: SqlStore, database: Watched, replace: bool, last: bool
) -> None:
    work(store)
    database.path.unlink()
    if replace:
        database.path.write_bytes(b"another one")
    with pytest.raises(StoreError, match="was replaced" if replace else "was removed"):
        if last:
            store.end_run(Finish(0, 0, 0, 0, "complete"))
        else:
            store.apply([Record(9)])
