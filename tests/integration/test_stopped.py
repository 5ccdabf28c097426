"""A client that is stopped while its tasks end: they ended when the kernel says, and their limits counted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, clean_environ, each_mpi, finish, start
from tests.testbed.waiting import until

LIMIT = 2.5

#: Each says who it is, then waits for a word.
_LINE = "echo $$ $PPID >{0}.new && mv {0}.new {0} && read word <go.{0}"
TASKS = [_LINE.format("a"), _LINE.format("b")]


def end_both_while_the_client_is_stopped(folder: Path) -> None:
    """The first at once, the second after its limit; then the client goes on."""
    files = [folder / "a", folder / "b"]
    until(lambda: all(file.exists() for file in files))
    over = time.monotonic() + LIMIT + 0.3
    tasks, clients = zip(*(map(int, file.read_text().split()) for file in files), strict=True)
    os.kill(clients[0], signal.SIGSTOP)
    try:
        assert clients[0] == clients[1]
        (folder / "go.a").write_text("go\n")
        until(lambda: has_ended(tasks[0]))
        until(lambda: time.monotonic() > over)
        (folder / "go.b").write_text("go\n")
        until(lambda: has_ended(tasks[1]))
    finally:
        os.kill(clients[0], signal.SIGCONT)


@pytest.fixture(autouse=True)
def words(hs: Hs) -> None:
    for name in ("go.a", "go.b"):
        os.mkfifo(hs.folder / name)


def has_ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def check(hs: Hs, stderr: str) -> None:
    query = "SELECT state, exit_status, error, duration FROM task ORDER BY id"
    (first, *in_time), (second, *late) = hs.rows(query)
    assert (first, in_time[:2]) == ("succeeded", [0, None])
    assert (second, late[0]) == ("failed", 0), stderr
    assert late[1].startswith("timeout, noticed late: its client could not look from ")
    assert in_time[2] < LIMIT < late[2]


def test_hs_cluster(hs: Hs) -> None:
    process = hs.start("cluster", hs.file(TASKS), "-N2", "-W", str(LIMIT))
    end_both_while_the_client_is_stopped(hs.folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 7
    check(hs, err.decode())


@each_mpi(seldom="openmpi")
def test_a_worker_rank(hs: Hs, mpi: Mpi) -> None:
    words = ["-m", "hypershell", "mpi", hs.file(TASKS), "-N2", "--rank0-tasks", "0", "-W", str(LIMIT)]
    process = start(mpi, 2, words, clean_environ(hs.environ()), cwd=hs.folder)
    end_both_while_the_client_is_stopped(hs.folder)
    done = finish(process)
    assert done.status == 7
    check(hs, done.stderr)
