"""Who lives: the process table for this host, the counter for others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from msgspec.structs import replace

from hypershell.data.lease import SILENCE, Life, Owner, ProcessIdentity, Watch, process_start, this_process


def owner_of(identity: ProcessIdentity) -> Owner:
    return Owner("run", identity.host, identity.boot_id, identity.pid, identity.pid_start, None, 7, False, False)


HERE = ProcessIdentity("node", "boot-1 pid:[1]", 10, 20)
REMOTE = replace(owner_of(HERE), host="other")


def test_this_process_lives() -> None:
    assert Watch(this_process()).life(owner_of(this_process()), 0.0) is Life.ALIVE


def test_a_process_that_ended_is_dead_at_once() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(child.pid)
    assert start is not None
    owner = replace(owner_of(this_process()), pid=child.pid, pid_start=start)
    watch = Watch(this_process())
    assert watch.life(owner, 0.0) is Life.ALIVE
    child.communicate(b"\n")
    assert watch.life(owner, 0.0) is Life.DEAD


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) is None
    child.wait()


def test_the_number_of_a_process_may_be_used_again() -> None:
    owner = owner_of(this_process())
    assert Watch(this_process()).life(replace(owner, pid_start=owner.pid_start + 1), 0.0) is Life.DEAD


def test_another_boot_of_this_host_is_dead() -> None:
    assert Watch(HERE).life(replace(owner_of(HERE), boot_id="boot-0 pid:[1]"), 0.0) is Life.DEAD


@pytest.mark.parametrize(
    ("host", "boot"), [("localhost", "boot-0 pid:[1]"), ("node", "boot-1 pid:[2]"), ("other", "boot-1 pid:[1]")]
)
def test_what_cannot_be_seen_from_here_is_watched(host: str, boot: str) -> None:
    watch = Watch(replace(HERE, host="localhost") if host == "localhost" else HERE)
    owner = replace(owner_of(HERE), host=host, boot_id=boot)
    assert watch.life(owner, 100.0) is Life.UNKNOWN
    assert watch.life(owner, 100.0 + SILENCE - 1) is Life.UNKNOWN
    assert watch.life(owner, 100.0 + SILENCE) is Life.DEAD


def test_a_counter_that_moves_is_life() -> None:
    watch = Watch(HERE)
    assert watch.life(REMOTE, 0.0) is Life.UNKNOWN
    moved = replace(REMOTE, counter=8)
    assert watch.life(moved, 5.0) is Life.ALIVE
    assert watch.life(moved, 5.0 + SILENCE - 1) is Life.ALIVE
    assert watch.life(moved, 5.0 + SILENCE) is Life.DEAD


@pytest.mark.parametrize("change", [{"ended": True}, {"fenced": True}])
def test_who_ended_or_was_fenced_is_dead(change: dict[str, bool]) -> None:
    assert Watch(this_process()).life(replace(owner_of(this_process()), **change), 0.0) is Life.DEAD


def test_an_owner_is_described_with_its_job() -> None:
    assert replace(REMOTE, job="123").describe() == "process 10 on host other, job 123"
    assert REMOTE.describe() == "process 10 on host other"
