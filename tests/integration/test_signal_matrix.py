"""Any two signals, to any process of an MPI job, at any moment: it ends in good order and loses nothing.

All combinations are too many for the suite, which runs a sample; ``make soak`` runs as many as it is told
(``HS_TEST_SIGNALS``; 500 are all).
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.integration.test_mpi import Job
from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, each_mpi, finish
from tests.testbed.waiting import until

SIGNALS = ("USR1", "TERM", "INT", "HUP", "USR2")
TARGETS = ("launcher", "rank 0", "idle rank", "busy rank", "all ranks")
MOMENTS = ("importing", "busy", "draining", "finishing")
RANKS = 4
TASKS = 5
#: For each time that the task may begin.
GO = b"go\n" * RANKS

Case = tuple[str, str, str, str]


def sample() -> list[Case]:
    """As many cases as are wanted, the same in every run."""
    cases = list(itertools.product(SIGNALS, SIGNALS, TARGETS, MOMENTS))
    wanted = os.environ.get("HS_TEST_SIGNALS", "20")
    return random.Random(11).sample(cases, min(int(wanted), len(cases)))


@dataclass
class Processes:
    """The launcher of a job and its ranks, by the numbers that the launcher gave them."""

    launcher: int
    ranks: dict[int, int] = field(default_factory=dict)
    busy: set[int] = field(default_factory=set)

    def of(self, target: str) -> list[int]:
        if target == "launcher":
            return [self.launcher]
        if target == "all ranks":
            return list(self.ranks.values())
        if target == "rank 0":
            return [self.ranks[0]]
        workers = {pid for rank, pid in self.ranks.items() if rank}
        return sorted(self.busy if target == "busy rank" else workers - self.busy)[:1]


def find_ranks(launcher: int) -> dict[int, int]:
    """The ranks that have our handlers: signals are kept from there on (proc(5), SigCgt)."""
    found = {}
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(launcher).children(recursive=True):
            with suppress(psutil.Error, OSError):
                words = process.cmdline()
                if "hypershell" not in words or not _catches(process.pid, signal.SIGUSR1):
                    continue
                environ = process.environ()
                rank = environ.get("PMI_RANK") or environ.get("OMPI_COMM_WORLD_RANK")
                if rank is not None:
                    found[int(rank)] = process.pid
    return found


def _catches(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(mask >> (number - 1) & 1)


def send(name: str, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, f"SIG{name}"))


def launcher_kills(mpi: Mpi, target: str, *signals: str) -> bool:
    """Whether the launcher ends the job by force, whatever the ranks do (docs/decisions/0003)."""
    if target != "launcher":
        return False
    if mpi.name == "openmpi":
        return bool({"TERM", "INT", "HUP"} & set(signals))
    return bool({"USR2", "HUP"} & set(signals)) or signals.count("INT") > 1


@pytest.fixture
def job(hs: Hs, mpi: Mpi) -> Job:
    return Job(hs, mpi)


@each_mpi()
@pytest.mark.parametrize("case", sample(), ids=lambda case: "-".join(case).replace(" ", "_"))
def test_two_signals(job: Job, case: Case) -> None:
    first, second, target, moment = case
    folder = job.hs.folder
    os.mkfifo(folder / "gate")
    # One rank is busy until the gate opens, the others have nothing to do: group 1 waits for it.
    lines = ["echo $PPID >busy.part; mv busy.part busy; read line <gate; echo 0"]
    lines += [f"echo {number}  # HYPERSHELL: group:1" for number in range(1, TASKS)]
    job.hs.file(lines)
    process = job.start(RANKS, "tasks.in", "--restart", "-S", "0.2")
    processes = Processes(process.pid)
    until(lambda: len(find_ranks(process.pid)) == RANKS or process.poll() is not None)
    processes.ranks = find_ranks(process.pid)
    if moment != "importing" or target in ("idle rank", "busy rank"):
        until((folder / "busy").exists)
        processes.busy = {int((folder / "busy").read_text())}
    if moment == "draining":
        send("USR1", [processes.ranks[0]])
    gate = os.open(folder / "gate", os.O_RDWR)  # both ends, so that opening it waits for nobody
    try:
        if moment == "finishing":
            os.write(gate, GO)
        pids = processes.of(target)
        send(first, pids)
        send(second, pids)
        os.write(gate, GO)
        done = finish(process)
    finally:
        os.close(gate)
    assert done.status is not None, f"it does not end: {done.stderr}"
    if not launcher_kills(job.mpi, target, first, second):
        assert done.status in (0, 4, 75), done.stderr
    _finish_the_rest(job)


def _finish_the_rest(job: Job) -> None:
    """All tasks can be run to their end, whatever was left."""
    (job.hs.folder / "gate").unlink()
    (job.hs.folder / "gate").write_text("go\n")
    again = job.hs.run("cluster", "tasks.in", "--restart")
    assert again.status == 0, again.err
    assert job.hs.states() == {"succeeded": TASKS}


@each_mpi()
@pytest.mark.parametrize("name", ["USR1", "TERM", "INT"])
def test_an_idle_rank_outlives_later_signals(job: Job, name: str) -> None:
    """The executor of an idle rank ends at the first signal; the next one came when its handlers were gone."""
    folder = job.hs.folder
    os.mkfifo(folder / "gate")
    job.hs.file(["echo $PPID >busy.part; mv busy.part busy; read line <gate; echo 0"])
    process = start_with_debug(job)
    until((folder / "busy").exists)
    processes = Processes(process.pid, find_ranks(process.pid), {int((folder / "busy").read_text())})
    idle = processes.of("idle rank")
    send(name, idle)
    assert process.stderr is not None
    for line in process.stderr:
        if "left: " in line:
            break
    send(name, idle)
    send("TERM", idle)
    with open(folder / "gate", "w") as gate:
        gate.write("go\n")
    done = finish(process)
    assert (done.status, job.hs.states()) == (0, {"succeeded": 1}), done.stderr


def start_with_debug(job: Job) -> subprocess.Popen[str]:
    job.env["HYPERSHELL_LOGGING_LEVEL"] = "debug"
    return job.start(RANKS, "tasks.in", "--restart")
