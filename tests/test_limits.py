"""Limits of descriptors: ours is raised, what we start has the user's, some are kept free."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypershell.errors import LaunchError
from hypershell.executor.spawn import Spawner
from hypershell.limits import lowered, move_above, require_descriptors
from hypershell.reactor import Poller
from hypershell.room import descriptor_limit
from tests.testbed.limited import descriptors

ROOT = Path(__file__).resolve().parents[1]


def told_by(code: str, soft: int, hard: int | None = None) -> object:
    """What a Python with these limits prints as JSON."""
    names = "from hypershell.limits import *\nfrom hypershell.room import descriptor_limit"
    words = [sys.executable, "-c", f"import json, resource\n{names}\n{code}"]
    done = subprocess.run(descriptors(words, soft, hard), cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


SHOW = "print(json.dumps([before, *resource.getrlimit(resource.RLIMIT_NOFILE)]))"


@pytest.mark.parametrize(
    ("soft", "hard", "before"), [(64, 256, 64), (64, 64, None), (256, 256, None), (1024, 5000, 1024)]
)
def test_the_soft_limit_becomes_the_hard_one(soft: int, hard: int, before: int | None) -> None:
    assert told_by(f"before = raise_descriptors(); {SHOW}", soft, hard) == [before, hard, hard]


def test_a_limit_that_is_too_large_to_be_had_is_asked_for_in_part() -> None:
    """macOS: the hard limit is called infinite, and more than the kernel has is refused."""
    code = """
real, infinite = resource.setrlimit, resource.RLIM_INFINITY
resource.getrlimit = lambda which: (256, infinite)
asked = []
def setrlimit(which, limits):
    asked.append(limits)
    if limits[0] > 65536:
        raise ValueError
resource.setrlimit = setrlimit
before = raise_descriptors()
print(json.dumps([before, [soft for soft, _ in asked]]))
"""
    assert told_by(code, 256) == [256, [1 << 20, 65_536]]


#: More than the tests have open: only numbers below it can be given to a process that has it.
SOFT = 977


@pytest.fixture(params=[False, True], ids=["with the lock", "without the lock"])
def spawner(request: pytest.FixtureRequest) -> Iterator[Spawner]:
    made = Spawner(dict(os.environb), threads=request.param, soft_limit=SOFT)
    yield made
    made.close()


@pytest.mark.parametrize("command", [b"ulimit -Sn; ulimit -Hn", b"/bin/cat /proc/self/limits"])
@pytest.mark.parametrize("cwd", [None, "/"])
def test_a_task_has_the_limit_of_the_user(spawner: Spawner, command: bytes, cwd: str | None) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    read, write = os.pipe()
    pid = spawner.start(command, dict(os.environb), write, write, cwd)
    os.close(write)
    with open(read) as reader:
        text = reader.read()
    assert os.waitpid(pid, 0)[1] == 0
    found = next((line for line in text.splitlines() if line.startswith("Max open files")), text).split()
    numbers = [word for word in found if word.isdigit() or word == "unlimited"]
    hard = "unlimited" if before[1] == resource.RLIM_INFINITY else str(before[1])
    assert numbers == [str(SOFT), hard]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_a_pipe_whose_number_is_above_the_limit_makes_no_difference(spawner: Spawner) -> None:
    """Where clients or files have all of the numbers below. The pipe is seen to end, so nobody else has it."""
    read, write = os.pipe()
    high = fcntl.fcntl(write, fcntl.F_DUPFD_CLOEXEC, SOFT)
    os.close(write)
    for command in (b"ulimit -Sn >&2", b"/bin/echo here"):
        pid = spawner.start(command, dict(os.environb), high, high)
        assert os.waitpid(pid, 0)[1] == 0
    os.close(high)
    with open(read) as reader:
        assert reader.read() == f"{SOFT}\nhere\n"


def test_a_process_whose_descriptors_have_no_numbers_below_the_limit_starts_with_ours() -> None:
    """The C library gives no descriptor on to a process that could not have had it (posix_spawn(3))."""
    spawner = Spawner(dict(os.environb), soft_limit=3)
    read, write = os.pipe()
    try:
        pid = spawner.start(b"ulimit -Sn", dict(os.environb), write, write)
    finally:
        os.close(write)
        spawner.close()
    with open(read) as reader:
        assert reader.read().strip() != "3"
    assert os.waitpid(pid, 0)[1] == 0


def test_a_start_that_fails_leaves_our_own_limit() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(ZeroDivisionError), lowered(33):
        assert descriptor_limit() == 33
        raise ZeroDivisionError
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_a_hard_limit_that_was_lowered_meanwhile_is_kept() -> None:
    code = """
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
with lowered(64):
    before = descriptor_limit()
""" + SHOW
    assert told_by(code, 64) == [40, 40, 40]


def test_low_numbers_stay_free_for_other_threads() -> None:
    """Else nothing could be opened while the limit is lowered for a start."""
    low = os.open(os.devnull, os.O_RDONLY)
    assert move_above(low, None) == low
    assert move_above(low, 2 * low + 2) == low
    moved = move_above(low, 2 * low)
    assert moved >= 2 * low and not os.get_inheritable(moved)
    with pytest.raises(OSError):
        os.fstat(low)
    os.close(moved)


def test_without_numbers_above_nothing_more_is_started() -> None:
    """Else the low ones would be used up, with those that are kept free for others."""
    code = """
import os
before = raise_descriptors()
fd = os.open("/dev/null", os.O_RDONLY)
high = []
try:
    while True:
        high.append(move_above(os.dup(fd), 2))
except OSError as error:
    os.fstat(fd)
    print(json.dumps([max(high), error.strerror]))
"""
    assert told_by(code, 64, 100) == [99, "Too many open files"]


def test_with_many_running_tasks_other_threads_can_open_files() -> None:
    """400 tasks need 800 descriptors, the user's limit is 256: the numbers below stay half empty."""
    code = """
import os
from hypershell.executor.jobs import Jobs
from hypershell.executor.env import Environment
from hypershell.executor.output import Output
from hypershell.core.model import ClientInfo
from hypershell.proto.messages import Context
from hypershell.reactor import Poller
from tests.test_executor_rig import make_settings, make_tasks
before = raise_descriptors()
settings, info = make_settings(), ClientInfo("c", "h", 1, 400, "0", "linux")
poller = Poller()
failed = []
jobs = Jobs(settings, Environment(dict(os.environb), settings, info), Output(poller, print), failed.append,
            soft_limit=before)
for task in make_tasks(["exec sleep 1000"] * 400):
    jobs.start(task, None, Context(1, b"{}", b"/", "a", "b"), 0.0)
low = [int(name) for name in os.listdir("/proc/self/fd") if int(name) < before]
jobs.close()
print(json.dumps([len(failed), len(low) < 160]))
"""
    assert told_by(code, 256) == [0, True]


def test_too_few_are_told_before_anything_begins() -> None:
    code = """
try:
    require_descriptors(32)
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    name, text = told_by(code, 20, 20)  # type: ignore[misc]
    assert name == LaunchError.__name__
    assert text == "too few file descriptors: 17 of 20 are free, 32 are needed; allow more (ulimit -n 256)"
    require_descriptors(3)


def test_the_loop_waits_with_a_descriptor_that_is_too_large_for_select() -> None:
    code = """
import fcntl, os, time
before = raise_descriptors()
taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
from hypershell.reactor import Poller
poller = Poller()
poller.wait(0.001)
print(json.dumps(poller._epoll.fileno() > 1023))
"""
    assert Poller()._is_low
    assert told_by(code, 64) is True
