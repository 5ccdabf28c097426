"""How many tasks a client gets in one message.

Enough queued work per slot to hide a round trip, one task per free slot near the end or where tasks are long.
How long a round trip takes is learnt: a server that shares its cores with many ranks answers late, and clients
whose queues run dry look for work instead of doing it. Pure arithmetic; the scheduler asks for every message.
"""

from __future__ import annotations

from math import isfinite

__all__ = ["BundleSizer"]

#: The most seconds of work queued per slot, where clients run dry with less.
MOST_LEAD = 2.0

#: What a message that comes late does to the lead, and one that comes in time. It comes to rest where one of ten is
#: late.
_MORE, _LESS = 1.1, 0.99


class BundleSizer:
    """Sizes from the observed mean duration; a fixed bundle size overrides all of it.

    Parameters: `fixed` tasks per message or None; `lead` seconds of work queued per slot at least; `most` tasks in
    one message.
    """

    def __init__(self, fixed: int | None, lead: float = 0.25, most: int = 512) -> None:
        self._fixed = fixed
        self._lead = self._least_lead = lead
        self._most = most
        self._mean: float | None = None

    @property
    def mean(self) -> float | None:
        """Moving mean of task durations in seconds; None before the first result."""
        return self._mean

    def observe(self, total: float, count: int) -> None:
        """`count` executions took `total` seconds together; later ones weigh more.

        A total that is no finite number (a client may send any) is ignored.
        """
        if not isfinite(total):
            return
        sample = max(total, 0.0) / count
        if self._mean is None:
            self._mean = sample
        else:
            weight = count / (count + 64.0)
            self._mean += (sample - self._mean) * weight

    def found(self, slots: int, holding: int) -> None:
        """A client with `slots` is about to get more, and not for the first time; it holds `holding`.

        Its queue is filled up when half is gone. Where two thirds are gone we are late, and perhaps it has run dry.
        """
        if self._mean is None:
            return
        ahead = self._lead * slots / max(self._mean, 1e-6)
        if ahead < 2:
            return  # hardly anything is queued: the slot of a long task is empty when the next one comes
        if 3 * (holding - slots) < min(ahead, self._most):
            self._lead = min(self._lead * _MORE, max(MOST_LEAD, self._least_lead))
        else:
            self._lead = max(self._lead * _LESS, self._least_lead)

    def size(self, slots: int, holding: int, ready: int, all_slots: int) -> int:
        """Tasks to send to a client with `slots` that already holds `holding`.

        `ready` tasks wait for all clients together, which have `all_slots`. Zero: nothing now.
        """
        if slots <= 0:
            return 0
        if self._fixed is not None:
            target = -(-slots // self._fixed) * self._fixed + self._fixed
            return min(self._fixed, ready) if holding + self._fixed <= target else 0
        free = slots - holding
        ahead = self._ahead(slots, ready, all_slots)
        room = free + ahead
        if room <= 0 or (free <= 0 and 2 * room < ahead):
            return 0
        return min(room, ready, max(self._most, free))

    def _ahead(self, slots: int, ready: int, all_slots: int) -> int:
        """Tasks that may wait in the client's queue beside those that run."""
        if self._mean is None:
            return 0
        share = ready * slots // (2 * all_slots) if all_slots else 0
        wanted = int(self._lead * slots / max(self._mean, 1e-6))
        return min(wanted, share, self._most)
