"""A client on Windows: a real Windows CPython, under Wine, joins a server of this machine. For ``make test-wine``.

Not collected by ``make test``: its name says so to pytest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.cli import Hs
from tests.testbed.mpi import ROOT
from tests.testbed.waiting import until
from tests.testbed.wine import Wine, make, windows_path

#: Seconds after which something that should happen did not.
LONG = 120.0


@pytest.fixture(scope="session")
def wine() -> Iterator[Wine]:
    made = make(Path(os.environ.get("HS_TEST_WINE", ROOT / "outputs" / "wine")), pytest.skip)
    yield made
    made.close()


class Job:
    """A server of Linux with its connect file, and clients of Windows."""

    def __init__(self, hs: Hs, wine: Wine) -> None:
        self.hs, self.wine = hs, wine
        self.started: list[subprocess.Popen[bytes]] = []
        self.connect = hs.folder / "connect.json"

    def serve(self, *args: str) -> subprocess.Popen[bytes]:
        server = self.hs.start(
            "server", *args, "--bind", "127.0.0.1", "--port", "0", "--connect-file", str(self.connect)
        )
        self.started.append(server)
        until(lambda: self.connect.exists() or server.poll() is not None)
        return server

    def windows(self, *args: str) -> subprocess.Popen[bytes]:
        """``hs ARGS`` of Windows."""
        site = windows_path(self.hs.folder / "windows-site")
        process = self.wine.hs(*args, cwd=self.hs.folder, env={"HYPERSHELL_SITE": site})
        self.started.append(process)
        return process

    def client(self, *args: str) -> subprocess.Popen[bytes]:
        return self.windows("client", "--connect", windows_path(self.connect), *args)

    def run(self, lines: list[str], *args: str) -> str:
        """Run `lines` on one client of Windows; what it wrote to stdout."""
        server = self.serve(self.hs.file(for_windows(lines)))
        out = ended(self.client(*args))
        server.communicate(timeout=LONG)
        return out

    def rows(self, what: str) -> list[tuple[Any, ...]]:
        return self.hs.rows(f"SELECT {what} FROM task ORDER BY id")

    def waits(self, name: str) -> str:
        """A task that sleeps for an hour in a process of its own, which has `name` among its arguments."""
        return f'"{self.wine.python}" -c "import time; time.sleep(3600)" {name}'


@pytest.fixture
def job(hs: Hs, wine: Wine) -> Iterator[Job]:
    made = Job(hs, wine)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def for_windows(lines: list[str]) -> list[str]:
    """The lines, each of which says that clients of Windows may run it."""
    return [f"{line} {'' if '# HYPERSHELL:' in line else '# HYPERSHELL: '}os:windows" for line in lines]


def ended(process: subprocess.Popen[bytes], most: float = LONG) -> str:
    """Wait for its end, which must be a good one; its stdout."""
    out, err = process.communicate(timeout=most)
    assert process.returncode == 0, err.decode()
    return out.decode()


def processes(name: str) -> list[int]:
    """Processes of this machine that have `name` among their arguments; those of Wine are such."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            words = Path("/proc", entry, "cmdline").read_bytes() if entry.isdecimal() else b""
        except OSError:
            continue
        if name.encode() in words:
            found.append(int(entry))
    return found


def test_statuses_and_lines_are_those_of_cmd(job: Job) -> None:
    out = job.run(
        [
            "echo hello",
            "exit 7",
            'echo "a b" ^& c',
            "echo %TASK_TAG_KIND% # HYPERSHELL: kind:tag",
            "echo first& echo second",
            "exit -1073741819",
            "exit -1",
            "no-such-program",
            "exit 3 # HYPERSHELL: kind:tag",
            "if %TASK_TAG_KIND%==tag (exit 9) # HYPERSHELL: kind:tag",
        ],
        "-N",
        "2",
    )
    lines = [line.rstrip() for line in out.splitlines()]
    assert sorted(lines) == sorted(["hello", '"a b" & c', "tag", "first", "second"])
    statuses = [status for (status,) in job.rows("exit_status")]
    assert statuses == [0, 7, 0, 0, 0, -1073741819, 255, statuses[7], 3, 9]
    assert statuses[7] not in (0, None)


def test_a_time_limit_ends_a_task_with_all_that_it_started(job: Job) -> None:
    name = f"limit-{os.getpid()}"
    job.run([f'cmd /c "{job.waits(name)}" # HYPERSHELL: timeout:3', "echo next"], "-N", "1")
    assert job.rows("state, error") == [("failed", "timeout"), ("succeeded", None)]
    until(lambda: not processes(name), LONG)


def test_what_a_task_prints_is_captured(job: Job) -> None:
    job.run(["echo out& echo err>&2", "cd no-such-folder"], "-N", "1", "--capture")
    (out, err), (_, second) = job.rows("outpath, errpath")
    assert out.startswith("Z:\\") and out.endswith(".out")
    assert _read(out).split() == ["out"]
    assert _read(err).split() == ["err"]
    assert _read(second).strip()


def _read(path: str) -> str:
    return Path(path.removeprefix("Z:").replace("\\", "/")).read_text()


def test_output_comes_back_with_the_result(job: Job) -> None:
    job.run(["echo kept", f'"{job.wine.python}" -c "print(9 * chr(120) * 100000)"'], "-N", "2")
    again = job.hs.run("submit", "--keep-output", "-t", "os:windows", "--", "echo", "this")
    assert again.status == 0
    server = job.serve("--restart")
    ended(job.client("-N", "1"))
    server.communicate(timeout=LONG)
    (printed,) = job.hs.rows("SELECT t.id FROM task t WHERE args = 'echo this'")[0]
    assert job.hs.run("info", printed, "--stdout").out == "this\r\n"


def test_nothing_stays_behind_of_a_client_that_is_killed(job: Job) -> None:
    name = f"kill-{os.getpid()}"
    job.serve(job.hs.file(for_windows([f'cmd /c "{job.waits(name)}"', f"start /b {job.waits(name)}"])))
    client = job.client("-N", "2")
    until(lambda: len(processes(name)) >= 3, LONG)
    client.kill()
    client.communicate()
    until(lambda: not processes(name), LONG)


def test_a_first_interrupt_drains_and_a_second_one_stops(job: Job) -> None:
    name = f"drain-{os.getpid()}"
    job.serve(job.hs.file(for_windows([job.waits(name)] * 3)))
    client = job.client("-N", "1")
    until(lambda: len(processes(name)) >= 2, LONG)
    client.send_signal(signal.SIGINT)
    until(lambda: job.connect.exists() and _status(job)["clients"][0]["state"] != "active")
    assert processes(name)
    client.send_signal(signal.SIGINT)
    ended(client)
    until(lambda: not processes(name), LONG)
    assert {state for (state,) in job.rows("state")} <= {"pending"}


def _status(job: Job) -> Any:
    done = job.hs.run("status", "--connect", str(job.connect), "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_submit_and_status_reach_a_server(job: Job) -> None:
    server = job.serve("--forever")
    file = job.hs.file(["echo from a file", "echo the end"], "more.in")
    connect = windows_path(job.connect)
    ended(job.windows("submit", "--connect", connect, "-t", "by:windows", "--", "echo", "one"))
    ended(job.windows("submit", "--connect", connect, "-f", file))
    told = json.loads(ended(job.windows("status", "--connect", connect, "--json")))
    assert sum(told["tasks"].values()) == 3
    assert "from a file" in "".join(args for (args,) in job.rows("args"))
    server.terminate()
    server.communicate(timeout=LONG)


def test_lines_for_sh_wait_for_another_client(job: Job) -> None:
    server = job.serve(job.hs.file(["echo $((1 + 1))", "echo for windows # HYPERSHELL: os:windows"]))
    client = job.client("-N", "2")
    until(lambda: _status(job)["tasks"].get("succeeded") == 1, LONG)
    assert job.hs.rows("SELECT args FROM task WHERE state = 'succeeded'") == [("echo for windows",)]
    other = job.hs.start("client", "--connect", str(job.connect), "-N", "1")
    job.started.append(other)
    assert ended(other).split() == ["2"]
    assert ended(client).split() == ["for", "windows"]
    server.communicate(timeout=LONG)
    assert job.hs.states() == {"succeeded": 2}


def test_a_server_that_dies_is_found_again(job: Job) -> None:
    name = f"server-{os.getpid()}"
    go = job.hs.folder / "go"
    waits = f"import os, time; [time.sleep(0.1) for _ in iter(lambda: os.path.exists(r'{windows_path(go)}'), True)]"
    server = job.serve(job.hs.file(for_windows([f'"{job.wine.python}" -c "{waits}" {name}'])))
    client = job.client("-N", "1")
    until(lambda: processes(name), LONG)
    until(lambda: ("dispatched",) in job.rows("state"), LONG)
    server.kill()
    server.communicate()
    job.connect.unlink(missing_ok=True)
    again = job.serve("--restart")
    go.touch()
    ended(client)
    again.communicate(timeout=LONG)
    assert job.rows("state, execution") == [("succeeded", 1)]


def test_what_only_a_windows_can_show_is_so_here(wine: Wine, tmp_path: Path) -> None:
    """``on_windows.py`` by its pytest."""
    start = f"import sys, pytest; sys.path.insert(0, {windows_path(ROOT)!r}); sys.exit(pytest.main(sys.argv[1:]))"
    what = windows_path(ROOT / "tests" / "on_windows.py")
    options = ("-q", "-p", "no:cacheprovider", "--basetemp", "base")
    out = ended(wine.start("-c", start, *options, what, cwd=tmp_path), 6 * LONG)
    assert " passed" in out
    assert "skipped" not in out


def test_tasks_are_submitted_and_listed_in_a_database_of_windows(job: Job) -> None:
    ended(job.windows("submit", "-t", "by:windows", "--", "echo", "one"))
    listed = json.loads(ended(job.windows("list", "args", "state", "--json")))
    assert listed == [{"args": "echo one", "state": "pending"}]
    assert ended(job.windows("list", "--count")).strip() == "1"
