"""Several transports as one: a server that has MPI ranks, a client of its own process and others over TCP.

Numbers of peers stay what they are for as long as a peer is here; each transport has numbers of its own, so here
they are spread out. Called by the commands that open more than one way in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypershell.transport import Delivery, Endpoint

__all__ = ["Several"]


class Several:
    """An ``Endpoint`` over the server's ends `ends`; the number of a peer tells which of them it is at."""

    def __init__(self, ends: Sequence[Endpoint]) -> None:
        self._ends = tuple(ends)

    def poll(self) -> list[Delivery]:
        """What has arrived at any of them, each in its order."""
        count = len(self._ends)
        return [
            Delivery(peer * count + place, message)
            for place, end in enumerate(self._ends)
            for peer, message in end.poll()
        ]

    def send(self, peer: int, message: Any) -> None:
        """Queue one message."""
        number, place = divmod(peer, len(self._ends))
        self._ends[place].send(number, message)

    def flush(self) -> bool:
        """Push what is queued; True when nothing is left at any."""
        left = [end for end in self._ends if not end.flush()]
        return not left

    def wait_hint(self, now: float) -> float | None:
        """The earliest of all."""
        hints = [hint for end in self._ends if (hint := end.wait_hint(now)) is not None]
        return min(hints) if hints else None

    def expect(self, soon: bool) -> None:
        """Passed on."""
        for end in self._ends:
            end.expect(soon)

    def silence(self, peer: int) -> float | None:
        """As the transport says."""
        number, place = divmod(peer, len(self._ends))
        return self._ends[place].silence(number)

    def drop(self, peer: int, reason: str) -> None:
        """Passed on."""
        number, place = divmod(peer, len(self._ends))
        self._ends[place].drop(number, reason)

    def close(self) -> None:
        """Close all; idempotent."""
        for end in self._ends:
            end.close()
