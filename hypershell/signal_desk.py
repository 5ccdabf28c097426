"""Signals to this process, from its first line to its end: kept until somebody listens, never fatal by default.

A launcher signals all its processes alike, also those that still import, wait for others, or have done their part.
One that died of it would take the whole MPI job with it. Knows no meaning of a signal; ``server.signals`` and
``executor.client`` do.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SignalDesk", "listening"]

Listener = Callable[[int], None]

#: BREAK is the Ctrl-Break of Windows, which has no USR1, USR2 and HUP.
_NAMES = ("INT", "TERM", "USR1", "USR2", "HUP", "BREAK")


class SignalDesk:
    """The handlers of one process; the handler table of the process says which desk is open (`of_process`)."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        """Signals that came before anybody listened, in their order."""
        self._listener: Listener | None = None
        self._over = False
        self._old: dict[int, object] = {}

    @staticmethod
    def of_process() -> SignalDesk | None:
        """The desk that is open in this process."""
        owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        return owner if isinstance(owner, SignalDesk) else None

    def open(self) -> None:
        """Take all signals from here on; only in the main thread."""
        for number in _numbers():
            self._old[number] = signal.signal(number, self._take)

    def listen(self, listener: Listener) -> None:
        """Give `listener` every signal, in the handler itself; first those that were kept.

        Takes the handlers back from libraries that have installed their own (an MPI does).
        """
        for number in _numbers():
            signal.signal(number, self._take)
        self._over = False
        while self.kept:
            listener(self.kept.pop(0))
        self._listener = listener

    def ignore(self) -> None:
        """What comes from here on has no meaning any more: the work is done."""
        self._listener = None
        self._over = True

    def close(self) -> None:
        """Put the old handlers back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._old.clear()

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._listener is not None:
            self._listener(number)
        elif not self._over:
            self.kept.append(number)


def _numbers() -> Iterator[int]:
    for name in _NAMES:
        number = getattr(signal, f"SIG{name}", None)
        if number is not None:
            yield number


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """While it lasts `listener` gets the signals; afterwards a desk of the process ignores them.

    Where the process has no desk, there is one for this time, and the handlers of before return.
    """
    desk = SignalDesk.of_process()
    own = desk is None
    if desk is None:
        desk = SignalDesk()
        desk.open()
    desk.listen(listener)
    try:
        yield
    finally:
        desk.ignore()
        if own:
            desk.close()


def ignore_for_good() -> None:
    """Before the interpreter ends, which gives signals their default action back: ignore them in the kernel."""
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)
