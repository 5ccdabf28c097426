"""How far a long command is: one line on a terminal, rewritten a few times a second; nothing elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import IO

from hypershell.terminal import width_of

__all__ = ["Bar"]

#: Seconds until it is shown first, and between two changes.
_FIRST = 0.5
_PERIOD = 0.2
_LENGTH = 30


class Bar:
    """How far a work is. `total` is its size, None: it is not known.

    Whoever writes to the terminal takes it away with `erase` before; as a context it does so at its end.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self.total = total
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self.is_on = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._begun = clock()
        self._due = self._begun + _FIRST
        self._shown = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.erase()

    def __call__(self, done: int) -> None:
        """`done` tasks are behind us."""
        self.update(done, done)

    def update(self, done: int, count: int) -> None:
        """`done` of the total is behind us, which made `count` tasks."""
        if not self.is_on or (now := self._clock()) < self._due:
            return
        self._due = now + _PERIOD
        width = width_of(self._stream)
        self._write(f"\x1b[2K{self.text(done, count, now - self._begun)[: width - 1]}\r")
        self._shown = True

    def text(self, done: int, count: int, elapsed: float) -> str:
        """The line itself after `elapsed` seconds."""
        rate = count / elapsed if elapsed > 0 else 0.0
        counted = f"{count} tasks  {rate:.0f}/s"
        if self.total is None:
            return f"{self._label}  {counted}"
        share = min(done / max(self.total, 1), 1.0)
        filled = int(share * _LENGTH)
        return f"{self._label} [{'#' * filled}{' ' * (_LENGTH - filled)}] {share:4.0%}  {counted}"

    def erase(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            self._write("\x1b[2K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
