"""Times of the database: seconds since the epoch to fixed-width UTC text and back.

Knows nothing of SQL; used by the writer for millions of values, hence the cache per second.
"""

from __future__ import annotations

import calendar
import time
from datetime import datetime

__all__ = ["Stamper", "seconds_of"]

#: 10000-01-01: the first time that has no fixed-width text.
_END = 253_402_300_800


class Stamper:
    """Formats seconds since the epoch as ``YYYY-MM-DD HH:MM:SS.ffffff`` (UTC); `zone` appends ``+00:00``."""

    __slots__ = ("_heads", "_tail")

    def __init__(self, zone: bool = False) -> None:
        self._heads: dict[int, str] = {}
        self._tail = "+00:00" if zone else ""

    def text(self, seconds: float) -> str | None:
        """The text of a time, rounded to microseconds; None for what is no time of the years 1970 to 9999."""
        if not 0 <= seconds < _END - 1:
            return None
        whole, fraction = divmod(round(seconds * 1_000_000), 1_000_000)
        head = self._heads.get(whole)
        if head is None:
            if len(self._heads) > 4096:
                self._heads.clear()
            head = self._heads[whole] = time.strftime("%Y-%m-%d %H:%M:%S.", time.gmtime(whole))
        return f"{head}{fraction:06d}{self._tail}"


def seconds_of(text: str) -> float:
    """The time that `Stamper` wrote, or a prefix of such a text; ValueError for anything else."""
    head = text[:19]
    if len(head) < 19 or head[10] != " ":
        raise ValueError(f"no time: {text!r}")
    # Not by time.strptime, which opens a module at its first call: the writer opens nothing late.
    whole = calendar.timegm(datetime.fromisoformat(head).timetuple())
    return whole + int(text[20:26] or 0) / 1_000_000
