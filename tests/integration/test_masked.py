"""A key that was given on the command line: warned of once, and nowhere else to be seen."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import h5py

from tests.integration.test_net import ended, wait_for_file
from tests.integration.test_planted import program
from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, clean_environ, each_mpi

KEY = "Sesame-of-these-tests-0123456789abcdef"
WARNING = "-k/--auth: ps shows it to everybody on this host"
#: Prints its environment, and the command lines of rank, launcher and what is above them.
LOOK = """cp c.json kept.json; env; pid=$PPID
while [ "$pid" -gt 1 ]; do
tr '\\0' ' ' </proc/$pid/cmdline; echo; pid=$(sed 's/.*) //' /proc/$pid/stat | cut -d' ' -f2); done"""


def assert_masked(hs: Hs) -> None:
    """In the database, in what shows it, and in an export."""
    assert KEY.encode() not in b"".join(path.read_bytes() for path in hs.db.parent.iterdir() if path.is_file())
    (shown, *_) = json.loads(hs.run("runs", "--json").out)
    assert "***" in shown["command"] and shown["command"].startswith("hs ")
    assert hs.run("export", "out.h5", "--force").status == 0
    assert KEY.encode() not in (hs.folder / "out.h5").read_bytes()


@each_mpi()
def test_ranks_get_the_key_but_not_on_their_command_line(hs: Hs, mpi: Mpi) -> None:
    (hs.folder / "look.sh").write_text(LOOK)
    hs.file(["sh look.sh"] * 2)
    door = ["-H", "localhost", "-p", "0", "--connect-file", "c.json", "-k", KEY]
    words = [program(mpi.python), "mpi", "-n", "2", "tasks.in", *door]
    environ = clean_environ(hs.environ())
    done = subprocess.run(
        words, cwd=hs.folder, env=environ, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stdout.splitlines() if " mpi -n 2 tasks.in" in line]
    assert len(ours) >= 3, "both rank and launcher were looked at"
    assert all("-k ***" in line for line in ours) and KEY not in "\n".join(ours)
    assert KEY not in done.stdout and "HS_MPI_SECRETS=" not in done.stdout
    assert json.loads((hs.folder / "kept.json").read_text())["key"] == KEY
    assert done.stderr.count(WARNING) == 1 and KEY not in done.stderr
    assert_masked(hs)


def test_a_server_records_and_shows_its_command_line_without_the_key(hs: Hs) -> None:
    """Also in the line that tells how to go on."""
    hs.file(["false"])
    words = ["server", "tasks.in", f"-k{KEY}", "--port", "0", "--connect-file", "c.json"]
    process = hs.start(*words)
    try:
        wait_for_file(hs.folder / "c.json", process)
        port = json.loads((hs.folder / "c.json").read_text())["port"]
        told = hs.run("client", "-p", str(port), "-k", KEY)
        done = ended(process)
    finally:
        process.kill()
    assert done.status == 7 and told.status == 0, (done, told)
    assert done.err.count(WARNING) == told.err.count(WARNING) == 1
    assert KEY not in done.err + told.err and "hs server tasks.in '-k***'" in done.err
    assert_masked(hs)


def test_a_key_without_effect_is_masked_too(hs: Hs) -> None:
    hs.file(["true"])
    done = hs.run("cluster", "tasks.in", "--auth", KEY)
    assert (done.status, done.err) == (0, "")
    assert_masked(hs)


def test_keys_that_an_older_version_recorded_are_not_shown_and_go_with_a_vacuum(hs: Hs) -> None:
    hs.file(["true"])
    assert hs.run("cluster", "tasks.in").status == 0
    with closing(sqlite3.connect(hs.db)) as link:
        link.execute("UPDATE run SET command = ?", (f"hs server tasks.in --auth={KEY}",))
        link.commit()
    for words in (["runs", "--json"], ["runs", "--csv"], ["runs", run_id(hs)]):
        done = hs.run(*words)
        assert done.status == 0 and "--auth=***" in done.out and KEY not in done.out
    assert hs.run("export", "out.h5").status == 0
    with h5py.File(hs.folder / "out.h5") as file:
        assert file["runs/command"].asstr()[0] == "hs server tasks.in '--auth=***'"
    assert hs.run("initdb", "--vacuum", "--yes").status == 0
    assert_masked(hs)


def run_id(hs: Hs) -> str:
    ((ident,),) = hs.rows("SELECT id FROM run")
    return str(ident)


def test_a_url_with_a_password_is_refused_on_the_command_line_and_not_shown(hs: Hs, tmp_path: Path) -> None:
    hs.file(["true"])
    for words in (["cluster", "tasks.in"], ["mpi", "-n", "2", "tasks.in"], ["list"], ["submit", "true"]):
        done = hs.run(*words, "--db", "postgresql://me:Sesame@nowhere/tasks")
        assert done.status == 2 and "HYPERSHELL_DATABASE_URL" in done.err and "Sesame" not in done.err + done.out
    assert not hs.db.exists()
