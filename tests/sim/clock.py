"""Virtual time, and links that delay messages but keep their order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["Clock", "Link"]


class Clock:
    """What is to happen when; `now` is seconds. Things of the same moment happen in the order of their planning."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._plans: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._plans, (max(when, self.now), self._count, call, args))

    def after(self, delay: float, call: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay, call, *args)

    @property
    def next(self) -> float | None:
        """When the next thing is planned; None: nothing is."""
        return self._plans[0][0] if self._plans else None

    def step(self) -> bool:
        """Let the next thing happen; False when nothing is planned."""
        if not self._plans:
            return False
        self.now, _, call, args = heapq.heappop(self._plans)
        self.steps += 1
        call(*args)
        return True


class Link:
    """One direction between two peers: random delays up to `most` seconds, order kept."""

    __slots__ = ("_clock", "_deliver", "_era", "_last", "_most", "_random", "broken")

    def __init__(self, clock: Clock, random: Random, most: float, deliver: Callable[[Any], None]) -> None:
        self._clock = clock
        self._random = random
        self._most = most
        self._deliver = deliver
        self._last = 0.0
        self._era = 0
        self.broken = False

    def send(self, message: Any, delay: float | None = None) -> None:
        if self.broken:
            return
        if delay is None:
            draw = self._random.random()
            delay = self._most * draw * draw
        self._last = max(self._last, self._clock.now + delay)
        self._clock.at(self._last, self._arrive, message, self._era)

    def cut(self) -> None:
        """What is on its way is lost."""
        self._era += 1

    def _arrive(self, message: Any, era: int) -> None:
        if era == self._era and not self.broken:
            self._deliver(message)
