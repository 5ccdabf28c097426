"""What tasks print, on Windows: pipes cannot be waited for there, so that a thread reads each of them.

``WindowsPipes`` looks like a poller and like the calls of ``os`` to ``executor.output``. A thread has one piece in
its hand until the loop takes it: what is not taken makes the task itself wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["WindowsPipes"]

_READ = 65_536


class _Reader:
    """The thread of one pipe. `piece` is None while it reads, and empty after the end."""

    __slots__ = ("_arrived", "_fd", "_left", "_taken", "piece")

    def __init__(self, fd: int, arrived: Callable[[], None]) -> None:
        self.piece: bytes | None = None
        self._fd = fd
        self._arrived = arrived
        self._taken = threading.Semaphore(0)
        self._left = False
        threading.Thread(target=self._work, name="hs-read", daemon=True).start()

    def take(self) -> bytes | None:
        """The piece that is there; the thread reads on. After the end always empty."""
        piece = self.piece
        if piece:
            self.piece = None
            self._taken.release()
        return piece

    def leave(self) -> None:
        """Nobody asks any more. The thread closes the pipe: done here, that would wait until something comes."""
        self._left = True
        self._taken.release()

    def _work(self) -> None:
        while not self._left:
            try:
                data = os.read(self._fd, _READ)
            except OSError:
                data = b""
            self.piece = data
            self._arrived()
            self._taken.acquire()
        os.close(self._fd)


class WindowsPipes:
    """All pipes of a client.

    :param wake: called in another thread when something has come; the loop then calls ``dispatch``.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._readers: dict[int, _Reader] = {}
        self._callbacks: dict[int, Callable[[], None]] = {}

    def begin(self, fd: int) -> None:
        """Read `fd` from now on; it is closed by ``close`` alone."""
        self._readers[fd] = _Reader(fd, self._wake)

    def read(self, fd: int, size: int) -> bytes:
        """What has come, empty at the end; raises ``BlockingIOError`` where nothing has."""
        piece = self._readers[fd].take()
        if piece is None:
            raise BlockingIOError
        return piece

    def close(self, fd: int) -> None:
        """Close the pipe as soon as its thread can."""
        self._callbacks.pop(fd, None)
        self._readers.pop(fd).leave()

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` in ``dispatch`` whenever there is something to read."""
        self._callbacks[fd] = callback
        if self._readers[fd].piece is not None:
            self._wake()

    def remove(self, fd: int) -> None:
        """Forget the callback."""
        self._callbacks.pop(fd, None)

    def dispatch(self) -> None:
        """Run the callbacks of pipes that have something."""
        for fd in list(self._callbacks):
            callback = self._callbacks.get(fd)
            if callback is not None and self._readers[fd].piece is not None:
                callback()
