"""A client that is stopped while its tasks end: they ended when the kernel says, and their limits counted."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, clean_environ, each_mpi, finish, start
from tests.testbed.waiting import until

#: Both have a limit of 0.8 s. Each says who it is, then becomes its sleep.
_LINE = "echo $$ $PPID >{0}.new && mv {0}.new {0} && exec sleep {1}"
TASKS = [_LINE.format("a", 0.3), _LINE.format("b", 1.2)]


def stop_until_both_ended(folder: Path) -> None:
    """Stop the client of the tasks, wait for the end of both, and let it go on."""
    files = [folder / "a", folder / "b"]
    until(lambda: all(file.exists() for file in files))
    tasks, clients = zip(*(map(int, file.read_text().split()) for file in files), strict=True)
    os.kill(clients[0], signal.SIGSTOP)
    try:
        assert clients[0] == clients[1]
        until(lambda: all(has_ended(task) for task in tasks))
    finally:
        os.kill(clients[0], signal.SIGCONT)


def has_ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def check(hs: Hs, stderr: str) -> None:
    query = "SELECT state, exit_status, error, duration FROM task ORDER BY id"
    (first, *in_time), (second, *late) = hs.rows(query)
    assert (first, in_time[:2]) == ("succeeded", [0, None])
    assert (second, late[0]) == ("failed", 0), stderr
    assert late[1].startswith("timeout, noticed late: its client could not look from ")
    assert in_time[2] < 0.8 < 1.2 <= late[2] < 3.0


def test_of_hs_cluster(hs: Hs) -> None:
    process = hs.start("cluster", hs.file(TASKS), "-N2", "-W", "0.8")
    stop_until_both_ended(hs.folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 7
    check(hs, err.decode())


@each_mpi(seldom="openmpi")
def test_a_worker_rank(hs: Hs, mpi: Mpi) -> None:
    words = ["-m", "hypershell", "mpi", hs.file(TASKS), "-N2", "--rank0-tasks", "0", "-W", "0.8"]
    process = start(mpi, 2, words, clean_environ(hs.environ()), cwd=hs.folder)
    stop_until_both_ended(hs.folder)
    done = finish(process)
    assert done.status == 7
    check(hs, done.stderr)
