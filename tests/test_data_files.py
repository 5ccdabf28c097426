"""What keeps a database from being opened or written is named; permissions, disks are pretended: root has all"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hypershell.data.engine import explain, preflight
from hypershell.data.store import Transient
from hypershell.errors import StoreError

Deny = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "main.db"
    place.touch()
    return place


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Deny:
    """Let access(2) refuse a mode on some paths."""

    def deny(mode: int, *places: Path) -> None:
        access = os.access
        refused = {str(place) for place in places}
        monkeypatch.setattr(
            os, "access", lambda place, asked: not (str(place) in refused and asked & mode) and access(place, asked)
        )

    return deny


def disk(monkeypatch: pytest.MonkeyPatch, **more: int) -> None:
    """Let every path lie on a disk of which statvfs(3) tells this."""
    roomy = {"f_flag": 0, "f_bavail": 1 << 20, "f_frsize": 4096, "f_files": 0, "f_favail": 0}
    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(**(roomy | more)))


def refused(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        preflight(path)
    return str(caught.value).removeprefix(f"database {path} ")


def explained(path: Path, code: int) -> str:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return str(explain(error, path)).removeprefix(f"database {path} ")


def test_a_file_that_may_not_be_written(path: Path, deny: Deny) -> None:
    deny(os.W_OK, path)
    rest = "name another file with --db PATH, or use --no-db"
    assert refused(path) == f"is not writable: permission denied; {rest}"


def test_a_read_only_file_system(path: Path, deny: Deny, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(os.W_OK, path, path.parent)
    disk(monkeypatch, f_flag=os.ST_RDONLY)
    assert refused(path).startswith("is not writable: read-only file system; ")
    new = path.with_name("new.db")
    assert refused(new).startswith(f"is not writable: folder {path.parent}: read-only file system; ")
    assert "read-only file system" in explained(path, sqlite3.SQLITE_READONLY)
    assert not new.exists()


def test_a_folder_that_takes_no_journal(path: Path, deny: Deny) -> None:
    deny(os.W_OK, path.parent)
    reason = f"SQLite needs its journal beside it, and folder {path.parent} is not writable (permission denied)"
    assert refused(path).startswith(f"is not writable: {reason}; ")
    rest = "name another file with --db PATH"
    assert explained(path, sqlite3.SQLITE_READONLY) == f"cannot be written: {reason}; {rest}"
    assert explained(path, sqlite3.SQLITE_CANTOPEN) == f"cannot be opened: {reason}; {rest}"
    for suffix in ("-wal", "-shm"):  # another process has the database open, whose log can be used
        Path(f"{path}{suffix}").touch()
    preflight(path)


def test_a_file_that_may_not_be_read(path: Path, deny: Deny) -> None:
    deny(os.R_OK, path)
    assert explained(path, sqlite3.SQLITE_CANTOPEN).startswith("cannot be opened: permission denied; ")
    assert refused(path).startswith("is not writable: permission denied; ")


def test_a_link_to_nothing(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to("no/new.db")
    assert refused(link).startswith(f"is a symbolic link to {path.parent}/no/new.db, which does not exist; ")
    link.unlink()
    link.symlink_to("new.db")  # SQLite makes that file
    preflight(link)


def test_a_link_to_itself(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(link)
    assert "Too many levels of symbolic links; name another file" in refused(link)


@pytest.mark.parametrize("full", [{"f_bavail": 3}, {"f_files": 100, "f_favail": 0}])
def test_a_full_disk(path: Path, full: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    shared_memory_size = 4874  # SQLITE_IOERR_SHMSIZE: the index of the log cannot grow
    disk(monkeypatch)
    assert "(I/O error); check the disk" in explained(path, shared_memory_size)
    disk(monkeypatch, **full)
    way_out = "name another file with --db PATH"
    no_room = f"cannot be read or written: no space is left on its disk; make room, or {way_out}"
    assert explained(path, shared_memory_size) == no_room
    assert "no space is left on its disk" in explained(path, sqlite3.SQLITE_CANTOPEN)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = shared_memory_size
    assert isinstance(explain(error, path), Transient)


def test_without_a_reason_none_is_told(path: Path) -> None:
    rest = "name another file with --db PATH"
    assert explained(path, sqlite3.SQLITE_CANTOPEN) == f"cannot be opened; {rest}"
    assert explained(path, sqlite3.SQLITE_READONLY) == f"cannot be written; {rest}"
