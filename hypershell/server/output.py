"""The only writer of the tasks' stdout and stderr: never blocks the loop, never tears a line, says what it took.

A descriptor that cannot take more holds the bytes back; clients then stop reading from their tasks
(``OutputTaken`` is their room). Knows nothing of tasks.
"""

from __future__ import annotations

import logging
import os
import select
import stat
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from hypershell.reactor import Poller
from hypershell.room import FULL, reason

if TYPE_CHECKING:
    from hypershell.server.behind import Behind

__all__ = ["OutputPatience", "Screen", "Sink"]

log = logging.getLogger("hypershell.server")

#: A pipe that polls as writable takes at least this much without blocking (pipe(7), PIPE_BUF).
ATOMIC = 4096

#: Bytes that a thread gets to write at a time, where there is one.
BEHIND = 65_536


def _behind(fd: int, poller: Poller, ready: Callable[[], None]) -> Behind | None:
    """A thread for what may make a writer wait; None for a regular file."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    from hypershell.server.behind import Behind

    return Behind(fd, poller, ready)


class Screen(Protocol):
    """A terminal on which something else stands; ``progress.Progress`` is one."""

    def is_shown_on(self, fd: int) -> bool:
        """Whether what is written to `fd` comes there."""

    def holds(self) -> bool:
        """Whether output should wait a moment."""

    def clear(self) -> None:
        """Make room for output."""

    def printed(self, data: bytes) -> None:
        """It was written."""


class Sink:
    """One descriptor and what still has to be written to it.

    `taken(peer, size)` hears of every written piece; `screen` is what else stands on a terminal, perhaps the same.
    Without a descriptor (`fd` None) it holds what comes until `begin`; what clients may send unasked bounds that.
    """

    def __init__(
        self,
        fd: int | None,
        name: str,
        poller: Poller,
        taken: Callable[[int, int], None],
        screen: Screen | None = None,
    ) -> None:
        self.name = name
        self._fd = -1
        self._poller = poller
        self._taken = taken
        self._screen = screen
        self._queue: deque[tuple[memoryview, int, int]] = deque()
        self._waiting = False
        self._gone = self._given_up = False
        self._told = False
        self.stuck = False
        """Whether the disk was full at the last attempt."""
        self.written = 0
        """Bytes that have left, for whoever wants to see progress."""
        self._dropped = 0
        """Bytes that were given up."""
        self._probe: select.poll | None = None
        self._behind: Behind | None = None
        if fd is not None:
            self.begin(fd)

    def begin(self, fd: int) -> None:
        """Write to `fd` from now on."""
        self._fd = fd
        if self._screen is not None and not self._screen.is_shown_on(fd):
            self._screen = None
        if not hasattr(select, "poll"):
            self._behind = _behind(fd, self._poller, self.pump)
            return
        try:
            self._poller.add(fd, self.pump, write=True)
            self._poller.remove(fd)
            self._probe = select.poll()
            self._probe.register(fd, select.POLLOUT)
        except (PermissionError, OSError):
            self._probe = None  # a regular file: always ready

    @property
    def lost(self) -> int:
        """Bytes that were not written, if nothing more is done."""
        return self._dropped + sum(len(data) for data, _, _ in self._queue)

    @property
    def begun(self) -> bool:
        """Whether there is something to write to."""
        return self._fd >= 0

    @property
    def empty(self) -> bool:
        return not self._queue and not (self._behind is not None and self._behind.busy)

    def put(self, data: bytes, peer: int) -> None:
        """Queue whole lines that came from `peer`."""
        if data:
            self._queue.append((memoryview(data), peer, len(data)))

    def pump(self) -> None:
        """Write as much as can be written without waiting."""
        if self.stuck or not self.begun:
            return
        queue, screen = self._queue, self._screen
        if queue and screen is not None:
            if not self._waiting and screen.holds():
                return
            if self._probe is not None and not self._probe.poll(0):
                self._wait(True)
                return
            screen.clear()
        while queue:
            data, peer, size = queue[0]
            written = self._write(data)
            if screen is not None and written > 0:
                screen.printed(bytes(data[:written]))
            if written < len(data):
                if written >= 0:
                    queue[0] = (data[written:], peer, size)
                return
            queue.popleft()
            self._taken(peer, size)
        self._wait(False)

    def _write(self, data: memoryview) -> int:
        """Bytes written; fewer than all where the descriptor is full."""
        if self._gone:
            self._dropped += len(data) if self._given_up else 0
            return len(data)
        done = 0
        try:
            while done < len(data):
                if self._behind is not None:
                    done += self._behind.write(data[done : done + BEHIND])
                    continue
                if self._probe is None:
                    done += os.write(self._fd, data[done:])
                    continue
                if not self._probe.poll(0):
                    self._wait(True)
                    return done
                done += os.write(self._fd, data[done : done + ATOMIC])
        except BlockingIOError:
            self._wait(True)
        except OSError as error:
            return self._failed(error, data, done)
        finally:
            self.written += done
        return done

    def _failed(self, error: OSError, data: memoryview, done: int) -> int:
        if error.errno in FULL:
            if not self._told:
                log.error("%s: %s; output is held back until there is room", self.name, reason(error))
            self.stuck = self._told = True
            return done
        log.warning("%s: %s; what tasks print there is dropped from here on", self.name, reason(error))
        self._gone = True
        return len(data)

    def give_up(self) -> None:
        """Drop what waits and all that comes: whoever sent it goes on, and it counts as lost."""
        self._gone = self._given_up = True
        self.stuck = False
        self.pump()

    def retry(self) -> bool:
        """Try again after the disk was full; True when all is written."""
        self.stuck = False
        self.pump()
        return not self._queue

    def _wait(self, on: bool) -> None:
        if self._probe is None or on == self._waiting:
            return
        self._waiting = on
        if on:
            self._poller.add(self._fd, self.pump, write=True)
        else:
            self._poller.remove(self._fd)


class OutputPatience:
    """How long a run that stops its tasks waits for output that nobody takes (a full disk, a stopped reader).

    Results come after the output of their tasks, so a run would wait as long as the disk is full.
    """

    SECONDS = 2.0
    """Without a byte of progress; after them what waits is dropped."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._ends_from: float | None = None
        self._written = 0
        self._progress = 0.0

    def end_by(self, now: float) -> None:
        """Tasks are being stopped: from now on patience has an end."""
        if self._ends_from is None:
            self._ends_from = now

    def look(self, now: float) -> None:
        """Drop what has waited too long."""
        written = sum(sink.written for sink in self._sinks)
        waiting = [sink for sink in self._sinks if sink.begun and not sink.empty]
        if written != self._written or not waiting:
            self._written, self._progress = written, now
        elif self._ends_from is not None and now - max(self._progress, self._ends_from) >= self.SECONDS:
            for sink in waiting:
                log.error("%s takes nothing more: what tasks printed there is dropped from here on", sink.name)
                sink.give_up()

    def deadline(self, now: float) -> float | None:
        """When to look again."""
        waits = self._ends_from is not None and any(sink.begun and not sink.empty for sink in self._sinks)
        return now + self.SECONDS if waits else None
