"""A process that is only a client: its signals, and the cores of its tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hypershell.executor.affinity import widen_affinity

CLIENT = """
import os, sys
from hypershell.core.model import ClientInfo
from hypershell.executor.client import run_client
from hypershell.executor.guard import start_guard
from hypershell.loopback import loopback
from hypershell.proto import messages
from tests.test_executor_rig import CLIENT_ID, Server, make_settings, make_tasks

class End:
    '''The client's end; each poll lets the server have its turn, as if it were elsewhere.'''
    def __init__(self, end, server):
        self.end, self.server, self.told = end, server, 0
        self.send, self.flush, self.expect, self.close = end.send, end.flush, end.expect, end.close
    def poll(self):
        self.server.turn(0.0)
        while self.server.out.count(b"\\n") > self.told:
            print(self.server.out.split(b"\\n")[self.told].decode(), flush=True)
            self.told += 1
        return self.end.poll()
    def wait_hint(self, now):
        return 0.01

server_end, client_end = loopback()
server = Server(server_end, make_tasks(sys.argv[2:]), make_settings(slots=2, signalwait=0.1))
info = ClientInfo(CLIENT_ID, "host", os.getpid(), 2, "0", sys.platform)
lost = run_client(End(client_end, server), info, start_guard(CLIENT_ID), launcher_kills=sys.argv[1] == "kills")
server.turn(0.0)
print(lost, server.left, sorted(r.exit_status for r in server.results.values()), len(server.returned))
"""


def signalled(numbers: list[int], lines: list[str], launcher: str = "waits") -> str:
    """What a client says at its end that got `numbers` once its first task had printed a line."""
    root = Path(__file__).resolve().parent.parent
    client = subprocess.Popen([sys.executable, "-c", CLIENT, launcher, *lines], stdout=subprocess.PIPE, cwd=root)
    assert client.stdout is not None
    first = client.stdout.readline()
    for number in numbers:
        client.send_signal(number)
    rest = client.stdout.read()  # communicate() with a time limit would not see what readline() has read ahead
    assert client.wait(timeout=60) == 0
    return (first + rest).decode().splitlines()[-1]


def test_without_signals_all_is_done() -> None:
    assert signalled([], ["echo; exit 3", "true"]) == "None None [0, 3] 0"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_one_signal_drains(number: int, tmp_path: Path) -> None:
    lines = [f"echo; until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit 4", f"sleep 0.3; touch {tmp_path}/go"]
    lines += ["true"] * 3
    assert signalled([number], lines) == "None drained [0, 4] 3"


@pytest.mark.parametrize(
    "numbers", [[signal.SIGUSR2], [signal.SIGTERM, signal.SIGUSR1], [signal.SIGUSR1, signal.SIGINT]]
)
def test_usr2_or_two_different_signals_interrupt(numbers: list[int]) -> None:
    last = signalled(numbers, ["echo; sleep 1000", "trap '' INT TERM; while :; do sleep 0.05; done", "true"])
    assert last in ("None interrupted [] 3", "None drained [] 3")


def test_hup_and_a_repeated_term_change_nothing(tmp_path: Path) -> None:
    lines = [f"echo; until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit 4", f"sleep 0.3; touch {tmp_path}/go"]
    assert signalled([signal.SIGHUP], lines) == "None None [0, 4] 0"
    (tmp_path / "go").unlink()
    assert signalled([signal.SIGTERM, signal.SIGHUP, signal.SIGTERM], lines) == "None drained [0, 4] 0"


def test_a_launcher_that_kills_leaves_time_for_term_and_kill_only() -> None:
    lines = ["trap '' TERM; echo; while :; do sleep 0.05; done", "sleep 1000"]
    assert signalled([signal.SIGTERM], lines, "kills") == "None interrupted [] 2"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_bound_process_gets_the_cores_of_its_node_back() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert widen_affinity({}) == (True, None)
        assert os.sched_getaffinity(0) >= before
        # A job that has one core of this node, and no cpuset: more than its share would come out.
        os.sched_setaffinity(0, {min(before)})
        assert widen_affinity({"SLURM_CPUS_ON_NODE": "1"}) == (len(before) == 1, None)
        assert len(os.sched_getaffinity(0)) == 1 or len(before) == 1
    finally:
        os.sched_setaffinity(0, before)
