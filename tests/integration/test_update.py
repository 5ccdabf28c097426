"""``hs update`` beside a run that goes on: what runs is stopped, what waits is dropped, results do not undo it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time

from tests.integration.test_mpi import Job
from tests.integration.test_restart import read_lines
from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, each_mpi, finish


def id_of(hs: Hs, pattern: str, state: str = "dispatched") -> str:
    """The id of the task, as soon as the database says that it is in this state."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            found = hs.rows("SELECT id FROM task WHERE args LIKE ? AND state = ?", f"%{pattern}%", state)
        except sqlite3.OperationalError:  # no table yet
            found = []
        if found:
            return str(found[0][0])
        time.sleep(0.01)
    raise AssertionError(f"{pattern} is not {state}")


def heard(hs: Hs) -> None:
    """Wait until the server has read the requests that are settled."""
    until = time.monotonic() + 60
    while hs.rows("SELECT 1 FROM request"):
        assert time.monotonic() < until
        time.sleep(0.01)


def update(hs: Hs, *args: str) -> str:
    done = hs.run("update", *args, "-f")
    assert done.status == 0, done
    return done.err


def test_a_running_task_is_stopped_with_its_children_and_the_run_goes_on(hs: Hs) -> None:
    os.mkfifo(hs.folder / "alive")
    later = "echo later  # HYPERSHELL: group:1"
    hs.file(["exec 3>alive; echo up; sleep 600 & sleep 600", "echo next", "echo never", later])
    process = hs.start("cluster", "tasks.in", "-b1", "-r2")
    with open(hs.folder / "alive") as alive:  # end of file: every process that held it is gone
        assert read_lines(process, 1) == ["up"]
        running = id_of(hs, "sleep 600")
        update(hs, "--cancel", "-w", "args ~ never")
        told = update(hs, running, "--cancel")
        assert alive.read() == ""
    out, err = process.communicate(timeout=60)
    assert "Asked the server of 1 running tasks to stop them" in told
    assert (process.returncode, out.split()) == (0, [b"next", b"later"]), err
    assert b"2 tasks cancelled" in err and b"failed" not in err
    assert hs.rows("SELECT state, attempt, error, retried FROM task ORDER BY id") == [
        ("cancelled", 1, "cancelled", 0), ("succeeded", 1, None, 0), ("cancelled", 1, None, 0),
        ("succeeded", 1, None, 0),
    ]  # fmt: skip
    assert hs.rows("SELECT exit_status FROM task WHERE args LIKE '%sleep%'") == [(-signal.SIGINT,)]
    assert hs.rows("SELECT count(*) FROM request") == [(0,)]


def test_the_first_signal_is_the_users(hs: Hs) -> None:
    """One that ends of it, and one that only notes it and needs the rest of the ladder."""
    hs.file(["trap 'echo saved; exit 9' USR1; echo up; while :; do sleep 0.02; done",
             "trap 'echo noted' USR2; echo up; while :; do sleep 0.02; done"])  # fmt: skip
    process = hs.start("cluster", "tasks.in", "-N2", "-S1")
    assert read_lines(process, 2) == ["up", "up"]
    update(hs, id_of(hs, "saved"), "--cancel", "--signal", "usr1")
    assert read_lines(process, 1) == ["saved"]
    update(hs, id_of(hs, "noted"), "--cancel", "--signal", str(int(signal.SIGUSR2)))
    assert read_lines(process, 1) == ["noted"]
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and b"2 tasks cancelled" in err
    assert hs.rows("SELECT state, exit_status FROM task ORDER BY id") == [("cancelled", 9), ("cancelled", -2)]


def test_deleted_while_it_waits(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate", "echo queued", "echo never", "echo last"])
    process = hs.start("cluster", "tasks.in", "-b1")
    assert read_lines(process, 1) == ["up"]
    update(hs, "--delete", id_of(hs, "never", "pending"))
    heard(hs)
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.split()) == (0, [b"queued", b"last"])
    assert hs.states() == {"succeeded": 3}


def test_a_server_that_dies_first_leaves_nothing_of_it_to_run(hs: Hs) -> None:
    hs.file(["echo up; exec sleep 600", "echo left"])
    process = hs.start("cluster", "tasks.in", "-b1")
    assert read_lines(process, 1) == ["up"]
    key = id_of(hs, "sleep")
    process.send_signal(signal.SIGSTOP)
    update(hs, key, "--cancel")
    assert hs.rows("SELECT settled, kind FROM request") == [(0, "cancel")]
    process.kill()
    process.communicate()
    done = hs.run("cluster", "tasks.in", "--restart")
    assert (done.status, done.out) == (0, "left\n")
    assert hs.states() == {"cancelled": 1, "succeeded": 1}
    assert hs.rows("SELECT count(*) FROM request") == [(0,)]


def test_what_waits_in_a_run_that_goes_on_is_changed(hs: Hs) -> None:
    """In the memory of the server (the whole of this list is there) and in the row; what runs is left alone."""
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate", "echo queued", "echo $TASK_ARGS $colour", "exec sleep 600"])
    process = hs.start("cluster", "tasks.in", "-b1")
    assert read_lines(process, 1) == ["up"]
    update(hs, "args=echo changed", id_of(hs, "colour", "pending"))
    update(hs, "timeout=0.2", "colour:blue", id_of(hs, "sleep", "pending"))
    heard(hs)
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.split()) == (7, [b"queued", b"changed"]), err
    assert hs.rows("SELECT args, command, state, error, tag FROM task ORDER BY id")[2:] == [
        ("echo changed", "echo changed", "succeeded", None, "{}"),
        ("exec sleep 600", "exec sleep 600", "failed", "timeout", '{"colour":"blue"}'),
    ]


def test_assignments_are_refused_while_it_runs(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate"])
    process = hs.start("cluster", "tasks.in")
    assert read_lines(process, 1) == ["up"]
    id_of(hs, "gate")
    done = hs.run("update", "timeout=5", "a:b", "-f")
    assert done.status == 5 and f"process {process.pid} on host" in done.err
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    process.communicate(timeout=60)
    assert process.returncode == 0 and hs.rows("SELECT timeout, tag FROM task") == [(None, "{}")]


@each_mpi()
def test_over_mpi(hs: Hs, mpi: Mpi) -> None:
    job = Job(hs, mpi)
    os.mkfifo(hs.folder / "alive")
    hs.file(["exec 3>alive; echo up; sleep 600 & sleep 600", "echo next"])
    process = job.start(2, "tasks.in", "-b1")
    with open(hs.folder / "alive") as alive:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        update(hs, id_of(hs, "sleep 600"), "--cancel", "--signal", "USR2")
        assert alive.read() == ""
    ended = finish(process)
    assert hs.rows("SELECT exit_status FROM task WHERE args LIKE '%sleep%'") == [(-signal.SIGUSR2,)]
    assert ended.status == 0 and "next" in ended.stdout and "1 task cancelled" in ended.stderr
    assert hs.states() == {"cancelled": 1, "succeeded": 1}
