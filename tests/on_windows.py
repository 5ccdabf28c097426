"""What only a Windows can show, on one: job objects, cmd.exe, and commands with a database of their own.

Runs on the Windows runner (``.github/workflows/windows.yml``), and under Wine as a part of ``make test-wine``. Not
collected by ``make test``: its name says so to pytest. Where it is no Windows, everything is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypershell.apps.main import POSIX_ONLY
from hypershell.executor.ladder import KILL

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="this is no Windows")

ROOT = Path(__file__).resolve().parents[1]

#: Seconds after which something that should happen did not.
LONG = 120.0


class Commands:
    """Starts commands as a client does, and waits for them."""

    def __init__(self, folder: Path) -> None:
        from hypershell.executor.system import own_environ
        from hypershell.executor.windows_spawn import WindowsSpawner

        self.folder = folder
        self.out = folder / "out"
        self.ended = threading.Semaphore(0)
        self.environ = own_environ()
        self.spawner = WindowsSpawner(self.environ, exited=self.ended.release)

    def start(self, command: str, cwd: Path | None = None, **own: str) -> int:
        """The id of its process; what it prints is in the file `out`."""
        variables = {name.encode(): value.encode() for name, value in own.items()}
        fd = os.open(self.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_BINARY)
        try:
            where = str(cwd) if cwd else None
            return self.spawner.start(command.encode(), self.environ, fd, fd, where, own=variables)
        finally:
            os.close(fd)

    def wait(self) -> tuple[int, int, Any]:
        """Process id, status and usage of one that has ended."""
        assert self.ended.acquire(timeout=LONG)
        found = self.spawner.next_exit()
        assert found is not None
        return found

    def run(self, command: str, **options: Any) -> tuple[int, list[str]]:
        """Its status and the lines that it printed."""
        self.out = self.folder / f"out{len(list(self.folder.iterdir()))}"
        pid = self.start(command, **options)
        found, status, _ = self.wait()
        assert found == pid
        return status, self.out.read_text().splitlines()


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    made = Commands(tmp_path)
    yield made
    made.spawner.close()


@pytest.mark.parametrize(
    ("command", "status"),
    [("0", 0), ("7", 7), ("-1", 255), ("-200", 56), ("-201", -201), ("-1073741819", -1073741819)],
)
def test_statuses(commands: Commands, command: str, status: int) -> None:
    assert commands.run(f"exit {command}") == (status, [])


def test_quotation_marks_and_variables_are_those_of_cmd(commands: Commands) -> None:
    assert commands.run('echo "a b" ^& c') == (0, ['"a b" & c'])
    assert commands.run("echo first& echo second") == (0, ["first", "second"])
    assert commands.run("echo %NAME%", NAME="of the task") == (0, ["of the task"])
    program = f'"{sys.executable}" -c "import sys; print(sys.argv[1:])" "one two" three'
    assert commands.run(program) == (0, ["['one two', 'three']"])


def test_a_command_starts_where_it_should(commands: Commands, tmp_path: Path) -> None:
    from hypershell.executor.spawn import NotStarted

    (tmp_path / "below it").mkdir()
    _, (line,) = commands.run("cd", cwd=tmp_path / "below it")
    assert Path(line) == tmp_path / "below it"
    with pytest.raises(NotStarted, match="no such directory"):
        commands.start("echo", cwd=tmp_path / "not there")
    with pytest.raises(NotStarted, match="too long"):
        commands.start("echo " + "x" * 9000)


def test_a_signal_ends_all_of_a_task(commands: Commands, tmp_path: Path) -> None:
    """The file that a grandchild holds open can be removed once nothing of the task lives."""
    holds = "import sys, time; held = open(sys.argv[1], 'w'); print('held', flush=True); time.sleep(3600)"
    held = tmp_path / "held"
    pid = commands.start(f'cmd /c ""{sys.executable}" -c "{holds}" "{held}""')
    _until(lambda: "held" in (tmp_path / "out").read_text())
    with pytest.raises(PermissionError):
        held.unlink()
    commands.spawner.signal(pid, KILL)
    assert commands.wait()[:2] == (pid, 1)
    _until(lambda: _removed(held))


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except PermissionError:
        return False
    return True


def _until(done: Any) -> None:
    from tests.testbed.waiting import until

    until(done, LONG)


def hs(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """``hs ARGS`` with a site of its own, to its end."""
    environ = {**os.environ, "HYPERSHELL_SITE": str(folder / "site"), "PYTHONPATH": str(ROOT)}
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from hypershell.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", start, *args]
    return subprocess.run(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONG
    )


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_database(tmp_path: Path) -> None:
    (tmp_path / "more.in").write_bytes(b"echo two\r\necho three\r\n")
    good(hs(tmp_path, "submit", "-t", "by:windows", "--", "echo", "one"))
    good(hs(tmp_path, "submit", "more.in"))
    assert (tmp_path / "site" / "Library" / "Main.db").is_file()
    listed = json.loads(good(hs(tmp_path, "list", "args", "state", "--json")))
    assert sorted(one["args"] for one in listed) == ["echo one", "echo three", "echo two"]
    id = good(hs(tmp_path, "list", "id", "-t", "by:windows")).strip()
    assert "echo one" in good(hs(tmp_path, "info", id))
    good(hs(tmp_path, "update", "--cancel", "-t", "by:windows", "-f"))
    assert good(hs(tmp_path, "list", "--count", "-w", "state == cancelled")).strip() == "1"
    good(hs(tmp_path, "export", "tasks.csv"))
    assert len((tmp_path / "tasks.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("command", POSIX_ONLY)
def test_what_only_posix_can_is_refused_in_one_line(tmp_path: Path, command: str) -> None:
    done = hs(tmp_path, command, "tasks.in")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"hs {command} does not run on Windows" in line


def test_a_client_without_a_server_says_so(tmp_path: Path) -> None:
    for command in ("client", "status"):
        done = hs(tmp_path, command, "--connect", "no-such-file.json")
        assert done.returncode != 0
        (line,) = done.stderr.splitlines()
        assert "no-such-file.json" in line
