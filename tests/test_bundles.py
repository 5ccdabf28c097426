"""How many tasks go into a message: the arithmetic, its limits as properties, and stories of the scheduler."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.core.bundles import BundleSizer
from hypershell.core.checks import credit
from tests.sim.trace import Run

counts = st.integers(0, 100_000)
slots_of_a_client = st.integers(1, 512)
sizes = st.none() | st.integers(1, 1000)
means = st.none() | st.floats()


def sizer(fixed: int | None = None, mean: float | None = None) -> BundleSizer:
    made = BundleSizer(fixed)
    if mean is not None:
        made.observe(mean, 1)
    return made


def test_before_the_first_result_only_free_slots_are_filled() -> None:
    assert sizer().size(4, 1, 100, 4) == 3
    assert sizer().size(4, 4, 100, 4) == 0


def test_short_tasks_are_sent_ahead() -> None:
    assert sizer(mean=0.01).size(1, 0, 10_000, 1) == 1 + 25
    assert sizer(mean=0.000001).size(1, 0, 10_000, 1) == 512


def test_long_tasks_are_not_sent_ahead() -> None:
    assert sizer(mean=10.0).size(2, 0, 10_000, 2) == 2


def test_a_share_is_left_for_the_others() -> None:
    """Near the end nobody gets more than half of what would be just."""
    assert sizer(mean=0.001).size(1, 0, 100, 10) == 1 + 5
    assert sizer(mean=0.001).size(1, 0, 9, 10) == 1


def test_a_queue_is_filled_up_when_half_of_it_is_gone() -> None:
    made = sizer(mean=0.01)
    assert made.size(1, 14, 10_000, 1) == 0
    assert made.size(1, 13, 10_000, 1) == 13


def test_clients_that_run_dry_get_more_ahead() -> None:
    """A server that answers late: two seconds of work at most, and a quarter of one when it is quick again."""
    made = sizer(mean=0.01)
    for _ in range(200):
        made.found(1, 0)
    assert made.size(1, 0, 100_000, 1) == 1 + 200
    for _ in range(2000):
        made.found(1, 100)
    assert made.size(1, 0, 100_000, 1) == 1 + 25


def test_the_slot_of_a_long_task_is_empty_when_the_next_one_comes() -> None:
    made = sizer(mean=1.0)
    for _ in range(200):
        made.found(1, 0)
    made.observe(10_000.0, 1_000_000)
    assert made.size(1, 0, 100_000, 1) == 1 + 24  # as ever


def test_a_fixed_size_is_the_size_of_each_message() -> None:
    made = sizer(fixed=10)
    assert made.size(4, 0, 100, 4) == 10
    assert made.size(4, 10, 100, 4) == 10
    assert made.size(4, 11, 100, 4) == 0
    assert made.size(4, 0, 3, 4) == 3


def test_one_task_per_message_still_hides_the_way_there() -> None:
    made = sizer(fixed=1)
    assert [made.size(2, holding, 9, 2) for holding in range(4)] == [1, 1, 1, 0]


def test_the_mean_moves_with_what_is_seen() -> None:
    made = sizer(mean=1.0)
    assert made.mean == 1.0
    made.observe(0.0, 64)
    assert made.mean == pytest.approx(0.5)


@pytest.mark.parametrize("total", [float("nan"), float("inf"), float("-inf")])
def test_a_total_that_is_no_number_is_ignored(total: float) -> None:
    made = sizer(mean=2.0)
    made.observe(total, 3)
    assert made.mean == 2.0


@given(sizes, means, slots_of_a_client, counts, counts, counts)
def test_never_more_than_there_is_or_than_may_be_held(
    fixed: int | None, mean: float | None, slots: int, holding: int, ready: int, others: int
) -> None:
    size = sizer(fixed, mean).size(slots, holding, ready, slots + others)
    assert 0 <= size <= ready
    assert size == 0 or holding + size <= credit(slots, fixed)


@given(sizes, means, slots_of_a_client, st.integers(1, 100_000), counts)
def test_an_empty_client_always_gets_something(
    fixed: int | None, mean: float | None, slots: int, ready: int, others: int
) -> None:
    assert sizer(fixed, mean).size(slots, 0, ready, slots + others) >= 1


# -- stories -------------------------------------------------------------------------------------------------


def test_a_fixed_bundle_is_kept() -> None:
    run = Run(bundlesize=3)
    run.join(1)
    names = [f"t{n}" for n in range(8)]
    assert run.submit(" ".join(names))[2:] == ["send 1: t0.1 t1.1 t2.1", "send 1: t3.1 t4.1 t5.1"]
    assert run.end(1, "t0 t1")[1:] == []
    assert run.end(1, "t2")[-1] == "send 1: t6.1 t7.1"


def test_short_tasks_come_in_bundles_that_end_as_single_ones() -> None:
    run = Run()
    run.join(1)
    assert run.submit(" ".join(f"t{n}" for n in range(40)))[-1] == "send 1: t0.1"
    sizes = []
    name = "t0"
    while run.scheduler.unfinished() > 1:
        lines = run.end(1, name, seconds=0.001)
        sizes += [len(line.split()) - 2 for line in lines if line.startswith("send")]
        name = " ".join(key for key in run.scheduler._clients.all()[0].holding)
    assert sizes[0] > 10
    assert sizes[-1] == 1
    assert sum(sizes) == 39
