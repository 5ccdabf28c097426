"""Opening a database: what is refused, and in which words."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hypershell.data import engine
from hypershell.data.engine import APPLICATION_ID, SCHEMA_VERSION, file_system, preflight
from hypershell.data.store import Transient, sqlite_store
from hypershell.errors import StoreError

HYPERSHELL = "CREATE TABLE task (id TEXT, args TEXT, schedule_time TEXT, exit_status INTEGER, attempt INTEGER)"


def refused(path: Path, *words: str) -> None:
    with pytest.raises(StoreError) as caught:
        preflight(path)
    text = str(caught.value)
    assert "\n" not in text
    for word in (str(path) if path.name in text else str(path.parent), *words):
        assert word in text


def write(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as link:
        for statement in statements:
            link.execute(statement)
        link.commit()


def test_no_folder_is_made_for_it(tmp_path: Path) -> None:
    refused(tmp_path / "a" / "b" / "main.db", f"folder {tmp_path / 'a' / 'b'}: No such file or directory; make it")
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "main.db"
    preflight(path)
    store = sqlite_store(path)()
    store.open()
    store.close()
    preflight(path)
    with closing(sqlite3.connect(path)) as link:
        assert link.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert link.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert link.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert link.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == (str(SCHEMA_VERSION),)


def test_preflight_imports_no_sqlalchemy(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hypershell.data.engine import preflight; import "
        "hypershell.data.writer, hypershell.data.memory; preflight(Path(sys.argv[1])); "
        "print('sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.db")], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "main.db", f"folder {tmp_path / 'file'}: Not a directory", "--db")


def test_a_directory_in_the_way_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "main.db").mkdir()
    refused(tmp_path / "main.db", "is a directory", "--db")


def test_a_device_in_the_way_of_the_file() -> None:
    refused(Path("/dev/null"), "not a regular file")


def test_no_database(tmp_path: Path) -> None:
    path = tmp_path / "main.db"
    path.write_bytes(b"this is a text, and a rather long one, that is no database at all\n" * 50)
    refused(path, "is no SQLite database")
    assert path.read_bytes().startswith(b"this is a text")


def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "main.db"
    write(path, "CREATE TABLE songs (name TEXT)")
    refused(path, "another program", "--db")


def test_hypershells_own_database(tmp_path: Path) -> None:
    path = tmp_path / "main.db"
    write(path, HYPERSHELL, "CREATE TABLE client (id TEXT)")
    before = path.read_bytes()
    refused(path, "made by HyperShell", "hs initdb --upgrade")
    assert path.read_bytes() == before


@pytest.mark.parametrize(("version", "word"), [(SCHEMA_VERSION + 1, "newer"), (SCHEMA_VERSION - 1, "older")])
def test_another_version(tmp_path: Path, version: int, word: str) -> None:
    path = tmp_path / "main.db"
    write(
        path,
        "CREATE TABLE task (id TEXT)",
        f"PRAGMA application_id={APPLICATION_ID}",
        f"PRAGMA user_version={version}",
    )
    refused(path, word)


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    code = (
        "import sqlite3, sys; link = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "link.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes)  # type: ignore[call-overload]
    try:
        assert holder.stdout.readline() == b"locked\n"
        yield
    finally:
        holder.communicate()


def test_locked_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_BUSY_OPEN", 0.05)
    path = tmp_path / "main.db"
    with locked_by_another_process(path):
        refused(path, "locked by another process")
    preflight(path)


def test_a_lock_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_BUSY", 0.05)
    monkeypatch.setattr(engine, "_BUSY_OPEN", 0.05)
    path = tmp_path / "main.db"
    store = sqlite_store(path)()
    store.open()
    store.close()
    with locked_by_another_process(path), pytest.raises(Transient, match="locked"):
        store.open()
    store.open()
    store.close()


def test_a_removed_or_replaced_file_is_noticed(tmp_path: Path) -> None:
    database = engine.Sqlite(tmp_path / "main.db")
    for name in ("main.db", "other.db"):
        write(tmp_path / name, "CREATE TABLE x (y)")
    database.check_place()
    database.check_place()
    os.replace(tmp_path / "other.db", tmp_path / "main.db")
    with pytest.raises(StoreError, match="replaced"):
        database.check_place()
    (tmp_path / "main.db").unlink()
    with pytest.raises(StoreError, match="removed"):
        database.check_place()


def test_on_a_network_file_system_the_journal_is_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "file_system", lambda path: "nfs4")
    path = tmp_path / "main.db"
    preflight(path)
    store = sqlite_store(path)()
    store.open()
    store.close()
    with closing(sqlite3.connect(path)) as link:
        assert link.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_locks_that_do_not_lock_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "file_system", lambda path: "lustre")
    nolock = lambda path, timeout: sqlite3.connect(f"file:{path}?nolock=1", uri=True, isolation_level=None)  # noqa: E731
    monkeypatch.setattr(engine, "_connect", nolock)
    refused(tmp_path / "main.db", "file locks do not work", "lustre", "local disk")


def test_the_file_system_is_the_innermost_mount() -> None:
    assert file_system(Path("/proc/self/stat")) == "proc"
    assert file_system(Path("/")) not in ("", "proc")
