"""A file under HDF5 that never fails in the middle of its work.

The HDF5 library cannot close a file whose writes fail: it may crash the process. So an error of the system is kept
here, what can no longer be written is held in memory, and the caller asks after each block (`check`). An interrupt
waits for that moment too. Called by ``export``.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypershell.making import without_links

__all__ = ["Sink", "interrupts_wait"]


class Sink:
    """The file object that ``h5py.File(sink, "w")`` writes to; `path` exists."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "r+b", buffering=0, opener=without_links)  # noqa: SIM115  (closed by close)
        self._place = 0
        self._late: list[tuple[int, bytes]] = []
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the `OSError` that a write met since the file was opened."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file; HDF5 must have closed it before."""
        self._file.close()

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file; HDF5 asks for the end in this way."""
        if whence == 2:
            ends = [place + len(data) for place, data in self._late]
            self._place = max([self._file.seek(0, 2), *ends]) + offset
        else:
            self._place = offset + (self._place if whence == 1 else 0)
        return self._place

    def tell(self) -> int:
        """Where the next byte is read or written."""
        return self._place

    def write(self, data: Any) -> int:
        """Write all of `data`; after an error into memory."""
        view = memoryview(data).cast("B")
        done = 0
        if self._error is None:
            try:
                self._file.seek(self._place)
                while done < len(view):
                    done += self._file.write(view[done:])
            except OSError as error:
                self._error = error
        if done < len(view):
            self._late.append((self._place + done, bytes(view[done:])))
        self._place += len(view)
        return len(view)

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; what was never written is zero."""
        view = memoryview(buffer).cast("B")
        done = 0
        try:
            self._file.seek(self._place)
            while done < len(view) and (count := self._file.readinto(view[done:])):
                done += count
        except OSError as error:
            self._error = self._error or error
        view[done:] = bytes(len(view) - done)
        for place, data in self._late:
            begin = max(place, self._place)
            end = min(place + len(data), self._place + len(view))
            if begin < end:
                view[begin - self._place : end - self._place] = data[begin - place : end - place]
        self._place += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file."""
        size = self._place if size is None else size
        try:
            if self._error is None:
                self._file.truncate(size)
        except OSError as error:
            self._error = error
        return size

    def flush(self) -> None:
        """Nothing is held back but what cannot be written."""


@contextlib.contextmanager
def interrupts_wait() -> Iterator[list[int]]:
    """INT and TERM only add to the list meanwhile; the caller looks into it and raises `KeyboardInterrupt`."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, lambda number, frame: asked.append(number)) for name in names}
    try:
        yield asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
