"""Visitors that hand tasks in: what of their words becomes a submission, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hypershell.core.model import FeedMark, Submission, Task
from hypershell.proto.visits import HandIn, Line, Lines, Refused
from hypershell.server.terms import Terms, Wishes
from hypershell.server.visits import Surroundings, Visits


class Door:
    """What one visitor says, and what it is answered."""

    def __init__(self, *messages: Any) -> None:
        self._messages = [(1, "submit", message) for message in messages]
        self.answers: list[Any] = []

    def visits(self) -> Sequence[tuple[int, str, Any]]:
        return self._messages

    def send(self, peer: int, message: Any) -> None:
        self.answers.append(message)

    def hold(self) -> None: ...

    def admit(self) -> None: ...

    def drop(self, peer: int, reason: str) -> None:
        self.answers.append(reason)


def hand_in(options: str) -> tuple[list[Any], list[tuple[Submission, list[Task]]]]:
    """The answers to one task with these options, and what was submitted."""
    taken: list[tuple[Submission, list[Task]]] = []

    def submit(submission: Submission, tasks: list[Task], mark: FeedMark) -> int:
        taken.append((submission, tasks))
        return 1

    door = Door(HandIn(b"stdin", options, b"/", "me", "host"), Lines(1, [Line("x")]))
    here = Surroundings(lambda: "id", lambda: 7, lambda: 0.0, submit, lambda: None, lambda: pytest.fail("asked"))
    Visits(door, here).turn()
    return door.answers, taken


@pytest.mark.parametrize(("template", "kept"), [("run {}", "{}"), ("run {} {slot}", "run {} {slot}")])
def test_a_template_that_asks_for_the_slot_goes_to_the_clients(template: str, kept: str) -> None:
    answers, ((submission, _),) = hand_in(Terms(template).to_options(Wishes()))
    assert (submission.template, answers) == (kept, [])


@pytest.mark.parametrize(
    "options",
    ["", "no json", '{"submit": {"template": 3}}', '{"submit": {"template": "{[9"}}', '{"keep_output": 3}'],
)
def test_options_that_are_none_are_refused(options: str) -> None:
    """Nothing of what a peer says may end the server."""
    answers, taken = hand_in(options)
    assert taken == [] and len(answers) == 2 and all(isinstance(answer, Refused) for answer in answers)
    assert "options that cannot be read" in answers[0].reason
