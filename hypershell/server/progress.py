"""The line on a terminal that says how far a run is, and everything else that is written there beside it.

The line is always the last one. What comes before it (output of tasks, log lines) takes its place, and the line is
there again before anybody waits: output is held back for a twentieth of a second where more is likely to come, so
that the line is rewritten no more often than an eye can see.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from hypershell.core.scheduler import Scheduler
from hypershell.terminal import width_of
from hypershell.units import format_duration

__all__ = ["Progress"]

_ERASE = "\x1b[2K"
_PRINTABLE = frozenset(range(0x20, 0x7F))


class Progress:
    """One line on a terminal, brought up to date twice a second; silent where stderr is none.

    The cursor stays at its beginning. It stands below output that has no end of line yet; where the cursor can be
    brought back there (plain text) later output goes on behind it.

    :param clock: seconds, those of `turn`.
    """

    PERIOD = 0.5
    GAP = 0.05
    """Seconds from one piece of output to the next while the line is shown."""

    def __init__(self, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self.is_on = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._clock = clock
        self._started: float | None = None
        self._due = 0.0
        self._text = ""
        self._shown = False
        self._column: int | None = 0
        """Where the output of tasks stands in its line; None: not at its beginning, and nobody knows where."""
        self._printed_at = -self.GAP
        self._held = False
        """Whether output waits for the gap to pass."""
        self._lock = threading.RLock()  # the thread of the database logs too

    # -- the line ----------------------------------------------------------------------------------------

    def turn(self, now: float, scheduler: Scheduler, complete: bool) -> None:
        """Show the line when it is due, the first time after a second; and where something took its place."""
        if not self.is_on:
            return
        if self._started is None:
            self._started = now
            self._due = now + 1.0
        is_due = now >= self._due
        if is_due:
            self._due = now + self.PERIOD
            self._text = self.text(now - self._started, scheduler, complete)
        if is_due or (self._text and not self._shown and self._column is not None):
            self._show()

    @staticmethod
    def text(elapsed: float, scheduler: Scheduler, complete: bool) -> str:
        """The line itself; `elapsed` seconds, `complete`: the whole input has been read."""
        counts, left = scheduler.counts, scheduler.unfinished()
        done = counts.succeeded + counts.failed + counts.cancelled
        rate = done / elapsed if elapsed > 0 else 0.0
        total = f"{done + left}" if complete else f"{done + left}+"
        parts = [f"{done}/{total} done", f"{scheduler.inflight()} out", f"{counts.failed} failed", f"{rate:.1f}/s"]
        if counts.cancelled:
            parts.insert(3, f"{counts.cancelled} cancelled")
        if complete and rate > 0:
            parts.append(f"ETA {format_duration(left / rate)}")
        return "  ".join(parts)

    def deadline(self) -> float | None:
        """When a turn is due."""
        if not self.is_on or self._started is None:
            return None
        return min(self._due, self._printed_at + self.GAP) if self._held else self._due

    def close(self) -> None:
        """Take the line away for good; nothing is held back for it any more."""
        with self._lock:
            self.clear()
            self._text = ""
            self.is_on = self._held = False

    # -- beside it ---------------------------------------------------------------------------------------

    def is_shown_on(self, fd: int) -> bool:
        """Whether what is written to `fd` comes to the terminal of the line."""
        try:
            mine, other = os.fstat(self._stream.fileno()), os.fstat(fd)
        except (OSError, ValueError):
            return False
        return self.is_on and os.isatty(fd) and (mine.st_dev, mine.st_rdev) == (other.st_dev, other.st_rdev)

    def holds(self) -> bool:
        """Whether output should wait a moment, since some was written just now."""
        self._held = self._shown and self._clock() < self._printed_at + self.GAP
        return self._held

    def clear(self) -> None:
        """Make room for output: the line goes, the cursor stands where the output before it ended."""
        with self._lock:
            if self._shown:
                self._shown = False
                self._write(_ERASE + (f"\x1b[A\x1b[{self._column}C" if self._column else ""))

    def printed(self, data: bytes) -> None:
        """Output was written after `clear`; the line comes back with the next `turn`."""
        _, newline, rest = data.rpartition(b"\n")
        with self._lock:
            self._printed_at = self._clock()
            column = 0 if newline else self._column
            if rest and column is not None:
                column = _column(column + len(rest), width_of(self._stream))
            self._column = column if _PRINTABLE.issuperset(rest) else None

    def write(self, line: str) -> None:
        """Write a whole line to the terminal, such as one of the log, in front of the progress line."""
        with self._lock:
            below = "\n" if self._column != 0 and not self._shown else ""
            self._column = 0
            again = self._line() if self._shown else ""
            self._write((_ERASE if self._shown else "") + below + line + again)

    def _show(self) -> None:
        with self._lock:
            if not _takes(self._stream):
                return
            below = "\n" if self._column != 0 and not self._shown else ""
            if self._column is None:
                self._column = 0
            self._shown = True
            self._write(below + self._line())

    def _line(self) -> str:
        return f"{_ERASE}{self._text[: width_of(self._stream) - 1]}\r"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _column(place: int, width: int) -> int | None:
    """The column of a place in a line that is wrapped; at the edge it is the terminal's to say which."""
    return place if place < width else place % width or None


def _takes(stream: IO[str]) -> bool:
    """Whether a terminal takes more: one that the user has stopped (Ctrl-S) would stop us."""
    if not hasattr(select, "poll"):
        return True
    probe = select.poll()
    try:
        probe.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):
        return True
    return bool(probe.poll(0))
