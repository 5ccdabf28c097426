"""Ends of child processes: SIGCHLD wakes the loop, ``wait4`` says who ended and what it used. POSIX.

Only the executor waits in its process. A child that is none of ours is reaped and ignored.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from hypershell.reactor import Poller

__all__ = ["RSS_UNIT", "PosixPipes", "Reaper", "next_exit"]

#: Bytes in one unit of ``ru_maxrss`` (getrusage(2): kilobytes on Linux, bytes on macOS), and of Windows' number.
RSS_UNIT = 1 if sys.platform in ("darwin", "win32") else 1024


class PosixPipes:
    """Reading ends of pipes that the poller itself waits for."""

    def __init__(self, poller: Poller) -> None:
        self.read = os.read
        self.close = os.close
        self.add = poller.add
        self.remove = poller.remove

    def begin(self, fd: int) -> None:
        """Never wait in ``read``."""
        os.set_blocking(fd, False)


def next_exit() -> tuple[int, int, Any] | None:
    """Process id, exit status and resource usage of a child that has ended; None while there is none."""
    try:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status), usage) if pid else None


class Reaper:
    """Notes SIGCHLD in ``pending`` and wakes the poller.

    The wake-up descriptor of a process is one (signal.set_wakeup_fd): where the loop has one already, it is left
    alone, for it wakes the same poller.
    """

    def __init__(self, poller: Poller) -> None:
        self.pending = True
        self.pipes = PosixPipes(poller)
        self._poller = poller
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        poller.add(self._read, self._clear)
        self._old: Callable[[int, FrameType | None], Any] | int | None = signal.signal(signal.SIGCHLD, self._note)
        previous = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._ours = previous == -1
        if not self._ours:
            signal.set_wakeup_fd(previous, warn_on_full_buffer=False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pending = True

    def exited(self) -> None:
        """Nothing: SIGCHLD tells."""

    def _clear(self) -> None:
        try:
            os.read(self._read, 512)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Put the old handler back; idempotent."""
        if self._read < 0:
            return
        if self._ours:
            signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self._old if self._old is not None else signal.SIG_DFL)
        self._poller.remove(self._read)
        os.close(self._read)
        os.close(self._write)
        self._read = self._write = -1
