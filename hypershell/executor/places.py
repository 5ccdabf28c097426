"""The slots of a client by number, and the cores of each where tasks are bound. Called by ``executor.jobs``."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

__all__ = ["ANYWHERE", "Place", "Places"]


class Place:
    """One slot.

    :param cores: those that its task may use; None: those of the client.
    """

    __slots__ = ("cores", "shown", "slot")

    def __init__(self, slot: int, cores: frozenset[int] | None = None) -> None:
        self.slot = slot
        self.cores = cores
        self.shown = b"" if cores is None else ",".join(map(str, sorted(cores))).encode()
        """The cores as text: ``0,1,2``."""


#: Where a process runs that has no slot of its own.
ANYWHERE = Place(0)


class Places:
    """Gives out the slots, the lowest that is free first.

    :param cores: the cores of each slot, in the order of slots; empty: all may use all of the client's.
    """

    def __init__(self, cores: Sequence[frozenset[int]] = ()) -> None:
        self._cores = cores
        self._all: list[Place] = []
        self._free: list[int] = []

    def take(self) -> Place:
        """A slot that nobody has. Who decides how many there are is the machine."""
        if self._free:
            return self._all[heapq.heappop(self._free)]
        slot = len(self._all)
        place = Place(slot, self._cores[slot % len(self._cores)] if self._cores else None)
        self._all.append(place)
        return place

    def give(self, place: Place) -> None:
        """Give one back."""
        heapq.heappush(self._free, place.slot)
