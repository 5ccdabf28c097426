"""The hosts of clients, for what happens to all clients of one of them."""

from __future__ import annotations

__all__ = ["Node"]


class Node:
    """One host with its clients of one kind."""

    __slots__ = ("aside", "clients", "failed", "host", "proven", "streak")

    def __init__(self, host: str) -> None:
        self.host = host
        self.clients = 0
        self.streak = 0
        """Failures in a row that came at once, whichever client they came from."""
        self.failed: set[int] = set()
        """The clients that they came from."""
        self.proven = False
        """Whether a task ever succeeded there."""
        self.aside = False
        """Whether none of its clients gets anything."""

    def well(self) -> None:
        """Something did not fail at once there."""
        self.streak = 0
        self.failed.clear()
