"""Vacuum, backup and truncation of a database file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hypershell.core.actions import Finish
from hypershell.data import upkeep
from hypershell.data.engine import preflight
from hypershell.data.lease import Life, Owner, ProcessIdentity, Watch, this_process
from hypershell.data.store import describe_run, sqlite_store
from hypershell.data.upkeep import back_up, truncate, vacuum
from hypershell.errors import StoreError
from tests.test_data_rotate import NOW, ODD, add, ids, listed, make, move
from tests.testbed.mpi import ROOT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / ODD
    make(place)
    return place


def test_vacuum_says_what_it_freed(path: Path) -> None:
    add(path, *((f"{number:04}", "succeeded") for number in range(3000)), args="x" * 200)
    assert vacuum(path) < 64 * 1024
    before = path.stat().st_size
    with closing(sqlite3.connect(path)) as link:
        link.execute("DELETE FROM task")
        link.commit()
    freed = vacuum(path)
    assert freed == before - path.stat().st_size > 600_000
    assert vacuum(path) == 0


def test_backup_is_the_database_with_its_permissions(path: Path, tmp_path: Path) -> None:
    add(path, ("a", "succeeded"), ("b", "pending"))
    os.chmod(path, 0o640)
    target = tmp_path / "copy %41?#'.db"
    size = back_up(path, target)
    assert size == target.stat().st_size and target.stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(target)) as other:
        assert list(one.iterdump()) == list(other.iterdump())
    preflight(target)
    assert listed(target) == ["a", "b"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([path.name, target.name])


def test_backup_while_a_server_lives_and_writes(path: Path, tmp_path: Path) -> None:
    store = sqlite_store(path)()
    store.open()
    store.begin_run(
        describe_run("r2", transport="mpi", ranks=1, slots=1, job=None, command="hs", cwd="/", start_time=NOW)
    )
    back_up(path, tmp_path / "copy.db")
    store.beat()
    store.end_run(Finish(0, 0, 0, 0, "complete"))
    store.close()
    assert ids(tmp_path / "copy.db", "SELECT counter FROM run WHERE id = 'r2'") == [0]


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_backup_never_writes_over_anything(path: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "there"
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match="there exists already, nothing was written; name another file"):
        back_up(path, target)
    assert sorted(tmp_path.iterdir()) == before
    assert kind != "file" or target.read_text() == "mine"


def test_backup_does_not_overwrite_what_came_meanwhile(path: Path, tmp_path: Path) -> None:
    aside, target = tmp_path / "aside", tmp_path / "target"
    aside.write_text("new")
    target.write_text("other")
    with pytest.raises(StoreError, match="exists already"):
        upkeep.place(aside, target, like=path)
    assert target.read_text() == "other"


def test_without_hard_links_a_name_is_given_by_renaming(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    back_up(path, tmp_path / "copy.db")
    preflight(tmp_path / "copy.db")
    with pytest.raises(StoreError, match="exists already"):
        upkeep.place(path, tmp_path / "copy.db", like=path)


def test_a_backup_that_cannot_be_written_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"backup .* cannot be written: No such file or directory"):
        back_up(path, tmp_path / "missing" / "copy.db")
    with pytest.raises(StoreError, match=r"no\.db does not exist"):
        back_up(tmp_path / "no.db", tmp_path / "copy.db")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


_KILLED = """
import os, signal, sys
from pathlib import Path
from hypershell.data import upkeep
upkeep.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
upkeep.back_up(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_backup_has_no_name_yet(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    command = [sys.executable, "-c", _KILLED, str(path), str(target)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    back_up(path, target)
    preflight(target)


def test_truncate_removes_everything_but_partitions(path: Path) -> None:
    add(path, *((f"{number:04}", "succeeded") for number in range(300)))
    done = move(path)
    add(path, ("z", "pending"), ("zz", "failed"))
    emptied = truncate(path, pytest.fail)
    assert (emptied.tasks, emptied.runs) == (2, 1)
    preflight(path)
    for table in ("task", "run", "submission", "client"):
        assert ids(path, f"SELECT * FROM {table}") == []
    assert done is not None and len(ids(done.partition)) == 300 == len(listed(path))


def test_truncate_refuses_while_a_server_lives(path: Path) -> None:
    add(path, ("a", "succeeded"))
    store = sqlite_store(path)()
    store.open()
    store.begin_run(
        describe_run("r2", transport="mpi", ranks=1, slots=1, job=None, command="hs", cwd="/", start_time=NOW)
    )
    with pytest.raises(StoreError, match=rf"in use by process {os.getpid()} on host .*; nothing was changed"):
        truncate(path, pytest.fail)
    store.close()
    assert ids(path) == ["a"]


def test_a_server_elsewhere_is_watched_until_it_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two looks tell nothing; then its lease has moved."""
    with closing(sqlite3.connect(path)) as link:
        link.execute("UPDATE run SET end_time = NULL, outcome = NULL, host = 'far', pid = 5, counter = 1")
        link.commit()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            with closing(sqlite3.connect(path)) as link:
                link.execute("UPDATE run SET counter = 2")
                link.commit()

    monkeypatch.setattr(upkeep.time, "sleep", pause)
    told: list[str] = []
    with pytest.raises(StoreError, match="in use by process 5 on host far"):
        truncate(path, told.append)
    assert told == ["waiting up to 30 s for a sign of life from process 5 on host far"]
    assert len(pauses) == 2 and ids(path, "SELECT count(*) FROM run") == [1]


def test_a_file_without_tables_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    for work in (vacuum, lambda place: truncate(place, pytest.fail), move):
        with pytest.raises(StoreError, match=r"empty\.db has no tables: run 'hs initdb'"):
            work(empty)


def test_a_lock_that_stays_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_BUSY", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        with closing(sqlite3.connect(path, isolation_level=None)) as link:
            link.execute("BEGIN")
            link.execute("SELECT count(*) FROM task").fetchone()
            assert vacuum(path) == 0  # a reader is no obstacle


def test_watch_is_that_of_servers() -> None:
    """What keeps servers out is judged as when they take each other's work over."""
    here = this_process()
    owner = Owner("r", here.host, here.boot_id, here.pid, here.pid_start, None, 1, False, False)
    assert Watch(here).life(owner, 0.0) is Life.ALIVE
    assert Watch(ProcessIdentity("far", "b", 1, 1)).life(owner, 0.0) is Life.UNKNOWN
