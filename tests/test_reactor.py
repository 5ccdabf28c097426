"""The loop: descriptors wake it, deadlines wake it, and busy parts keep it turning."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator

import pytest

from hypershell.reactor import FEW_LOOKS, Poller, run


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


class Counting:
    """A part that turns so many times; `busy` while more is to be done, else due after `pause` seconds."""

    def __init__(self, turns: int, busy: bool = True, pause: float | None = None) -> None:
        self.finished = False
        self.times: list[float] = []
        self._turns, self._busy, self._pause = turns, busy, pause

    def turn(self, now: float) -> bool:
        self.times.append(now)
        self.finished = len(self.times) >= self._turns
        return self._busy and not self.finished

    def deadline(self, now: float) -> float | None:
        return None if self._pause is None else now + self._pause


class Waiting:
    """A part that is finished by a callback."""

    def __init__(self) -> None:
        self.finished = False
        self.turns = 0

    def turn(self, now: float) -> bool:
        self.turns += 1
        return False

    def deadline(self, now: float) -> float | None:
        return None


def test_a_readable_descriptor_calls_back_until_it_is_read(poller: Poller, pipe: tuple[int, int]) -> None:
    seen: list[bytes] = []
    poller.add(pipe[0], lambda: seen.append(os.read(pipe[0], 2)))
    poller.wait(0)
    assert seen == []
    os.write(pipe[1], b"abcd")
    poller.wait(None)
    poller.wait(None)
    poller.wait(0)
    assert seen == [b"ab", b"cd"]


def test_a_hang_up_calls_back(poller: Poller, pipe: tuple[int, int]) -> None:
    seen: list[bytes] = []
    poller.add(pipe[0], lambda: seen.append(os.read(pipe[0], 9)))
    os.close(pipe[1])
    poller.wait(None)
    assert seen == [b""]


def test_room_to_write_calls_back(poller: Poller, pipe: tuple[int, int]) -> None:
    seen: list[int] = []
    poller.add(pipe[1], lambda: seen.append(1), write=True)
    poller.wait(None)
    assert seen == [1]


def test_what_was_removed_is_silent(poller: Poller, pipe: tuple[int, int]) -> None:
    seen: list[int] = []
    poller.add(pipe[0], lambda: seen.append(1))
    os.write(pipe[1], b"x")
    poller.remove(pipe[0])
    poller.remove(pipe[0])
    poller.wait(0)
    assert seen == []


def test_one_callback_may_remove_another_that_is_ready_too(poller: Poller) -> None:
    pairs = [os.pipe(), os.pipe()]
    seen: list[int] = []

    def callback(own: int, other: int) -> Callable[[], None]:
        def call() -> None:
            seen.append(own)
            poller.remove(other)

        return call

    (one, one_end), (two, two_end) = pairs
    poller.add(one, callback(one, two))
    poller.add(two, callback(two, one))
    os.write(one_end, b"x")
    os.write(two_end, b"x")
    poller.wait(None)
    assert len(seen) == 1
    for fd in (one, one_end, two, two_end):
        os.close(fd)


def test_a_wait_ends_at_its_timeout(poller: Poller, pipe: tuple[int, int]) -> None:
    poller.add(pipe[0], lambda: None)
    begun = time.monotonic()
    poller.wait(0.02)
    assert time.monotonic() - begun >= 0.019


@pytest.mark.parametrize("days", [25, 1e30, float("inf")])
def test_a_deadline_may_lie_beyond_what_the_system_can_wait(
    poller: Poller, pipe: tuple[int, int], days: float
) -> None:
    """``hs cluster -d 30d`` ended with OverflowError."""
    seen: list[bytes] = []
    poller.add(pipe[0], lambda: seen.append(os.read(pipe[0], 8)))
    os.write(pipe[1], b"x")
    poller.wait(days * 86_400)
    assert seen == [b"x"]


def test_busy_parts_turn_without_waiting_until_all_are_finished(poller: Poller) -> None:
    short, long = Counting(2), Counting(5)
    run(poller, [short, long])
    assert len(long.times) == 5
    assert len(short.times) == 5


def test_deadlines_wake_the_loop_and_the_nearest_counts(poller: Poller) -> None:
    waits: list[float | None] = []
    clock = iter(x / 2 for x in range(1000))
    poller.wait = waits.append  # type: ignore[method-assign]
    run(poller, [Counting(3, busy=False, pause=10.0), Counting(1, busy=False, pause=3.0)], lambda: next(clock))
    assert waits == [2.5, 2.5]


def test_without_deadlines_only_a_descriptor_wakes_it(poller: Poller, pipe: tuple[int, int]) -> None:
    part = Waiting()

    def call() -> None:
        os.read(pipe[0], 1)
        part.finished = True

    poller.add(pipe[0], call)
    os.write(pipe[1], b"x")
    run(poller, [part])
    assert part.turns == 2


def test_busy_parts_do_not_starve_descriptors(poller: Poller, pipe: tuple[int, int]) -> None:
    seen: list[int] = []
    poller.add(pipe[0], lambda: seen.append(len(os.read(pipe[0], 1))))
    os.write(pipe[1], b"xyz")
    run(poller, [Counting(10)])
    assert seen == [1, 1, 1]


def test_looks_for_garbage_are_fewer_while_it_runs(poller: Poller) -> None:
    class Looking(Counting):
        def turn(self, now: float) -> bool:
            seen.append((gc.get_threshold()[0], gc.get_freeze_count() > 0))
            return super().turn(now)

    seen: list[tuple[int, bool]] = []
    before = gc.get_threshold()
    run(poller, [Looking(1)])
    assert seen == [(max(before[0], FEW_LOOKS), True)]
    assert gc.get_threshold() == before
