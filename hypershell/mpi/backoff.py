"""How long an idle rank sleeps between two looks at what MPI has for it."""

from __future__ import annotations

__all__ = ["Backoff"]


class Backoff:
    """How long an idle rank sleeps: in proportion to the time since the last traffic, between two limits.

    Waiting a share of the time already waited makes the waits grow geometrically, however often other events
    interrupt them. The limits were measured (``benchmarks/idle_rank.py``).
    """

    __slots__ = ("_since", "longest", "share", "shortest")

    def __init__(self, shortest: float = 50e-6, longest: float = 7e-3, share: float = 0.12) -> None:
        self.shortest = shortest
        self.longest = longest
        self.share = share
        self._since: float | None = None

    def near(self) -> None:
        """Traffic was seen or is expected: start over with the shortest wait."""
        self._since = None

    def far(self) -> None:
        """Nothing is expected: the longest wait at once."""
        self._since = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds to sleep, `now` by the same clock at every call."""
        if self._since is None:
            self._since = now
        return min(self.longest, max(self.shortest, (now - self._since) * self.share))
