"""The guard: nothing of a client outlives it, however it dies."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hypershell.executor.guard import start_guard

CLIENT = """
import os, sys
from hypershell.executor.guard import start_guard
from tests.test_executor_rig import CLIENT_ID, rig

guard = start_guard(CLIENT_ID)
with rig(sys.argv[1:], guard=guard, slots=4) as both:
    ready = len(sys.argv) - 1
    both.run(until=lambda: both.server.out.count(b"\\n") == ready)
    print(guard.pid, both.server.out.replace(b"\\n", b" ").decode(), flush=True)
    both.run()
"""


def start_client(*lines: str) -> tuple[subprocess.Popen[bytes], int, list[int]]:
    """A client process; the pid of its guard, and the pids that its tasks print."""
    root = Path(__file__).resolve().parent.parent
    client = subprocess.Popen([sys.executable, "-c", CLIENT, *lines], stdout=subprocess.PIPE, cwd=root)
    assert client.stdout is not None
    guard, *tasks = (int(word) for word in client.stdout.readline().split())
    return client, guard, tasks


def wait_for_exit(pid: int, pidfd: int) -> None:
    """Return when a process that is not ours has ended (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(30_000), f"process {pid} did not end"
    os.close(pidfd)


def drained(reader: int) -> bool:
    """Read until no process holds the writing end."""
    os.set_blocking(reader, True)
    while os.read(reader, 4096):
        pass
    os.close(reader)
    return True


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_kill_9_of_a_client_ends_all_its_tasks(fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    client, guard, _ = start_client(
        f"exec 3>{fifo}; echo $$; sleep 1000",
        f"exec 3>{fifo}; trap '' TERM INT HUP; echo $$; while :; do sleep 0.05; done",
        f"exec 3>{fifo}; setsid sleep 1000 & echo $!; wait",
        f"exec 3>{fifo}; echo $$; kill -STOP $$",
    )
    guard_end = os.pidfd_open(guard)
    client.kill()
    client.wait()
    assert drained(reader)
    wait_for_exit(guard, guard_end)


def test_a_process_without_the_variable_is_left_alone(fifo: Path) -> None:
    leaving = "env -u TASK_CLIENT_ID setsid sh -c 'echo $$; exec sleep 1000 >/dev/null'"
    client, guard, [daemon] = start_client(f"{leaving} & wait")
    guard_end, daemon_end = os.pidfd_open(guard), os.pidfd_open(daemon)
    client.kill()
    client.wait()
    wait_for_exit(guard, guard_end)
    poll = select.poll()
    poll.register(daemon_end, select.POLLIN)
    assert not poll.poll(0)
    os.kill(daemon, signal.SIGKILL)
    wait_for_exit(daemon, daemon_end)


def test_a_background_process_ends_with_its_client(fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    client, guard, _ = start_client(f"sleep 1000 >{fifo} 2>&1 & echo $!")
    assert client.wait() == 0
    assert drained(reader)
    # The guard has ended as well, or does so at its next look.
    try:
        wait_for_exit(guard, os.pidfd_open(guard))
    except ProcessLookupError:
        pass


def test_the_guard_withstands_the_signals_of_its_group_and_holds_nothing() -> None:
    guard = start_guard("01900000-0000-7000-8000-0000000000aa")
    try:
        end = os.pidfd_open(guard.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guard.pid, number)
        poll = select.poll()
        poll.register(end, select.POLLIN)
        assert not poll.poll(0)
        assert os.getsid(guard.pid) == guard.pid
        # A new process gives back the other descriptors some moments after posix_spawn(3) has returned.
        for _ in range(5000):
            held = sorted(os.listdir(f"/proc/{guard.pid}/fd"))
            if held == ["0", "1", "2"]:
                break
            assert not poll.poll(1)
        assert held == ["0", "1", "2"]
        assert os.readlink(f"/proc/{guard.pid}/fd/1") == "/dev/null"
        assert b"TASK_CLIENT_ID" not in Path(f"/proc/{guard.pid}/environ").read_bytes()
        guard.close()
        guard.close()
        wait_for_exit(guard.pid, end)
        assert os.waitpid(guard.pid, 0)[1] == 0
    finally:
        guard.close()


def test_a_guard_leaves_other_clients_alone() -> None:
    other = subprocess.Popen(["sleep", "1000"], env={**os.environ, "TASK_CLIENT_ID": "another"})
    guard = start_guard("01900000-0000-7000-8000-0000000000bb")
    guard.close()
    assert os.waitpid(guard.pid, 0)[1] == 0
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_process_that_ignores_term_is_killed() -> None:
    client_id = "01900000-0000-7000-8000-0000000000cc"
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.05; done"],
        env={**os.environ, "TASK_CLIENT_ID": client_id},
        stdout=subprocess.PIPE,
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    guard = start_guard(client_id)
    guard.close()
    assert stubborn.wait() == -signal.SIGKILL
    os.waitpid(guard.pid, 0)


def test_a_guard_that_was_killed_is_replaced(fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    client, guard, _ = start_client(f"exec 3>{fifo}; trap '' TERM; echo $$; while :; do sleep 0.05; done")
    os.kill(guard, signal.SIGKILL)
    while not (fresh := [pid for pid in guards_of(client.pid) if pid != guard]):
        assert client.poll() is None
    guard_end = os.pidfd_open(fresh[0])
    client.kill()
    client.wait()
    assert drained(reader)
    wait_for_exit(fresh[0], guard_end)


def guards_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for child in children:
        try:
            if b"hs-guard" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
        except OSError:
            continue
    return found
