"""The end of the allocation: which tasks may still begin before it, and when nothing more is given out.

Pure. A task with a time limit is given out only if it can reach its limit, be stopped and recorded before the end.
One without begins while the time left exceeds the drain time and what nine of ten tasks took. Then the run drains.
"""

from __future__ import annotations

from math import frexp, inf, isfinite, ldexp

__all__ = ["Durations", "Walltime", "format_seconds"]

#: Buckets of a doubling: a quantile is too large by an eighth at most.
_STEPS = 8
#: The smallest and the largest power of two that have buckets of their own: about 1 ms, and 34 years.
_LEAST, _MOST = -9, 30


#: Seconds that are kept for committing, also where there is no drain time.
RESERVE = 5.0

#: Seconds for committing when the last task has been killed, of an allocation that is about to end.
COMMIT = 2.0


class Durations:
    """A quantile of many durations in seconds, in bounded memory: counts in buckets that grow with the duration.

    It is never too small, and too large by an eighth at most (below a millisecond: by that).
    """

    __slots__ = ("_buckets", "_due", "_value", "count", "share")

    def __init__(self, share: float = 0.9) -> None:
        self.share = share
        self.count = 0
        self._buckets = [0] * ((_MOST - _LEAST) * _STEPS + 2)
        self._value = 0.0
        self._due = 1

    def add(self, seconds: float) -> None:
        """One more duration; what is no finite number (a client may send any) is ignored."""
        if not isfinite(seconds):
            return
        self._buckets[_place(seconds)] += 1
        self.count += 1
        if self.count >= self._due:  # looked up again after every sixteenth more: the walk costs what 30 adds do
            self._due = self.count + 1 + self.count // 16
            self._value = self._walk()

    @property
    def value(self) -> float:
        """The quantile; 0 before the first duration."""
        return self._value

    def _walk(self) -> float:
        left = self.share * self.count
        for place, count in enumerate(self._buckets):
            left -= count
            if left <= 1e-9:
                return _upper(place)
        return _upper(len(self._buckets) - 1)


def _place(seconds: float) -> int:
    """The bucket of a duration."""
    fraction, power = frexp(seconds)
    if power <= _LEAST or seconds <= 0:
        return 0
    if power > _MOST:
        return (_MOST - _LEAST) * _STEPS + 1
    return (power - 1 - _LEAST) * _STEPS + int((fraction - 0.5) * 2 * _STEPS) + 1


def _upper(place: int) -> float:
    """What no duration of this bucket exceeds."""
    if place == 0:
        return ldexp(0.5, _LEAST + 1)
    power, step = divmod(place - 1, _STEPS)
    return ldexp(0.5 + (step + 1) / (2 * _STEPS), power + _LEAST + 1)


class Walltime:
    """What the end of the allocation means for each task.

    :param end: of the allocation, monotonic seconds.
    :param now: when it became known; at most half of the time that is left then is drain time, so that a short
        allocation runs something.
    :param drain: seconds that running tasks get to end in (``--drain-time``).
    :param stopping: seconds that it takes to stop a task and to commit; at most half of the drain time.
    :param limit: the time limit of every task, None where there is none.
    """

    __slots__ = ("closed", "drain", "durations", "end", "left", "limit", "stopping")

    def __init__(
        self, end: float, now: float, drain: float, stopping: float, limit: float | None, durations: Durations
    ) -> None:
        self.end = end
        self.left = end - now
        self.drain = max(0.0, min(max(drain, RESERVE), self.left / 2))
        self.stopping = min(stopping, self.drain / 2)
        self.limit = limit
        self.durations = durations
        self.closed = False
        """Tasks without a time limit begin no more; this stays so, also when later ones are shorter."""

    def pass_to(self, now: float) -> bool:
        """It is `now`. Whether just now the time came at which tasks without a limit begin no more."""
        self.left = self.end - now
        if self.closed or self.left > self.drain + self.durations.value:
            return False
        self.closed = True
        return True

    def is_late(self, limit: float | None, before: int = 0) -> bool:
        """Whether a task with this time `limit`, and so many tasks `before` it in its slot cannot begin now."""
        own = min(limit or inf, self.limit or inf)
        if own == inf:
            return self.closed
        return self.left < own + self.stopping + before * min(own, self.durations.value)

    def close_at(self) -> float | None:
        """When the time comes, as far as is known now; None when it has."""
        return None if self.closed else self.end - self.drain - self.durations.value

    def stop_at(self) -> float:
        """When what still runs is stopped."""
        return self.end - self.stopping

    def grace(self, now: float) -> float:
        """The most seconds from INT to TERM, and from TERM to KILL, that leave time to commit before the end."""
        left = max(0.0, self.end - now)
        return (left - min(COMMIT, left / 2)) / 2


def format_seconds(seconds: float) -> str:
    """Seconds as ``H:MM:SS``, 0 where they are over."""
    minutes, second = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
