"""The transport inside one process: two ends that hand messages over by reference.

Every message is a frozen struct, so nothing is copied; the conformance suite encodes as well.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hypershell.transport import SERVER, Delivery, Lost

__all__ = ["LoopbackEnd", "loopback"]


class LoopbackEnd:
    """One end; `peer` is the number under which the other side appears here."""

    def __init__(self, inbox: deque[Any], outbox: deque[Any], peer: int) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._peer = peer
        self._dropped = False

    def poll(self) -> list[Delivery]:
        inbox, peer = self._inbox, self._peer
        taken = []
        while inbox:
            taken.append(Delivery(peer, inbox.popleft()))
        if self._dropped:
            return [one for one in taken if isinstance(one.message, Lost)]
        return taken

    def send(self, peer: int, message: Any) -> None:
        if peer == self._peer and not self._dropped:
            self._outbox.append(message)

    def flush(self) -> bool:
        return True

    def wait_hint(self, now: float) -> float | None:
        return 0.0 if self._inbox else None

    def expect(self, soon: bool) -> None:
        pass

    def silence(self, peer: int) -> float | None:
        return None

    def drop(self, peer: int, reason: str) -> None:
        """Both sides hear of it."""
        if peer == self._peer and not self._dropped:
            self._dropped = True
            self._inbox.clear()
            self._inbox.append(Lost(reason))
            self._outbox.append(Lost(reason))

    def close(self) -> None:
        self._inbox.clear()


def loopback() -> tuple[LoopbackEnd, LoopbackEnd]:
    """The server's end, which sees client 1, and the client's end, which sees the server."""
    up: deque[Any] = deque()
    down: deque[Any] = deque()
    return LoopbackEnd(up, down, 1), LoopbackEnd(down, up, SERVER)
