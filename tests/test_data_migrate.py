"""``hs initdb``: new databases, and HyperShell's own brought to our schema."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hypershell.apps import initdb
from hypershell.core.actions import Finish
from hypershell.core.model import Special
from hypershell.data import migrate
from hypershell.data.engine import preflight
from hypershell.data.lease import Owner
from hypershell.data.store import describe_run, sqlite_store
from hypershell.errors import ExitStatus, StoreError
from hypershell.ids import IdSource

#: A schema as section 2.3 and 2.4 of the documented interface tells it.
OLD = """
CREATE TABLE task (
    id TEXT NOT NULL PRIMARY KEY, "group" INTEGER NOT NULL DEFAULT 0, args TEXT NOT NULL, submit_id TEXT NOT NULL,
    submit_time DATETIME NOT NULL, submit_host TEXT, cores INTEGER, memory INTEGER, cores_max FLOAT,
    memory_max FLOAT, timeout INTEGER, server_id TEXT, server_host TEXT, schedule_time DATETIME, client_id TEXT,
    client_host TEXT, command TEXT, start_time DATETIME, completion_time DATETIME, exit_status INTEGER,
    outpath TEXT, errpath TEXT, csvpath TEXT, attempt INTEGER NOT NULL, retried BOOLEAN NOT NULL, waited INTEGER,
    duration INTEGER,
    previous_id TEXT UNIQUE, next_id TEXT UNIQUE, tag JSON NOT NULL);
CREATE TABLE client (
    id TEXT NOT NULL PRIMARY KEY, host TEXT NOT NULL, server_id TEXT NOT NULL, server_host TEXT NOT NULL,
    connected_at DATETIME, disconnected_at DATETIME, evicted BOOLEAN NOT NULL);
"""
EMPTY = {
    "group": 0,
    "submit_id": "s1",
    "submit_host": "login",
    "attempt": 1,
    "retried": False,
    "tag": '{"part": 0}',
}
SUMMER, WINTER = "2026-07-01 12:00:00.250000", "2026-01-01 12:00:00.250000"


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone with summer time, by rule and not by name: two hours ahead in July, one in January."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "main.db"


def old_database(path: Path, *rows: dict[str, Any]) -> None:
    with closing(sqlite3.connect(path)) as link:
        link.executescript(OLD)
        for number, row in enumerate(rows):
            full = EMPTY | {"id": f"id-{number}", "args": f"echo {number}", "submit_time": SUMMER} | row
            names = ", ".join(f'"{name}"' for name in full)
            link.execute(f"INSERT INTO task ({names}) VALUES ({', '.join('?' * len(full))})", list(full.values()))
        client = ("c1", "node", "srv", "login", SUMMER, None, False)
        link.execute("INSERT INTO client VALUES (?, ?, ?, ?, ?, ?, ?)", client)
        link.commit()


def tasks(path: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as link:
        link.row_factory = sqlite3.Row
        return [dict(row) for row in link.execute("SELECT * FROM task ORDER BY rowid")]


def test_create_makes_the_tables_once(path: Path) -> None:
    assert migrate.create(path)
    assert not migrate.create(path)
    preflight(path)


def test_states_are_inferred(path: Path) -> None:
    done = {"start_time": SUMMER, "completion_time": SUMMER, "command": "x"}
    old_database(
        path,
        {},
        {"schedule_time": SUMMER, "client_id": "c1", "server_id": "srv"},
        {"exit_status": 0, **done},
        {"exit_status": 1, **done},
        {"exit_status": -1, **done},
        {"exit_status": -1, "completion_time": SUMMER},
        {"exit_status": -2, "start_time": SUMMER, "completion_time": SUMMER},
        {"exit_status": -3, "completion_time": SUMMER},
    )
    done_upgrade = migrate.upgrade(path)
    assert done_upgrade is not None
    assert (done_upgrade.tasks, done_upgrade.clients, done_upgrade.dropped) == (8, 1, 0)
    assert [(row["state"], row["exit_status"]) for row in tasks(path)] == [
        ("pending", None),
        ("pending", None),
        ("succeeded", 0),
        ("failed", 1),
        ("failed", -1),
        ("cancelled", Special.CANCELLED),
        ("failed", Special.TEMPLATE_FAILED),
        ("failed", Special.IMPOSSIBLE),
    ]
    assert tasks(path)[1]["schedule_time"] is None


def test_local_times_become_utc(path: Path) -> None:
    later = "2026-07-01 12:00:03.750000"
    old_database(
        path,
        {"submit_time": SUMMER, "start_time": SUMMER, "completion_time": later, "exit_status": 0, "duration": 3},
        {"submit_time": WINTER},
        {"submit_time": "2026-07-01 12:00:00.250000+00:00"},
    )
    migrate.upgrade(path)
    rows = tasks(path)
    assert [row["submit_time"] for row in rows] == [
        "2026-07-01 10:00:00.250000",
        "2026-01-01 11:00:00.250000",
        "2026-07-01 12:00:00.250000",
    ]
    assert (rows[0]["waited"], rows[0]["duration"]) == (0.0, 3.5)


def test_every_other_value_is_kept(path: Path) -> None:
    row = {
        "id": "a", "group": 3, "args": 'echo "\u00e4"', "cores": 2, "memory": 1 << 40, "cores_max": 1.5,
        "timeout": 60, "outpath": "/o", "csvpath": "/c", "attempt": 2, "retried": True, "previous_id": "p",
        "next_id": "n", "tag": '{"part": 0, "x": "y"}', "memory_max": 12.0, "exit_status": 2, "command": "c",
        "start_time": SUMMER,
    }  # fmt: skip
    old_database(path, row)
    migrate.upgrade(path)
    (found,) = tasks(path)
    for name in row.keys() - {"start_time"}:
        assert found[name] == row[name]
    assert json.loads(found["tag"]) == {"part": 0, "x": "y"}


def test_values_without_a_meaning_are_dropped_and_counted(path: Path) -> None:
    old_database(path, {"timeout": "10m", "cores": "x", "tag": "[1]", "schedule_time": "yesterday"})
    done = migrate.upgrade(path)
    assert done is not None
    assert done.dropped == 4
    (row,) = tasks(path)
    assert (row["timeout"], row["cores"], row["tag"]) == (None, None, "{}")


def test_the_backup_is_the_old_database(path: Path) -> None:
    old_database(path, {}, {})
    with closing(sqlite3.connect(path)) as link:
        before = list(link.iterdump())
    done = migrate.upgrade(path)
    assert done is not None
    assert done.backup.parent == path.parent
    with closing(sqlite3.connect(done.backup)) as link:
        assert list(link.iterdump()) == before
    assert sorted(name for name in os.listdir(path.parent)) == sorted([path.name, done.backup.name])


def test_a_second_upgrade_does_nothing(path: Path) -> None:
    old_database(path, {})
    migrate.upgrade(path)
    before = path.read_bytes()
    assert migrate.upgrade(path) is None
    assert path.read_bytes() == before


def test_a_log_of_the_old_file_is_not_taken_for_one_of_the_new(path: Path) -> None:
    with closing(sqlite3.connect(path)) as link:
        link.execute("PRAGMA journal_mode=WAL")
    old_database(path, {}, {})
    migrate.upgrade(path)
    assert len(tasks(path)) == 2


def test_a_link_stays_and_the_real_file_is_upgraded(path: Path) -> None:
    folder = path.parent / "elsewhere"
    folder.mkdir()
    real = folder / "real.db"
    old_database(real, {})
    path.symlink_to(Path("elsewhere", "real.db"))
    done = migrate.upgrade(path)
    assert done is not None
    assert path.is_symlink() and os.readlink(path) == "elsewhere/real.db"
    assert tasks(real)[0]["state"] == "pending"
    assert done.backup.parent == folder
    assert sorted(os.listdir(folder)) == sorted([real.name, done.backup.name])
    assert sorted(os.listdir(path.parent)) == ["elsewhere", path.name]


def test_a_file_that_is_not_there_is_not_upgraded_and_not_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERSHELL_SITE", str(path.parent / "site"))
    monkeypatch.setenv("HYPERSHELL_CONFIG_FILE", "")
    for place in ([], ["--db", str(path)], ["--db", str(path.parent / "new" / "x.db")]):
        assert initdb.main([*place, "--upgrade", "--yes"]) == ExitStatus.RUNTIME_ERROR
    assert os.listdir(path.parent) == []
    with pytest.raises(StoreError, match=r"does not exist; name the file with --db PATH, or .* 'hs initdb'"):
        migrate.upgrade(path)
    path.symlink_to("nothing.db")
    with pytest.raises(StoreError, match=r"is a symbolic link to .*nothing\.db, which does not exist"):
        migrate.upgrade(path)
    assert os.listdir(path.parent) == [path.name]


def test_only_a_file_is_upgraded(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(StoreError, match="is not a regular file"):
        migrate.upgrade(path)
    with pytest.raises(StoreError, match="is a directory"):
        migrate.upgrade(path.parent)


def test_an_interrupted_upgrade_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_database(path, {})
    before = path.read_bytes()

    def fail(*names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migrate, "sync", fail)
    with pytest.raises(StoreError, match="No space left on device; the old file is as it was"):
        migrate.upgrade(path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert migrate.upgrade(path) is not None


def test_a_locked_database_is_not_upgraded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_database(path, {})
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda *args, **kw: connect(*args, **(kw | {"timeout": 0.05})))
        with pytest.raises(StoreError, match="locked by another process"):
            migrate.upgrade(path)
    assert os.listdir(path.parent) == [path.name]


def test_unfinished_tasks_can_be_taken_afterwards(path: Path) -> None:
    old_database(path, {"submit_id": "s1"}, {"submit_id": "s2"}, {"submit_id": "s1", "exit_status": 0})
    migrate.upgrade(path)
    store = sqlite_store(path)()
    store.open()
    words: dict[str, Any] = {"transport": "loopback", "job": None, "command": "hs", "cwd": "/"}
    store.begin_run(describe_run(IdSource().task(), ranks=1, slots=1, start_time=0.0, **words))

    def dead(owner: Owner) -> bool:
        raise AssertionError("nobody owns them")

    assert store.left_alone(dead) == 2
    taken = store.take(store.claims(None))
    assert taken.pending == {0: 2}
    assert {task.args for task in store.load(0, 10)[0]} == {"echo 0", "echo 1"}
    store.end_run(Finish(0, 0, 0, 2, "drained"))
    store.close()


def test_the_command_creates_upgrades_and_refuses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERSHELL_SITE", str(path.parent / "site"))
    monkeypatch.setenv("HYPERSHELL_CONFIG_FILE", "")
    assert initdb.main(["--db", str(path), "--yes"]) == ExitStatus.SUCCESS
    preflight(path)
    other = path.with_name("old.db")
    old_database(other, {})
    assert initdb.main(["--db", str(other), "--yes"]) == ExitStatus.RUNTIME_ERROR
    assert initdb.main(["--db", str(other), "--upgrade", "-y"]) == ExitStatus.SUCCESS
    assert tasks(other)[0]["state"] == "pending"
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert initdb.main(["--db", str(path)]) == ExitStatus.RUNTIME_ERROR
