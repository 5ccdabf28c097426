"""How many tasks may run at a time while the machine has no room for more. Pure; used by ``machine``.

A start that fails for want of descriptors, processes or memory says how much there is room for: what runs then.
From time to time one more is tried, then two, four, ... as long as all of them start. So slots come back by
themselves, and a shortage that lasts costs few attempts.
"""

from __future__ import annotations

from hypershell.executor.vocabulary import Lack

__all__ = ["LONGEST_PAUSE", "PAUSE", "SHARED_PAUSE", "Headroom"]

#: Seconds before more is tried, and the longest they grow to while that is in vain.
PAUSE = 0.5
LONGEST_PAUSE = 8.0

#: Seconds where tasks themselves need what is missing: each trial may make some of them fail.
SHARED_PAUSE = 60.0

NEVER = float("inf")

#: Different reasons that are told.
_MOST_TOLD = 8


class Headroom:
    """For how many of `slots` there is room: `usable`."""

    __slots__ = ("_due", "_failed", "_pause", "_step", "_told", "_untold", "in_vain", "lack", "slots", "usable")

    def __init__(self, slots: int) -> None:
        self.slots = self.usable = slots
        self.lack: Lack | None = None
        """What was missing last."""
        self.in_vain = False
        """Nothing could be started, and since then nothing is known to have run."""
        self._due = NEVER
        self._pause = PAUSE
        self._step = 1
        self._failed = False
        self._told: set[str] = set()
        self._untold = False

    @property
    def is_short(self) -> bool:
        return self.usable < self.slots

    def falls(self, running: int, lack: Lack, now: float) -> None:
        """A start failed while so many others run.

        Where tasks need of it themselves (a shell starts programs), half of what there is is left to them.
        """
        self.lack = lack
        self.in_vain = self.in_vain or not running
        self.usable = (running + 1) // 2 if lack.shared else running
        self._step, self._failed = 1, True
        self._due = now + max(self._pause, SHARED_PAUSE if lack.shared and running else 0.0)
        self._untold = self._untold or (lack.reason not in self._told and len(self._told) < _MOST_TOLD)

    def take_words(self) -> str | None:
        """What to tell the user, once for each thing that is missing; to be asked when all was tried."""
        if not self._untold or self.lack is None:
            return None
        self._untold = False
        self._told.add(self.lack.reason)
        reason = self.lack.reason
        if not self.usable:
            return f"No task can be started until there is room: {reason}"
        return f"Running tasks in {self.usable} of {self.slots} slots until there is room for more: {reason}"

    def grows(self, running: int, now: float) -> bool:
        """Whether it is time to try more; `usable` has grown then."""
        if now < self.due(running):
            return False
        if self._failed:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._pause = PAUSE
            self._step = min(2 * self._step, self.slots)
        self._failed = False
        self.usable = min(self.slots, self.usable + self._step)
        self._due = now + self._pause
        return True

    def due(self, running: int) -> float:
        """When more may be tried; never while what there is is not used."""
        return self._due if self.is_short and running == self.usable else NEVER
