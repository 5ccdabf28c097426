"""Kept output that clients sent and the store has not committed: what each may send more of, once it is on disk.

A client starts nothing while too much of what it sent is not acknowledged (``KEPT_WINDOW`` of its machine), so that
memory here is bounded by the number of clients. Called by ``server.loop``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from hypershell.core.model import Result

__all__ = ["KeptCredit"]


class KeptCredit:
    """`tell(peer, size)` is called when so many bytes of a client are durable, or were of no use."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._durable = 0

    def received(self, peer: int, results: Iterable[Result], seq: int) -> None:
        """Results of a client came, and the record `seq` was the last one after they were judged."""
        size = sum(result.kept.size for result in results if result.kept is not None)
        if size:
            self._waiting.append((seq, peer, size))
            self.durable(self._durable)

    def durable(self, seq: int) -> None:
        """All records up to `seq` are committed."""
        self._durable = max(self._durable, seq)
        while self._waiting and self._waiting[0][0] <= self._durable:
            _, peer, size = self._waiting.popleft()
            self._tell(peer, size)
