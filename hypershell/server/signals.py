"""What a signal means to a server: the one table of ``docs/signals.md``, and how the process hears of it.

``SignalTable`` is pure: signal and time in, meaning out. ``SignalWatch`` installs handlers that only note the
number; the loop asks for them in its turn.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from msgspec import Struct

from hypershell.reactor import Poller
from hypershell.signal_desk import listening

__all__ = ["DRAIN", "DRAIN_FOR", "INTERRUPT", "ROTATE", "STORE_GRACE", "SignalTable", "SignalWatch", "Signals"]

DRAIN = "drain"
DRAIN_FOR = "drain for the drain time"
INTERRUPT = "interrupt"
ROTATE = "rotate"

#: Seconds that the store gets, after a TERM signal's drain time, for what no task keeps from being committed.
STORE_GRACE = 5.0
#: A launcher may send the same signal twice (Slurm sends TERM to the job and then through srun).
SAME_WITHIN = 5.0
#: A terminal and a launcher may both pass on one Ctrl-C.
INT_WITHIN = 0.3


class Signals(Struct, frozen=True):
    """How signals are taken here: their source, the drain time, whether the launcher kills at once on TERM."""

    take: Callable[[], Iterable[str]]
    drain_time: float
    term_kills: bool
    rotate: Callable[[], None]


class SignalTable:
    """USR1 drains, TERM drains for a while, INT drains and twice interrupts, USR2 interrupts, HUP rotates.

    A second, different signal interrupts; the same one again within five seconds counts once.
    """

    def __init__(self) -> None:
        self._first: str | None = None
        self._last: dict[str, float] = {}

    def meaning(self, name: str, now: float) -> str | None:
        """What signal `name` (``INT``, ``TERM``, ...) asks for at time `now`; None: nothing new."""
        if name == "HUP":
            return ROTATE
        again = self._last.get(name)
        self._last[name] = now
        if name == "USR2":
            return INTERRUPT
        if self._first is None:
            self._first = name
            return DRAIN_FOR if name == "TERM" else DRAIN
        if name != self._first:
            return INTERRUPT
        if again is not None and now - again < (INT_WITHIN if name == "INT" else SAME_WITHIN):
            return None
        return INTERRUPT if name == "INT" else None


class SignalWatch:
    """Notes signals for the loop of this process; a byte in a pipe wakes it (signal(7), self-pipe)."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._seen: list[str] = []
        self._listening = ExitStack()
        self._pipe: tuple[int, int] | None = None
        self.also: Callable[[int], None] | None = None
        """Hears of every signal in the handler itself: the executor of this process."""

    def start(self) -> None:
        """Hear signals, also those that came before; only in the main thread."""
        self._watch()
        self._listening.enter_context(listening(self._note))

    def _watch(self) -> None:
        """Have a wake-up pipe, unless the reaper of this process already has one."""
        current = signal.set_wakeup_fd(-1)
        if current != -1:
            signal.set_wakeup_fd(current, warn_on_full_buffer=False)
            return
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        self._pipe = (read, write)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._poller.add(read, self._drain_pipe)

    def _drain_pipe(self) -> None:
        if self._pipe is not None:
            try:
                os.read(self._pipe[0], 4096)
            except BlockingIOError:
                pass

    def _note(self, number: int) -> None:
        self._seen.append(signal.Signals(number).name.removeprefix("SIG"))
        if self.also is not None:
            self.also(number)

    def take(self) -> Iterable[str]:
        """The signals since the last call, in order."""
        if not self._seen:
            return ()
        seen, self._seen = self._seen, []
        return seen

    def stop(self) -> None:
        """Hear no more signals."""
        self._listening.close()
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            self._poller.remove(self._pipe[0])
            os.close(self._pipe[0])
            os.close(self._pipe[1])
            self._pipe = None
