"""How a submission is run: what a start says goes before what is stored, and what is said of earlier work."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hypershell.core.model import Submission
from hypershell.data import known
from hypershell.data.how import How, merged, work_in
from hypershell.data.store import Earlier

STORED = '{"capture":false,"exports":{"A":"1"},"keep_output":true,"task_timeout":5.0}'
OLD = Submission(7, "file", "/in/tasks", "echo {}", STORED, "/work", "me", "here", 1_795_345_284.0)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, STORED),
        ({"task_timeout": 9.0}, STORED.replace("5.0", "9.0")),
        ({"task_timeout": None}, STORED.replace("5.0", "null")),
        ({"capture": True}, STORED.replace("false", "true")),
        ({"exports": {"B": "2"}}, STORED.replace('"1"', '"1","B":"2"')),
        ({"exports": {"A": "2"}}, STORED.replace('"1"', '"2"')),
    ],
)
def test_what_is_given_goes_before_what_is_stored(given: dict[str, object], text: str) -> None:
    assert merged(STORED, given) == text
    assert merged(text, given) == text


def test_columns_of_before_and_of_submit_are_read_and_kept() -> None:
    assert How.of_options("{}") == How()
    assert How.of_options(STORED) == How(5.0, False, {"A": "1"})
    text = merged('{"submit":{"template":"x {}"}}', {"task_timeout": 1.0})
    assert work_in(text) == {"template": "x {}"} and How.of_options(text).task_timeout == 1.0
    assert work_in(STORED) is None


@pytest.mark.parametrize(
    ("unfinished", "failed", "words"),
    [
        (True, 0, "; unfinished); this run does all of it once more (--restart goes on with that instead)"),
        (True, 1, "; unfinished, 1 task has failed); this run does all of it once more (--restart goes on with "),
        (False, 2, "; 2 tasks have failed); this run does all of it once more (--restart --retry-failed tries "),
        (False, 0, "; all of it is done); this run does all of it once more (--restart runs nothing again that "),
    ],
)
def test_a_second_run_says_what_the_first_left(unfinished: bool, failed: int, words: str) -> None:
    told = known.once_more(Earlier(OLD, unfinished, failed, None), None)
    assert told.startswith("/in/tasks was run before (submission 7 of 2026-11-2") and words in told


def test_a_new_beginning_says_what_differs() -> None:
    told = known.begun_anew(replace(OLD, template="cat {}"), Earlier(OLD, False, 0, None))
    assert "all of it is done) with another template: 'echo {}' there, 'cat {}' here; that is other work" in told
    told = known.begun_anew(replace(OLD, cwd="/home"), Earlier(OLD, True, 0, None))
    assert "in another folder: '/work' there, '/home' here; that is other work" in told and "template" not in told
    told = known.begun_anew(replace(OLD, cwd="/home", template="x" * 500), Earlier(OLD, True, 0, None))
    assert "template" in told and "folder" in told and len(told) < 400
