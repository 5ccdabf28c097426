"""Starting processes on Windows: by ``%COMSPEC%``, each in a job of its own, with a thread that waits for its end.

All jobs are in one of the client, which ends with the client, however that ends: a guard is not needed. Called by
``executor.jobs`` in the place of ``spawn.Spawner``, and with its surface.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from hypershell.core.model import WINDOWS_STATUS
from hypershell.executor.ladder import INT
from hypershell.executor.spawn import NotStarted, not_started
from hypershell.executor.windows_kernel import Kernel

__all__ = ["LONGEST_LINE", "WindowsSpawner", "command_line"]

_NOTHING: Mapping[bytes, bytes] = MappingProxyType({})

#: Characters of a command line that cmd.exe takes.
LONGEST_LINE = 8191

#: What TerminateProcess gives to those that are ended from outside by most tools (taskkill among them).
_ENDED = 1

# Flags of CreateProcess.
_SUSPENDED = 0x4
_NEW_GROUP = 0x200
_NO_WINDOW = 0x0800_0000

_NO_SUCH_DIRECTORY = 267


def command_line(shell: str, command: str) -> str:
    """What starts `command` by `shell`, cmd.exe or one that takes its options.

    With /s cmd.exe takes off the first and the last quotation mark and leaves everything between as it is; with /d
    it runs nothing before it.
    """
    return f'"{shell}" /d /s /c "{command}"'


class _Process:
    """A running task: its process, and the job that holds it and all that it starts."""

    __slots__ = ("job", "popen")

    def __init__(self, popen: subprocess.Popen[bytes], job: int) -> None:
        self.popen = popen
        self.job = job


class WindowsSpawner:
    """Starts processes and tells of their ends.

    :param environ: what all tasks share of their environment; its ``COMSPEC`` runs the commands.
    :param exited: called in another thread when a process has ended; ``next_exit`` then gives it.
    :param kernel: another one than the system's, for tests.
    """

    def __init__(
        self,
        environ: Mapping[bytes, bytes],
        threads: bool = False,
        exited: Callable[[], None] = lambda: None,
        *,
        kernel: Kernel | None = None,
    ) -> None:
        self._kernel = kernel or Kernel()
        self._exited = exited
        shell = next((value for name, value in environ.items() if name.upper() == b"COMSPEC"), b"")
        self._shell = shell.decode("utf-8", "surrogatepass") or "cmd.exe"
        self._all = self._kernel.make_job(dies_with_us=True)
        self._flags = _SUSPENDED | _NEW_GROUP | (0 if self._kernel.has_console() else _NO_WINDOW)
        self._running: dict[int, _Process] = {}
        self._ends: deque[int] = deque()
        self._last: _Process | None = None
        """The one that `next_exit` gave last: what it left in its job can still be ended."""
        self._last_pid = 0

    def start(
        self,
        command: bytes,
        shared: Mapping[bytes, bytes],
        out: int,
        err: int,
        cwd: str | None = None,
        own: Mapping[bytes, bytes] = _NOTHING,
        cores: frozenset[int] | None = None,
    ) -> int:
        """Start `command` and give the id of its process; parameters and errors are those of ``Spawner.start``.

        `cores` do not count here: Windows has no ``sched_setaffinity``, so that nobody gives some.
        """
        line = command_line(self._shell, _text(command))
        if len(line) > LONGEST_LINE:
            raise NotStarted(f"too long: command of {len(command):,} bytes, the limit is about {LONGEST_LINE:,}")
        if b"\0" in command:
            raise NotStarted("the command contains a NUL byte")
        environ = {_text(name): _text(value) for name, value in {**shared, **own}.items()}
        try:
            job = self._kernel.make_job()
        except OSError as error:
            raise not_started("cannot make a job object", error) from None
        try:
            popen = self._popen(line, environ, out, err, cwd)
        except (OSError, ValueError) as error:
            self._kernel.close(job)
            if getattr(error, "winerror", None) == _NO_SUCH_DIRECTORY or (cwd and not os.path.isdir(cwd)):
                raise NotStarted(f"cannot enter the working directory {cwd}: no such directory") from None
            if isinstance(error, OSError):
                raise not_started(f"cannot start {self._shell}", error) from None
            raise NotStarted(f"cannot start {self._shell}: {error}") from None
        return self._begin(_Process(popen, job))

    def _popen(
        self, line: str, environ: dict[str, str], out: int, err: int, cwd: str | None
    ) -> subprocess.Popen[bytes]:
        """A process that has not begun, with three handles of its own and no other of ours."""
        return subprocess.Popen(
            line,
            executable=self._shell if os.path.isabs(self._shell) else None,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=environ,
            creationflags=self._flags,
        )

    def _begin(self, process: _Process) -> int:
        """Put a new process into its jobs, and let it go."""
        popen = process.popen
        handle = int(_handle(popen))
        try:
            self._kernel.put_into(self._all, handle)
            self._kernel.put_into(process.job, handle)
            self._kernel.let_go(handle)
        except OSError as error:
            popen.kill()
            popen.wait()
            self._kernel.close(process.job)
            raise not_started("cannot put a process into a job object", error) from None
        self._running[popen.pid] = process
        threading.Thread(target=self._wait, args=(popen,), name="hs-wait", daemon=True).start()
        return popen.pid

    def _wait(self, popen: subprocess.Popen[bytes]) -> None:
        popen.wait()
        self._ends.append(popen.pid)
        self._exited()

    def signal(self, pid: int, number: int) -> None:
        """INT is Ctrl-Break, where there is a console; all else ends the job of `pid` at once."""
        process = self._running.get(pid)
        if process is None and pid == self._last_pid:
            process = self._last
        if process is None:
            return
        if number == INT:
            self._kernel.press_break(pid)
        else:
            self._kernel.end_job(process.job, _ENDED)

    def next_exit(self) -> tuple[int, int, tuple[float, float, int]] | None:
        """Process id, exit status and usage of a process that has ended; None while there is none."""
        self._forget_last()
        if not self._ends:
            return None
        pid = self._ends.popleft()
        process = self._last = self._running.pop(pid)
        self._last_pid = pid
        return pid, _signed(process.popen.returncode), self._kernel.usage(process.job)

    def _forget_last(self) -> None:
        if self._last is not None:
            self._kernel.close(self._last.job)
            self._last, self._last_pid = None, 0

    def close(self) -> None:
        """End everything that any task started, and give the handles back."""
        self._forget_last()
        if self._all:
            self._kernel.end_job(self._all, _ENDED)
            self._kernel.close(self._all)
            self._all = 0
        for process in self._running.values():
            with contextlib.suppress(OSError):
                self._kernel.close(process.job)
        self._running.clear()


def _signed(status: int) -> int:
    """A status of 32 bits as cmd.exe shows it in %ERRORLEVEL%: 0xC0000005 is -1073741819.

    ``exit -1`` becomes 255, as in sh: small negative numbers mean signals, and tasks that did not run.
    """
    signed = status - (1 << 32) if status >= 1 << 31 else status
    return status & 0xFF if WINDOWS_STATUS <= signed < 0 else signed


def _handle(popen: subprocess.Popen[bytes]) -> Any:
    """The handle of a process; of one of POSIX, which has none, its number."""
    return getattr(popen, "_handle", popen.pid)


def _text(data: bytes) -> str:
    """What was UTF-8 with surrogates as Python's own strings have them."""
    return data.decode("utf-8", "surrogateescape")
