"""Clients over the network that lose their server, or the way to it: what they have goes on, nothing runs twice."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time

from tests.integration.test_net import client, ended, lines, server, status
from tests.testbed.cli import Hs
from tests.testbed.relay import Relay

#: A task that notes each of its runs, says so, and waits for the gate.
GATED = "echo ran >> ran; echo up; read x < gate; echo down"


def ran(hs: Hs) -> int:
    return (hs.folder / "ran").read_text().count("ran\n")


def open_gate(hs: Hs) -> None:
    """Let one task through that waits at the gate; returns when it has begun to wait."""
    with open(hs.folder / "gate", "w") as gate:
        gate.write("go\n")


def until_error_says(process: subprocess.Popen[bytes], word: str) -> None:
    assert process.stderr is not None
    while word not in (line := process.stderr.readline().decode()):
        assert line, f"no line with {word!r}"


def logged(hs: Hs, *args: str, connect: str = "c.json") -> subprocess.Popen[bytes]:
    return hs.start("client", "--connect", connect, *args, env={"HYPERSHELL_LOGGING_LEVEL": "info"})


def through(hs: Hs, relay: Relay, name: str) -> str:
    """A connect file that leads through `relay`."""
    told = json.loads((hs.folder / "c.json").read_text())
    told["addresses"], told["port"] = ["127.0.0.1"], relay.port
    descriptor = os.open(hs.folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
    with open(descriptor, "w") as file:
        json.dump(told, file)
    return name


def test_a_client_outlives_a_server_that_was_killed(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file([GATED, "echo other"])
    with server(hs, "tasks.in", "-b1") as first:
        worker = logged(hs)
        assert lines(worker, 1) == ["up"]
        first.kill()
        first.communicate()
        until_error_says(worker, "The server is away")
    (hs.folder / "c.json").unlink()
    with server(hs, "tasks.in", "--restart", "-b1") as second:
        until_error_says(worker, "The server is back")
        open_gate(hs)
        done = ended(worker)
        last = ended(second)
    assert (last.status, done.status, done.out) == (0, 0, "down\nother\n"), (last, done)
    assert ran(hs) == 1
    assert hs.rows("SELECT count(*), max(attempt), max(execution) FROM task WHERE state = 'succeeded'") == [
        (2, 1, 1)
    ]
    assert hs.rows("SELECT count(*) FROM outliving") == [(0,)]


def test_results_wait_for_the_next_server(hs: Hs) -> None:
    """The task ends while nobody is there; its result is handed over, with what it printed."""
    os.mkfifo(hs.folder / "gate")
    hs.file([GATED])
    with server(hs, "tasks.in", "--keep-output") as first:
        worker = logged(hs)
        assert lines(worker, 1) == ["up"]
        first.kill()
        first.communicate()
        until_error_says(worker, "The server is away")
    open_gate(hs)
    assert lines(worker, 1) == ["down"]
    (hs.folder / "c.json").unlink()
    with server(hs, "tasks.in", "--keep-output", "--restart") as second:
        done = ended(worker)
        last = ended(second)
    assert (last.status, done.status) == (0, 0), (last, done)
    assert ran(hs) == 1
    assert hs.rows("SELECT state, attempt, execution FROM task") == [("succeeded", 1, 1)]
    assert hs.rows("SELECT stdout FROM output") == [(b"up\ndown\n",)]


def test_a_cut_connection_comes_back_without_a_second_run(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file([GATED, "echo other"])
    with server(hs, "tasks.in", "-b1") as process, Relay(port_of(hs)) as relay:
        worker = logged(hs, connect=through(hs, relay, "relay.json"))
        assert lines(worker, 1) == ["up"]
        relay.cut()
        until_error_says(worker, "The server is back")
        open_gate(hs)
        done, last = ended(worker), ended(process)
    assert (last.status, done.status, done.out) == (0, 0, "down\nother\n"), (last, done)
    assert ran(hs) == 1
    assert hs.rows("SELECT count(*), max(attempt), max(execution) FROM task WHERE state = 'succeeded'") == [
        (2, 1, 1)
    ]


def test_tasks_of_a_client_that_does_not_come_back_go_to_others(hs: Hs) -> None:
    hs.file(["test -e mark || { touch mark; echo up; exec sleep 1000; }; echo again"])
    with server(hs, "tasks.in") as first:
        worker = client(hs)
        assert lines(worker, 1) == ["up"]
        first.kill()
        first.communicate()
        worker.kill()
        worker.communicate()
    (hs.folder / "c.json").unlink()
    with server(hs, "tasks.in", "--restart", "--reclaim", "0.2") as second:
        done, last = ended(client(hs)), ended(second)
    assert (last.status, done.status, done.out) == (0, 0, "again\n"), (last, done)
    assert "1 tasks of clients that did not come back go to others" in last.err
    assert hs.rows("SELECT state, attempt, execution FROM task") == [("succeeded", 1, 2)]


def test_status_counts_what_absent_clients_have(hs: Hs) -> None:
    hs.file(["echo up; exec sleep 1000", "true"])
    with server(hs, "tasks.in", "-b1") as first:
        worker = client(hs, "--reconnect", "600")
        assert lines(worker, 1) == ["up"]
        first.kill()
        first.communicate()
        worker.kill()
        worker.communicate()
    (hs.folder / "c.json").unlink()
    with server(hs, "tasks.in", "--restart"):
        until = time.monotonic() + 60.0
        while (tasks := status(hs)["tasks"])["pending"] + tasks["dispatched"] < 2:  # type: ignore[index]
            assert time.monotonic() < until, "it does not find them"
        assert (tasks["dispatched"], tasks["pending"]) == (2, 0)  # type: ignore[index]


def test_a_label_chooses_the_client(hs: Hs) -> None:
    hs.file([f"echo any{n}" for n in range(6)] + ["echo here  # HYPERSHELL: label:gpu"])
    with server(hs, "tasks.in", "-b1") as process:
        plain = client(hs)
        assert sorted(lines(plain, 6)) == [f"any{n}" for n in range(6)]
        assert [one["labels"] for one in status(hs)["clients"]] == [[]]  # type: ignore[attr-defined]
        labelled = ended(client(hs, "--label", "gpu", "--label", "big"))
        assert (labelled.status, labelled.out) == (0, "here\n"), labelled
        assert (ended(plain).out, ended(process).status) == ("", 0)


def test_a_client_at_which_everything_fails_is_set_aside(hs: Hs) -> None:
    """It spoils as many as `--quarantine` says and no more; the status names it, and the others do the rest."""
    hs.file(['test "$SICK" = 1 && exit 1; echo up; while [ ! -e open ]; do sleep 0.02; done'] * 30)
    with server(hs, "tasks.in", "-b1", "--quarantine", "3") as process:
        healthy = [hs.start("client", "--connect", "c.json", env={"SICK": "0"}) for _ in range(2)]
        assert [lines(one, 1) for one in healthy] == [["up"], ["up"]]
        sick = hs.start("client", "--connect", "c.json", env={"SICK": "1"})
        until = time.monotonic() + 60.0
        while "quarantined" not in {one["state"] for one in status(hs)["clients"]}:  # type: ignore[attr-defined]
            assert time.monotonic() < until and sick.poll() is None
        (hs.folder / "open").touch()
        outs, last = [ended(one) for one in (*healthy, sick)], ended(process)
    assert [one.status for one in outs] == [0, 0, 0] and last.status == 7
    assert "gets no more tasks: its last 3 failed within a second each" in last.err
    assert hs.states() == {"failed": 3, "succeeded": 27}


def test_a_client_without_patience_ends_with_its_server(hs: Hs) -> None:
    hs.file(["echo up; exec sleep 1000"])
    with server(hs, "tasks.in") as process:
        worker = client(hs, "--reconnect", "0")
        assert lines(worker, 1) == ["up"]
        until = time.monotonic() + 60.0
        while not hs.db.exists() or not committed(hs):  # to such a client the dispatch need not be durable
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert ended(worker).status == 5
    assert hs.rows("SELECT count(*) FROM outliving") == [(0,)]


def committed(hs: Hs) -> bool:
    try:
        return hs.states() == {"dispatched": 1}
    except sqlite3.OperationalError:  # the tables are being made
        return False


def port_of(hs: Hs) -> int:
    return int(json.loads((hs.folder / "c.json").read_text())["port"])


def test_labels_of_the_configuration_are_shown_and_those_of_the_command_line_replace_them(hs: Hs) -> None:
    hs.file(["echo here  # HYPERSHELL: label:none-has-this"])
    with server(hs, "tasks.in"):
        known = {"HYPERSHELL_CLIENT_LABEL": "gpu, big"}
        clients = [hs.start("client", "--connect", "c.json", *more, env=known) for more in ((), ("--label", "own"))]
        until = time.monotonic() + 60.0
        while len(found := status(hs)["clients"]) < 2:  # type: ignore[arg-type]
            assert time.monotonic() < until
        assert sorted(one["labels"] for one in found) == [["gpu", "big"], ["own"]]  # type: ignore[attr-defined]
        shown = hs.run("status", "--connect", "c.json").out.splitlines()
        assert shown[-3].endswith("labels") and {line.split("running")[1].strip() for line in shown[-2:]} == {
            "gpu big",
            "own",
        }
        for one in clients:
            one.kill()
            one.communicate()
