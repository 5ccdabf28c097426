"""A server that dies while it reads a large FILE: the rest of the file goes on at the committed byte."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.server_rate import NullClients
from hypershell import reactor
from hypershell.server.run import Place, Run
from hypershell.settings import RunSettings
from tests.testbed.mpi import ROOT, clean_environ

LINES = 120_000

SERVER = """
import sys
from tests.integration.test_half_read import serve
serve(sys.argv[1], sys.argv[2], file=sys.argv[2])
"""


def serve(db: str, site: str, *, file: str | None, restart: bool = False) -> int:
    """Run a server with null clients, which finish every task at once."""
    poller = reactor.Poller()
    settings = RunSettings(file=file, db=db, restart=restart, site=site)
    run = Run(poller, NullClients(4), settings, Place("loopback", 1, 4, 1, "null"), ["cluster"])
    run.start()
    reactor.run(poller, [run.server])
    return run.close()


def offset(db: Path) -> int:
    """How far the file has been read, as far as that is committed."""
    try:
        connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=10)
        try:
            row = connection.execute("SELECT offset FROM submission").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return 0
    return int(row[0]) if row else 0


def die_half_way(file: Path, db: Path) -> None:
    """Leave what a server leaves that was killed while it read."""
    file.write_text("".join(f"./run {n}\n" for n in range(LINES)))
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(db), str(file)], cwd=ROOT, env=clean_environ())
    while not offset(db):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert offset(db) < file.stat().st_size, "the server was killed too late to test anything"


def test_the_rest_of_a_half_read_file_is_run(tmp_path: Path) -> None:
    file, db = tmp_path / "tasks.in", tmp_path / "main.db"
    die_half_way(file, db)
    assert serve(str(db), str(tmp_path), file=None, restart=True) == 0
    connection = sqlite3.connect(db)
    query = "SELECT state, count(*), count(DISTINCT args), count(DISTINCT submission) FROM task GROUP BY state"
    assert connection.execute(query).fetchall() == [("succeeded", LINES, LINES, 1)]
    assert connection.execute("SELECT offset, complete FROM submission").fetchall() == [(file.stat().st_size, 1)]
    connection.close()


def test_a_half_read_file_that_is_gone_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was read of it still runs; the status says that something is left."""
    file, db = tmp_path / "tasks.in", tmp_path / "main.db"
    die_half_way(file, db)
    file.unlink()
    assert serve(str(db), str(tmp_path), file=None, restart=True) == 75
    assert f"FileNotFoundError: {file}" in caplog.text
    connection = sqlite3.connect(db)
    assert [row[0] for row in connection.execute("SELECT DISTINCT state FROM task")] == ["succeeded"]
    connection.close()
