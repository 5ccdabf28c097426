"""The count of deaths of a task's client: how it is written and read, when it grows, and in which lane it waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell import values
from hypershell.core.needs import POSIX
from hypershell.core.poison import (
    DEFAULT,
    LEAST,
    TRIAL,
    deaths_in,
    lane_for,
    limit_in,
    limit_option,
    need_behind,
    raised,
    suspect_lane,
    words,
)
from hypershell.options import find_option
from tests.sim.trace import task


@given(st.integers(1, 999_999))
def test_what_is_written_is_read(deaths: int) -> None:
    assert deaths_in(words(deaths)) == deaths
    assert words(0) is None and deaths_in(None) == 0


@given(st.one_of(st.text(), st.text().map("deaths of its client: ".__add__)))
def test_no_other_text_is_a_count(text: str) -> None:
    assert words(deaths_in(text)) in (text, None) or text.removeprefix("deaths of its client: ").startswith("0")


@given(st.lists(st.booleans(), max_size=20))
def test_the_last_death_counts_only_where_the_task_was_alone(alone: list[bool]) -> None:
    deaths = 0
    for one in alone:
        before, deaths = deaths, raised(deaths, one)
        assert deaths - before == (one or before < TRIAL)
    assert deaths >= min(len(alone), TRIAL)
    assert deaths < LEAST or any(alone)


@pytest.mark.parametrize("trial", [False, True])
@pytest.mark.parametrize("need", [None, ("windows", None), ("any", "gpu"), ("posix", "suspect x")])
def test_a_lane_of_suspects_tells_what_they_need(need: tuple[str, str | None] | None, trial: bool) -> None:
    lane = suspect_lane(need, trial)
    assert need_behind(lane) == (need, True)
    assert need_behind(need) == (need, False)
    assert lane != suspect_lane(need, not trial)


def test_a_task_waits_in_the_lane_of_its_deaths() -> None:
    tag = {"os": "windows"}
    lanes = [lane_for(task("a", tag=tag, deaths=deaths), POSIX) for deaths in (0, 1, 2, 3)]
    need = ("windows", None)
    assert lanes == [need, suspect_lane(need, False), suspect_lane(need, True), suspect_lane(need, True)]


def test_the_limit_is_kept_with_the_submission() -> None:
    assert limit_in('{"capture":false,"poison":5}') == 5
    assert limit_in("{}") is None
    assert (limit_option(None), limit_option(0)) == ({}, {"poison": 0})


def test_a_limit_that_proves_nothing_is_refused() -> None:
    assert [values.deaths(number) for number in (0, LEAST, 10)] == [0, LEAST, 10]
    for number in range(1, LEAST):
        with pytest.raises(ValueError, match="must be 0 or at least 3"):
            values.deaths(number)
    assert find_option("poison").default_text == str(DEFAULT)
