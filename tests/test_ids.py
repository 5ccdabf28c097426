"""Ids: their layout, that they ascend whatever the clock does, and that two sources do not meet."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from hypershell.ids import IdSource


class Clock:
    """Milliseconds that a test sets."""

    def __init__(self, milliseconds: int = 1_700_000_000_000) -> None:
        self.milliseconds = milliseconds

    def __call__(self) -> int:
        return self.milliseconds * 1_000_000


def test_layout_is_that_of_version_7() -> None:
    made = uuid.UUID(IdSource(Clock(1_700_000_000_123)).task())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == 1_700_000_000_123


def test_text_is_the_usual_one() -> None:
    text = IdSource().task()
    assert text == str(uuid.UUID(text))


@given(st.lists(st.integers(-5000, 5000), min_size=1, max_size=60), st.binary(min_size=10, max_size=10))
def test_ids_ascend_even_when_the_clock_goes_back(steps: list[int], noise: bytes) -> None:
    clock = Clock()
    source = IdSource(clock, lambda count: noise[:count])
    made = []
    for step in steps:
        clock.milliseconds += step
        made += [source.task(), source.task()]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {uuid.UUID(text).version for text in made} == {7}


def test_a_counter_that_is_full_goes_on_in_the_next_millisecond() -> None:
    source = IdSource(Clock(5), lambda count: b"\xff" * count)
    source.task()
    source._tail = (1 << 62) - 2
    last, after = source.task(), source.task()
    assert last.startswith("00000000-0005-7") and last[19] == "b"
    assert after.startswith("00000000-0006-7")
    assert last < after


def test_two_sources_in_one_millisecond_do_not_meet() -> None:
    clock = Clock()
    one, other = IdSource(clock), IdSource(clock)
    assert not {one.task() for _ in range(1000)} & {other.task() for _ in range(1000)}


def test_submissions_are_63_bits_and_ordered_by_time() -> None:
    clock = Clock()
    source = IdSource(clock)
    first = source.submission()
    clock.milliseconds += 1
    second = source.submission()
    assert 0 < first < second < 1 << 63
    assert first >> 21 == 1_700_000_000_000
