"""Server, clients and visitors as processes, over real connections on this machine."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testbed.cli import Done, Hs

_PATIENCE = 60.0
KEY = "a-key-for-these-tests-0123456789abcdef"


def wait_for_file(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def server(
    hs: Hs, *args: str, command: str = "server", env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server whose connect file is ``c.json``."""
    process = hs.start(command, *args, "--port", "0", "--connect-file", "c.json", env=env)
    try:
        wait_for_file(hs.folder / "c.json", process)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[bytes]) -> Done:
    out, err = process.communicate(timeout=_PATIENCE)
    return Done(process.returncode, out.decode(), err.decode())


def client(hs: Hs, *args: str) -> subprocess.Popen[bytes]:
    return hs.start("client", "--connect", "c.json", *args)


def lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().rstrip("\n") for _ in range(count)]


def status(hs: Hs) -> dict[str, object]:
    done = hs.run("status", "--connect", "c.json", "--json")
    assert done.status == 0, done.err
    found: dict[str, object] = json.loads(done.out)
    return found


# -- the whole way -------------------------------------------------------------------------------------------


def test_the_status_tells_when_the_allocation_ends(hs: Hs) -> None:
    hs.file(["true"])
    with server(hs, "tasks.in", "--walltime", "1h") as process:
        ends, now = (status(hs)[name] for name in ("ends", "now"))
        assert isinstance(ends, float) and isinstance(now, float) and 3500 < ends - now <= 3600
        assert "ends:     in 0:59:" in hs.run("status", "--connect", "c.json").out
        process.terminate()
        assert ended(process).status == 75


def test_a_file_is_run_by_clients_that_come(hs: Hs) -> None:
    hs.file([f"echo {n}" for n in range(40)])
    with server(hs, "tasks.in") as process:
        assert stat.S_IMODE(os.stat(hs.folder / "c.json").st_mode) == 0o600
        clients = [client(hs, "-N2"), client(hs)]
        outs = [ended(one) for one in clients]
        done = ended(process)
    assert (done.status, done.out, done.err) == (0, "", "")
    assert [one.status for one in outs] == [0, 0], outs
    assert sorted(int(line) for one in outs for line in one.out.split()) == list(range(40))
    assert hs.rows("SELECT count(*), count(DISTINCT client_id) FROM task WHERE state = 'succeeded'")[0][0] == 40
    assert hs.rows("SELECT transport, outcome FROM run") == [("tcp", "complete")]
    assert not (hs.folder / "c.json").exists()


def test_a_key_in_the_environment_and_no_connect_file(hs: Hs) -> None:
    hs.file(["echo hello"])
    process = hs.start("server", "tasks.in", "--port", "0", env={"HYPERSHELL_SERVER_AUTH": KEY,
                                                               "HYPERSHELL_LOGGING_LEVEL": "info"})  # fmt: skip
    try:
        assert process.stderr is not None
        while "Listening on" not in (line := process.stderr.readline().decode()):
            assert line
        port = line.partition("(")[0].rpartition(":")[2].strip()
        wrong = hs.run("client", "--port", port, env={"HYPERSHELL_SERVER_AUTH": KEY[::-1]})
        assert wrong.status == 5 and "the proof of the key is wrong" in wrong.err and wrong.err.count("\n") == 1
        good = hs.run("client", "--port", port, env={"HYPERSHELL_SERVER_AUTH": KEY})
        assert (good.status, good.out) == (0, "hello\n"), good.err
        assert ended(process).status == 0
    finally:
        process.kill()


def test_tasks_of_a_client_that_was_killed_go_elsewhere(hs: Hs) -> None:
    hs.file(["test -e mark || { touch mark; echo first; exec sleep 1000; }; echo again", "echo other"])
    with server(hs, "tasks.in", "-b1") as process:
        victim = client(hs)
        assert lines(victim, 1) == ["first"]
        victim.kill()
        victim.communicate()
        second = ended(client(hs))
        done = ended(process)
    assert (second.status, sorted(second.out.split())) == (0, ["again", "other"])
    assert done.status == 0 and "lost" in done.err
    assert hs.rows("SELECT max(attempt), max(execution) FROM task") == [(1, 2)]


def test_a_client_that_is_told_to_leave_finishes_what_runs(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate; echo down", *(f"echo {n}" for n in range(5))])
    with server(hs, "tasks.in", "-b1") as process:
        leaver = client(hs)
        assert lines(leaver, 1) == ["up"]
        leaver.send_signal(signal.SIGTERM)
        with open(hs.folder / "gate", "w") as gate:
            gate.write("go\n")
        left = ended(leaver)
        assert (left.status, left.out) == (0, "down\n"), left.err
        rest = ended(client(hs))
        assert ended(process).status == 0
    assert sorted(rest.out.split()) == [str(n) for n in range(5)]


def test_what_the_client_says_of_itself_holds(hs: Hs) -> None:
    """Template, directory, files for output, capture: of the client, not of the server."""
    (hs.folder / "there").mkdir()
    hs.file(["one", "two"])
    with server(hs, "tasks.in") as process:
        told = hs.start("client", "--connect", str(hs.folder / "c.json"), "-t", "echo {} $PWD; echo e >&2",
                        "-o", "out", "-e", "err")  # fmt: skip
        assert ended(told).status == 0
        assert ended(process).status == 0
    assert sorted((hs.folder / "out").read_text().split()[::2]) == ["one", "two"]
    assert (hs.folder / "err").read_text() == "e\ne\n"
    with server(hs, "tasks.in") as process:
        assert ended(client(hs, "-t", "echo {}", "--capture")).out == ""
        assert ended(process).status == 0
    paths = hs.rows("SELECT outpath FROM task WHERE outpath IS NOT NULL")
    assert sorted(Path(row[0]).read_text() for row in paths) == ["one\n", "two\n"]


def test_failures_are_printed_like_by_a_sieve(hs: Hs) -> None:
    hs.file(["true", "false", "exit 3"])
    with server(hs, "tasks.in", "--print") as process:
        assert ended(client(hs)).status == 0
        done = ended(process)
    assert (done.status, sorted(done.out.splitlines())) == (7, ["exit 3", "false"])


def test_without_tls_both_sides_say_so(hs: Hs) -> None:
    hs.file(["echo plain"])
    with server(hs, "tasks.in", "--no-tls") as process:
        refused = hs.run("client", "--connect", "c.json")
        assert refused.status == 3 and "say --no-tls too" in refused.err
        assert ended(client(hs, "--no-tls")).out == "plain\n"
        assert ended(process).status == 0


def test_off_loopback_no_tls_is_warned_of(hs: Hs) -> None:
    hs.file(["true"])
    with server(hs, "tasks.in", "--no-tls", "--bind", "0.0.0.0", "--advertise", "127.0.0.1") as process:
        assert json.loads((hs.folder / "c.json").read_text())["addresses"] == ["127.0.0.1"]
        assert ended(client(hs, "--no-tls")).status == 0
        assert "No TLS" in ended(process).err


@pytest.mark.parametrize(("args", "status", "word"), [
    (["server", "tasks.in"], 2, "--connect-file"),
    (["server", "tasks.in", "-k", "short"], 2, "at least 16"),
    (["server", "tasks.in", "--forever"], 2, "FILE"),
    (["server", "tasks.in", "--connect-file", "no/such/dir/c.json"], 3, "no/such/dir"),
    (["server", "tasks.in", "-p", "70000", "--connect-file", "c"], 2, "65535"),
    (["server", "tasks.in", "--tls-cert", "missing.pem", "--connect-file", "c"], 3, "missing.pem"),
    (["client", "-p", "1", "-k", KEY], 5, "Connection refused"),
    (["client", "--connect", "missing.json"], 3, "missing.json"),
    (["client"], 2, "--connect"),
    (["client", "-k", KEY, "--connect", "x"], 2, "--connect"),
    (["client", "-k", KEY, "-H", "no-such-host.invalid"], 5, "no-such-host.invalid"),
    (["mpi", "tasks.in", "--connect-file", "c"], 2, "--bind"),
    (["status"], 2, "--connect"),
    (["submit", "--port", "5", "true"], 2, "-q/--queue"),
    (["submit", "-q", "--db", "x.db", "true"], 2, "--db"),
])  # fmt: skip
def test_what_cannot_work_is_one_line(hs: Hs, args: list[str], status: int, word: str) -> None:
    hs.file(["true"])
    done = hs.run(*args)
    last = done.err.splitlines()[-1]
    assert done.status == status and word in last and last.startswith("CRITICAL"), done


def test_a_busy_port_is_one_line(hs: Hs) -> None:
    hs.file(["true"])
    with server(hs, "tasks.in"):
        port = json.loads((hs.folder / "c.json").read_text())["port"]
        done = hs.run("server", "tasks.in", "-p", str(port), "--connect-file", "other.json")
    assert done.status == 5 and f"port {port} of localhost is in use" in done.err
    assert not (hs.folder / "other.json").exists()


def test_the_key_is_nowhere_to_be_seen(hs: Hs) -> None:
    """Not in the environment of tasks, the database, or the log."""
    env = {"HYPERSHELL_SERVER_AUTH": KEY, "HYPERSHELL_LOGGING_LEVEL": "trace"}
    hs.file(["env", "tr '\\0' '\\n' < /proc/$PPID/cmdline"])
    process = hs.start("server", "tasks.in", "--port", "0", "--connect-file", "c.json", env=env)
    try:
        wait_for_file(hs.folder / "c.json", process)
        told = hs.start("client", "--connect", "c.json", env=env)
        out = ended(told)
        done = ended(process)
    finally:
        process.kill()
    assert out.status == 0 and done.status == 0
    for text in (out.out, out.err, done.out, done.err):
        assert KEY not in text
    assert KEY.encode() not in hs.db.read_bytes()


# -- visitors ------------------------------------------------------------------------------------------------


def test_tasks_are_handed_in_while_a_server_runs(hs: Hs) -> None:
    hs.file([f"echo {n}  # HYPERSHELL: n:{n} group:1" for n in range(3)])
    with server(hs, "--forever") as process:
        worker = client(hs, "-N2")
        done = hs.run("submit", "--connect", "c.json", "echo alone")
        assert (done.status, done.out) == (0, "") and "Submitted task (" in done.err
        assert lines(worker, 1) == ["alone"]
        done = hs.run("submit", "--connect", "c.json", "tasks.in", "-t", "prod", "site:b")
        assert done.status == 0 and "Submitted 3 tasks" in done.err
        assert sorted(lines(worker, 3)) == ["0", "1", "2"]
        done = hs.run("submit", "--connect", "c.json", "--template", "echo '<{}>'", input="a\nb\n")
        assert done.status == 0 and sorted(lines(worker, 2)) == ["<a>", "<b>"]
        hs.run("submit", "--connect", "c.json", "--template", "echo {slot} $TASK_SLOT {slot_count} {}", "--", "z")
        (shown,) = [line.split() for line in lines(worker, 1)]
        assert shown in (["0", "0", "2", "z"], ["1", "1", "2", "z"]), "the client makes the command"
        task_id = hs.run("task", "submit", "--connect", "c.json", "--", "sh", "-c", "exit 3").out.strip()
        assert hs.run("wait", task_id, "-s").out == "3\n"
        process.send_signal(signal.SIGTERM)
        assert ended(worker).status == 0
        assert "unfinished" not in ended(process).err
    assert hs.rows('SELECT args, tag, "group" FROM task WHERE args LIKE \'echo _\' ORDER BY id')[1] == (
        "echo 1", '{"prod":"","site":"b","n":1}', 1,
    )  # fmt: skip
    assert hs.rows("SELECT DISTINCT source, complete FROM submission") == [("live", 1)]


def test_what_was_handed_in_survives_the_server(hs: Hs) -> None:
    with server(hs, "--forever") as process:
        assert hs.run("submit", "--connect", "c.json", "echo later").status == 0
        process.kill()
        process.communicate()
    done = hs.run("cluster", "--restart")
    assert (done.status, done.out) == (0, "later\n"), done.err


def test_many_lines_are_handed_in(hs: Hs) -> None:
    hs.file([f"true {n}" for n in range(20_000)])
    with server(hs, "--forever"):
        done = hs.run("submit", "--connect", "c.json", "tasks.in")
        assert done.status == 0 and "Submitted 20000 tasks" in done.err
        assert status(hs)["tasks"] == {
            "pending": 20_000, "dispatched": 0, "succeeded": 0, "failed": 0, "cancelled": 0,
        }  # fmt: skip
    assert hs.rows("SELECT count(*), count(DISTINCT args), count(DISTINCT submission) FROM task") == [
        (20_000, 20_000, 1)
    ]


def test_a_bad_line_leaves_nothing(hs: Hs) -> None:
    hs.file(["echo 1", "echo 2  # HYPERSHELL: a:b:c/d"])
    with server(hs, "--forever"):
        done = hs.run("submit", "--connect", "c.json", "tasks.in")
        assert done.status == 5 and "tasks.in:2" in done.err and "nothing was submitted" in done.err
    assert hs.rows("SELECT count(*) FROM task") == [(0,)]


def test_status_for_people_and_programs(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x < gate", "true", "exit 1"])
    with server(hs, "tasks.in", "-b1", "--release-rate", "9") as process:
        assert status(hs)["clients"] == []
        worker = client(hs)
        assert lines(worker, 1) == ["up"]
        found = status(hs)
        (one,) = found["clients"]  # type: ignore[misc]
        assert one["slots"] == 1 and one["held"] == 2 and one["silent"] is not None and one["state"] == "running"
        assert found["tasks"]["dispatched"] == 2 and found["complete"] and found["group"] == 0  # type: ignore[index]
        text = hs.run("status", "--connect", "c.json").out
        assert "tasks:    1 pending, 2 dispatched" in text and "clients:  1 with 1 slots" in text
        assert "release:  9 clients per second; 1 of 1 clients released" in text
        assert max(map(len, text.splitlines())) < 100
        with open(hs.folder / "gate", "w") as gate:
            gate.write("go\n")
        assert ended(worker).status == 0 and ended(process).status == 7


def test_an_mpi_job_lets_others_in(hs: Hs) -> None:
    """Outside clients get work at once; the run does not wait for them when they are gone."""
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo inside; read x < gate", *["echo task"] * 20])
    with server(hs, "tasks.in", "--bind", "127.0.0.1", "-N1", "-b1", command="mpi") as process:
        assert lines(process, 1) == ["inside"]
        out = client(hs)
        assert lines(out, 5) == ["task"] * 5
        done = hs.run("submit", "--connect", "c.json", "echo handed in")
        assert done.status == 0, done.err
        with open(hs.folder / "gate", "w") as gate:
            gate.write("go\n")
        rest = ended(out)
        assert ended(process).status == 0 and rest.status == 0
    assert hs.rows("SELECT state, count(*) FROM task GROUP BY 1") == [("succeeded", 22)]
    assert hs.rows("SELECT transport FROM run") == [("mpi",)]
