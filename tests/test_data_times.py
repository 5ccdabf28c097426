"""Times of the database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.data.times import Stamper, seconds_of

_STAMP = Stamper().text


@given(st.integers(0, 253_402_300_798_000_000))
def test_every_time_is_that_of_the_calendar(micros: int) -> None:
    text = _STAMP(micros / 1_000_000)
    assert text is not None
    assert len(text) == 26
    told = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    assert told == pytest.approx(micros / 1_000_000, abs=1e-4)
    assert seconds_of(text) == pytest.approx(told, abs=1e-6)


@given(st.lists(st.integers(0, 4_000_000_000_000_000), min_size=2))
def test_the_order_of_texts_is_that_of_times(micros: list[int]) -> None:
    texts = [_STAMP(one / 1_000_000) for one in sorted(micros)]
    assert texts == sorted(text for text in texts if text is not None)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -float("inf"), -1.0, 1e18])
def test_what_is_no_time_is_nothing(seconds: float) -> None:
    assert _STAMP(seconds) is None


def test_an_offset_is_added_where_the_database_wants_one() -> None:
    assert Stamper(zone=True).text(0.5) == "1970-01-01 00:00:00.500000+00:00"
