"""Time-ordered identifiers: UUIDv7 text for tasks, runs and clients (RFC 9562), integers for submissions.

One `IdSource` per process; its ids ascend strictly, so the order of ids is the order of input.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

__all__ = ["IdSource"]


class IdSource:
    """Makes ids from a clock (nanoseconds since the epoch) and a source of random bytes; both can be given.

    Layout: 48 bits of milliseconds, version 7, 12 bits that count, variant, 62 random bits drawn anew whenever
    the millisecond changes and counted up in between.
    """

    def __init__(
        self, clock: Callable[[], int] = time.time_ns, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._clock = clock
        self._random = random_bytes
        self._last = 0
        self._head = ""
        self._tail = 0

    def task(self) -> str:
        """The next UUID as text of 36 characters."""
        milliseconds = self._clock() // 1_000_000
        if milliseconds > self._last:
            self._last = milliseconds
            self._start()
        self._tail += 1
        if self._tail >= 1 << 62:
            self._last += 1
            self._start()
        tail = f"{self._tail | 1 << 63:016x}"
        return f"{self._head}{tail[:4]}-{tail[4:]}"

    def submission(self) -> int:
        """A 63-bit integer: 42 bits of milliseconds, 21 random bits."""
        return (self._clock() // 1_000_000) << 21 | int.from_bytes(self._random(4)) >> 11

    def _start(self) -> None:
        """Begin a new millisecond; the top bit of the counter is left clear as room to count."""
        draw = self._random(10)
        time_hex = f"{self._last:012x}"
        high = int.from_bytes(draw[:2]) & 0xFFF
        self._head = f"{time_hex[:8]}-{time_hex[8:]}-7{high:03x}-"
        self._tail = int.from_bytes(draw[2:]) >> 3
