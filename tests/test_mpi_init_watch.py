"""Rank 0 in MPI_Init: it is said that it waits, and a signal ends a wait that does not end by itself."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.testbed.mpi import ROOT

RANK = """
import sys, time
from hypershell.mpi.init_watch import watched_init
from hypershell.signal_desk import SignalDesk
SignalDesk().open()
environ = {"PMI_RANK": sys.argv[1], "PMI_SIZE": "2", "HYDI_CONTROL_FD": "9"}
with watched_init(environ, patience=int(sys.argv[2]), signal_patience=0):
    print("waits", flush=True)
    if sys.argv[3] == "ends":
        sys.exit(3)
    while True:
        time.sleep(60)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs memfd_create(2) and proc(5)")


def start(rank: int, patience: int, end: str = "waits") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RANK, str(rank), str(patience), end],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    return process


def test_rank_0_says_that_it_waits_for_others() -> None:
    process = start(0, 0)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("hs: rank 0 on ")
    process.kill()
    process.communicate(timeout=60)


def test_a_signal_ends_a_wait_that_does_not_end() -> None:
    process = start(0, 1000)
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert said.startswith("hs: rank 0 was signalled while it waited in MPI_Init")


def test_the_watcher_ends_with_the_wait() -> None:
    """Nobody holds the output of this rank any longer: `communicate` returns."""
    process = start(0, 1000, "ends")
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 3


def test_other_ranks_are_not_watched() -> None:
    process = start(1, 0)
    process.send_signal(signal.SIGUSR1)
    process.kill()
    assert process.communicate(timeout=60) == ("", "")
