"""How long an idle rank sleeps between two looks at what MPI has for it."""

from __future__ import annotations

__all__ = ["Backoff"]


class Backoff:
    """How long an idle rank sleeps: in proportion to the time since the last traffic, between two limits.

    Waiting a share of the time already waited makes the waits grow geometrically, however often other events
    interrupt them. The limits were measured (``benchmarks/idle_rank.py``).

    A rank that has all the work it can start expects nothing: its tasks need the core. It looks when one of them
    ends, and else every `calm` seconds, whatever it said or heard last; only the rest of a message that is on its
    way brings it back to the short waits.

    Where the core is shared with many others, a rank wakes late, and each look takes time from those that have work
    (64 hungry ranks on two cores looked away half of them). The longest wait grows with how late it wakes.
    """

    __slots__ = ("_due", "_is_calm", "_late", "_since", "calm", "longest", "share", "shortest")

    def __init__(
        self, shortest: float = 50e-6, longest: float = 7e-3, share: float = 0.25, calm: float = 50e-3
    ) -> None:
        self.shortest = shortest
        self.longest = longest
        self.share = share
        self.calm = calm
        self._since: float | None = None
        self._is_calm = False
        self._due = float("inf")
        self._late = 0.0

    def near(self) -> None:
        """Traffic was seen: start over with the shortest wait."""
        self._since = None

    def expect(self, soon: bool) -> None:
        """Whether something is expected that this rank cannot do without."""
        self._is_calm = not soon
        if soon:
            self._since = None

    def wait(self, now: float, moving: bool = False) -> float:
        """Seconds to sleep, `now` by the same clock at every call.

        :param moving: a message is on its way that needs our help to get on.
        """
        late = now - self._due
        if late > 0.0:
            self._late += (min(late, self.calm) - self._late) / 8
        if self._is_calm and not moving:
            wait = self.calm
        else:
            if self._since is None:
                self._since = now
            longest = max(self.longest, min(self.calm, 4 * self._late))
            wait = min(longest, max(self.shortest, (now - self._since) * self.share))
        self._due = now + wait
        return wait
