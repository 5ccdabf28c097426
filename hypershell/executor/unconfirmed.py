"""Results that were sent and that the server has not called durable yet. Pure; used by ``machine``."""

from __future__ import annotations

from collections import deque

from hypershell.core.model import Result
from hypershell.executor.held import split

__all__ = ["MOST", "Unconfirmed"]

#: Results that a client holds; when it has so many it starts nothing more until the server has some of them.
MOST = 10_000

#: Results in one message when all are sent again.
_CHUNK = 500


class Unconfirmed:
    """The contents of messages in the order in which they were sent, and how many of them are durable."""

    def __init__(self) -> None:
        self._messages: deque[list[Result]] = deque()
        self._kept = 0
        self._count = 0
        self.size = 0
        """Bytes of kept output in them."""

    def __len__(self) -> int:
        """How many results."""
        return self._count

    def sent(self, results: list[Result]) -> None:
        """A message left; one without results counts as well."""
        self._messages.append(results)
        self._count += len(results)
        self.size += _size(results)

    def kept(self, count: int) -> None:
        """The first `count` messages are durable; of a number that was never sent all are meant."""
        while self._kept < count and self._messages:
            self._kept += 1
            results = self._messages.popleft()
            self._count -= len(results)
            self.size -= _size(results)

    def again(self, most: int) -> list[list[Result]]:
        """All that is not known to be durable, as it is to be sent in new messages, which count from one again.

        Each ends with the result that brings its kept output to `most` bytes, if not before.
        """
        results = [result for message in self._messages for result in message]
        parts = split(results, most) if self.size >= most else [results]
        chunks = [part[start : start + _CHUNK] for part in parts for start in range(0, len(part), _CHUNK)]
        self._messages = deque(chunks)
        self._kept = 0
        return chunks

    def executions(self) -> list[tuple[str, int]]:
        return [(result.id, result.execution) for message in self._messages for result in message]


def _size(results: list[Result]) -> int:
    return sum(result.kept.size for result in results if result.kept is not None)
