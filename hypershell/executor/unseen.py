"""What ends while the client cannot look: it was stopped (SIGSTOP, Ctrl-Z), or had no processor time.

A `Lookout` tells that there was such a time, `verdict` what it means for a task with a time limit. Pure; used by
``loop`` and ``machine``.
"""

from __future__ import annotations

from hypershell.core.model import TIMED_OUT
from hypershell.executor.vocabulary import Unseen

__all__ = ["LATE", "LOOKS", "Lookout", "timed_out", "verdict"]

#: Seconds that a client may be late for a look before it asks when things really ended.
LATE = 0.1

#: Seconds between two looks of a client whose tasks run, also where nothing is due: else it could not be late.
LOOKS = 1.0


class Lookout:
    """Notes when the client looked at its tasks, and by when it meant to look again."""

    def __init__(self) -> None:
        self._last = self._due = float("inf")

    def look(self, now: float) -> Unseen | None:
        """The client looks at `now`: the time in which it could not, where that was longer than it meant."""
        return Unseen(self._last, now) if now - self._due > LATE else None

    def looked(self, now: float, due: float | None) -> None:
        """It saw all there was to see at `now`; the next look is to be at `due`, if not before."""
        self._last = now
        self._due = float("inf") if due is None else due


def verdict(due: float, unseen: Unseen, epoch: float) -> str | None:
    """The error of a task that ended unseen, with a time limit that was over at `due`; None: it ended in time.

    :param epoch: seconds to add to these times to get seconds since the epoch.
    """
    earliest, latest = unseen.ended or (unseen.since, unseen.until)
    if latest <= due:
        return None
    if earliest > due:
        return timed_out(due, unseen, epoch)
    between = f"its end lies between {_time_of_day(earliest + epoch)} and {_time_of_day(latest + epoch)} UTC"
    return f"{TIMED_OUT} not ruled out: {_away(unseen, epoch)}; {between}"


def timed_out(due: float, unseen: Unseen | None, epoch: float) -> str:
    """The error of a task that was over its time limit at `due`; it says where nobody looked then."""
    if unseen is None or due < unseen.since:
        return TIMED_OUT
    return f"{TIMED_OUT}, noticed late: {_away(unseen, epoch)}"


def _away(unseen: Unseen, epoch: float) -> str:
    since, until = (_time_of_day(when + epoch) for when in (unseen.since, unseen.until))
    return f"its client could not look from {since} to {until} UTC (stopped, or no processor time)"


def _time_of_day(seconds: float) -> str:
    tenths = int(seconds * 10)
    minutes, second = divmod(tenths // 10, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours % 24:02d}:{minute:02d}:{second:02d}.{tenths % 10}"
