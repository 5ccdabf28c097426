"""``hs run``: the words that the shell sees, the output and the status that come back, waiting and not waiting."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.test_submit_live import forever
from tests.testbed.cli import Done, Hs
from tests.testbed.inside import run_inside


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, list[str]]:
    """Status, stdout, and lines of stderr."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.decode().splitlines()


@contextmanager
def waiting(hs: Hs, *args: str, command: tuple[str, ...] = ("run",)) -> Iterator[subprocess.Popen[bytes]]:
    """``hs run`` without a server, which has said so and waits."""
    process = hs.start(*command, *args)
    try:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        assert line == (
            " WARNING [hypershell.submit] No server works on this database now "
            f"(to run these tasks: hs cluster --restart --db {hs.db})\n"
        )
        assert hs.states() == {"pending": 1}
        yield process
    finally:
        process.kill()
        process.wait()


def serve(hs: Hs, *args: str) -> Done:
    return hs.run("cluster", "--restart", *args)


def id_of(hs: Hs) -> str:
    return str(hs.rows("SELECT id FROM task ORDER BY id DESC LIMIT 1")[0][0])


def test_it_goes_on_waiting_until_a_server_comes(hs: Hs) -> None:
    with waiting(hs, "--", "printf", "%s|", "a  b", "$HOME", "'q'", "*") as process:
        assert serve(hs).status == 0
        assert ended(process) == (0, b"a  b|$HOME|'q'|*|", [])
    assert hs.rows('SELECT args, "group" FROM task') == [("printf '%s|' 'a  b' '$HOME' ''\"'\"'q'\"'\"'' '*'", 0)]


def test_with_a_server_that_waits_it_prints_what_the_task_printed_and_nothing_else(hs: Hs) -> None:
    with forever(hs, "--allow-failures"):
        process = hs.start("run", "printf 'a\\0\\377\\n'; printf 'no end' >&2; exit 3")
        assert process.communicate(timeout=60) == (b"a\0\xff\n", b"no end") and process.returncode == 3
        process = hs.start("run", "true")
        assert process.communicate(timeout=60) == (b"", b"") and process.returncode == 0
        process = hs.start("run", "exit 255")
        assert process.communicate(timeout=60) == (b"", b"") and process.returncode == 255


def test_options_are_those_of_submit(hs: Hs) -> None:
    args = ["-t", "x:1", "site:west", "-g3", "-c2", "-m1G", "-W1h", "--template", "echo {} $TASK_TAG_X", "-n0.1"]
    with waiting(hs, *args, "--", "word", command=("task", "run")) as process:
        assert serve(hs).status == 0
        assert ended(process) == (0, b"word 1\n", [])
    asked = hs.rows('SELECT args, "group", cores, memory, timeout, tag FROM task')
    assert asked == [("echo word $TASK_TAG_X", 3, 2, 2**30, 3600.0, '{"x":1,"site":"west"}')]


@pytest.mark.parametrize(
    ("args", "status", "line"),
    [
        (("kill -9 $$",), 247, "was ended by signal 9"),
        (("-W", "0.2", "exec sleep 1000"), 254, "failed: timeout"),
        (("echo $(( 1 + 1 )); exec ./nothing-there",), 127, None),
        (("--template", "echo {} {}", "x" * 70_000), 153, "failed: too long"),
    ],
)
def test_how_it_ended_is_told(hs: Hs, args: tuple[str, ...], status: int, line: str | None) -> None:
    with waiting(hs, *args) as process:
        assert serve(hs).status == 7
        code, _, told = ended(process)
    assert code == status
    if line is None:
        assert all("hypershell" not in one for one in told)
    else:
        assert told[-1].startswith("   ERROR [hypershell.task] Task (") and line in told[-1]


def test_of_a_task_that_was_tried_again_the_newest_attempt_counts(hs: Hs) -> None:
    with waiting(hs, "echo $TASK_ATTEMPT; test $TASK_ATTEMPT = 2") as process:
        assert serve(hs, "-r3").status == 0
        assert ended(process) == (0, b"2\n", [])


def test_a_task_that_others_cancel(hs: Hs) -> None:
    with waiting(hs, "true") as process:
        assert run_inside(hs, "update", "--cancel", id_of(hs), "-f").status == 0
        assert ended(process) == (156, b"", [f"   ERROR [hypershell.task] Task ({id_of(hs)}) was cancelled"])


def test_a_task_that_others_delete(hs: Hs) -> None:
    with waiting(hs, "true") as process:
        task_id = id_of(hs)
        run_inside(hs, "submit", "false")
        assert run_inside(hs, "update", "--delete", task_id, "-f").status == 0
        status, out, told = ended(process)
    assert (status, out, len(told)) == (5, b"", 1) and f"task {task_id} was removed" in told[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_what_waits(hs: Hs, number: signal.Signals) -> None:
    with waiting(hs, "true") as process:
        process.send_signal(number)
        told = f"   ERROR [hypershell.task] Interrupted: cancelled task ({id_of(hs)})"
        assert ended(process) == (4, b"", [told])
    assert hs.states() == {"cancelled": 1}


def test_an_interrupt_stops_what_runs(hs: Hs) -> None:
    os.mkfifo(hs.folder / "there")
    with forever(hs, "-S0.1"):
        process = hs.start("run", "echo printed; echo >there; exec sleep 1000")
        with open(hs.folder / "there") as there:
            there.readline()
        while not hs.rows("SELECT count(*) FROM task WHERE state = 'dispatched'")[0][0]:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told = f"   ERROR [hypershell.task] Interrupted: asked the server to stop task ({id_of(hs)})"
        assert ended(process) == (4, b"", [told])
        assert hs.run("wait", id_of(hs)).status == 0
        assert hs.states() == {"cancelled": 1}
        assert hs.run("info", id_of(hs), "--stdout").out == "printed\n"


def test_a_signal_that_is_ignored_stays_ignored(hs: Hs) -> None:
    """As ``nohup`` and ``&`` in a script have it."""
    words = ["sh", "-c", 'trap "" INT TERM; exec "$@"', "sh", *hs.command("run", "echo done")]
    process = subprocess.Popen(
        words, cwd=hs.folder, env=hs.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None and b"No server" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert serve(hs).status == 0
    assert ended(process) == (0, b"done\n", [])


def test_a_server_that_keeps_nothing_is_told(hs: Hs) -> None:
    """One that knew no kept output: its tasks have a status all the same."""
    with waiting(hs, "echo x; exit 9") as process:
        with_sqlite(hs, "UPDATE submission SET options = '{}'")
        assert serve(hs).status == 7
        status, out, told = ended(process)
    assert (status, out, len(told)) == (9, b"", 2)
    assert all("was not kept" in line for line in told)


def with_sqlite(hs: Hs, statement: str) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(hs.db)) as link:
        link.execute(statement)
        link.commit()


def test_bad_arguments_are_named(hs: Hs) -> None:
    def refused(*args: str) -> str:
        done = run_inside(hs, "run", *args)
        assert (done.status, done.out, done.err.count("\n")) == (2, "", 1), done
        return done.err

    assert run_inside(hs, "run").status == 1 and run_inside(hs, "run").out.startswith("usage: hs run ")
    assert "the following arguments are required: ARGS\n" in refused("-c1")
    assert "put -- in front of the command" in refused("-t", "a", "b")
    assert "the command is empty" in refused("--", " ")
    assert "unrecognized arguments: -l" in refused("ls", "-l")
    assert not hs.db.exists()
    assert "bad tag" in refused("-t", "!", "--", "ls")


def test_output_that_cannot_be_written_is_told(hs: Hs) -> None:
    with open("/dev/full", "wb") as full:
        process = hs.start("run", "echo x", stdout=full)
        assert process.stderr is not None and b"No server" in process.stderr.readline()
        assert serve(hs).status == 0
        _, err = process.communicate(timeout=60)
    assert process.returncode == 5 and b"cannot write to standard output" in err


def test_the_status_is_that_of_the_task_even_if_nobody_reads_its_output(hs: Hs) -> None:
    with waiting(hs, "echo x; echo y >&2; exit 3") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert serve(hs).status == 7
        assert process.stderr.read() == b"y\n"
        assert process.wait(60) == 3
