"""How far a long command is: one line on a terminal, rewritten a few times a second; nothing elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import IO

__all__ = ["Bar"]

#: Seconds until it is shown first, and between two changes.
_FIRST = 0.5
_PERIOD = 0.2
_LENGTH = 30


class Bar:
    """A bar for work of known size. Whoever writes to the terminal takes it away with `erase` before."""

    def __init__(
        self,
        label: str,
        total: int,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._total = max(total, 1)
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._on = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._begun = clock()
        self._due = self._begun + _FIRST
        self._shown = False

    def update(self, done: int, count: int) -> None:
        """`done` of the total is behind us, which made `count` items."""
        if not self._on or (now := self._clock()) < self._due:
            return
        self._due = now + _PERIOD
        width = shutil.get_terminal_size().columns
        self._write(f"\x1b[2K{self.text(done, count, now - self._begun)[: width - 1]}\r")
        self._shown = True

    def text(self, done: int, count: int, elapsed: float) -> str:
        """The line itself after `elapsed` seconds."""
        share = min(done / self._total, 1.0)
        filled = int(share * _LENGTH)
        rate = count / elapsed if elapsed > 0 else 0.0
        return f"{self._label} [{'#' * filled}{' ' * (_LENGTH - filled)}] {share:4.0%}  {count} tasks  {rate:.0f}/s"

    def erase(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            self._write("\x1b[2K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
