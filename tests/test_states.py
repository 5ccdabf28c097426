"""The life of a task as a table, and the picture that is printed from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hypershell.core import states
from hypershell.core.model import Special


def test_every_state_can_be_reached_from_pending() -> None:
    reached = {states.PENDING}
    for _ in states.TRANSITIONS:
        reached |= {new for (old, _), new in states.TRANSITIONS.items() if old in reached}
    assert reached == {states.PENDING, states.DISPATCHED, states.GONE} | states.FINAL


def test_only_the_user_takes_a_task_out_of_a_final_state() -> None:
    assert {event for old, event in states.TRANSITIONS if old in states.FINAL} == {"revert", "delete"}
    assert set(states.from_which("revert")) == states.FINAL
    assert set(states.from_which("delete")) == states.FINAL | {states.PENDING}
    assert set(states.from_which("cancel")) == {states.PENDING, states.DISPATCHED}


@pytest.mark.parametrize(
    ("state", "event", "after"),
    [
        (states.PENDING, "dispatch", states.DISPATCHED),
        (states.DISPATCHED, "success", states.SUCCEEDED),
        (states.DISPATCHED, "failure", states.FAILED),
        (states.DISPATCHED, "client lost", states.PENDING),
        (states.DISPATCHED, "cancel", states.CANCELLED),
        (states.PENDING, "success", None),
        (states.SUCCEEDED, "client lost", None),
        ("no state", "dispatch", None),
    ],
)
def test_moves(state: str, event: str, after: str | None) -> None:
    assert states.move(state, event) == after


def test_the_diagram_shows_every_move() -> None:
    command = [sys.executable, "-m", "hypershell.core.states"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == states.diagram() + "\n"
    for (old, event), new in states.TRANSITIONS.items():
        assert f"    {old} --> {new}: {event}\n" in printed
    assert [f"    {state} --> [*]" in printed for state in sorted(states.FINAL)] == [True] * 3


def test_special_statuses_are_no_signals_and_all_different() -> None:
    values = [Special.CANCELLED, Special.TEMPLATE_FAILED, Special.IMPOSSIBLE, Special.NOT_STARTED]
    assert len(set(values)) == len(values)
    assert all(value < -64 for value in values)
