"""For how long the pipes of a running task are left alone. Pure.

To watch them costs a turn of the loop when that begins, and one more when the task ends. A task that ends before
costs one in all: its output is read then. So the pipes are left alone for twice the time that tasks take here,
between two limits: a pipe holds 64 KiB, and somebody may be looking at the output of a task that takes long.
"""

from __future__ import annotations

__all__ = ["Patience"]

#: The least, in seconds; also where tasks take so long that their pipes will be watched in any case.
SHORTEST = 0.005

#: The most, in seconds.
LONGEST = 0.25

#: How much the last task counts in what is typical.
_WEIGHT = 0.1

#: For so many tasks after one that filled its pipe, the pipes are watched early.
_LOUD = 100


class Patience:
    """Learns from the tasks of one client. ``seconds`` is how long the next one's pipes are left alone."""

    __slots__ = ("_loud", "_typical", "seconds")

    def __init__(self) -> None:
        self.seconds = SHORTEST
        self._typical = 0.0
        self._loud = 0

    def ended(self, lasted: float) -> None:
        """A task ended after `lasted` seconds."""
        self._typical += _WEIGHT * (min(max(lasted, 0.0), LONGEST) - self._typical)
        if self._loud:
            self._loud -= 1
            return
        enough = 2 * self._typical
        self.seconds = enough if SHORTEST < enough <= LONGEST else SHORTEST

    def filled(self) -> None:
        """A task may have waited because nobody read what it had printed."""
        self._loud = _LOUD
        self.seconds = SHORTEST
