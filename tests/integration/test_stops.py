"""A run that is told to stop does so, whatever its tasks, its output and its settings are."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.testbed.cli import Hs

STUBBORN = "trap '' INT TERM; echo up; while :; do sleep 0.1; done"


def begin(hs: Hs, line: str, *options: str) -> subprocess.Popen[bytes]:
    """A run whose first task has printed a line."""
    hs.file([line, "echo more"])
    process = hs.start("cluster", "tasks.in", "--status-file", "status.json", *options)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    return process


def outcome(hs: Hs) -> str:
    found: str = hs.rows("SELECT outcome FROM run")[0][0]
    return found


def test_tasks_that_take_long_to_stop_are_no_failure_of_the_store(hs: Hs) -> None:
    process = begin(hs, STUBBORN, "--drain-time", "0.1", "-S", "4")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75 and b"go on with: hs cluster" in said
    assert outcome(hs) == "interrupted" and hs.states() == {"pending": 2}


def test_the_ladder_fits_into_what_is_left_of_the_allocation(hs: Hs) -> None:
    process = begin(hs, STUBBORN, "--walltime", "6", "--drain-time", "3", "-S", "100")
    process.communicate(timeout=60)
    assert process.returncode == 75 and outcome(hs) == "walltime"
    began, ended = hs.rows("SELECT julianday(start_time), julianday(end_time) FROM run")[0]
    assert (ended - began) * 86400 < 6


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGUSR2], [signal.SIGUSR1, signal.SIGTERM]])
def test_output_that_nobody_takes_holds_up_no_end(hs: Hs, signals: list[int]) -> None:
    """Results wait behind output, which waits for a disk that is full."""
    flood = "head -c 3000000 /dev/zero | tr '\\0' x; echo"
    hs.file([flood] * 3)
    process = hs.start("cluster", "tasks.in", "-o", "/dev/full", "--drain-time", "0.1", "-S", "0.1")
    assert process.stderr is not None and b"No space left" in process.stderr.readline()
    for number in signals:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 5
    assert b"what tasks printed to /dev/full (" in said and b" bytes); it is lost" in said
    assert sum(hs.states().values()) == 3
