"""``hs cluster`` from the outside: what a user types, sees on the terminal and finds in the database."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.testbed.cli import Hs


def test_hello_world_of_the_front_page(hs: Hs) -> None:
    done = hs.run("cluster", "-t", "echo {}", input="1\n2\n3\n4\n")
    assert (done.status, done.out, done.err) == (0, "1\n2\n3\n4\n", "")


def test_hsx_and_no_db(hs: Hs) -> None:
    done = hs.run("cluster", "--no-db", "-N4", "-t", "echo {}", input="".join(f"{n}\n" for n in range(500)))
    assert done.status == 0
    assert sorted(map(int, done.out.split())) == list(range(500))
    assert not hs.db.exists()


def test_every_task_is_in_the_database(hs: Hs) -> None:
    hs.file([f"echo {n}" for n in range(300)])
    assert hs.run("cluster", "tasks.in", "-N3").status == 0
    assert hs.states() == {"succeeded": 300}
    row = hs.rows(
        "SELECT args, command, exit_status, attempt, execution, retried, user_time >= 0, max_rss > 0, "
        "submit_time <= start_time, start_time <= completion_time, length(submit_time), state FROM task ORDER BY id"
    )[7]
    assert row == ("echo 7", "echo 7", 0, 1, 1, 0, 1, 1, 1, 1, 26, "succeeded")
    assert hs.rows("SELECT outcome, succeeded, failed, unfinished FROM run") == [("complete", 300, 0, 0)]


def test_exit_status_and_last_line_when_tasks_fail(hs: Hs) -> None:
    hs.file(["true", "false", "exit 3", "kill -9 $$", "kill -1 $$"])
    done = hs.run("cluster", "tasks.in", "--failures", "failed.txt")
    assert done.status == 7
    assert "4 of 5 tasks failed" in done.err.splitlines()[-1] and "hs list -F" in done.err.splitlines()[-1]
    assert sorted(Path(hs.folder, "failed.txt").read_text().splitlines()) == sorted(
        ["false", "exit 3", "kill -9 $$", "kill -1 $$"]
    )
    assert sorted(hs.rows("SELECT exit_status, state FROM task")) == [
        (-9, "failed"), (-1, "failed"), (0, "succeeded"), (1, "failed"), (3, "failed"),
    ]  # fmt: skip
    assert hs.run("cluster", "tasks.in", "--allow-failures").status == 0


def test_retries_keep_everything_and_link_both_ways(hs: Hs) -> None:
    hs.file(["exit 4 # HYPERSHELL: a:1 group:0 timeout:30 cores:2 memory:4G"])
    done = hs.run("cluster", "tasks.in", "-r", "2", "-f", "failed.txt")
    assert done.status == 7 and Path(hs.folder, "failed.txt").read_text() == "exit 4\n"
    rows = hs.rows(
        "SELECT id, attempt, retried, previous_id, next_id, tag, timeout, cores, memory FROM task ORDER BY attempt"
    )
    assert [row[1:3] for row in rows] == [(1, 1), (2, 1), (3, 0)]
    assert [row[3] for row in rows] == [None, rows[0][0], rows[1][0]]
    assert [row[4] for row in rows] == [rows[1][0], rows[2][0], None]
    assert {row[6:] for row in rows} == {(30, 2, 4 << 30)}
    assert [json.loads(row[5]) for row in rows] == [{"a": 1}] * 3


def test_a_task_that_succeeds_at_its_second_attempt(hs: Hs) -> None:
    hs.file(["test -e flag || { touch flag; exit 1; }"])
    assert hs.run("cluster", "tasks.in", "-r1", "--eager").status == 0
    assert hs.states() == {"failed": 1, "succeeded": 1}


def test_streamed_input_with_pauses_loses_nothing(hs: Hs) -> None:
    """Defect 1: the end of what came so far is not the end of stdin."""
    process = hs.start("cluster", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for number in range(3):
        process.stdin.write(f"echo line {number}\n".encode())
        process.stdin.flush()
        assert process.stdout.readline() == f"line {number}\n".encode()
    process.stdin.close()
    assert process.wait(30) == 0
    assert hs.states() == {"succeeded": 3}


def test_rerun_on_a_database_of_finished_tasks(hs: Hs) -> None:
    """Defect 2: the second run is not ended by the finished rows of the first."""
    hs.file(["echo x"] * 20)
    for _ in range(2):
        done = hs.run("cluster", "tasks.in", "-N2")
        assert (done.status, done.out.count("x")) == (0, 20)
    assert hs.states() == {"succeeded": 40}


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# only\n  # comments\n"])
def test_empty_input_ends_at_once(hs: Hs, data: bytes) -> None:
    """Defect 3."""
    hs.file(data)
    done = hs.run("cluster", "tasks.in")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert hs.run("cluster", input=data).status == 0


def test_arguments_stay_what_they_are(hs: Hs) -> None:
    """Defects 4 and 5: nothing is taken for a date, no quoted # cuts."""
    lines = ["echo 20240101", "echo 2024-01-01", 'echo "a#b"', "echo http://x/#y", "echo '{}' ${HOME:+set} a{b}"]
    hs.file(lines)
    done = hs.run("cluster", "tasks.in")
    assert done.out == "20240101\n2024-01-01\na#b\nhttp://x/#y\n{} set a{b}\n"
    assert [row[0] for row in hs.rows("SELECT args FROM task ORDER BY id")] == lines


def test_bytes_and_line_ends(hs: Hs) -> None:
    hs.file(b"\xef\xbb\xbfecho bom\r\necho \xff\xfe\r\necho \xc3\xa9\n")
    done = hs.run("cluster", "tasks.in")
    assert done.status == 0
    assert done.out.encode("utf-8", "surrogateescape") == b"bom\n\xff\xfe\n\xc3\xa9\n"
    assert hs.rows("SELECT args, args_raw FROM task ORDER BY id")[1] == ("echo \\xff\\xfe", b"echo \xff\xfe")


def test_bad_lines_fail_by_name_and_the_rest_runs(hs: Hs) -> None:
    hs.file(b"echo first\n" + b": " + b"x" * (1 << 20) + b"\necho bad # HYPERSHELL: a/b:c\necho last\n")
    done = hs.run("cluster", "tasks.in", "-f", "failed.txt")
    assert (done.status, done.out) == (7, "first\nlast\n")
    assert "tasks.in:3: bad tag" in done.err
    rows = hs.rows("SELECT state, exit_status, error FROM task WHERE state = 'failed' ORDER BY id")
    assert [row[0] for row in rows] == ["failed", "failed"] and rows[0][1] == -103
    assert "1,048,578" in rows[0][2] and "a/b" in rows[1][2]


def test_what_cannot_be_read_is_named(hs: Hs) -> None:
    for name, status, text in (
        ("missing.in", 5, "FileNotFoundError: missing.in: No such file or directory"),
        (".", 5, "IsADirectoryError"),
    ):
        done = hs.run("cluster", name)
        assert done.status == status and text in done.err and len(done.err.splitlines()) == 1
    hs.file(b"\x7fELF\0\0\0", "binary")
    done = hs.run("cluster", "binary")
    assert done.status == 5 and "is no text file" in done.err and len(done.err.splitlines()) == 1


def test_templates_and_their_errors(hs: Hs) -> None:
    Path(hs.folder, "outputs").mkdir()
    Path(hs.folder, "some_program.py").write_text("#!/bin/sh\necho ran $1\n")
    Path(hs.folder, "some_program.py").chmod(0o755)
    hs.file(["data/a.txt", "data/b.txt"])
    assert hs.run("cluster", "tasks.in", "-N12", "-t", "./some_program.py {} >outputs/{/-}.out").status == 0
    assert Path(hs.folder, "outputs", "a.out").read_text() == "ran data/a.txt\n"
    assert hs.run("cluster", "tasks.in", "-t", "echo {% dirname @ %} {[-1]} {= x + '!' =}").out.splitlines() == [
        "data data/a.txt data/a.txt!", "data data/b.txt data/b.txt!",
    ]  # fmt: skip
    done = hs.run("cluster", "tasks.in", "-t", "echo {///}")
    assert done.status == 2 and "{///}" in done.err and len(done.err.splitlines()) == 1
    done = hs.run("cluster", "tasks.in", "-t", "echo {% false %}")
    assert done.status == 7 and "2 of 2 tasks failed" in done.err
    assert {row[0] for row in hs.rows("SELECT exit_status FROM task WHERE state = 'failed'")} == {-101}


def test_output_to_files_and_capture(hs: Hs) -> None:
    hs.file(["echo out; echo err >&2", "printf 'no newline'"])
    assert hs.run("cluster", "tasks.in", "-o", "out.txt", "-e", "err.txt").status == 0
    assert Path(hs.folder, "out.txt").read_text().startswith("out\n")
    assert Path(hs.folder, "err.txt").read_text() == "err\n"
    hs.file([r"printf 'a\0b\377'; printf x >&2"], "bytes.in")
    assert hs.run("cluster", "bytes.in", "--capture").status == 0
    task, out, err = hs.rows("SELECT id, outpath, errpath FROM task ORDER BY id DESC LIMIT 1")[0]
    assert Path(out).read_bytes() == b"a\0b\xff" and Path(err).read_bytes() == b"x"
    assert Path(out).name == f"{task}.out" and len(Path(out).parent.name) == 2


def test_lines_of_different_tasks_never_tear(hs: Hs) -> None:
    line = "for i in $(seq 200); do printf '%s' {}; printf '%1500s\\n' {}; done"
    done = hs.run("cluster", "-N4", "-t", line, input="a\nb\nc\nd\n")
    lines = done.out.splitlines()
    assert len(lines) == 800
    assert {len(text) for text in lines} == {1501} and all(text[0] == text[-1] for text in lines)


def test_environment_of_a_task(hs: Hs) -> None:
    hs.file(["env # HYPERSHELL: site:us-west-1 n-x:007"])
    extra = {"HYPERSHELL_EXPORT_Foo": "007", "HYPERSHELL_SERVER_AUTH": "secret", "PMI_RANK": "3", "PMI_FD": "9"}
    done = hs.run("cluster", "tasks.in", env={key: value for key, value in extra.items() if "PMI" not in key})
    env = dict(line.split("=", 1) for line in done.out.splitlines() if "=" in line)
    task = hs.rows("SELECT id, client_id, server_id FROM task")[0]
    assert (env["TASK_ID"], env["TASK_CLIENT_ID"], env["TASK_SERVER_ID"]) == task
    assert env["TASK_TAG_SITE"] == "us-west-1" and env["TASK_TAG_N_X"] == "007"
    assert env["TASK_ARGS"] == "env" and env["TASK_ATTEMPT"] == "1" and env["TASK_EXIT_STATUS"] == "null"
    assert env["Foo"] == "007"
    assert not [key for key in env if key.startswith("HYPERSHELL")]


def test_tasks_read_an_empty_stdin(hs: Hs) -> None:
    assert hs.run("cluster", input="cat; echo end\n").out == "end\n"


def test_time_limit(hs: Hs) -> None:
    hs.file(["sleep 100 & sleep 100"])
    done = hs.run("cluster", "tasks.in", "-W", "0.3", "-S", "1")
    assert done.status == 7
    state, error = hs.rows("SELECT state, error FROM task")[0]
    assert state == "failed" and "timeout" in error


def test_groups_are_barriers(hs: Hs) -> None:
    lines = [f"echo {g} >> log # HYPERSHELL: group:{g}" for g in (2, 0, 1, 0, 2, 1)]
    hs.file(lines)
    assert hs.run("cluster", "tasks.in", "-N3").status == 0
    assert Path(hs.folder, "log").read_text().split() == ["0", "0", "1", "1", "2", "2"]


def test_a_failed_group_holds_later_ones_back(hs: Hs) -> None:
    hs.file(["false", "echo later # HYPERSHELL: group:1"])
    done = hs.run("cluster", "tasks.in")
    assert (done.status, done.out) == (7, "")
    assert "Failed task group 0" in done.err and "held back" in done.err
    assert hs.states() == {"failed": 1, "pending": 1}


def test_info_and_debug_log_lines(hs: Hs) -> None:
    hs.file(["true", "false"])
    done = hs.run("cluster", "tasks.in", env={"HYPERSHELL_LOGGING_LEVEL": "debug"})
    text = done.err
    assert text.count("INFO [hypershell.client] Running task (") == 2
    assert text.count("DEBUG [hypershell.client] Completed task (") == 2
    assert text.count("DEBUG [hypershell.server] Completed task (") == 2
    assert text.count("Non-zero exit status") == 1 and text.count("Registered client") == 1
    assert "Starting with task group 0" in text and "\x1b" not in text


def wait_for_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_ctrl_c_drains_and_says_so(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate; echo done", "echo never"])
    process = hs.start("cluster", "tasks.in", "-b1")
    assert wait_for_line(process) == b"up\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"SIGINT" in process.stderr.readline()
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (4, b"done\n")
    assert b"1 task unfinished" in err and b"--restart" in err
    assert hs.states() == {"pending": 1, "succeeded": 1}
    assert hs.rows("SELECT outcome FROM run") == [("drained",)], "no task was stopped"
    assert hs.run("cluster", "tasks.in", "-b1", "--restart").out == "never\n"
    assert hs.states() == {"succeeded": 2}


@pytest.mark.parametrize(("first", "second"), [("SIGINT", "SIGTERM"), ("SIGUSR2", None)])
def test_interrupt_stops_tasks_which_stay_pending(hs: Hs, first: str, second: str | None) -> None:
    hs.file(["echo $$; sleep 1000"])
    process = hs.start("cluster", "tasks.in", "-S", "1")
    pid = int(wait_for_line(process))
    process.send_signal(getattr(signal, first))
    if second is not None:
        assert process.stderr is not None and process.stderr.readline()
        process.send_signal(getattr(signal, second))
    process.communicate(timeout=30)
    assert process.returncode == (4 if first == "SIGINT" else 75)
    assert hs.rows("SELECT outcome FROM run") == [("interrupted",)]
    assert gone(pid)
    assert hs.rows("SELECT state, exit_status, attempt FROM task") == [("pending", None, 1)]


def test_sigterm_with_a_drain_time(hs: Hs) -> None:
    """Defect 15: TERM neither kills us at once nor leaves anything behind."""
    hs.file(["echo $$; sleep 1000"])
    process = hs.start("cluster", "tasks.in", "--drain-time", "0.2", "-S", "1")
    pid = int(wait_for_line(process))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75 and gone(pid)
    assert hs.rows("SELECT outcome FROM run") == [("interrupted",)]
    assert hs.states() == {"pending": 1}


@pytest.mark.parametrize("task_first", [True, False])
def test_a_signal_that_a_launcher_sends_to_the_tasks_too_is_no_failure(hs: Hs, task_first: bool) -> None:
    """Slurm signals every process of a step: a task that dies of the signal that makes us drain goes back."""
    hs.file(["echo $$; exec sleep 1000"])
    process = hs.start("cluster", "tasks.in")
    pids = [int(wait_for_line(process)), process.pid]
    for pid in pids if task_first else reversed(pids):
        os.kill(pid, signal.SIGUSR1)
    process.communicate(timeout=30)
    assert process.returncode == 75
    assert hs.rows("SELECT state, exit_status, attempt FROM task") == [("pending", None, 1)]


def test_a_task_that_dies_alone_of_such_a_signal_failed(hs: Hs) -> None:
    hs.file(["kill -USR1 $$", "kill -TERM $$"])
    assert hs.run("cluster", "tasks.in").status == 7
    assert sorted(hs.rows("SELECT state, exit_status FROM task")) == [("failed", -15), ("failed", -10)]


def test_a_closed_stdout_does_not_end_the_run(hs: Hs) -> None:
    read, write = os.pipe()
    os.close(read)
    hs.file(["echo x"] * 5)
    process = hs.start("cluster", "tasks.in", stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and err.count(b"Broken pipe") == 1
    assert hs.states() == {"succeeded": 5}


def test_a_full_disk_for_output_is_said_and_ends_with_an_error(hs: Hs) -> None:
    hs.file(["echo x"])
    done = hs.run("cluster", "tasks.in", "-o", "/dev/full", timeout=90)
    assert done.status == 5 and "No space left" in done.err
    assert "no space left for the rest of what tasks printed to /dev/full" in done.err.splitlines()[-1]


def test_a_removed_database_ends_a_busy_run_with_an_error(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["true", "echo up; read x < gate", *["true"] * 300])
    process = hs.start("cluster", "tasks.in")
    assert wait_for_line(process) == b"up\n"
    while not hs.db.exists() or not hs.rows("SELECT 1 FROM sqlite_master WHERE name = 'task'") or not hs.states():
        assert process.poll() is None
    for path in hs.folder.glob("**/main.db*"):
        path.unlink()
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5 and b"was removed while in use" in err


def test_a_term_signal_does_not_wait_for_ever_for_a_locked_database(hs: Hs) -> None:
    hs.file(["echo up; sleep 60"])
    process = hs.start("cluster", "tasks.in", "--drain-time", "0.1", "-S", "0.1")
    assert wait_for_line(process) == b"up\n"
    lock = sqlite3.connect(hs.db, timeout=30, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    lock.execute("ROLLBACK")
    lock.close()
    assert process.returncode == 5 and b"before the database took" in err


def test_stdin_by_name_and_restart_are_refused(hs: Hs) -> None:
    done = hs.run("cluster", "-", "--restart")
    assert done.status == 2 and "Using - (stdin) with --restart is invalid" in done.err


def test_a_locked_database_holds_the_end_until_the_user_will_not_wait(hs: Hs) -> None:
    """Another process holds the write lock: we wait and say so; a second, different signal ends us (status 5)."""
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate"])
    process = hs.start("cluster", "tasks.in", "--restart")
    assert wait_for_line(process) == b"up\n"
    lock = sqlite3.connect(hs.db, timeout=30, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    assert process.stderr is not None and b"locked" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert b"SIGINT" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    lock.execute("ROLLBACK")
    lock.close()
    assert process.returncode == 5 and b"before the database took" in err
    assert hs.states() in ({}, {"dispatched": 1}, {"pending": 1})
