"""Faults of a real network: hosts with links that are cut and mended, clients that freeze, hosts that crash.

Whatever happens, every task is final once, and what is late is not applied.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.test_net import ended, lines, wait_for_file
from tests.integration.test_returning_net import through, until_error_says
from tests.testbed.cli import Hs
from tests.testbed.hosts import Hosts, inner, why_not
from tests.testbed.relay import Relay

#: Notes on which host it runs, says so, and waits for the gate of that host.
GATED = "echo $(hostname) >> ran; echo up; read x < gate-$(hostname); echo down; echo $(hostname) >> done"

Fault = Callable[["Field", subprocess.Popen[bytes]], None]


class Field:
    """Hosts a, b and c; the server is on a."""

    def __init__(self, hs: Hs, hosts: Hosts) -> None:
        self.hs = hs
        self.hosts = hosts
        self.started: list[subprocess.Popen[bytes]] = []
        for name in hosts.addresses:
            os.mkfifo(hs.folder / f"gate-{name}")

    def start(self, host: str, *args: str, **env: str) -> subprocess.Popen[bytes]:
        command = self.hosts.on(host, self.hs.folder, self.hs.command(*args))
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env=self.hs.environ(env), **pipes)  # type: ignore[call-overload]
        self.started.append(process)
        return process

    @contextmanager
    def server(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        (self.hs.folder / "c.json").unlink(missing_ok=True)
        door = ("-H", "0.0.0.0", "--port", "0", "--connect-file", "c.json", "--advertise", "a")
        process = self.start("a", "server", *args, *door, HYPERSHELL_LOGGING_LEVEL="debug")
        wait_for_file(self.hs.folder / "c.json", process)
        yield process

    def client(self, host: str) -> subprocess.Popen[bytes]:
        quick = {"HYPERSHELL_CLIENT_HEARTRATE": "0.3", "HYPERSHELL_LOGGING_LEVEL": "info"}
        return self.start(host, "client", "--connect", "c.json", "-w0", **quick)

    def status(self) -> dict[str, object]:
        done = ended(self.start("a", "status", "--connect", "c.json", "--json"))
        assert done.status == 0, done
        found: dict[str, object] = json.loads(done.out)
        return found

    def open_gate(self, host: str) -> None:
        with open(self.hs.folder / f"gate-{host}", "w") as gate:
            gate.write("go\n")

    def noted(self, name: str) -> list[str]:
        path = self.hs.folder / name
        return path.read_text().split() if path.exists() else []

    def final(self) -> list[tuple[object, ...]]:
        """State, execution and host of each task."""
        return self.hs.rows("SELECT state, execution, client_host FROM task ORDER BY id")


@pytest.fixture
def field(hs: Hs) -> Iterator[Field]:
    if (reason := why_not()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with Hosts(hs.folder, "a", "b", "c") as hosts:
        field = Field(hs, hosts)
        try:
            yield field
        finally:
            for name in list(hosts.addresses):
                hosts.mend(name)
            hosts.close()
            for process in field.started:
                process.kill()
                process.communicate()


def cut(field: Field, worker: subprocess.Popen[bytes]) -> None:
    field.hosts.cut("b")


def mend(field: Field, worker: subprocess.Popen[bytes]) -> None:
    field.hosts.mend("b")


def stop(field: Field, worker: subprocess.Popen[bytes]) -> None:
    inner(worker).send_signal(signal.SIGSTOP)


def go_on(field: Field, worker: subprocess.Popen[bytes]) -> None:
    inner(worker).send_signal(signal.SIGCONT)
    worker.send_signal(signal.SIGCONT)  # nsenter stops with it


FAULTS = pytest.mark.parametrize(("fault", "end"), [(cut, mend), (stop, go_on)], ids=["cut", "stopped"])


@FAULTS
def test_past_eviction_tasks_go_elsewhere_and_late_results_are_not_applied(
    field: Field, fault: Fault, end: Fault
) -> None:
    field.hs.file([GATED])
    with field.server("tasks.in", "--evict", "1.5") as process:
        first = field.client("b")
        assert lines(first, 1) == ["up"]
        fault(field, first)
        until_error_says(process, "lost")
        second = field.client("c")
        assert lines(second, 1) == ["up"]
        field.open_gate("b")
        end(field, first)
        until_error_says(first, "The server is back")
        until = time.monotonic() + 60.0
        while field.status()["late"] != 1:
            assert time.monotonic() < until, "the late result did not come, or was not counted"
        field.open_gate("c")
        outs, last = [ended(second), ended(first)], ended(process)
    assert last.status == 0 and [out.status for out in outs] == [0, 0], (last, outs)
    assert field.final() == [("succeeded", 2, "c")]
    assert sorted(field.noted("ran")) == ["b", "c"]


@FAULTS
def test_within_eviction_nothing_is_lost_and_nothing_runs_twice(field: Field, fault: Fault, end: Fault) -> None:
    field.hs.file([GATED, "echo other"])
    with field.server("tasks.in", "-b1") as process:
        worker = field.client("b")
        assert lines(worker, 1) == ["up"]
        fault(field, worker)
        field.open_gate("b")
        wait_for_file(field.hs.folder / "done", worker)
        end(field, worker)
        done, last = ended(worker), ended(process)
    assert (last.status, done.status, done.out) == (0, 0, "down\nother\n"), (last, done)
    assert "lost" not in last.err
    assert field.final() == [("succeeded", 1, "b")] * 2
    assert field.noted("ran") == ["b"]


def test_a_host_that_crashes_is_lost_by_silence(field: Field) -> None:
    """Its connections stay half open: nothing comes that would close them."""
    field.hs.file([GATED, "echo other"])
    with field.server("tasks.in", "-b1", "--evict", "1.5") as process:
        victim = field.client("b")
        assert lines(victim, 1) == ["up"]
        field.hosts.crash("b")
        until_error_says(process, "lost")
        second = field.client("c")
        assert lines(second, 1) == ["up"]
        field.open_gate("c")
        done, last = ended(second), ended(process)
    assert (last.status, done.status) == (0, 0), (last, done)
    assert sorted(field.final()) == [("succeeded", 2, "c")] * 2  # the victim had both


def test_a_server_that_comes_back_behind_a_cut_link_repeats_nothing(field: Field) -> None:
    field.hs.file([GATED, "echo other"])
    with field.server("tasks.in", "-b1") as first:
        worker = field.client("b")
        assert lines(worker, 1) == ["up"]
        field.hosts.cut("a")
        inner(first).kill()
        first.communicate()
    with field.server("tasks.in", "-b1", "--restart", "--reclaim", "60") as second:
        field.open_gate("b")
        wait_for_file(field.hs.folder / "done", worker)
        field.hosts.mend("a")
        done, last = ended(worker), ended(second)
    assert (last.status, done.status, done.out) == (0, 0, "down\nother\n"), (last, done)
    assert field.final() == [("succeeded", 1, "b")] * 2
    assert field.noted("ran") == ["b"]


def test_every_command_finds_the_server_by_the_name_in_the_connect_file(field: Field) -> None:
    with field.server("--forever") as process:
        assert json.loads((field.hs.folder / "c.json").read_text())["addresses"] == ["a"]
        submitted = ended(field.start("c", "submit", "--connect", "c.json", "echo", "from-c"))
        assert submitted.status == 0, submitted
        worker = field.client("b")
        assert lines(worker, 1) == ["from-c"]
        told = ended(field.start("c", "status", "--connect", "c.json", "--json"))
        found = json.loads(told.out)
        assert (found["host"], [one["host"] for one in found["clients"]]) == ("a", ["b"])
        inner(process).terminate()
        done, last = ended(worker), ended(process)
    assert done.status == 0, (done, last)
    assert field.final() == [("succeeded", 1, "b")]


# -- a bad line between a client and its server -----------------------------------------------------------------


def spoken(hs: Hs, folder: Path, relay: Callable[[int], Relay], tasks: int, size: int) -> None:
    """Tasks of which each prints `size` bytes, through `relay`; all of it arrives, once."""
    line = f"echo {{}} >> ran; printf '%0{size - 1}d\\n' {{}}"
    hs.file([line.replace("{}", str(number)) for number in range(tasks)])
    door = ("--port", "0", "--connect-file", "c.json", "--keep-output", "-b4")
    process = hs.start("server", "tasks.in", *door)
    try:
        wait_for_file(folder / "c.json", process)
        with relay(int(json.loads((folder / "c.json").read_text())["port"])) as between:
            worker = hs.start("client", "--connect", through(hs, between, "relay.json"), "-N2", "-w0")
            done, last = ended(worker), ended(process)
    finally:
        process.kill()
        process.communicate()
    assert (last.status, done.status, len(done.out)) == (0, 0, tasks * size), (last, done.err)
    assert sorted(map(int, (folder / "ran").read_text().split())) == list(range(tasks))
    # Work that was lost on its way is given out again, as another execution: nothing ran twice all the same.
    assert hs.rows("SELECT state, max(attempt), count(*) FROM task GROUP BY state") == [("succeeded", 1, tasks)]
    assert hs.rows("SELECT count(*), min(length(stdout)) FROM output") == [(tasks, size)]


def test_resets_in_the_middle_of_messages(hs: Hs, tmp_path: Path) -> None:
    """TLS and its handshake take some of what a connection lasts."""
    cuts: list[int] = []
    spoken(hs, tmp_path, lambda port: Relay(port, lasts=20_007, cuts=cuts), 200, 300)
    assert len(cuts) >= 3


def test_a_slow_line(hs: Hs, tmp_path: Path) -> None:
    spoken(hs, tmp_path, lambda port: Relay(port, rate=600_000), 60, 20_000)
