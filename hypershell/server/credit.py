"""How much of what tasks printed each client may have on its way: what it sent and the server has not written.

A client of ours stops reading from its tasks at its window (``executor.output``), so whoever sends more than that
and the overdraft is none, and memory here is bounded by the number of clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hypershell.core.model import OUTPUT_OVERDRAFT, OUTPUT_WINDOW
from hypershell.proto.messages import Output
from hypershell.server.output import Sink
from hypershell.transport import Delivery

__all__ = ["CROWDED", "MOST", "OutputCredit", "Printed"]

#: Bytes that wait of one client at most.
MOST = OUTPUT_WINDOW + OUTPUT_OVERDRAFT
#: Bytes of all clients that wait before no client more is let in: it would bring its own window of them.
CROWDED = 256 << 20


class OutputCredit:
    """Counts bytes; `total` of all clients, those that are gone too."""

    def __init__(self) -> None:
        self.total = 0
        self._waiting: dict[int, int] = {}
        self._overdrawn: set[int] = set()

    def came(self, peer: int, size: int) -> bool:
        """`peer` sent so many bytes; False where that is more than it may, and for all that it sends then."""
        waiting = self._waiting.get(peer, 0) + size
        if waiting > MOST or peer in self._overdrawn:
            self._overdrawn.add(peer)
            return False
        self._waiting[peer] = waiting
        self.total += size
        return True

    def taken(self, peer: int, size: int) -> None:
        """So many bytes of `peer` have been written, or given up."""
        left = self._waiting.pop(peer, 0) - size
        self.total -= size
        if left > 0:
            self._waiting[peer] = left

    def lost(self, peer: int) -> None:
        """Nothing more comes of `peer`; what it sent still waits."""
        self._overdrawn.discard(peer)

    def crowded(self) -> str | None:
        """Why no other client can come now."""
        if self.total < CROWDED:
            return None
        return f"{self.total >> 20} MiB of what tasks printed wait to be written"


class Printed:
    """What tasks print, from messages to the sinks, as far as each client may send it.

    `drop` gives up a client that sends more, with the reason.
    """

    def __init__(self, out: Sink, err: Sink, drop: Callable[[int, str], None]) -> None:
        self.credit = OutputCredit()
        self._out = out
        self._err = err
        self._drop = drop

    def take(self, deliveries: Iterable[Delivery]) -> bool:
        """Queue what is among these; whether there was any."""
        found = False
        for peer, message in deliveries:
            if isinstance(message, Output):
                found = True
                if self.credit.came(peer, len(message.out) + len(message.err)):
                    self._out.put(message.out, peer)
                    self._err.put(message.err, peer)
                else:  # what it sent before stays: a client of ours may send as much
                    self._drop(peer, f"it sends output of tasks although {MOST:,} bytes of it wait")
        return found
