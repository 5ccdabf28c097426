"""Ranks that die, are stopped or raise during ``hs mpi``, under both wheels, with and without ULFM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.testbed.cli import Hs
from tests.testbed.mpi import ROOT, Ended, Mpi, each_mpi, finish, start

#: Runs on the rank that is to be lost, and again elsewhere: then it is quick.
VICTIM = "test -e again && exec echo second; touch again; exec 3>alive; echo $PPID; exec sleep 1000"
QUICK = 20

#: Lets a signal raise an exception in the interpreter of a rank.
RAISES = """
import signal

def handler(number, frame):
    raise RuntimeError("broken")

signal.signal(signal.SIGRTMIN, handler)
"""


class Job:
    """A job of which one rank is about to be lost; `victim` is its process."""

    def __init__(self, hs: Hs, mpi: Mpi, survive: bool) -> None:
        self.hs = hs
        self.mpi = mpi
        self.survive = survive
        (hs.folder / "sitecustomize.py").write_text(RAISES)
        self.process: subprocess.Popen[str]
        self.alive: IO[str]
        self.victim = 0

    def start(self, *args: str, ranks: int = 4) -> subprocess.Popen[str]:
        env = {"HYPERSHELL_SITE": str(self.hs.site), "PYTHONPATH": f"{self.hs.folder}:{ROOT}"}
        words = ["-m", "hypershell", "mpi", "tasks.in", "--restart", "-b1", *args]
        return start(self.mpi, ranks, words, env, cwd=self.hs.folder, survive=self.survive)

    @contextmanager
    def running(self, *args: str, victim: str = VICTIM) -> Iterator[None]:
        """Until its victim runs; inside, it is to be lost. Its task is gone at the end."""
        os.mkfifo(self.hs.folder / "alive")
        self.hs.file([victim, *["echo quick"] * QUICK])
        self.process = self.start(*args)
        with open(self.hs.folder / "alive") as self.alive:
            assert self.process.stdout is not None
            said = iter(self.process.stdout.readline, "")
            self.victim = int(next(line for line in said if line.strip().isdecimal()))
            yield
            assert self.alive.read() == ""  # the guard has ended the task

    def finish(self) -> Ended:
        return finish(self.process)

    def again(self) -> Ended:
        """The same command once more, to its end."""
        return finish(self.start())


def lost(line: str) -> re.Match[str] | None:
    """The words at the end about what was lost."""
    words = r"^hs: 1 rank was lost with \d tasks?, which (was|were) taken back: rank [123] on \S+$"
    return re.search(words, line, re.MULTILINE)


def survived(job: Job, reason: str) -> None:
    """The job went on, and the lost rank's tasks ran elsewhere."""
    done = job.finish()
    assert done.status == 0, done.stderr
    assert lost(done.stderr), done.stderr
    assert job.hs.states() == {"succeeded": QUICK + 1}
    assert job.hs.rows("SELECT execution, attempt FROM task WHERE args LIKE 'test -e%'") == [(2, 1)]
    assert job.hs.rows("SELECT count(*) FROM task WHERE execution > 2 OR attempt > 1") == [(0,)]
    told = job.hs.rows("SELECT reason FROM client WHERE evicted")
    assert len(told) == 1 and reason in told[0][0]
    assert job.hs.rows("SELECT outcome FROM run") == [("complete",)]


@each_mpi(only="openmpi")
def test_ulfm_a_killed_rank_costs_its_tasks(hs: Hs, mpi: Mpi) -> None:
    job = Job(hs, mpi, survive=True)
    with job.running():
        os.kill(job.victim, signal.SIGKILL)
    survived(job, "died")


@each_mpi(only="openmpi")
def test_ulfm_a_rank_that_raises_costs_its_tasks(hs: Hs, mpi: Mpi) -> None:
    job = Job(hs, mpi, survive=True)
    with job.running():
        os.kill(job.victim, signal.SIGRTMIN)
    survived(job, "died")


@each_mpi(only="openmpi")
def test_ulfm_a_task_kills_the_process_group_of_its_rank(hs: Hs, mpi: Mpi) -> None:
    job = Job(hs, mpi, survive=True)
    victim = VICTIM.replace("exec sleep 1000", "read x <gate; kill -9 -$(ps -o pgid= $PPID); sleep 1000")
    os.mkfifo(hs.folder / "gate")
    with job.running(victim=victim):
        Path(hs.folder, "gate").write_text("go\n")
    survived(job, "died")


@each_mpi(only="openmpi")
def test_ulfm_a_killed_rank_0_ends_everybody(hs: Hs, mpi: Mpi) -> None:
    job = Job(hs, mpi, survive=True)
    with job.running():
        os.kill(hs.rows("SELECT pid FROM run")[0][0], signal.SIGKILL)
    assert job.finish().status == 75
    again = job.again()
    assert again.status == 0, again.stderr
    assert hs.states() == {"succeeded": QUICK + 1}


def stopped(job: Job) -> None:
    with job.running("--evict", "2"):
        os.kill(job.victim, signal.SIGSTOP)
        # What it still runs is nobody's business but its guard's; the job's end kills it.
        survived(job, "nothing was heard")


@each_mpi()
def test_a_stopped_rank_is_given_up(hs: Hs, mpi: Mpi) -> None:
    stopped(Job(hs, mpi, survive=False))


@each_mpi(only="openmpi")
def test_ulfm_a_stopped_rank_is_given_up(hs: Hs, mpi: Mpi) -> None:
    stopped(Job(hs, mpi, survive=True))


@each_mpi()
def test_a_stopped_rank_that_goes_on_later_is_dismissed(hs: Hs, mpi: Mpi) -> None:
    """Given up too early it is told so, stops its task and ends with the others, without force."""
    job = Job(hs, mpi, survive=False)
    os.mkfifo(hs.folder / "gate")
    # The second execution holds the run open until the first rank has come back.
    again = "test -e again && { echo second; read x <gate; exit 0; };"
    with job.running("--evict", "2", victim=VICTIM.replace("test -e again && exec echo second;", again)):
        os.kill(job.victim, signal.SIGSTOP)
        assert job.process.stdout is not None
        assert "second\n" in iter(job.process.stdout.readline, "")
        os.kill(job.victim, signal.SIGCONT)
    Path(hs.folder, "gate").write_text("go\n")
    done = job.finish()
    assert done.status == 0 and lost(done.stderr) and "Abort" not in done.stderr, done.stderr
    assert hs.states() == {"succeeded": QUICK + 1}


@each_mpi()
def test_workers_end_without_rank_0(hs: Hs, mpi: Mpi) -> None:
    """Rank 0 is stopped: nobody hears its beat, and nobody waits for it for ever."""
    job = Job(hs, mpi, survive=False)
    with job.running("--evict", "2"):
        os.kill(hs.rows("SELECT pid FROM run")[0][0], signal.SIGSTOP)
    done = job.finish()
    assert done.status not in (0, None) and "rank 0 is gone" in done.stderr, done.stderr
    assert job.again().status == 0
    assert hs.states() == {"succeeded": QUICK + 1}


def restarted(job: Job) -> None:
    """The job has ended; what was reported stays, and the same command does the rest."""
    done = job.finish()
    assert done.status not in (0, None), done.stderr
    before = dict(job.hs.rows("SELECT id, completion_time FROM task WHERE state = 'succeeded'"))
    again = job.again()
    assert again.status == 0, again.stderr
    assert job.hs.states() == {"succeeded": QUICK + 1}
    after = dict(job.hs.rows("SELECT id, completion_time FROM task"))
    assert all(after[key] == end for key, end in before.items())


@each_mpi()
def test_a_rank_that_raises_ends_the_job(hs: Hs, mpi: Mpi) -> None:
    job = Job(hs, mpi, survive=False)
    with job.running():
        os.kill(job.victim, signal.SIGRTMIN)
    restarted(job)


@each_mpi()
def test_a_task_kills_the_process_group_of_its_rank(hs: Hs, mpi: Mpi) -> None:
    job = Job(hs, mpi, survive=False)
    os.mkfifo(hs.folder / "gate")
    victim = VICTIM.replace("exec sleep 1000", "read x <gate; kill -9 -$(ps -o pgid= $PPID); sleep 1000")
    with job.running(victim=victim):
        Path(hs.folder, "gate").write_text("go\n")
    restarted(job)
