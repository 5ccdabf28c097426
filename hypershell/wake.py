"""Waking a loop from other threads where pipes cannot be waited for (Windows): a pair of sockets.

What the threads have to say lies elsewhere; here is only the knock on the door.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from hypershell.reactor import Poller

__all__ = ["Wake"]


class Wake:
    """Lets `woken` be called in the loop of `poller` soon after each ``fire``; several may become one call."""

    def __init__(self, poller: Poller, woken: Callable[[], None]) -> None:
        self._poller = poller
        self._woken = woken
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        poller.watch(self._near.fileno(), self._heard)

    def fileno(self) -> int:
        """What may be written to instead of ``fire``: for ``signal.set_wakeup_fd``."""
        return self._far.fileno()

    def fire(self) -> None:
        """Wake the loop; from any thread, also after ``close``."""
        try:
            self._far.send(b"\0")
        except OSError:  # full: it will wake anyway; closed: nobody waits any more
            pass

    def close(self) -> None:
        """Forget the poller; idempotent."""
        if self._near.fileno() >= 0:
            self._poller.remove(self._near.fileno())
            self._near.close()
            self._far.close()

    def _heard(self) -> None:
        try:
            while len(self._near.recv(4096)) == 4096:
                pass
        except OSError:
            pass
        self._woken()
