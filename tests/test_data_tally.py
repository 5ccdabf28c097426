"""Which lines are new: multisets of commands, and among equal commands of all that their lines say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hypershell.core.model import Task
from hypershell.data.tally import Difference, Tally


def task(args: str, **more: Any) -> Task:
    return Task("", args, 0, **more)


def compare(have: list[Task], want: list[Task]) -> tuple[Difference, list[Task]]:
    """What differs, and which lines are taken."""
    with Tally() as tally:
        tally.have(have)
        tally.want(want)
        return tally.settle(), [line for line in want if tally.take(line)]


def test_a_line_is_new_as_often_as_it_has_no_task() -> None:
    have = [task("a"), task("b"), task("b"), task("gone")]
    want = [task("b"), task("new"), task("b"), task("b"), task("a"), task("new")]
    difference, taken = compare(have, want)
    assert difference == Difference(new=3, gone=1, reworded=0)
    assert sorted(line.args for line in taken) == ["b", "new", "new"]


def test_among_equal_commands_the_one_with_new_tags_is_new() -> None:
    have = [task("run", tag={"n": 1}), task("run", tag={"n": 2})]
    want = [task("run", tag={"n": number}) for number in (3, 1, 2)]
    difference, taken = compare(have, want)
    assert difference == Difference(1, 0, 0)
    assert taken == [task("run", tag={"n": 3})]


def test_other_tags_or_resources_alone_make_no_new_line() -> None:
    have = [task("a", memory=1), task("b", tag={"x": "1"}), task("c")]
    want = [task("a", memory=2), task("b", tag={"x": 1}), task("c", group=3), task("c")]
    difference, taken = compare(have, want)
    assert difference == Difference(1, 0, 2)
    assert taken == [task("c", group=3)]


def test_the_order_of_tags_does_not_matter() -> None:
    assert compare([task("a", tag={"x": 1, "y": 2})], [task("a", tag={"y": 2, "x": 1})])[0] == Difference(0, 0, 0)


def test_bytes_that_are_no_text_are_compared_as_bytes() -> None:
    difference, taken = compare([task("\\xff", raw=b"\xff")], [task("\\xff"), task("\\xff", raw=b"\xff")])
    assert difference.new == 1 and taken == [task("\\xff")]


lines = st.lists(st.builds(task, st.sampled_from("abc"), group=st.integers(0, 2)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(lines, lines)
def test_it_is_the_difference_of_two_multisets(have: list[Task], want: list[Task]) -> None:
    difference, taken = compare(have, want)
    old, new = Counter(line.args for line in have), Counter(line.args for line in want)
    assert Counter(line.args for line in taken) == new - old
    assert difference.new == len(taken) and difference.gone == (old - new).total()
    exact = Counter((line.args, line.group) for line in have)
    missing = Counter((line.args, line.group) for line in want) - exact
    assert not Counter((line.args, line.group) for line in taken) - missing
    # Done once more, with the new ones there, nothing is new.
    assert compare([*have, *taken], want)[1] == []
