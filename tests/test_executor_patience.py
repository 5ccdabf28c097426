"""For how long the pipes of a running task are left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hypershell.executor.patience import LONGEST, SHORTEST, Patience


def after(*lasted: float) -> Patience:
    patience = Patience()
    for seconds in lasted:
        patience.ended(seconds)
    return patience


def test_twice_what_tasks_take_here() -> None:
    assert Patience().seconds == SHORTEST
    assert 0.039 < after(*[0.02] * 100).seconds <= 0.04


def test_tasks_that_take_long_are_watched_early() -> None:
    assert after(*[10.0] * 100).seconds == SHORTEST


def test_one_long_task_among_short_ones_changes_little() -> None:
    assert after(*[0.02] * 100, 3600.0).seconds < 0.1


def test_tasks_that_fill_their_pipes_are_watched_early_for_a_while() -> None:
    patience = after(*[0.02] * 100)
    patience.filled()
    assert patience.seconds == SHORTEST
    for _ in range(100):
        patience.ended(0.02)
        assert patience.seconds == SHORTEST
    patience.ended(0.02)
    assert patience.seconds > SHORTEST


@given(st.lists(st.floats(-1e6, 1e9), max_size=60))
def test_it_keeps_within_its_limits(lasted: list[float]) -> None:
    assert SHORTEST <= after(*lasted).seconds <= LONGEST
