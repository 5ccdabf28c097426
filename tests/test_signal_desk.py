"""Signals before anybody listens, while somebody does, and afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hypershell.signal_desk import SignalDesk, listening
from tests.testbed.mpi import ROOT

LAST_LINES = """
import os, signal, sys
from hypershell import __main__
import hypershell.apps.mpi as mpi

def work(argv):
    os.kill(os.getpid(), signal.SIGTERM)
    return 6

class Late:
    def __del__(self):  # when the interpreter clears its modules
        os.kill(os.getpid(), signal.SIGUSR1)

late = Late()
mpi.main = work
sys.argv[1:] = ["mpi", "tasks.in"]
raise SystemExit(__main__.main())
"""


@pytest.fixture
def desk() -> Iterator[SignalDesk]:
    desk = SignalDesk()
    desk.open()
    yield desk
    desk.close()


def me(number: int) -> None:
    os.kill(os.getpid(), number)


def test_signals_are_kept_until_somebody_listens(desk: SignalDesk) -> None:
    me(signal.SIGUSR1)
    me(signal.SIGTERM)
    heard: list[int] = []
    with listening(heard.append):
        assert heard == [signal.SIGUSR1, signal.SIGTERM]
        me(signal.SIGINT)
    assert heard == [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT]


def test_after_the_work_signals_mean_nothing(desk: SignalDesk) -> None:
    heard: list[int] = []
    with listening(heard.append):
        pass
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        me(number)
    assert heard == [] == desk.kept


def test_handlers_are_taken_back_from_a_library(desk: SignalDesk) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # as an MPI does
    heard: list[int] = []
    with listening(heard.append):
        me(signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]


def test_without_a_desk_the_old_handlers_return() -> None:
    assert SignalDesk.of_process() is None
    before = signal.getsignal(signal.SIGUSR1)
    with listening(lambda number: None):
        assert SignalDesk.of_process() is not None
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_rank_survives_signals_until_its_interpreter_is_gone() -> None:
    done = subprocess.run([sys.executable, "-c", LAST_LINES], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 6
