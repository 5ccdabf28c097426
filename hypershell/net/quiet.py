"""Log lines about strangers, a few at a time: whoever knocks ten thousand times must not fill the disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Quiet"]


class Quiet:
    """Passes on `most` lines in `span` seconds, and says later how many there were besides."""

    def __init__(
        self,
        logger: logging.Logger,
        most: int = 20,
        span: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._most = most
        self._span = span
        self._clock = clock
        self._begin = float("-inf")
        self._count = 0

    def log(self, level: int, text: str, *args: object) -> None:
        """As ``Logger.log``."""
        now = self._clock()
        if now - self._begin >= self._span:
            self.settle()
            self._begin = now
        self._count += 1
        if self._count <= self._most:
            self._logger.log(level, text, *args)

    def settle(self) -> None:
        """Say what was left out."""
        left_out = self._count - self._most
        self._count = 0
        if left_out > 0:
            self._logger.warning("%d more messages like these were left out", left_out)
