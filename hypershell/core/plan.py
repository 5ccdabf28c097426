"""The release plan: when each client gets its first work, so that ten thousand do not start at the same moment.

Clients that have just joined stand in a line, the first of every host before the second of any, and leave it one by
one: all after a delay, spread over a time, at a rate, or by themselves where they are many. Pure arithmetic over
the times that it is told; the scheduler asks it at every event and wakes at `due`.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush

from hypershell.core.clients import Client, Kind
from hypershell.core.policy import Policy

__all__ = ["AUTO_SLOTS", "TICK", "Ramp"]

#: Slots that start at once, and then in each second, where the user says nothing. A small program in Python opens
#: a few hundred files, so this is what a busy metadata server of a shared file system bears; fewer never wait.
AUTO_SLOTS = 1000

#: Seconds between two wake-ups at least; at higher rates several clients go at each.
TICK = 0.005

_Line = list[tuple[int, int, Client]]


class Ramp:
    """The line of clients that wait for their first work. Times are monotonic seconds."""

    def __init__(self, policy: Policy) -> None:
        self._delay = policy.delay_start
        self._rate = policy.release_rate
        self._auto = policy.release_rate is None and policy.delay_start >= 0
        self._expected = policy.expected
        self._lines: dict[Kind, _Line] = {}
        self._of_host: Counter[str] = Counter()
        self._begin: float | None = None
        self._next = 0.0
        self._rests = True
        self._joined = 0
        self._slots = 0
        """The most that were here at a time."""
        self._released = 0
        self.due: float | None = None
        """When the next one may go, while there is work for it."""

    @property
    def waiting(self) -> bool:
        """Whether somebody may stand in line."""
        return bool(self._lines)

    def join(self, client: Client, slots: int, now: float) -> bool:
        """A client came, with which there are so many `slots`; whether it has to wait (and then stands in line)."""
        if self._begin is None:
            self._begin = now
            self._next = now + max(self._delay, 0.0)
        self._joined += 1
        self._slots = max(self._slots, slots)
        if client.holding or not self._holds(now):
            self._released += 1
            return False
        client.waits = client.first = True
        before = self._of_host[client.info.host]
        self._of_host[client.info.host] += 1
        heappush(self._lines.setdefault(client.kind, []), (before, self._joined, client))
        return True

    def _holds(self, now: float) -> bool:
        if self._begin is not None and now < self._begin + abs(self._delay):
            return True
        return bool(self._rate) or self._is_crowd()

    def turn(self, ready: dict[Kind, int], bundle: int, now: float) -> list[Client]:
        """Those who may have their first work now: no more of a kind than the `ready` tasks that it can take.

        `bundle` is the most that a client gets at first where that is more than its slots.
        """
        free: list[Client] = []
        self.due = None
        while True:
            kind = self._best(ready)
            if kind is None:
                self._rests = True
                return free
            if self._rests:  # what nobody used is not kept for a later rush
                self._rests = False
                self._next = max(self._next, now)
            if self._next > now:
                self.due = max(self._next, now + TICK)
                return free
            client = heappop(self._lines[kind])[2]
            client.waits = False
            ready[kind] -= max(client.slots, bundle)
            self._next += self._pause(client)
            self._released += 1
            free.append(client)

    def kinds(self) -> list[Kind]:
        """The kinds of those in line."""
        return list(self._lines)

    def end(self) -> None:
        """Nobody gets work any more."""
        self._lines.clear()
        self.due = None

    def _best(self, ready: dict[Kind, int]) -> Kind | None:
        """The kind, among those for which there is work, of the one who is next."""
        best: Kind | None = None
        for kind, line in list(self._lines.items()):
            while line and (line[0][2].draining or line[0][2].aside):
                heappop(line)[2].waits = False
                self._released += 1
            if not line:
                del self._lines[kind]
            elif ready.get(kind, 0) > 0 and (best is None or line[0][:2] < self._lines[best][0][:2]):
                best = kind
        return best

    def _pause(self, client: Client) -> float:
        """Seconds between this one and the next."""
        pause = 1.0 / self._rate if self._rate else 0.0
        if self._delay < 0:
            pause = max(pause, -self._delay / max(self._joined, self._expected))
        return client.slots / AUTO_SLOTS if self._is_crowd() else pause

    def _is_crowd(self) -> bool:
        """Whether they are so many that they are held back although nobody said so."""
        return self._auto and max(self._slots, self._expected) > AUTO_SLOTS

    def words(self) -> str:
        """The plan and how far it is, for people."""
        parts = []
        if self._delay > 0:
            parts.append(f"after {self._delay:g} s")
        if self._delay < 0:
            parts.append(f"spread over {-self._delay:g} s")
        if self._rate:
            parts.append(f"{self._rate:g} clients per second")
        if self._is_crowd():
            parts.append(f"{AUTO_SLOTS} slots per second")
        if not parts:
            return "all at once"
        return f"{', '.join(parts)}; {self._released} of {max(self._joined, self._expected)} clients released"
