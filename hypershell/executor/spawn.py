"""Starting one process: with or without a shell, in its own process group, inheriting three descriptors.

Only ``posix_spawn`` is used: a fork after MPI_Init costs half of the rate, and with a large heap nine tenths.
Called by ``executor.jobs``.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from hypershell.errors import HyperShellError
from hypershell.executor.env import LONGEST
from hypershell.executor.oom import Preference
from hypershell.executor.reap import next_exit
from hypershell.executor.vocabulary import Lack
from hypershell.limits import NO_ROOM, lowered

if TYPE_CHECKING:
    from hypershell.executor.unlocked import Unlocked

__all__ = [
    "NotStarted",
    "Spawner",
    "needs_shell",
    "not_started",
    "open_standard_descriptors",
    "seal_descriptors",
]

#: What a task that runs needs more of: processes, memory.
_SHARED = frozenset({errno.EAGAIN, errno.ENOMEM})

#: The machine's want, not the task's fault: also of a disk for what tasks print.
_WANTING = NO_ROOM | {errno.ENOSPC, errno.EDQUOT}

_SHELL = b"/bin/sh"

_Words = list[bytes] | tuple[bytes, ...]
_NOTHING: Mapping[bytes, bytes] = MappingProxyType({})

#: Bytes that no shell gives a meaning to, apart from separating words.
_PLAIN = re.compile(rb"[A-Za-z0-9_@%+:,./=\- \t]+")

#: Builtins and keywords of dash, bash, ksh93 and mksh (their manual pages): a shell starts no program for them.
_OWN_WORDS = frozenset(
    b"""
    . : alias autoload bg bind break builtin caller case cat cd chdir command compgen complete compopt
    compound continue coproc declare dirs disown do done echo elif else enable end enum esac eval exec exit
    export false fc fg fi float for foreach function functions getconf getopts global hash help hist history
    if in integer jobs kill let local login logout mapfile mknod nameref newgrp nohup popd print printf pushd
    pwd r read readarray readonly realpath redirect rename repeat return select set shift shopt sleep source
    stop suspend test then time times trap true type typeset ulimit umask unalias unset until vmap wait whence
    which while
    """.split()
)


class NotStarted(HyperShellError):
    """A task that could not be started; the message is the reason, for the task's result.

    `lack` is what was missing, where it is not the task's fault.
    """

    def __init__(self, text: str, lack: Lack | None = None) -> None:
        super().__init__(text)
        self.lack = lack


def not_started(text: str, error: OSError, shown: str = "") -> NotStarted:
    """What to raise where `error` kept us from starting a task.

    :param text: what we cannot do.
    :param shown: the same without anything of this one task.
    """
    why = error.strerror or str(error)
    lack = Lack(f"{shown or text}: {why}", error.errno in _SHARED) if error.errno in _WANTING else None
    return NotStarted(f"{text}: {why}", lack)


def needs_shell(command: bytes, functions: frozenset[bytes] = frozenset()) -> bool:
    """Whether a shell could do more with `command` than start its first word with the others as arguments.

    :param functions: names of shell functions that the task's environment exports.
    """
    if _PLAIN.fullmatch(command) is None:
        return True
    words = command.split(None, 1)
    if not words:
        return True
    word = words[0]
    return b"=" in word or word in _OWN_WORDS or word in functions or word.startswith(b"%")


def seal_descriptors() -> int:
    """Mark all descriptors above 2 as not to be inherited; the count of those that were.

    MPI libraries leave some inheritable (the socket to their launcher among them): a task could talk on it, or keep
    the launcher waiting. To be called after MPI_Init and again after the first traffic.
    """
    sealed = 0
    try:
        names = os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")
    except OSError:
        names = [str(fd) for fd in range(3, 1024)]
    for name in names:
        fd = int(name)
        try:
            if fd > 2 and os.get_inheritable(fd):
                os.set_inheritable(fd, False)
                sealed += 1
        except OSError:  # the descriptor of the listing itself
            pass
    return sealed


def ignored_signals() -> tuple[int, ...]:
    """The signals that this process ignores, and with it whatever it starts; all that there are where none can say.

    Python ignores PIPE and XFSZ, a launcher or a shell may ignore others; a task begins with the defaults.
    Handlers need no reset: execve(2) does it.
    """
    untouchable = (signal.SIGKILL, signal.SIGSTOP)
    numbers = tuple(int(number) for number in signal.valid_signals() if number not in untouchable)
    try:
        with open("/proc/self/status", "rb") as status:
            mask = next(int(line.split()[1], 16) for line in status if line.startswith(b"SigIgn:"))
    except (OSError, StopIteration, ValueError):
        return numbers
    return tuple(number for number in numbers if mask >> (number - 1) & 1)


def open_standard_descriptors() -> None:
    """Put /dev/null where descriptor 0, 1 or 2 is closed, so that no pipe of ours ever gets such a number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _unlocked(null: int, signals: tuple[int, ...]) -> Unlocked | None:
    try:
        from hypershell.executor.unlocked import unlocked
    except ImportError:  # a Python without ctypes
        return None
    return unlocked(null, signals)


class Spawner:
    """Starts processes that all have the same home directory.

    :param environ: the environment of most of them.
    :param threads: another thread of this process has work: it must not wait while a process starts.
    :param soft_limit: of descriptors, for what is started; None: as this process has.
    """

    def __init__(
        self, environ: Mapping[bytes, bytes], threads: bool = False, soft_limit: int | None = None
    ) -> None:
        self._soft_limit = soft_limit
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._low = None if soft_limit is None else (os.dup(self._null), os.dup(self._null))
        """Low numbers, kept for stdout and stderr of what is started with a lower limit."""
        self._home = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
        self._preference = Preference()
        self._signals = ignored_signals()
        self._null_action = (os.POSIX_SPAWN_DUP2, self._null, 0)
        self._know(environ)
        self._unlocked = _unlocked(self._null, self._signals) if threads else None
        self.next_exit = next_exit

    def _know(self, shared: Mapping[bytes, bytes]) -> None:
        """Look at what decides which program a command is: PATH and exported functions."""
        self._shared = shared
        path = shared.get(b"PATH", os.defpath.encode())
        self._path = [folder or b"." for folder in path.split(b":")]
        self._anywhere = all(folder.startswith(b"/") for folder in self._path)
        self.functions = frozenset(
            name[len(b"BASH_FUNC_") : -2]
            for name in shared
            if name.startswith(b"BASH_FUNC_") and name.endswith((b"%%", b"()"))
        )

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
        """Start `command` and give the id of its process, which is also that of its process group.

        :param shared: variables that many processes have; never changed after the first call with it.
        :param out, err: descriptors for its stdout and stderr; stdin is empty.
        :param cwd: where it runs, None for our own working directory.
        :param own: variables of this process alone, before those of `shared`.
        :param cores: those that it may use; None: ours.
        :raises NotStarted: too long, a NUL byte, no such `cwd`, or no process could be made.
        """
        self._preference.of_task()
        try:
            return self._start_on(cores, command, shared, out, err, cwd, own)
        finally:
            self._preference.of_client()

    def _start_on(
        self,
        cores: frozenset[int] | None,
        command: bytes,
        shared: Mapping[bytes, bytes],
        out: int,
        err: int,
        cwd: str | None,
        own: Mapping[bytes, bytes],
    ) -> int:
        if cores is None:
            return self._begin_limited(command, shared, out, err, cwd, own)
        # A child has the cores of the thread that starts it, from its first instruction on.
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, cores)
        except OSError as error:  # taken from us since we began
            raise NotStarted(f"cannot use core {sorted(cores)}: {error.strerror}") from None
        try:
            return self._begin_limited(command, shared, out, err, cwd, own)
        finally:
            os.sched_setaffinity(0, before)

    def _begin_limited(
        self,
        command: bytes,
        shared: Mapping[bytes, bytes],
        out: int,
        err: int,
        cwd: str | None,
        own: Mapping[bytes, bytes],
    ) -> int:
        """What is started has the soft limit that we had: a child has that of its parent at this moment.

        The C library hands on no descriptor whose number is not below the limit (EBADF). Where all numbers below it
        are in use, it gets those that are kept. Only where the limit is so low that these are above it too, what is
        started has our limit instead.
        """
        soft = self._soft_limit
        if soft is None or self._low is None or max(self._null, *self._low) >= soft:
            return self._begin(command, shared, out, err, cwd, own)
        if max(out, err) < soft:
            with lowered(soft):
                return self._begin(command, shared, out, err, cwd, own)
        low_out, low_err = self._low
        try:
            os.dup2(out, low_out, inheritable=False)
            os.dup2(err, low_err, inheritable=False)
            with lowered(soft):
                return self._begin(command, shared, low_out, low_err, cwd, own)
        finally:
            for low in self._low:  # else nobody would see the end of what is written
                os.dup2(self._null, low, inheritable=False)

    def _begin(
        self,
        command: bytes,
        shared: Mapping[bytes, bytes],
        out: int,
        err: int,
        cwd: str | None,
        own: Mapping[bytes, bytes],
    ) -> int:
        if len(command) > LONGEST:
            raise NotStarted(f"too long: command of {len(command):,} bytes, the limit is {LONGEST:,}")
        if b"\0" in command:
            raise NotStarted("the command contains a NUL byte")
        if shared is not self._shared:
            self._know(shared)
        if self._unlocked is not None and (cwd is None or (self._anywhere and self._unlocked.enters)):
            program, words = self._program(command)
            pid = self._unlocked.start(program, words, shared, own, out, err, cwd)
            if pid is not None:
                return pid
        environ = {**shared, **own}
        if cwd is None:
            return self._start(command, environ, out, err)
        try:
            os.chdir(cwd)
        except OSError as error:
            raise not_started(f"cannot enter the working directory {cwd}", error) from None
        try:
            return self._start(command, environ, out, err)
        finally:
            os.fchdir(self._home)

    def _start(self, command: bytes, environ: Mapping[bytes, bytes], out: int, err: int) -> int:
        program, words = self._program(command)
        try:
            return self._spawn(program, words, environ, out, err)
        except OSError as error:
            if program is _SHELL or error.errno in NO_ROOM:
                raise not_started("cannot start a process", error) from None
        try:  # the shell says what is wrong, in its words and with its exit status
            return self._spawn(_SHELL, (_SHELL, b"-c", command), environ, out, err)
        except OSError as error:
            raise not_started("cannot start a process", error) from None

    def _spawn(self, program: bytes, words: _Words, environ: Mapping[bytes, bytes], out: int, err: int) -> int:
        return os.posix_spawn(
            program,
            words,
            environ,
            file_actions=(self._null_action, (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)),
            setpgroup=0,
            setsigmask=(),
            setsigdef=self._signals,
        )

    def _program(self, command: bytes) -> tuple[bytes, _Words]:
        """What to execute, and its arguments: a shell, or the program itself where no shell is needed."""
        if not needs_shell(command, self.functions):
            words = command.split()
            program = self._find(words[0])
            if program is not None:
                return program, words
        return _SHELL, (_SHELL, b"-c", command)

    def _find(self, word: bytes) -> bytes | None:
        """The program that `word` names, looked up anew each time as a shell does."""
        if b"/" in word:
            return word
        for folder in self._path:
            program = folder + b"/" + word
            if os.access(program, os.X_OK):
                return program
        return None

    def signal(self, pid: int, number: int) -> None:
        """Signal the process group `pid`; one that is gone is left alone."""
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says the latter of zombies
            pass

    def close(self) -> None:
        """Give back the descriptors."""
        if self._unlocked is not None:
            self._unlocked.forget()
        for fd in (self._null, self._home, *(self._low or ())):
            os.close(fd)
        self._preference.close()
