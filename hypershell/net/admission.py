"""Who of many strangers is served next, and who gives way: fairness between addresses. Pure.

A stranger is a connection that has not proved the key. It is silent at first, waits once it has said something, and
is served when its turn comes: only then does it cost more than a descriptor. Addresses take turns, and whoever came
first from an address is served first. Where places are few, the address that has the most of them gives some up: at
once to an address that has fewer, to its own newcomers after a while.

How long that while is, is learnt from a sample that always gets the whole of it: where hardly anybody of the sample
proves the key, the others get a sixth. A crowd of ours on a slow machine so has its time, and a flood has not.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

__all__ = ["Admission", "Stage"]

#: The part of those that are served which is the sample.
_SAMPLE = 1 / 4
#: What one of the sample weighs, and what part of it must have proved the key for all to have the whole while.
_WEIGHT = 1 / 16
_ENOUGH = 0.1
#: The part of the while that the others have else.
_LITTLE = 1 / 6

Who = TypeVar("Who", bound=Hashable)


class Stage(Enum):
    """How far a stranger has come."""

    SILENT = "silent"
    WAITING = "waiting"
    SERVED = "served"
    SAMPLED = "served, of the sample"


_SERVED = (Stage.SERVED, Stage.SAMPLED)
_FIRST_TO_GO = (Stage.SILENT, *_SERVED, Stage.WAITING)


class _Ranking:
    """Counts per address, and which address has the most. Every change costs the same, however many there are."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._groups: dict[int, dict[str, None]] = {}
        """The addresses with each count."""
        self._most = 0

    def count(self, address: str) -> int:
        return self._counts.get(address, 0)

    def change(self, address: str, by: int) -> None:
        """One more (1) or one less (-1) of `address`."""
        old = self._counts.get(address, 0)
        new = old + by
        if old:
            group = self._groups[old]
            del group[address]
            if not group:
                del self._groups[old]
        if new:
            self._counts[address] = new
            self._groups.setdefault(new, {})[address] = None
        else:
            del self._counts[address]
        if new > self._most or self._most not in self._groups:
            self._most = new

    def top(self) -> str | None:
        """The address that has the most; of several the one that got there first."""
        return next(iter(self._groups[self._most])) if self._most else None


class _Stranger:
    __slots__ = ("address", "due", "since", "spoke", "stage")

    def __init__(self, address: str, now: float, due: float) -> None:
        self.address = address
        self.stage = Stage.SILENT
        self.since = self.spoke = now
        """Since when it is here; once it is served, since then."""
        self.due = due
        """When it is too late; while it waits for us, never."""


class Admission(Generic[Who]):
    """The strangers of one server; whoever uses it says what happened, and asks who is next.

    :param places: strangers at a time.
    :param quota: strangers of one address at a time.
    :param served: strangers that are served at a time.
    :param young: the while, seconds, for which a stranger that is served does not give way to one of its address.
    :param patience: seconds that a stranger itself may take until it has proved the key.
    """

    def __init__(self, places: int, quota: int, served: int, young: float, patience: float) -> None:
        self._places = places
        self._quota = quota
        self._most_served = served
        self._young = young
        self._luck = 1.0
        """The part of the sample that proved the key, of late."""
        self._patience = patience
        self._all: dict[Who, _Stranger] = {}
        """In the order in which they came."""
        self._of: dict[str, dict[Stage, dict[Who, None]]] = {}
        """Those of each address at each stage, the first first."""
        self._present = _Ranking()
        self._served = _Ranking()
        self._serving = self._sampled = 0
        self._turns: dict[str, None] = {}
        """Addresses from which somebody waits; the first is next."""
        self._dues: list[tuple[float, int, Who]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> list[Who]:
        """The strangers, in the order in which they came."""
        return list(self._all)

    # -- what happened -----------------------------------------------------------------------------------

    def come(self, who: Who, address: str, now: float) -> Who | None:
        """A stranger has come, silent; who has to leave for it. That can be the newcomer itself."""
        due = now + self._patience
        self._all[who] = _Stranger(address, now, due)
        stages = self._of.get(address)
        if stages is None:
            stages = self._of[address] = {stage: {} for stage in Stage}
        stages[Stage.SILENT][who] = None
        self._present.change(address, 1)
        self._expect(who, due)
        if self._present.count(address) > self._quota:
            return self._least_of(address, now)
        if len(self._all) > self._places and (crowded := self._present.top()) is not None:
            return self._least_of(crowded, now)
        return None

    def speak(self, who: Who, now: float) -> None:
        """A silent stranger has said something: it waits to be served. One that is gone may be named."""
        stranger = self._all.get(who)
        if stranger is None or stranger.stage is not Stage.SILENT:
            return
        stranger.spoke = now
        self._move(who, stranger, Stage.WAITING)
        self._turns.setdefault(stranger.address)

    def leave(self, who: Who, proved: bool = False) -> None:
        """A stranger has gone, or is none any more since it has `proved` the key; one that is gone may be named."""
        stranger = self._all.pop(who, None)
        if stranger is None:
            return
        address = stranger.address
        stages = self._of[address]
        del stages[stranger.stage][who]
        if stranger.stage in _SERVED:
            self._serving -= 1
            self._served.change(address, -1)
        if stranger.stage is Stage.SAMPLED:
            self._sampled -= 1
            self._luck += _WEIGHT * (proved - self._luck)
        if not stages[Stage.WAITING]:
            self._turns.pop(address, None)
        self._present.change(address, -1)
        if not self._present.count(address):
            del self._of[address]

    # -- what to do --------------------------------------------------------------------------------------

    def serve(self, now: float) -> tuple[Who, Who | None] | None:
        """Who is served from now on, and who has to leave for it; None where nobody can be."""
        chosen = self._next(now)
        if chosen is None:
            return None
        address, loser = chosen
        who = next(iter(self._of[address][Stage.WAITING]))
        stranger = self._all[who]
        sampled = self._sampled < self._most_served * _SAMPLE
        self._sampled += sampled
        self._move(who, stranger, Stage.SAMPLED if sampled else Stage.SERVED)
        self._serving += 1
        self._served.change(address, 1)
        stranger.due += now - stranger.spoke  # that it waited is our doing
        stranger.since = now
        self._expect(who, stranger.due)
        del self._turns[address]
        if self._of[address][Stage.WAITING]:
            self._turns[address] = None
        return who, loser

    def ready(self, now: float) -> bool:
        """Whether `serve` would find somebody."""
        return self._next(now) is not None

    def late(self, now: float) -> Who | None:
        """A stranger that has had its time."""
        first = self._first_due()
        return first[1] if first is not None and first[0] <= now else None

    def deadline(self) -> float | None:
        """When the next stranger has had its time, or one that waits may take the place of one that is served."""
        first = self._first_due()
        found = None if first is None else first[0]
        crowded = self._served.top()
        if self._turns and crowded is not None:
            aged = self._first_aged(crowded)[1]
            found = aged if found is None else min(found, aged)
        return found

    def oldest_of_most(self) -> tuple[Who, float] | None:
        """Who gives way to a newcomer whose address is not known yet, and from when on."""
        crowded = self._present.top()
        if crowded is None:
            return None
        stages = self._of[crowded]
        oldest = next(one for stage in _FIRST_TO_GO for one in stages[stage])
        return oldest, self._all[oldest].since + self._young

    # -- inside ------------------------------------------------------------------------------------------

    def _least_of(self, address: str, now: float) -> Who:
        """Who of an address gives way to a newcomer: who had time to say something and did not, else the last."""
        stages = self._of[address]
        if stages[Stage.SILENT]:
            oldest = next(iter(stages[Stage.SILENT]))
            if now - self._all[oldest].since >= self._young * _LITTLE:
                return oldest
        for stage in (Stage.SILENT, Stage.WAITING):
            if stages[stage]:
                return next(reversed(stages[stage]))
        return next(iter(stages[Stage.SERVED] or stages[Stage.SAMPLED]))

    def _next(self, now: float) -> tuple[str, Who | None] | None:
        """The address whose turn it is, and who stops being served for it."""
        crowded = self._served.top() if self._serving >= self._most_served else None
        if crowded is None:
            return next(((address, None) for address in self._turns), None)
        oldest, aged = self._first_aged(crowded)
        most = self._served.count(crowded)
        for address in self._turns:
            if now >= aged or self._served.count(address) + 1 < most:
                return address, oldest
        return None

    def _first_aged(self, address: str) -> tuple[Who, float]:
        """Who of those of an address that are served has had its while first, and when."""
        while_of = {Stage.SAMPLED: self._young, Stage.SERVED: self._young}
        if self._luck < _ENOUGH:
            while_of[Stage.SERVED] *= _LITTLE
        stages = self._of[address]
        firsts = [(next(iter(stages[stage])), stage) for stage in _SERVED if stages[stage]]
        ages = [(who, self._all[who].since + while_of[stage]) for who, stage in firsts]
        return min(ages, key=lambda pair: pair[1])

    def _move(self, who: Who, stranger: _Stranger, stage: Stage) -> None:
        stages = self._of[stranger.address]
        del stages[stranger.stage][who]
        stages[stage][who] = None
        stranger.stage = stage

    def _expect(self, who: Who, due: float) -> None:
        self._number += 1
        heappush(self._dues, (due, self._number, who))
        if len(self._dues) > 4 * len(self._all) + 64:  # those who left stay in it until then
            self._dues = [entry for entry in self._dues if self._is_due(entry[0], entry[2])]
            heapify(self._dues)

    def _first_due(self) -> tuple[float, Who] | None:
        """Whose time is over first, and when."""
        while self._dues:
            due, _, who = self._dues[0]
            if self._is_due(due, who):
                return due, who
            heappop(self._dues)
        return None

    def _is_due(self, due: float, who: Who) -> bool:
        stranger = self._all.get(who)
        return stranger is not None and stranger.due == due and stranger.stage is not Stage.WAITING
