"""The slots of a client by number, and the cores of each where tasks are bound. Called by ``executor.jobs``."""

from __future__ import annotations

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
    """The places of the slots, by their number; who has which is for the machine to say.

    :param cores: the cores of each slot, in the order of slots; empty: all may use all of the client's.
    """

    def __init__(self, cores: Sequence[frozenset[int]] = ()) -> None:
        self._cores = cores
        self._all: list[Place] = []

    def of(self, slot: int) -> Place:
        """The place of a slot."""
        while slot >= len(self._all):
            number = len(self._all)
            self._all.append(Place(number, self._cores[number % len(self._cores)] if self._cores else None))
        return self._all[slot]
