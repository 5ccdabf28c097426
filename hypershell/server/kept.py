"""Kept output that clients sent and the store has not committed: what each may send more of, once it is on disk.

A client starts nothing while too much of what it sent is not acknowledged (``KEPT_WINDOW``), so that memory here is
bounded by the number of clients; whoever sends more is none. Called by ``server.loop``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from hypershell.core.model import KEPT_MOST, KEPT_WINDOW, Result

__all__ = ["KeptCredit", "kept_size"]


def kept_size(results: Iterable[Result]) -> int:
    """Bytes of kept output in results."""
    return sum(result.kept.size for result in results if result.kept is not None)


class KeptCredit:
    """`tell(peer, size)` is called when so many bytes of a client are durable, or were of no use."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._of: dict[int, int] = {}
        """The bytes of each client in it."""
        self._durable = 0

    def may_send(self, peer: int, size: int, slots: int) -> bool:
        """Whether a client with so many slots may send so many bytes more.

        Each slot may add a task to a full window; a message that is being filled has less than two.
        """
        return self._of.get(peer, 0) + size <= KEPT_WINDOW + 2 * KEPT_MOST * (slots + 2)

    def received(self, peer: int, size: int, seq: int) -> None:
        """Results of a client came, and the record `seq` was the last one after they were judged."""
        if size:
            self._waiting.append((seq, peer, size))
            self._of[peer] = self._of.get(peer, 0) + size
            self.durable(self._durable)

    def durable(self, seq: int) -> None:
        """All records up to `seq` are committed."""
        self._durable = max(self._durable, seq)
        while self._waiting and self._waiting[0][0] <= self._durable:
            _, peer, size = self._waiting.popleft()
            left = self._of.pop(peer) - size
            if left:
                self._of[peer] = left
            self._tell(peer, size)
