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
    backoff.far()
    assert waits(backoff, 1, 500.0) == [1.0]


@given(st.lists(st.floats(0, 1e-3), min_size=1, max_size=50))
def test_other_events_do_not_make_it_grow_faster(steps: list[float]) -> None:
    backoff = Backoff(shortest=1e-4, longest=1e-2, share=0.3)
    now = 0.0
    for step in steps:
        assert backoff.wait(now) <= max(1e-4, 0.3 * now) + 1e-12
        now += step
