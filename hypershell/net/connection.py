"""One connection: link, frames and session in one hand, with the bytes that wait to be sent.

Used by both ends; knows nothing of peers' numbers or of coming back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from hypershell.errors import ProtocolError, TransportError
from hypershell.net.link import Link
from hypershell.proto.framing import BEAT, HANDSHAKE_LIMIT, Frame, FrameDecoder, frame
from hypershell.proto.session import ClientSession, Code, Refusal, Session
from hypershell.reactor import Poller

__all__ = ["Connection"]

#: Bytes and messages that one connection may have in a turn, so that all are served.
_TURN_BYTES = 256 << 10
_TURN_MESSAGES = 256
#: Bytes of one read, and what is read of a stranger at a time.
_READ = 64 << 10
_READ_STRANGER = HANDSHAKE_LIMIT + 64
#: Bytes of one write.
_WRITE = 64 << 10
_BEAT = frame(BEAT)


class Connection:
    """Drives one socket whenever `advance` is called; `woken` is called when that may lead to something.

    :param begin: makes the session once the channel below stands; raises ``TransportError`` where it is no good.
    """

    def __init__(
        self,
        poller: Poller,
        link: Link,
        begin: Callable[[Link], Session],
        woken: Callable[[Connection], None],
        now: float,
    ) -> None:
        self.link = link
        self.session: Session | None = None
        self.since = now
        self.heard = now
        """When something came last."""
        self.said = now
        """When something was sent last."""
        self.inbox: list[Any] = []
        """Messages that have come and were not taken."""
        self.more = False
        """There may be more to read that no descriptor will tell."""
        self.queued = 0
        """Bytes that wait to be sent."""
        self.excused = False
        """The end of the connection is no loss."""
        self._poller = poller
        self.woken = woken
        self._begin = begin
        self._decoder = FrameDecoder()
        self._out: deque[bytes] = deque()
        self._chunk: memoryview | None = None
        self._wants_write = False
        self._fd = link.fileno()
        poller.watch(self._fd, self._wake)

    @property
    def authenticated(self) -> bool:
        return self.session is not None and self.session.authenticated

    def advance(self, now: float) -> None:
        """Read and answer what has arrived; messages gather in `inbox`.

        Raises ``TransportError`` where the connection is gone, ``Rejected`` where the peer rejects us, ``Refusal``
        where we reject it.
        """
        self.more = False
        if self.session is None and not self._open(now):
            return
        session = self.session
        if session is None:
            return
        budget = _TURN_BYTES
        while True:
            one = self._next_frame(session)
            if one is not None:
                reply, message = session.receive(one)
                if reply:
                    self.put(reply)
                if message is not None:
                    self.inbox.append(message)
                    if len(self.inbox) >= _TURN_MESSAGES:
                        self.more = True
                        break
                continue
            if budget <= 0:
                self.more = True
                break
            data = self.link.read(_READ if session.authenticated else _READ_STRANGER)
            if data is None:
                break
            if not data:
                raise TransportError("the connection was closed")
            self.heard = now
            budget -= len(data)
            self._decoder.feed(data)
        self.flush(now)

    def _next_frame(self, session: Session) -> Frame | None:
        self._decoder.limit = session.limit
        try:
            return self._decoder.next()
        except ProtocolError as error:
            raise Refusal(Code.PROTOCOL, str(error)) from None

    def _open(self, now: float) -> bool:
        """Bring the channel up; True once the session stands."""
        if not self.link.handshake():
            return False
        self.heard = now
        session = self._begin(self.link)
        self.session = session
        if isinstance(session, ClientSession):
            self.put(session.start())
        return True

    def put(self, data: bytes) -> None:
        """Queue bytes of whole frames."""
        self._out.append(data)
        self.queued += len(data)

    def beat(self, now: float) -> None:
        """Give a sign of life; not behind a queue, which is one itself once it moves."""
        if not self.queued and self.authenticated:
            self.put(_BEAT)
            self.flush(now)

    def flush(self, now: float) -> bool:
        """Write what the kernel takes; True when nothing is left. Raises ``TransportError``."""
        while self.queued:
            if self._chunk is None:
                self._chunk = self._gather()
            taken = self.link.write(self._chunk)
            if not taken:
                self._want_write(True)
                return False
            self.said = now
            self.queued -= taken
            rest = self._chunk[taken:]
            self._chunk = rest if len(rest) else None
        self._want_write(False)
        return True

    def leave(self) -> None:
        """Stop sending for good, after what the kernel takes of the queue."""
        try:
            self.flush(self.said)
        except TransportError:
            pass
        self.link.finish()
        self._want_write(False)

    def close(self) -> None:
        """Release the socket; idempotent."""
        if self._fd >= 0:
            self._poller.remove(self._fd)
            self._fd = -1
        self.link.close()

    def _gather(self) -> memoryview:
        """The next bytes to write: small frames joined, large ones as they are."""
        out = self._out
        first = out.popleft()
        if len(first) >= _WRITE or not out:
            return memoryview(first)
        pieces, size = [first], len(first)
        while out and size + len(out[0]) <= _WRITE:
            size += len(out[0])
            pieces.append(out.popleft())
        return memoryview(b"".join(pieces))

    def _want_write(self, wanted: bool) -> None:
        if wanted != self._wants_write and self._fd >= 0:
            self._wants_write = wanted
            self._poller.watch(self._fd, self._wake, write=wanted)

    def _wake(self) -> None:
        self.woken(self)
