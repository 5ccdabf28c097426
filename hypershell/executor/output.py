"""What tasks print: read from their pipes, cut into whole lines, sent to the server in few messages.

Lines of different tasks never tear: each pipe keeps its unfinished line. A line longer than 64 KiB passes in
pieces. A last line without a newline passes as it is when its pipe ends. At most 1 MiB is on its way to the server;
beyond it no pipe is read, so that the tasks themselves wait. Never is it so much that the server would give us up.
Called by ``executor.jobs`` and ``executor.loop``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypershell.core.model import KEPT_MOST, OUTPUT_OVERDRAFT, OUTPUT_WINDOW
from hypershell.executor.reap import PosixPipes
from hypershell.reactor import Poller

if TYPE_CHECKING:
    from hypershell.executor.system import Pipes

__all__ = ["LONGEST_LINE", "WINDOW", "Head", "Output", "Pipe"]

#: Bytes of one line that are kept until its end comes.
LONGEST_LINE = 65_536

#: Bytes that may be on their way to the server; one read and one unfinished line may come on top, and at the end of
#: tasks that are stopped those of others, as far as the overdraft goes.
WINDOW = OUTPUT_WINDOW

_READ = 65_536

_log = logging.getLogger("hypershell.client")


class Head:
    """The first `KEPT_MOST` bytes that a task wrote to a stream, and how many it wrote in all."""

    __slots__ = ("data", "size")

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = KEPT_MOST - len(self.data)
        if room > 0:
            self.data += data[:room]


class Pipe:
    """The reading end of a pipe that a task writes to; `fd` is -1 after its end.

    With `limit` its bytes are kept in `kept` instead, and it is closed when there are more. `head`, where there is
    one, also gets what is passed on.
    """

    __slots__ = ("error", "fd", "head", "kept", "limit", "overflowed", "tail", "watched")

    def __init__(self, fd: int, error: bool, limit: int = 0) -> None:
        self.fd = fd
        self.error = error
        self.tail = b""
        self.watched = False
        self.limit = limit
        self.kept = bytearray()
        self.overflowed = False
        self.head: Head | None = None


class Output:
    """All pipes of a client.

    :param send: gets stdout and stderr bytes of one message.
    :param ended: called with a pipe that ended while it was watched.
    :param pipes: how they are read and waited for; by `poller` itself where nothing is said.
    """

    def __init__(
        self,
        poller: Poller,
        send: Callable[[bytes, bytes], None],
        ended: Callable[[Pipe], None] | None = None,
        pipes: Pipes | None = None,
    ) -> None:
        self.pipes = pipes or PosixPipes(poller)
        self._read, self._close = self.pipes.read, self.pipes.close
        self._send = send
        self._ended = ended
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._size = 0
        self._room = WINDOW
        self._told = False
        self.filled = False
        """Whether a watched pipe gave as much as a pipe holds: its task may have waited. The caller clears it."""
        self._watched: set[Pipe] = set()

    @property
    def full(self) -> bool:
        """Whether the server has to take some before more is read."""
        return self._room <= 0

    @property
    def waiting(self) -> bool:
        """Whether `flush` would send something."""
        return self._size > 0

    def finish(self, fd: int, error: bool) -> Pipe | None:
        """Read to its end a pipe that no process should hold any more, and close it; None when that worked.

        :param error: whether it is a stderr.
        :returns: what is still open, for `drain` and `watch`.
        """
        if self._room > 0:
            try:
                data = self._read(fd, _READ)
            except BlockingIOError:
                return Pipe(fd, error)
            if not data:
                self._close(fd)
                return None
            pipe = Pipe(fd, error)
            self._take(pipe, data)
        else:
            pipe = Pipe(fd, error)
        return None if self.drain(pipe) else pipe

    def drain(self, pipe: Pipe) -> bool:
        """Read what is there; True when the pipe has ended (it is closed then)."""
        fd = pipe.fd
        if fd < 0:
            return True
        while self._room > 0 or pipe.limit:
            try:
                data = self._read(fd, _READ)
            except BlockingIOError:
                return False
            if not data:
                self.close(pipe)
                return True
            self._take(pipe, data)
            if pipe.fd < 0:
                return True
        return False

    def watch(self, pipe: Pipe) -> None:
        """Read the pipe from now on whenever it has something."""
        if pipe.fd >= 0 and not pipe.watched:
            pipe.watched = True
            self._watched.add(pipe)
            if not self.full or pipe.limit:
                self.pipes.add(pipe.fd, lambda: self._readable(pipe))

    def close(self, pipe: Pipe) -> None:
        """Forward an unfinished line and close the pipe; what is written to it later has no reader."""
        fd = pipe.fd
        if fd < 0:
            return
        if pipe.watched:
            self.pipes.remove(fd)
            self._watched.discard(pipe)
            pipe.watched = False
        pipe.fd = -1
        self._close(fd)
        if pipe.tail:
            self._pass_on(pipe, self._affordable(pipe.tail))
            pipe.tail = b""

    def _affordable(self, tail: bytes) -> bytes:
        """As much of an unfinished line as the server must take, however little of the rest it has taken."""
        left = max(0, self._room + OUTPUT_OVERDRAFT)
        if left < len(tail) and not self._told:
            self._told = True
            _log.warning("The server takes no output: unfinished lines of tasks that were stopped are cut off")
        return tail[:left]

    def flush(self) -> None:
        """Send what has gathered since the last call."""
        if self._size:
            out, err = b"".join(self._out), b"".join(self._err)
            self._out.clear()
            self._err.clear()
            self._size = 0
            self._send(out, err)

    def taken(self, size: int) -> None:
        """The server wrote `size` bytes. A size that no correct server sends does no more than fill the window."""
        was_full = self.full
        self._room = min(WINDOW, self._room + max(0, size))
        if was_full and not self.full:
            for pipe in self._watched:
                if not pipe.limit:
                    self.pipes.add(pipe.fd, lambda pipe=pipe: self._readable(pipe))  # type: ignore[misc]

    def _readable(self, pipe: Pipe) -> None:
        if pipe.fd < 0 or (self.full and not pipe.limit):
            return
        try:
            data = self._read(pipe.fd, _READ)
        except BlockingIOError:
            return
        if data:
            self.filled = self.filled or len(data) == _READ
            self._take(pipe, data)
        else:
            self.close(pipe)
        if pipe.fd < 0 and self._ended is not None:
            self._ended(pipe)

    def _take(self, pipe: Pipe, data: bytes) -> None:
        if pipe.limit:
            pipe.kept += data
            if len(pipe.kept) > pipe.limit:
                pipe.overflowed = True
                self.close(pipe)
            return
        if pipe.head is not None:
            pipe.head.add(data)
        end = data.rfind(b"\n") + 1
        if end == len(data) and not pipe.tail:
            self._pass_on(pipe, data)
            return
        if end:
            self._pass_on(pipe, pipe.tail + data[:end])
            pipe.tail = data[end:]
        else:
            pipe.tail += data
        if len(pipe.tail) >= LONGEST_LINE:
            self._pass_on(pipe, pipe.tail)
            pipe.tail = b""

    def _pass_on(self, pipe: Pipe, data: bytes) -> None:
        (self._err if pipe.error else self._out).append(data)
        self._size += len(data)
        if self._room > 0:
            self._room -= len(data)
            if self._room <= 0:
                for watched in self._watched:
                    if not watched.limit:
                        self.pipes.remove(watched.fd)
        else:
            self._room -= len(data)
