"""The table of signals, and that a real signal reaches the loop."""

from __future__ import annotations

import os
import signal

from hypershell.reactor import Poller
from hypershell.server.signals import DRAIN, DRAIN_FOR, INTERRUPT, ROTATE, SignalTable, SignalWatch


def said(*signals: tuple[str, float]) -> list[str | None]:
    table = SignalTable()
    return [table.meaning(name, now) for name, now in signals]


def test_single_signals() -> None:
    assert said(("USR1", 0)) == [DRAIN]
    assert said(("TERM", 0)) == [DRAIN_FOR]
    assert said(("INT", 0)) == [DRAIN]
    assert said(("USR2", 0)) == [INTERRUPT]
    assert said(("HUP", 0), ("HUP", 1)) == [ROTATE, ROTATE]


def test_the_same_signal_within_five_seconds_counts_once() -> None:
    assert said(("TERM", 0), ("TERM", 1.0), ("TERM", 4.0)) == [DRAIN_FOR, None, None]
    assert said(("USR1", 0), ("USR1", 60)) == [DRAIN, None]


def test_a_second_different_signal_interrupts() -> None:
    assert said(("USR1", 0), ("TERM", 1)) == [DRAIN, INTERRUPT]
    assert said(("TERM", 0), ("INT", 0.1)) == [DRAIN_FOR, INTERRUPT]


def test_int_twice_interrupts_but_one_key_press_is_one() -> None:
    assert said(("INT", 0), ("INT", 1)) == [DRAIN, INTERRUPT]
    assert said(("INT", 0), ("INT", 0.05), ("INT", 2)) == [DRAIN, None, INTERRUPT]


def test_hup_is_no_first_signal() -> None:
    assert said(("HUP", 0), ("USR1", 1)) == [ROTATE, DRAIN]


def test_a_real_signal_wakes_the_loop_and_the_old_handlers_return() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    poller = Poller()
    watch = SignalWatch(poller)
    watch.start()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        poller.wait(10)
        assert list(watch.take()) == ["USR1"]
        assert list(watch.take()) == []
    finally:
        watch.stop()
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.set_wakeup_fd(-1) == -1
