"""What Windows runs, under a Python that looks like one of Windows (``testbed/as_windows.py``).

Processes of a real Windows, cmd.exe and job objects: ``on_wine.py``, for ``make test-wine``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypershell.apps.main import HIDDEN, POSIX_ONLY
from hypershell.options import COMMANDS
from tests.test_tidy import PACKAGE, PARTS, modules
from tests.testbed.cli import Done, Hs
from tests.testbed.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this is Windows: nothing has to look like it")

PRETEND = str(Path(__file__).parent / "testbed" / "as_windows.py")

#: Modules that no Windows needs: they start MPI, or processes by the ways of POSIX.
POSIX_MODULES = {
    "hypershell.mpi.environ",
    "hypershell.mpi.launch",
    "hypershell.mpi.transport",
    "hypershell.mpi.world",
    "hypershell.executor.guard",
    "hypershell.executor.unlocked",
}

#: Seconds after which something that should happen did not.
LONG = 60.0


class Pretender:
    """Commands of a Windows that is none, and servers of this machine."""

    def __init__(self, hs: Hs) -> None:
        self.hs = hs
        self.connect = hs.folder / "connect.json"
        self.started: list[subprocess.Popen[bytes]] = []

    def serve(self, *args: str) -> subprocess.Popen[bytes]:
        """A server to which `connect` shows the way."""
        door = ("--bind", "127.0.0.1", "--port", "0", "--connect-file", str(self.connect))
        return self._begun(self.hs.start("server", *args, *door))

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """``hs ARGS``."""
        command = [sys.executable, PRETEND, *args]
        environ = {**self.hs.environ(), "HYPERSHELL_DATABASE_FILE": str(self.hs.folder / "windows.db")}
        nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
        return self._begun(
            subprocess.Popen(command, cwd=self.hs.folder, env=environ, stdin=nothing, stdout=pipe, stderr=pipe)
        )

    def client(self, *args: str) -> subprocess.Popen[bytes]:
        """A client of the server, once that listens."""
        until(self.connect.exists)
        return self.start("client", "--connect", str(self.connect), *args)

    def run(self, *args: str) -> Done:
        """``hs ARGS`` to its end."""
        return ended(self.start(*args))

    def status(self) -> Any:
        """What the server says, asked from Windows."""
        return json.loads(good(self.run("status", "--connect", str(self.connect), "--json")))

    def _begun(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def windows(hs: Hs) -> Iterator[Pretender]:
    made = Pretender(hs)
    yield made
    made.close()


def ended(process: subprocess.Popen[bytes]) -> Done:
    out, err = process.communicate(timeout=LONG)
    return Done(process.returncode, out.decode(), err.decode())


def good(done: Done) -> str:
    assert done.status == 0, done.err
    return done.out


def test_no_module_that_windows_needs_imports_what_it_lacks() -> None:
    every = {module for part in PARTS if (PACKAGE / part).is_dir() for module in modules(part)}
    assert every > POSIX_MODULES
    wanted = sorted(every - POSIX_MODULES)
    told = subprocess.run(
        [sys.executable, PRETEND, "--import", *wanted],
        env=Hs(PACKAGE).environ(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == {}


def test_what_is_hidden_is_not_there(windows: Pretender) -> None:
    probe = (
        "import runpy, sys; space = runpy.run_path(sys.argv[1]); space['pretend']()\n"
        "import os, select, signal, socket\n"
        "assert sys.platform == 'win32' and not hasattr(os, 'fork') and not hasattr(os, 'killpg')\n"
        "assert not hasattr(select, 'epoll') and not hasattr(select, 'poll') and not hasattr(signal, 'SIGUSR1')\n"
        "assert not hasattr(os, 'geteuid') and not hasattr(os, 'set_blocking') and not hasattr(signal, 'SIGKILL')\n"
        "assert hasattr(os, 'getpid') and hasattr(os, 'waitpid') and signal.SIGINT and select.select\n"
        "try:\n import fcntl\nexcept ImportError:\n print('hidden')"
    )
    told = subprocess.run([sys.executable, "-c", probe, PRETEND], capture_output=True, text=True, check=False)
    assert told.stdout == "hidden\n", told.stderr


@pytest.mark.parametrize("command", POSIX_ONLY)
def test_what_only_posix_can_is_refused_in_one_line(windows: Pretender, command: str) -> None:
    done = windows.run(command, "tasks.in")
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert f"hs {command} does not run on Windows: run it on Linux or macOS, and join it from here" in line


def test_every_other_command_gives_its_help(windows: Pretender) -> None:
    names = [one.name for one in COMMANDS if one.name not in POSIX_ONLY]
    assert good(windows.run("--helps", *names, *HIDDEN)).lower().count("usage:") >= len(names)


def test_a_client_runs_tasks_of_a_server(windows: Pretender) -> None:
    tagged = 'echo "$TASK_TAG_KIND" # HYPERSHELL: kind:tag'
    lines = ["echo out; echo err >&2", "exit 7", tagged, "yes | head -c 300000"]
    lines = [f"{line} {'' if 'HYPERSHELL' in line else '# HYPERSHELL: '}os:windows" for line in lines]
    server = windows.serve(windows.hs.file(lines))
    client = ended(windows.client("-N", "2"))
    assert client.status == 0, client.err
    printed = client.out.split()
    assert printed.count("out") == printed.count("tag") == 1
    assert printed.count("y") == 150_000
    assert "err" in client.err.split()
    server.communicate(timeout=LONG)
    rows = windows.hs.rows("SELECT state, exit_status FROM task ORDER BY id")
    assert rows == [("succeeded", 0), ("failed", 7), ("succeeded", 0), ("succeeded", 0)]


def test_a_time_limit_ends_all_of_a_task(windows: Pretender) -> None:
    line = "echo $$ >pid; sleep 3600 & sleep 3600 # HYPERSHELL: timeout:1 os:windows"
    server = windows.serve(windows.hs.file([line]))
    assert ended(windows.client("-N", "1", "-S", "1")).status == 0
    server.communicate(timeout=LONG)
    assert windows.hs.rows("SELECT state, error FROM task") == [("failed", "timeout")]
    leader = int((windows.hs.folder / "pid").read_text())
    until(lambda: not group(leader))


def group(leader: int) -> list[str]:
    """Processes of a group, without those that have ended."""
    told = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in told.splitlines()]
    return [row[2] for row in rows if row[0] == str(leader) and not row[1].startswith("Z")]


def test_output_is_captured_and_kept(windows: Pretender) -> None:
    server = windows.serve("--forever")
    until(windows.connect.exists)
    way = ("--connect", str(windows.connect))
    good(windows.run("submit", *way, "--keep-output", "-t", "os:windows", "--", "echo", "kept"))
    client = windows.client("-N", "1", "--capture")
    until(lambda: windows.status()["tasks"].get("succeeded") == 1)
    ((outpath, id),) = windows.hs.rows("SELECT outpath, id FROM task")
    assert Path(outpath).read_text() == "kept\n"
    assert windows.hs.run("info", id, "--stdout").out == "kept\n"
    assert len(windows.status()["clients"]) == 1
    server.terminate()
    server.communicate(timeout=LONG)
    assert ended(client).status == 0


def test_tasks_for_posix_wait_for_a_client_of_posix(windows: Pretender) -> None:
    server = windows.serve(windows.hs.file(["echo one", "echo two", "echo three # HYPERSHELL: os:windows"]))
    client = windows.client("-N", "4")
    until(lambda: windows.connect.exists() and windows.status()["tasks"].get("succeeded") == 1)
    assert [row[0] for row in windows.hs.rows("SELECT args FROM task WHERE state = 'succeeded'")] == ["echo three"]
    other = windows._begun(windows.hs.start("client", "--connect", str(windows.connect), "-N", "1"))
    assert sorted(ended(other).out.split()) == ["one", "two"]
    assert ended(client).out.split() == ["three"]
    server.communicate(timeout=LONG)
    assert windows.hs.states() == {"succeeded": 3}


def test_a_database_of_windows(windows: Pretender) -> None:
    (windows.hs.folder / "more.in").write_bytes(b"echo two\r\necho three\r\n")
    good(windows.run("submit", "-t", "by:windows", "--", "echo", "one"))
    good(windows.run("submit", "more.in"))
    listed = json.loads(good(windows.run("list", "args", "state", "--json")))
    assert sorted(one["args"] for one in listed) == ["echo one", "echo three", "echo two"]
    id = good(windows.run("list", "id", "-t", "by:windows")).strip()
    assert "echo one" in good(windows.run("info", id))
    good(windows.run("update", "--cancel", "-t", "by:windows", "-f"))
    assert windows.run("wait", id).status in (0, 7)
    assert good(windows.run("list", "--count", "-w", "state == cancelled")).strip() == "1"
    good(windows.run("runs"))
    good(windows.run("clients"))
    good(windows.run("initdb", "--backup", "copy.db", "--yes"))
    good(windows.run("export", "tasks.csv"))
    assert (windows.hs.folder / "tasks.csv").read_text().count("\n") == 4
