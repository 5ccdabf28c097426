"""How long an idle rank sleeps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hypershell.mpi.backoff import Backoff


def waits(backoff: Backoff, count: int, start: float = 100.0) -> list[float]:
    now, found = start, []
    for _ in range(count):
        found.append(backoff.wait(now))
        now += found[-1]
    return found


def test_grows_from_the_shortest_to_the_longest_wait() -> None:
    backoff = Backoff(shortest=1e-3, longest=1.0, share=0.5)
    found = waits(backoff, 60)
    assert found[0] == 1e-3
    assert found == sorted(found)
    assert found[-1] == 1.0
    backoff.near()
    assert waits(backoff, 1, 500.0) == [1e-3]


def test_a_rank_that_expects_nothing_is_left_to_its_tasks() -> None:
    backoff = Backoff(shortest=1e-3, longest=1.0, share=0.5, calm=7.0)
    backoff.expect(False)
    assert waits(backoff, 2) == [7.0, 7.0]
    backoff.near()  # traffic: a result has left, an acknowledgement has come
    assert waits(backoff, 2) == [7.0, 7.0]
    backoff.expect(True)
    assert waits(backoff, 1) == [1e-3]


def test_a_message_that_is_on_its_way_gets_on_whatever_is_expected() -> None:
    backoff = Backoff(shortest=1e-3, longest=1.0, share=0.5, calm=7.0)
    backoff.expect(False)
    backoff.near()
    assert backoff.wait(100.0, moving=True) == 1e-3
    assert backoff.wait(101.0, moving=True) == 0.5
    assert backoff.wait(101.0) == 7.0


def test_a_rank_that_wakes_late_looks_seldom() -> None:
    backoff = Backoff(shortest=1e-3, longest=7e-3, share=0.5, calm=50e-3)
    now = 0.0
    for _ in range(100):
        now += backoff.wait(now) + 0.02
    assert backoff.wait(now) == 50e-3
    for _ in range(100):
        now += backoff.wait(now) + 1e-4
    assert backoff.wait(now) == 7e-3


def test_a_rank_that_is_woken_early_is_not_late() -> None:
    backoff = Backoff(shortest=1e-3, longest=7e-3, share=0.5, calm=50e-3)
    now = 0.0
    for _ in range(100):
        now += backoff.wait(now) / 2
    assert backoff.wait(now) == 7e-3


@given(st.lists(st.floats(0, 1e-3), min_size=1, max_size=50))
def test_other_events_do_not_make_it_grow_faster(steps: list[float]) -> None:
    backoff = Backoff(shortest=1e-4, longest=1e-2, share=0.3)
    now = 0.0
    for step in steps:
        assert backoff.wait(now) <= max(1e-4, 0.3 * now) + 1e-12
        now += step
