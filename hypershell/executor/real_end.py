"""When a process really ended that nobody has waited for yet. Linux tells; elsewhere nobody does.

A process that waits to be reaped was last on a processor when it ended, and ``/proc/PID/sched`` has that time, by
the clock of the scheduler on that processor. No other record of it is open to a user: wait4(2) has no times of day,
and accounting is root's. Called by ``executor.jobs`` for what ended while the client could not look.

Each processor has a clock of its own. So it is read there by this thread too, and only the difference counts. That
clock may leave out what interrupts and other virtual machines took: a difference is a little too small, never
too large, and a time of the past a little too late.
"""

from __future__ import annotations

import os
import sys
import time

__all__ = ["RealEnds"]

#: What a difference of that clock may miss: this share of it, and seconds.
_SHARE, _LEAST = 0.05, 0.02

#: How often the clock of a processor is compared with ours; the best of them counts, for any may be interrupted.
_TRIES = 5


class RealEnds:
    """Ends of children, by the monotonic clock.

    :param since: when the client last looked; nothing that it has not reaped ended before.
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self._peeked: dict[int, tuple[float, float] | None] = {}
        self._offsets: dict[int, float | None] = {}
        """Seconds from the clock of each processor to the monotonic one."""

    def peek(self) -> None:
        """Note when the next child that can be reaped ended."""
        if sys.platform != "linux":
            return
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except OSError:
            return
        if found is not None and found.si_pid not in self._peeked:
            self._peeked[found.si_pid] = self._find(found.si_pid)

    def of(self, pid: int) -> tuple[float, float]:
        """Between which times `pid` ended, which has just been reaped; they are close where the kernel tells."""
        now = time.monotonic()
        if sys.platform == "linux" and pid not in self._peeked:
            return now, now  # it was not there to be peeked at a moment ago
        found = self._peeked.pop(pid, None)
        if found is None or not self._since - _LEAST <= found[1] <= now + _LEAST:
            return self._since, now  # such a time cannot be
        earliest, latest = (min(max(when, self._since), now) for when in found)
        return earliest, latest

    def _find(self, pid: int) -> tuple[float, float] | None:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                processor = int(file.read().rpartition(b")")[2].split()[36])
        except (OSError, ValueError, IndexError):
            return None
        ran = _last_ran(f"/proc/{pid}/sched")
        if processor not in self._offsets:
            self._offsets[processor] = _offset(processor)
        offset = self._offsets[processor]
        if ran is None or offset is None:
            return None
        ended = ran + offset
        return ended - _LEAST - _SHARE * max(0.0, time.monotonic() - ended), ended


def _offset(processor: int) -> float | None:
    """Seconds from the clock of the scheduler on `processor` to the monotonic one."""
    allowed = os.sched_getaffinity(0)
    best: float | None = None
    try:
        os.sched_setaffinity(0, {processor})
        for _ in range(_TRIES):
            time.sleep(0.0001)  # our own time is that of our last switch: make it a fresh one
            own = _last_ran("/proc/thread-self/sched")
            if own is None:
                return None
            found = time.monotonic() - own
            best = found if best is None else min(best, found)
    except OSError:
        return None  # a processor that this process may not use
    finally:
        os.sched_setaffinity(0, allowed)
    return best


def _last_ran(path: str) -> float | None:
    """When a thread last came to, or left, a processor; seconds of the scheduler's clock."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(b"se.exec_start"):
                    return float(line.rpartition(b":")[2]) / 1000
    except (OSError, ValueError):
        pass
    return None
