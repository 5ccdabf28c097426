"""A line on the terminal that says how far a long command is; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

__all__ = ["Progress"]

_EVERY = 0.2
_WIDTH = 24


class Progress:
    """Called with the number of tasks that are done, redraws one line on stderr. `total` None: it is not known."""

    def __init__(self, total: int | None = None) -> None:
        self.is_shown = sys.stderr is not None and sys.stderr.isatty()
        self.total = total
        self._next = 0.0
        self._has_drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the line, so that what is said next stands alone."""
        if self._has_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if not self.is_shown or now < self._next:
            return
        self._next = now + _EVERY
        self._has_drawn = True
        sys.stderr.write(f"\r\x1b[K{self._text(done)}")
        sys.stderr.flush()

    def _text(self, done: int) -> str:
        if not self.total:
            return f"{done:,} tasks"
        share = min(done / self.total, 1.0)
        full = int(share * _WIDTH)
        return f"[{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%}  {done:,} of {self.total:,} tasks"
