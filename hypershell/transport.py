"""What every transport must do, seen from either end; loopback, MPI and TCP each implement it.

An endpoint never blocks: `poll` takes what has arrived, `send` queues. Messages between two peers keep their
order. The loss of a peer is a delivery like any other.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

__all__ = ["SERVER", "Again", "Cut", "Delivery", "Endpoint", "Lost"]

#: The peer number of the server, as every client sees it.
SERVER = 0


class Lost(NamedTuple):
    """The peer is gone and will not come back under this number."""

    reason: str
    outside: bool = False
    """The peer was a client that came by itself, none of those with which the run began."""


class Cut(NamedTuple):
    """The server is gone for now; the client's end looks for it. What is sent until ``Again`` is dropped."""

    reason: str


class Again(NamedTuple):
    """The client's end found the server, or its successor: say Hello as if for the first time."""


class Delivery(NamedTuple):
    peer: int
    message: Any
    """A message of ``proto.messages``, or ``Lost``; of transports that can come back ``Cut`` and ``Again`` too."""


class Endpoint(Protocol):
    """One end of a transport; a client's has the single peer ``SERVER``."""

    def poll(self) -> list[Delivery]:
        """What has arrived since the last call, in order; empty where nothing has."""

    def send(self, peer: int, message: Any) -> None:
        """Queue one message; to a peer that is gone it is dropped."""

    def flush(self) -> bool:
        """Push what is queued; True when nothing is left to push."""

    def wait_hint(self, now: float) -> float | None:
        """Seconds after which `poll` wants to be called again; None: only when a file descriptor wakes us."""

    def expect(self, soon: bool) -> None:
        """Say whether traffic is near (poll faster) or far."""

    def silence(self, peer: int) -> float | None:
        """Seconds since `peer` was last heard of; None where that is not measured."""

    def drop(self, peer: int, reason: str) -> None:
        """Give up a peer that said what no correct one says; ``Lost`` comes (``Cut``), and nothing more of it."""

    def close(self) -> None:
        """Release everything; idempotent."""
