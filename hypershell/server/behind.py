"""Writing behind the loop's back, where the loop cannot be told that a descriptor takes more (Windows).

A thread writes one piece after the other; the loop goes on. Used by ``output.Sink`` for pipes and consoles.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from hypershell.reactor import Poller
from hypershell.wake import Wake

__all__ = ["Behind"]


class Behind:
    """One descriptor and its thread, which begins with the first piece and lives as long as the process.

    :param ready: called in the loop when another piece can be given.
    """

    def __init__(self, fd: int, poller: Poller, ready: Callable[[], None]) -> None:
        self._fd = fd
        self._wake = Wake(poller, ready)
        self._given = threading.Semaphore(0)
        self._piece: memoryview | None = None
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a piece is not written yet."""
        return self._piece is not None

    def write(self, data: memoryview) -> int:
        """Take all of `data` to be written; raises ``BlockingIOError`` while busy, and what the last piece met."""
        if self._piece is not None:
            raise BlockingIOError
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="hs-write", daemon=True)
            self._thread.start()
        self._piece = data
        self._given.release()
        return len(data)

    def _work(self) -> None:
        while True:
            self._given.acquire()
            data = self._piece
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError as error:
                self._error = error
            self._piece = None
            self._wake.fire()
