"""Makes this Python look like one of Windows to hypershell, and then runs ``hs``: for tests, as a program.

What Windows lacks is hidden: modules, functions, signals, poll and epoll. In place of ``kernel32.dll`` and
``ntdll.dll`` stands `_Library`, by which job objects are sets of process groups. Threads, sockets, pipes and
processes are real. What a true Windows does is tested under Wine (``make test-wine``) and on a runner of its own.

``python as_windows.py --import MODULE..`` imports modules and prints what of it failed as JSON, ``--helps
COMMAND..`` prints the help of commands; else the arguments are those of ``hs``.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import os
import re
import select
import selectors
import signal
import socket
import subprocess
import sys
from typing import Any, ClassVar

# What looks at the platform when it is imported, and belongs to others, has to see the true one.
FOREIGN = ("asyncio", "cmdkit.app", "cmdkit.config", "cryptography.x509", "logging.handlers", "multiprocessing",
           "pathlib", "platform", "psutil", "rich.console", "rich.live", "rich.progress", "rich.table", "shutil",
           "sqlalchemy.dialects.sqlite", "sqlite3", "ssl", "tempfile", "threading", "tomlkit", "uuid")  # fmt: skip

MODULES = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "readline", "curses", "posix",
           "_posixsubprocess", "spwd", "crypt", "nis")  # fmt: skip

_OS = re.compile(
    r"fork|forkpty|posix_spawnp?|wait[34]?|waitid|waitstatus_.*|W[A-Z]+|P_(ALL|PID|PGID)|killpg|setp?g?r?s?e?[ug]?id|"
    r"get(p?g|s|e?u|e?g|resu|resg)id|getpgrp|getgroups|getloadavg|getpriority|uname|sched_.*|SCHED_.*|statvfs|"
    r"fstatvfs|f?chown|lchown|fchmod|fchdir|preadv?|pwritev?|mkfifo|mknod|nice|sysconf|pathconf|environb|getenvb|"
    r"openpty|O_CLOEXEC|O_NONBLOCK|O_NOFOLLOW|O_DIRECTORY|O_PATH|O_SYNC|set_blocking|get_blocking|sendfile|"
    r"pipe2|register_at_fork|POSIX_SPAWN_.*|PRIO_.*|memfd_create|pidfd_open|sync|fdatasync|ctermid|setns|unshare|F_.*|lockf|ST_.*"
)
_SIGNALS = re.compile(
    r"SIG(?!INT$|TERM$|ABRT$|FPE$|ILL$|SEGV$|_DFL$|_IGN$)[A-Z0-9]+|pthread_.*|sigwait.*|sigtimedwait|sigpending|"
    r"siginterrupt|alarm|setitimer|getitimer|pause|ITIMER_.*|SIG_(UN)?BLOCK|SIG_SETMASK"
)
_SELECT = re.compile(r"e?poll|devpoll|kqueue|kevent|E?POLL.*|PIPE_BUF")


def pretend() -> None:
    """From now on this is Windows."""
    for name in FOREIGN:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    subprocess.Popen = _Popen
    for name in MODULES:
        sys.modules[name] = None
    for module, pattern in ((os, _OS), (signal, _SIGNALS), (select, _SELECT)):
        for name in [name for name in vars(module) if pattern.fullmatch(name)]:
            delattr(module, name)
    socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)
    selectors.DefaultSelector = selectors.SelectSelector
    for name in ("AF_UNIX", "SO_REUSEPORT", "MSG_DONTWAIT", "MSG_NOSIGNAL"):
        if hasattr(socket, name):
            delattr(socket, name)
    signal.SIGBREAK = 21
    os.O_BINARY = os.O_TEXT = 0
    os.O_NOINHERIT = 0
    os.environ["COMSPEC"] = "/windows/system32/cmd.exe"
    ctypes.WinDLL = _Library
    ctypes.WinError = OSError
    ctypes.get_last_error = lambda: 0
    sys.platform = "win32"


class _Library:
    """Functions of the two libraries that ``executor.windows_kernel`` calls. A handle of a process is its id."""

    _jobs: ClassVar[dict[int, set[int]]] = {}
    _killpg, _kill, _KILL = staticmethod(os.killpg), staticmethod(os.kill), signal.SIGKILL
    _CONT = signal.SIGCONT

    def __init__(self, name: str, use_last_error: bool) -> None:
        self.CreateJobObjectW, self.GetConsoleWindow = _Function(self._create), _Function(lambda: None)

    def _create(self, security: None, name: None) -> int:
        job = 1000 + 4 * len(self._jobs)
        self._jobs[job] = set()
        return job

    def AssignProcessToJobObject(self, job: ctypes.c_void_p, process: ctypes.c_void_p) -> int:
        self._jobs[job.value or 0].add(process.value or 0)
        return 1

    def SetInformationJobObject(self, job: ctypes.c_void_p, *rest: object) -> int:
        return int(job.value in self._jobs)

    def QueryInformationJobObject(self, job: ctypes.c_void_p, *rest: object) -> int:
        return int(job.value in self._jobs)

    def TerminateJobObject(self, job: ctypes.c_void_p, status: int) -> int:
        for group in self._jobs[job.value or 0]:
            with contextlib.suppress(ProcessLookupError):
                self._killpg(group, self._KILL)
        return 1

    def GenerateConsoleCtrlEvent(self, event: int, group: int) -> int:
        return 0  # there is no console

    def NtResumeProcess(self, process: ctypes.c_void_p) -> int:
        self._kill(process.value or 0, self._CONT)
        return 0

    def CloseHandle(self, handle: ctypes.c_void_p) -> int:
        return int(handle.value in self._jobs)


class _Function:
    """One whose type of result may be set."""

    restype: object = None

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


class _Popen(subprocess.Popen):
    """Takes a command line and flags of CreateProcess; a process that is made suspended stops itself first."""

    _waitpid, _UNTRACED = staticmethod(os.waitpid), os.WUNTRACED

    def __init__(self, line: Any, *, creationflags: int = 0, executable: Any = None, **options: Any) -> None:
        if isinstance(line, str):
            found = re.fullmatch(r'"/windows/system32/cmd.exe" /d /s /c "(.*)"', line, re.DOTALL)
            assert found is not None, line
            assert creationflags & 0x4, "suspended until it is in its job"
            line = ["/bin/sh", "-c", 'kill -STOP $$; eval "$1"', "cmd", found[1]]
            options["start_new_session"] = True
        super().__init__(line, **options)
        if "start_new_session" in options:
            self._waitpid(self.pid, self._UNTRACED)


def _import(names: list[str]) -> None:
    failed = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(failed))


if __name__ == "__main__":
    pretend()
    if sys.argv[1] == "--import":
        _import(sys.argv[2:])
    else:
        from hypershell.__main__ import main

        if sys.argv[1] == "--helps":
            sys.exit(max(main([name, "--help"]) for name in sys.argv[2:]))
        sys.exit(main())
