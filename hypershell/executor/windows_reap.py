"""Ends of processes on Windows: the threads that wait for them, and for what they print, wake the loop by sockets.

The surface of ``reap.Reaper``.
"""

from __future__ import annotations

import signal

from hypershell.executor.windows_pipes import WindowsPipes
from hypershell.reactor import Poller
from hypershell.wake import Wake

__all__ = ["WindowsReaper"]


class WindowsReaper:
    """Knows in ``pending`` that a process has ended; `pipes` are what tasks print into.

    Signals wake the loop too (signal.set_wakeup_fd), for select(2) is not interrupted by them on Windows.
    """

    def __init__(self, poller: Poller) -> None:
        self.pending = True
        self._wake = Wake(poller, self._woken)
        self.pipes = WindowsPipes(self._wake.fire)
        previous = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._ours = previous == -1
        if not self._ours:
            signal.set_wakeup_fd(previous, warn_on_full_buffer=False)

    def exited(self) -> None:
        """A process has ended; called by the thread that waited for it."""
        self.pending = True
        self._wake.fire()

    def _woken(self) -> None:
        self.pipes.dispatch()

    def close(self) -> None:
        """Leave the loop alone; idempotent."""
        if self._ours:
            signal.set_wakeup_fd(-1)
            self._ours = False
        self._wake.close()
