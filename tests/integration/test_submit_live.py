"""``hs submit`` beside servers and other submitters, and its death: what runs, when, and how often."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.testbed.cli import Hs

#: Line 3 waits for the gate; the template is expanded while the FILE is submitted.
GATED = "{% test @ != 3 || { echo >there; cat gate; } %}echo {}"


def wait_for(hs: Hs, query: str, wanted: Callable[[int], bool], process: subprocess.Popen[bytes]) -> None:
    """Until a number in the database is as wanted, as long as the process lives."""
    while True:
        assert process.poll() is None, process.communicate()
        try:
            if wanted(hs.rows(query)[0][0]):
                return
        except sqlite3.OperationalError:
            pass  # no database or no tables yet


@contextmanager
def forever(hs: Hs, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that waits for work; it has ended in good order at the end."""
    process = hs.start("cluster", "--forever", *args)
    try:
        wait_for(hs, "SELECT count(*) FROM run", bool, process)
        yield process
        process.send_signal(signal.SIGUSR1)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.wait()


def read_lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().strip() for _ in range(count)]


def test_a_server_with_forever_starts_what_is_submitted(hs: Hs) -> None:
    with forever(hs) as server:
        done = hs.run("submit", "-t", "x:1", "--", "sh", "-c", 'echo "$0" $TASK_TAG_X', "a  b")
        assert "No server" not in done.err
        assert read_lines(server, 1) == ["a  b 1"]
        hs.file([f"echo {n}" for n in range(500)])
        assert "No server" not in hs.run("submit", "tasks.in", "-b", "50").err
        assert sorted(map(int, read_lines(server, 500))) == list(range(500))
    assert hs.states() == {"succeeded": 501}
    assert hs.rows("SELECT max(execution), count(DISTINCT submission) FROM task") == [(1, 2)]


def test_a_server_without_forever_is_no_server_for_what_is_submitted(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; cat gate"], "one.in")
    server = hs.start("cluster", "one.in")
    assert read_lines(server, 1) == ["up"]
    wait_for(hs, "SELECT count(*) FROM run", bool, server)
    done = hs.run("submit", "true")
    assert "INFO [hypershell.submit] No server with --forever works on this database" in done.err
    (hs.folder / "gate").write_text("")
    assert server.wait(60) == 0 and server.communicate()
    assert hs.states() == {"succeeded": 1, "pending": 1}


def test_restart_runs_what_was_submitted_before_any_server(hs: Hs) -> None:
    hs.file(["echo a", "exit 3"])
    hs.run("submit", "tasks.in")
    hs.run("submit", "echo b")
    hs.run("submit", input="echo c # HYPERSHELL: group:1\n")
    done = hs.run("cluster", "--restart", "-N2")
    assert (done.status, sorted(done.out.split())) == (7, ["a", "b"]) and "held back" in done.err
    assert hs.states() == {"succeeded": 2, "failed": 1, "pending": 1}


def test_a_file_that_was_submitted_is_no_run_of_that_file(hs: Hs) -> None:
    """``--restart FILE`` knows its own submissions; what hs submit handed over has other options."""
    hs.file(["echo a"])
    hs.run("submit", "tasks.in")
    done = hs.run("cluster", "tasks.in", "--restart")
    assert done.out == "a\n" and "1 task of earlier runs left alone" in done.err


def test_two_submits_at_once_and_a_server_that_writes(hs: Hs) -> None:
    for name, lines in (("a", 30_000), ("b", 30_000), ("c", 500)):
        hs.file([f"true {name}{n}" for n in range(lines)], f"{name}.in")
    server = hs.start("cluster", "c.in", "-N2")
    both = [hs.start("submit", f"{name}.in", "-b", "1000") for name in "ab"]
    for process in (*both, server):
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert hs.states() == {"pending": 60_000, "succeeded": 500}
    assert hs.rows("SELECT count(*), count(DISTINCT args) FROM task") == [(60_500, 60_500)]


@pytest.fixture
def gated(hs: Hs) -> Iterator[subprocess.Popen[bytes]]:
    """A submission of five lines that has committed two and stands at the third."""
    os.mkfifo(hs.folder / "gate")
    os.mkfifo(hs.folder / "there")
    hs.file(["1", "2", "3", "4", "5"])
    process = hs.start("submit", "tasks.in", "-b1", "-c2", "-t", "k:1", "--template", GATED)
    with open(hs.folder / "there") as there:
        there.readline()
    assert hs.rows("SELECT count(*) FROM task") == [(2,)]
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def open_gate(hs: Hs) -> None:
    """Let what waits for the gate go, and who comes later pass."""
    os.close(os.open(hs.folder / "gate", os.O_RDWR))  # with O_WRONLY it would wait for a reader
    for name in ("gate", "there"):
        (hs.folder / name).unlink()
        (hs.folder / name).write_text("")


def test_nothing_of_a_file_runs_before_its_end(hs: Hs, gated: subprocess.Popen[bytes]) -> None:
    done = hs.run("cluster", "--restart")
    assert (done.status, done.out) == (0, "")
    open_gate(hs)
    _, err = gated.communicate(timeout=60)
    assert gated.returncode == 0 and b"Submitted 5 tasks" in err
    assert sorted(hs.run("cluster", "--restart").out.split()) == list("12345")


def test_a_server_goes_on_with_the_file_of_a_submitter_that_was_killed(
    hs: Hs, gated: subprocess.Popen[bytes]
) -> None:
    gated.kill()
    gated.wait()
    open_gate(hs)
    done = hs.run("cluster", "--restart", "-N2")
    assert (done.status, sorted(done.out.split())) == (0, list("12345"))
    assert hs.rows("SELECT args FROM task ORDER BY id") == [(f"echo {n}",) for n in range(1, 6)]
    assert hs.rows("SELECT complete, lines FROM submission") == [(1, 5)]
    assert hs.rows("SELECT DISTINCT tag, cores FROM task") == [('{"k":1}', 2)]


def test_a_file_that_is_half_submitted_is_told_of(hs: Hs, gated: subprocess.Popen[bytes]) -> None:
    gated.kill()
    gated.wait()
    open_gate(hs)
    again = hs.run("submit", "tasks.in")
    assert "WARNING [hypershell.submit] an earlier submission of tasks.in is unfinished" in again.err
    assert "Submitted 5 tasks" in again.err and hs.states() == {"pending": 7}


def test_ctrl_c_takes_back_what_there_is_of_the_file(hs: Hs, gated: subprocess.Popen[bytes]) -> None:
    gated.send_signal(signal.SIGINT)
    gated.wait(60)
    open_gate(hs)  # what waited for it has our stderr
    _, err = gated.communicate(timeout=60)
    assert gated.returncode == 4 and b"keyboard-interrupt" in err
    for table in ("task", "submission", "run"):
        assert hs.rows(f"SELECT count(*) FROM {table}") == [(0,)]


def test_lines_of_a_stream_are_there_before_its_end(hs: Hs) -> None:
    """Defect 50: a line waits neither for the next one nor for the end."""
    process = hs.start("submit", stdin=subprocess.PIPE)
    assert process.stdin is not None
    for number in range(3):
        process.stdin.write(f"echo {number}\n".encode())
        process.stdin.flush()
        wait_for(hs, "SELECT count(*) FROM task", lambda count, wanted=number + 1: count == wanted, process)
    assert hs.run("cluster", "--restart").out.split() == ["0", "1", "2"]
    process.stdin.write(b"echo 3\n")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and b"Submitted 4 tasks" in err
    assert hs.run("cluster", "--restart").out.split() == ["3"]


def test_a_bundle_that_does_not_fill_is_committed_in_time(hs: Hs) -> None:
    process = hs.start("submit", "-b", "100", "-w", "0.05", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"echo 1\necho 2\n")
    process.stdin.flush()
    wait_for(hs, "SELECT count(*) FROM task", lambda count: count == 2, process)
    assert hs.rows("SELECT complete, owner FROM submission") == [(1, None)]
    process.communicate(timeout=60)


def test_ctrl_c_in_a_stream_keeps_what_was_committed(hs: Hs) -> None:
    process = hs.start("submit", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"echo 1\n")
    process.stdin.flush()
    wait_for(hs, "SELECT count(*) FROM task", bool, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4 and b"The first 1 tasks were submitted" in err
