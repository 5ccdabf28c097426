"""The one loop of a process: file descriptors with callbacks, and parts that take turns.

Knows nothing of tasks. Server and executor are parts; a single process may hold both (``hs cluster``), and a
transport without descriptors (MPI) only asks to be polled again by its part's deadline.
"""

from __future__ import annotations

import gc
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Part", "Poller", "run"]

#: Waits shorter than this (seconds) are slept with select(2), which counts microseconds.
FINE = 0.003

#: Longest wait, in seconds: epoll takes 24 days at most. To look again once a day costs nothing.
LONGEST = 86_400.0

#: New objects between two looks for garbage. What a loop makes hardly ever has cycles; imports beside it make many.
FEW_LOOKS = 10_000

_READ = getattr(select, "POLLIN", 1)
_WRITE = getattr(select, "POLLOUT", 4)


class _Select:
    """What ``select.poll`` does, by select(2): for Windows, where it is all there is and takes sockets alone."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    def register(self, fd: int, mask: int) -> None:
        self._masks[fd] = mask

    def unregister(self, fd: int) -> None:
        del self._masks[fd]

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Descriptors that are ready, after at most `timeout` milliseconds."""
        seconds = None if timeout is None else timeout / 1000
        readers = [fd for fd, mask in self._masks.items() if mask & _READ]
        writers = [fd for fd, mask in self._masks.items() if mask & _WRITE]
        if not readers and not writers:  # Windows refuses to wait for nothing
            time.sleep(60.0 if seconds is None else seconds)
            return []
        # The third list: there Windows tells of a connection that could not be made.
        can_read, can_write, failed = select.select(readers, writers, writers, seconds)
        return [(fd, 0) for fd in dict.fromkeys((*can_read, *can_write, *failed))]


class Poller:
    """Level-triggered readiness of file descriptors, each with its callback (epoll(7), poll(2), else select(2))."""

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._is_low = self._epoll is not None and self._epoll.fileno() < 1024
        """Whether select(2) takes it."""
        self._poll: select.poll | _Select | None = None
        if self._epoll is None:
            self._poll = select.poll() if hasattr(select, "poll") else _Select()

    def add(self, fd: int, callback: Callable[[], None], *, write: bool = False) -> None:
        """Call `callback` whenever `fd` can be read (or written, or has hung up)."""
        self._callbacks[fd] = callback
        if self._epoll is not None:
            self._epoll.register(fd, select.EPOLLOUT if write else select.EPOLLIN)
        elif self._poll is not None:
            self._poll.register(fd, _WRITE if write else _READ)

    def watch(self, fd: int, callback: Callable[[], None], *, write: bool = False) -> None:
        """Call `callback` whenever `fd` can be read, with `write` also when it can be written.

        For descriptors of both directions, such as sockets; called again it changes what is waited for.
        """
        known = fd in self._callbacks
        self._callbacks[fd] = callback
        if self._epoll is not None:
            mask = select.EPOLLIN | (select.EPOLLOUT if write else 0)
            (self._epoll.modify if known else self._epoll.register)(fd, mask)
        elif self._poll is not None:
            self._poll.register(fd, _READ | (_WRITE if write else 0))

    def remove(self, fd: int) -> None:
        """Forget `fd`; to be called before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            if self._epoll is not None:
                self._epoll.unregister(fd)
            elif self._poll is not None:
                self._poll.unregister(fd)

    def wait(self, timeout: float | None) -> None:
        """Sleep until something is ready or `timeout` seconds are over (a day at most), then run the callbacks."""
        if timeout is not None:
            timeout = min(timeout, LONGEST)
        if self._epoll is not None:
            if timeout and timeout < FINE and self._is_low:
                # epoll_wait(2) counts whole milliseconds and Python rounds up: too coarse near expected traffic.
                select.select((self._epoll,), (), (), timeout)
                timeout = 0.0
            ready = self._epoll.poll(timeout)
        elif self._poll is not None:
            ready = self._poll.poll(None if timeout is None else timeout * 1000)
        callbacks = self._callbacks
        for fd, _ in ready:
            callback = callbacks.get(fd)
            if callback is not None:
                callback()

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()


class Part(Protocol):
    """Something that lives in the loop."""

    finished: bool

    def turn(self, now: float) -> bool:
        """Do what can be done without waiting; True when another turn may find more at once."""

    def deadline(self, now: float) -> float | None:
        """Monotonic time at which the next turn is due even if nothing wakes us."""


def run(poller: Poller, parts: list[Part], clock: Callable[[], float] = time.monotonic) -> None:
    """Turn the parts until all are finished."""
    with _few_looks_for_garbage():
        _turn(poller, parts, clock)


@contextmanager
def _few_looks_for_garbage() -> Iterator[None]:
    """Fewer looks while the loop runs, without what was there at its start, and later at its end.

    A process ends soon after its loop: the interpreter's last look would take a tenth of a second for the modules
    of the database alone.
    """
    first, second, third = gc.get_threshold()
    gc.freeze()
    if first:
        gc.set_threshold(max(first, FEW_LOOKS), second, third)
    try:
        yield
    finally:
        gc.set_threshold(first, second, third)
        gc.freeze()


def _turn(poller: Poller, parts: list[Part], clock: Callable[[], float]) -> None:
    while True:
        now = clock()
        busy = False
        for part in parts:
            busy = part.turn(now) or busy
        if all(part.finished for part in parts):
            return
        if busy:
            poller.wait(0)
            continue
        due = [when for when in (part.deadline(now) for part in parts) if when is not None]
        poller.wait(max(0.0, min(due) - clock()) if due else None)
