"""Signals to the launchers of both wheels: what reaches rank 0, and what the status file says of it afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.integration.test_mpi import Job, read_line
from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, each_mpi, environments, finish


def gated(job: Job, *args: str) -> subprocess.Popen[str]:
    """A run whose first task says ``up`` and waits at the gate; two ranks, so that others wait behind it."""
    os.mkfifo(job.hs.folder / "gate")
    job.hs.file(["echo up; read line <gate; echo done", *["echo more"] * 5])
    process = job.start(2, "tasks.in", "--restart", "-b1", "--status-file", "status.json", *args)
    assert read_line(process) == "up"
    return process


def open_gate(job: Job) -> None:
    with open(job.hs.folder / "gate", "w") as gate:
        gate.write("go\n")


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"nobody said {text}")


def told(hs: Hs) -> dict[str, object]:
    found: dict[str, object] = json.loads((hs.folder / "status.json").read_text())
    return found


@pytest.fixture
def job(hs: Hs, mpi: Mpi) -> Job:
    return Job(hs, mpi)


@each_mpi()
def test_usr1_to_the_launcher_drains(job: Job) -> None:
    process = gated(job)
    process.send_signal(signal.SIGUSR1)
    read_until(process, "SIGUSR1: no new tasks")
    open_gate(job)
    done = finish(process)
    assert done.status == 75 and done.stdout.startswith("done\n")
    states = job.hs.states()
    assert states["pending"] >= 4 and sum(states.values()) == 6
    found = told(job.hs)
    assert (found["state"], found["reason"], found["exit_status"]) == ("ended", "drained", 75)
    assert (found["succeeded"], found["unfinished"]) == (states["succeeded"], states["pending"])


def test_term_to_the_launcher_of_mpich_drains(hs: Hs) -> None:
    mpich = environments()[0]
    if mpich.missing:
        assert os.environ.get("CI") != "true", mpich.missing
        pytest.skip(mpich.missing)
    job = Job(hs, mpich)
    process = gated(job)
    process.send_signal(signal.SIGTERM)
    read_until(process, "SIGTERM: no new tasks")
    open_gate(job)
    done = finish(process)
    assert done.stdout.startswith("done\n")
    assert hs.states()["pending"] >= 4
    assert (told(hs)["state"], told(hs)["exit_status"]) == ("ended", 75)


@each_mpi()
def test_the_file_tells_what_a_launcher_does_not(job: Job) -> None:
    """Rank 0 is killed: whatever the launcher says, the file has no exit status."""
    process = gated(job)
    os.kill(int(str(told(job.hs)["pid"])), signal.SIGKILL)
    assert finish(process).status not in (0, None)
    assert told(job.hs)["exit_status"] is None


@each_mpi()
def test_a_job_ends_before_its_walltime(job: Job) -> None:
    process = gated(job, "--walltime", "4", "-S", "0.1")
    done = finish(process)
    assert done.status == 75 and "The allocation ends in" in done.stderr
    assert job.hs.states() == {"pending": 6}
    assert told(job.hs)["reason"] == "walltime"
