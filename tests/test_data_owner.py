"""Whose database it is: refused, named, or said to be shared; its mode and that of what SQLite makes beside it."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from hypershell.data import owner
from hypershell.data.engine import preflight
from hypershell.data.owner import Sharing
from hypershell.errors import StoreError
from tests.testbed.neighbour import give_away


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that is there."""
    place = tmp_path / "main.db"
    preflight(place)
    return place


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("wanted", [None, 0o640, 0o660])
@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_modes_of_all_its_files(tmp_path: Path, umask: int, wanted: int | None, journal: str) -> None:
    place = tmp_path / "main.db"
    before = os.umask(umask)
    try:
        preflight(place, Sharing(wanted))
        with closing(sqlite3.connect(place, isolation_level=None)) as link:
            link.execute(f"PRAGMA journal_mode={journal}")
            link.execute("CREATE TABLE x (y)")
            link.execute("BEGIN IMMEDIATE")
            link.execute("INSERT INTO x VALUES (1)")
            names = {name: mode(tmp_path / name) for name in os.listdir(tmp_path)}
    finally:
        os.umask(before)
    beside = ["main.db-shm", "main.db-wal"] if journal == "WAL" else ["main.db-journal"]
    assert names == dict.fromkeys(["main.db", *beside], wanted or 0o600)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_the_tasks_of_another_user_are_not_run(path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(f"{path}{suffix}").touch()
    give_away(Path(f"{path}{suffix}"), monkeypatch)
    before = path.read_bytes(), sorted(os.listdir(path.parent))
    with pytest.raises(StoreError, match="belongs to another user") as caught:
        preflight(path, Sharing(runs=True))
    assert "database.mode" in str(caught.value) and "\n" not in str(caught.value)
    assert (path.read_bytes(), sorted(os.listdir(path.parent))) == before
    preflight(path, Sharing(0o660, runs=True))


def test_another_owner_is_named_where_nothing_runs(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    give_away(path, monkeypatch)
    preflight(path, Sharing())
    (told,) = caplog.messages
    assert told.startswith(f"database {path} belongs to another user")
    preflight(path, Sharing(0o640))
    assert len(caplog.messages) == 1


def test_a_link_beside_it_is_refused(path: Path, tmp_path: Path) -> None:
    Path(f"{path}-journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"main\.db-journal is no regular file"):
        preflight(path, Sharing())


@pytest.mark.parametrize(("wide", "can"), [(0o644, "read"), (0o640, "read"), (0o666, "read and write")])
def test_a_database_that_is_open_to_others_is_named_and_left_so(
    path: Path, wide: int, can: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path.chmod(wide)
    preflight(path, Sharing())
    assert caplog.messages == []  # nobody else gets into the folder
    monkeypatch.setattr(owner, "is_exposed", lambda place: True)
    preflight(path, Sharing())
    (told,) = caplog.messages
    assert told.startswith(f"other users can {can} database {path} (mode {wide:04o}): chmod 600")
    assert mode(path) == wide
    preflight(path, Sharing(0o640))
    assert len(caplog.messages) == 1 and mode(path) == 0o640
    assert caplog.records[0].levelno == logging.WARNING
