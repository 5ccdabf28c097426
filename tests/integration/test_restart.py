"""Restart, ownership and death of the server: nothing lost, nothing recorded twice, runs do not mix."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess

import pytest

from tests.integration.rounds import kill_rounds
from tests.testbed.cli import Hs


def read_lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().strip() for _ in range(count)]


def test_restart_file_is_idempotent(hs: Hs) -> None:
    hs.file([f"echo {n}" for n in range(50)])
    assert hs.run("cluster", "tasks.in", "--restart", "-N2").out.count("\n") == 50
    again = hs.run("cluster", "tasks.in", "--restart", "-N2")
    assert (again.status, again.out) == (0, "")
    assert hs.states() == {"succeeded": 50}
    assert len(hs.rows("SELECT id FROM submission")) == 1


def test_a_run_without_restart_runs_again_and_leaves_old_work_alone(hs: Hs) -> None:
    process = hs.start("cluster", "-b1", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"echo up; exec sleep 1000\necho left\n")
    process.stdin.flush()
    read_lines(process, 1)
    process.kill()
    process.communicate()
    hs.file(["echo mine"])
    done = hs.run("cluster", "tasks.in")
    assert (done.status, done.out) == (0, "mine\n")
    assert "2 tasks of earlier runs left alone, unfinished" in done.err and "--restart" in done.err
    states = hs.states()
    assert states.pop("succeeded") == 1 and sum(states.values()) == 2


def test_kill_9_of_the_server_then_restart_without_file(hs: Hs) -> None:
    """The dead run's tasks are taken at once on the same host; what was in flight costs no retry."""
    process = hs.start("cluster", "-b1", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"test -e again && echo second || { touch again; echo first; exec sleep 1000; }\n")
    process.stdin.write(b"echo left\n")
    process.stdin.flush()
    assert read_lines(process, 1) == ["first"]
    process.kill()
    process.communicate()
    done = hs.run("cluster", "--restart")
    assert done.status == 0 and sorted(done.out.split()) == ["left", "second"]
    assert hs.rows("SELECT state, attempt, execution FROM task ORDER BY id") == [
        ("succeeded", 1, 3), ("succeeded", 1, 1),
    ] or hs.rows("SELECT state, attempt FROM task ORDER BY id") == [("succeeded", 1), ("succeeded", 1)]  # fmt: skip
    assert hs.rows("SELECT count(*) FROM run WHERE outcome = 'complete'") == [(1,)]


def test_kill_9_leaves_no_orphans(hs: Hs) -> None:
    os.mkfifo(hs.folder / "alive")
    hs.file(["exec 3>alive; echo up; sleep 1000 & sleep 1000"])
    process = hs.start("cluster", "tasks.in")
    with open(hs.folder / "alive") as alive:  # end of file: every process that held it is gone
        read_lines(process, 1)
        process.kill()
        assert alive.read() == ""
    process.communicate()


def test_two_servers_on_one_database_never_share_tasks(hs: Hs) -> None:
    for name in "ab":
        hs.file([f"echo {name}{n}" for n in range(200)], f"{name}.in")
    one = hs.start("cluster", "a.in", "-N2")
    two = hs.start("cluster", "b.in", "-N2")
    out_one, err_one = one.communicate(timeout=60)
    out_two, err_two = two.communicate(timeout=60)
    assert (one.returncode, two.returncode) == (0, 0), (err_one, err_two)
    assert sorted(out_one.split()) == sorted(f"a{n}".encode() for n in range(200))
    assert sorted(out_two.split()) == sorted(f"b{n}".encode() for n in range(200))
    assert hs.states() == {"succeeded": 400}
    assert hs.rows("SELECT count(DISTINCT server_id) FROM task GROUP BY submission") == [(1,), (1,)]


def test_a_second_restart_of_one_file_is_refused_while_the_first_runs(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate"])
    first = hs.start("cluster", "tasks.in", "--restart")
    read_lines(first, 1)
    second = hs.run("cluster", "tasks.in", "--restart")
    assert second.status == 5 and str(first.pid) in second.err and second.out == ""
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    first.communicate(timeout=30)
    assert first.returncode == 0 and hs.states() == {"succeeded": 1}


def test_a_changed_file_is_refused(hs: Hs) -> None:
    hs.file(["false", "true"])
    hs.run("cluster", "tasks.in", "--restart")
    hs.file(["fals3", "true"])
    done = hs.run("cluster", "tasks.in", "--restart")
    assert done.status == 5 and "has changed" in done.err and len(done.err.splitlines()) == 1
    hs.file(["false", "true", "true"])
    assert "has grown" in hs.run("cluster", "tasks.in", "--restart").err


def test_another_template_is_another_submission(hs: Hs) -> None:
    hs.file(["1", "2"])
    assert hs.run("cluster", "tasks.in", "--restart", "-t", "echo a{}").out == "a1\na2\n"
    assert hs.run("cluster", "tasks.in", "--restart", "-t", "echo b{}").out == "b1\nb2\n"
    assert hs.run("cluster", "tasks.in", "--restart", "-t", "echo a{}").out == ""


def test_a_template_that_tasks_do_not_have_is_not_passed_over(hs: Hs) -> None:
    """Lines that were submitted as commands do not run as such where a template was asked to quote them."""
    (hs.folder / "tasks.in").write_text("touch marker\n")
    assert hs.run("submit", "tasks.in").status == 0
    done = hs.run("cluster", "--restart", "-q", "-t", "echo {}")
    assert done.status == 5 and "have the template '{}', not 'echo {:q}': leave out -t and -q" in done.err
    assert not (hs.folder / "marker").exists() and hs.rows("SELECT count(*) FROM run") == [(0,)]
    assert hs.run("cluster", "--restart").status == 0
    assert (hs.folder / "marker").exists()


def test_the_template_that_tasks_have_may_be_said_again(hs: Hs) -> None:
    (hs.folder / "tasks.in").write_text("a b\n")
    assert hs.run("submit", "tasks.in", "--quote", "--template", "printf '%s\n' {}").status == 0
    assert hs.run("cluster", "--restart", "-q", "-t", "printf '%s\n' {}").out == "a b\n"


def test_failed_tasks_are_final_for_a_restart(hs: Hs) -> None:
    hs.file(["echo ran; false"])
    assert hs.run("cluster", "tasks.in", "--restart").status == 7
    again = hs.run("cluster", "tasks.in", "--restart")
    assert again.out == ""


def test_a_server_that_was_fenced_ends_itself(hs: Hs) -> None:
    """A server that wakes up after a server on another host took over writes nothing more and says so."""
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate"])
    process = hs.start("cluster", "tasks.in", "--restart", "-S", "1")
    read_lines(process, 1)
    connection = sqlite3.connect(hs.db, timeout=30)
    with connection:
        assert connection.execute("UPDATE run SET fenced = 1").rowcount == 1
    connection.close()
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5 and b"took over" in err
    assert hs.rows("SELECT exit_status FROM task") in ([(None,)], [])


def waiting_for_another_host(hs: Hs, *words: str) -> subprocess.Popen[bytes]:
    """A restart that waits for a sign of life of a server on another host."""
    hs.file(["echo up; exec sleep 1000"])
    killed = hs.start("cluster", "tasks.in", "--restart")  # begins when the database has the submission
    read_lines(killed, 1)
    killed.kill()
    killed.communicate()
    connection = sqlite3.connect(hs.db, timeout=30)
    with connection:
        assert connection.execute("UPDATE run SET host = 'elsewhere'").rowcount == 1
    connection.close()
    process = hs.start("cluster", *words, "--restart")
    assert process.stderr is not None
    assert b"waiting up to" in process.stderr.readline()
    return process


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 4), ("SIGTERM", 75), ("SIGUSR2", 75)])
def test_a_signal_ends_a_run_that_has_not_begun_at_once(hs: Hs, name: str, status: int) -> None:
    process = waiting_for_another_host(hs, "tasks.in")
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=20)  # another host is waited for longer
    assert process.returncode == status and f"{name}: ended before the run began" in err.decode()
    assert hs.rows("SELECT outcome FROM run WHERE host != 'elsewhere'") == [("drained",)]


def test_a_database_that_does_not_take_the_end_of_a_run_that_has_not_begun(hs: Hs) -> None:
    process = waiting_for_another_host(hs)
    connection = sqlite3.connect(hs.db, timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None and b"before the run began" in process.stderr.readline()
    process.send_signal(signal.SIGUSR2)
    _, err = process.communicate(timeout=20)
    connection.close()
    assert process.returncode == 75 and b": ended before the database took how the run ended" in err


def test_kill_rounds(hs: Hs) -> None:
    """kill -9 at random moments, restart each time: every task has one final state and ran at least once."""
    kill_rounds(hs, "sqlite")
