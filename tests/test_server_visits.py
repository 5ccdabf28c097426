"""Visitors that hand tasks in: what of their words becomes a submission, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from hypershell.core.model import FeedMark, Submission, Task
from hypershell.errors import ProtocolError
from hypershell.proto.visits import HandIn, Line, Lines, Refused, decode_submitter
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


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("options", "[]", "options: Expected `object`, got `array`"),
        ("options", '{"exports": 3}', "options: Expected `object`, got `int` - at `exports`"),
        ("options", '{"exports": {"A": 1}}', "options: Expected `str`, got `int` - at `exports[...]`"),
        ("options", '{"task_timeout": "x"}', "options: Expected `float | null`, got `str` - at `task_timeout`"),
        ("options", '{"again": [["a"]]}', "options: Expected `array` of length 2 - at `again[0]`"),
        ("options", '{"x": ' + "[" * 9999, "options: "),
        ("submit_id", "a\0b", "submit_id: Expected `str` that is printable"),
        ("submit_id", "", "submit_id: Expected `str` that is printable"),
        ("submit_host", "a\nb", "submit_host: Expected `str` that is printable"),
        ("cwd", b"/a\0b", "cwd: Expected `bytes` without NUL"),
    ],
)
def test_what_is_wrong_with_a_hand_in_is_refused_by_name(field: str, value: Any, reason: str) -> None:
    good = HandIn(b"stdin", "{}", b"/", "me", "host")
    assert decode_submitter(msgspec.msgpack.encode(good)) == good
    with pytest.raises(ProtocolError) as caught:
        decode_submitter(msgspec.msgpack.encode(msgspec.structs.replace(good, **{field: value})))
    assert str(caught.value).startswith(f"bad message: HandIn.{reason}")


def test_an_error_that_nobody_foresaw_ends_the_visit_and_nothing_else() -> None:
    def submit(submission: Submission, tasks: list[Task], mark: FeedMark) -> int:
        raise KeyError("nobody foresaw this")

    door = Door(HandIn(b"stdin", "{}", b"/", "me", "host"), Lines(1, [Line("x")]), Lines(2, [Line("y")]))
    here = Surroundings(lambda: "id", lambda: 7, lambda: 0.0, submit, lambda: None, lambda: pytest.fail("asked"))
    Visits(door, here).turn()
    assert door.answers == ["unexpected KeyError with its Lines"]
