"""The database thread where the machine has no room: memory, descriptors, the size of files."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from hypershell.core.actions import Record
from hypershell.core.events import StoreFailed
from hypershell.data import engine
from hypershell.data.batch import Batch
from hypershell.data.engine import Sqlite, explain
from hypershell.data.lease import Life, Owner, Watch, this_process
from hypershell.data.notices import Opened, Plan, Ready, Told, Tuning
from hypershell.data.places import open_store
from hypershell.data.sql import SqlStore
from hypershell.data.store import Store, Transient, sqlite_store
from hypershell.data.writer import SPARE
from hypershell.room import Spare
from tests.test_data_writer import DONE, Driver, new_submission, query, threaded
from tests.testbed.postgres import Server
from tests.testbed.room import descriptors

QUICK = Tuning(tell_after=0.0)
GONE = Tuning(tell_after=0.0, give_up=0.0)

WANTS: list[Callable[[], Exception]] = [
    MemoryError,
    lambda: OSError(errno.EMFILE, "Too many open files", "rows.py"),
    lambda: ImportError("x.so: cannot open shared object file: Too many open files"),
]
STEPS = ["made", "open", "begin_run", "apply", "end_run"]


class Wanting:
    """A store with a step that fails `times` times for want of something."""

    def __init__(self, path: Path, step: str, error: Callable[[], Exception], times: int) -> None:
        self._store = sqlite_store(path)
        self._step, self._error, self._left = step, error, times

    def __call__(self) -> Store:
        self._fail("made")
        store = self._store()
        for name in STEPS[1:]:
            setattr(store, name, self._wrapped(name, getattr(store, name)))
        return store

    def _fail(self, name: str) -> None:
        if name == self._step and self._left:
            self._left -= 1
            raise self._error()

    def _wrapped(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self._fail(name)
            return inner(*args)

        return call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "main.db"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", WANTS)
def test_what_the_machine_has_no_room_for_is_tried_again(
    path: Path, step: str, error: Callable[[], Exception]
) -> None:
    driver = Driver(threaded(Wanting(path, step, error, 2), QUICK), Plan(new_submission()))
    driver.writer.submit(Record(1, inserted=driver.tasks(3)))
    driver.durable(1)
    driver.finish()
    assert query(path, "SELECT count(*) FROM task") == [(3,)]
    assert query(path, "SELECT outcome FROM run") == [("complete",)]
    told = [notice.text for notice in driver.heard if isinstance(notice, Told)]
    assert len(told) == 2 and "trying again" in told[0] and told[1] == "the database can be written again"


@pytest.mark.parametrize("step", STEPS)
def test_what_never_passes_ends_the_run_with_the_reason(path: Path, step: str) -> None:
    driver = Driver(threaded(Wanting(path, step, MemoryError, -1), GONE), Plan(new_submission()))
    driver.writer.submit(Record(1, inserted=driver.tasks(3)))
    if step == "end_run":
        driver.durable(1)
        driver.writer.finish(DONE)
    reason = driver.until(StoreFailed).reason
    assert "no memory" in reason and "gave up" in reason and "report" not in reason
    assert driver.writer.join(30.0)


class Broken(SqlStore):
    """Memory runs out twice in the middle of a transaction; the first time it cannot even be rolled back."""

    times = 0

    def _write_clients(self, link: Connection, batch: Batch) -> None:
        if self.times < 2:
            self.times += 1
            if self.times == 1:
                self._break_rollback(link.dialect)
            raise MemoryError
        super()._write_clients(link, batch)

    def _break_rollback(self, dialect: Any) -> None:
        def fail(raw: object) -> None:
            del dialect.do_rollback  # the next one is that of the class again
            raise MemoryError

        dialect.do_rollback = fail


def test_memory_that_runs_out_in_a_transaction_leaves_none_behind(path: Path) -> None:
    driver = Driver(threaded(lambda: Broken(Sqlite(path)), QUICK), Plan(new_submission()))
    driver.writer.submit(Record(1, inserted=driver.tasks(30)))
    driver.durable(1)
    driver.finish()
    assert query(path, "SELECT count(*) FROM task") == [(30,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


class Alone(SqlStore):
    """Takes all descriptors that are left, and then needs some of those that are kept for it."""

    def __init__(self, path: Path) -> None:
        super().__init__(Sqlite(path))
        self.others: list[Spare] = []

    def apply(self, records: Sequence[Record]) -> None:
        if not self.others:
            self.others.append(Spare(100))
        for _ in range(SPARE - 1):
            self._needed.append(open("/dev/null"))  # noqa: SIM115
        super().apply(records)

    @property
    def _needed(self) -> list[Any]:
        return self.__dict__.setdefault("needed", [])


def test_descriptors_are_kept_for_the_database(path: Path) -> None:
    with descriptors(24):
        store = Alone(path)
        driver = Driver(threaded(lambda: store, QUICK), Plan(new_submission()))
        driver.until(Ready)
        driver.writer.submit(Record(1, inserted=driver.tasks(3)))
        driver.durable(1)
        for one in store._needed:
            one.close()
        for spare in store.others:
            spare.give()
        driver.finish()
    assert query(path, "SELECT count(*) FROM task") == [(3,)]


def test_a_new_connection_to_postgresql_has_the_kept_descriptors(postgres: Server) -> None:
    address = postgres.address()
    with descriptors(40):
        driver = Driver(threaded(open_store(address), QUICK), Plan(new_submission()))
        driver.until(Opened)
        ours = "application_name = 'hypershell'"
        postgres.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        others = Spare(100)
        driver.writer.submit(Record(1, inserted=driver.tasks(3)))
        driver.durable(1)
        others.give()
        driver.finish()
    assert postgres.query("SELECT count(*) FROM task", schema=address.schema) == [(3,)]


def test_an_owner_that_cannot_be_looked_at_is_not_dead() -> None:
    me = this_process()
    owner = Owner("run", me.host, me.boot_id, me.pid, me.pid_start, None, 1, ended=False, fenced=False)
    watch = Watch(me)
    with descriptors(1):
        rest = Spare(1)
        with pytest.raises(OSError, match="Too many open files"):
            watch.life(owner, 0.0)
        rest.give()
        assert watch.life(owner, 0.0) is Life.ALIVE


def test_a_file_system_that_cannot_be_looked_at_is_not_local(path: Path) -> None:
    with descriptors(1):
        rest = Spare(1)
        with pytest.raises(OSError, match="Too many open files"):
            engine.on_network(path)
        rest.give()


def _driver_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR])
def test_a_database_without_descriptors_names_the_limit(path: Path, code: int) -> None:
    path.write_bytes(b"")
    with descriptors(2) as limit:
        error = explain(_driver_error(code), path)
    assert isinstance(error, Transient)
    assert f"no file descriptor is left (ulimit -n is {limit})" in str(error)


_LARGE = """
import resource, signal, sys
from pathlib import Path
from hypershell.core.actions import Record
from hypershell.core.events import StoreFailed
from hypershell.data.notices import Opened, Plan, Tuning
from hypershell.data.store import sqlite_store
from tests.test_data_writer import Driver, new_submission, threaded
tuning = Tuning(give_up=0.0, tell_after=0.0)
driver = Driver(threaded(sqlite_store(Path(sys.argv[1])), tuning), Plan(new_submission()))
driver.until(Opened)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
driver.writer.submit(Record(1, inserted=driver.tasks(20_000)))
print(driver.until(StoreFailed).reason)
"""


def test_a_limit_on_the_size_of_files_is_named(path: Path) -> None:
    command = [sys.executable, "-c", _LARGE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1])
    assert "a file may have 600000 bytes here (ulimit -f)" in done.stdout, done.stderr
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_full_folder_for_temporary_files_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk of the database has room; /dev/full cannot stand for it, for SQLite asks by statvfs(3)."""
    path.write_bytes(b"")
    folder = path.parent / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("SQLITE_TMPDIR", raising=False)
    monkeypatch.setattr("hypershell.data.files.is_full", lambda place: place == folder)
    text = str(explain(_driver_error(sqlite3.SQLITE_FULL), path))
    assert f"no space is left in {folder}" in text and "TMPDIR" in text
