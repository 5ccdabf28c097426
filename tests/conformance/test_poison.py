"""What every store must do for tasks whose clients died: keep the count, raise it at a takeover, drop it last."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hypershell.core.actions import Dispatch, Return
from hypershell.core.model import Task
from hypershell.core.poison import limit_in
from tests.conformance.test_store import (
    NAMES,
    NOW,
    SHARED,
    Place,
    Session,
    ended,
    new_submission,
    place_of,
    sent,
)


@pytest.fixture(params=NAMES)
def place(request: pytest.FixtureRequest) -> Place:
    return place_of(request, request.param)


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest) -> Place:
    return place_of(request, request.param)


def counts(session: Session) -> dict[str, int]:
    return {task.id: task.deaths for task in session.drain()}


def died(task: Task, execution: int, deaths: int) -> Return:
    return Return(task.id, execution, deaths)


@pytest.mark.parametrize("together", [False, True])
def test_the_count_is_kept(place: Place, together: bool) -> None:
    session = Session(place.store())
    one, two, three = tasks = session.tasks(3)
    steps = [
        {"inserted": tasks},
        {"dispatched": [sent(one), sent(two), sent(three)]},
        {"returned": [died(one, 1, 1), died(two, 1, 1), Return(three.id, 1)]},
        {"dispatched": [Dispatch(one.id, 2, 1, NOW, 1), Dispatch(two.id, 2, 1, NOW, 1)]},
        {"returned": [died(one, 2, 2), died(two, 2, 1)]},
    ]
    if together:
        session.store.apply([session.record(**step) for step in steps])
    else:
        for step in steps:
            session.apply(**step)
    assert counts(session) == {one.id: 2, two.id: 1, three.id: 0}


def test_a_count_can_be_taken_back(place: Place) -> None:
    session = Session(place.store())
    (task,) = session.put(1)
    session.apply(dispatched=[sent(task)])
    session.apply(returned=[died(task, 1, 1)])
    session.apply(dispatched=[Dispatch(task.id, 1, 1, NOW, 0)])
    session.apply(returned=[Return(task.id, 1)])
    assert counts(session) == {task.id: 0}


def test_the_end_of_a_task_says_nothing_of_earlier_deaths(shared: Place) -> None:
    session = Session(shared.store())
    (task,) = session.put(1)
    session.apply(dispatched=[sent(task)])
    session.apply(returned=[died(task, 1, 1)])
    assert shared.rows()[task.id]["error"] == "deaths of its client: 1"
    session.apply(dispatched=[Dispatch(task.id, 2, 1, NOW, 1)])
    assert shared.rows()[task.id]["error"] == "deaths of its client: 1"
    session.apply(finished=[ended(task, 2)])
    assert shared.rows()[task.id]["error"] is None


def test_a_server_that_died_is_a_death_of_its_clients(shared: Place) -> None:
    old = Session(shared.store())
    first, second, trial, waiting = old.put(4)
    given = [sent(first), Dispatch(second.id, 1, 1, NOW, 1), Dispatch(trial.id, 1, 1, NOW, 2)]
    old.apply(dispatched=given)
    new = Session(shared.store(), new_submission("/in/other"))
    new.store.take(new.store.claims(None))
    assert counts(new) == {first.id: 1, second.id: 2, trial.id: 3, waiting.id: 0}


def test_of_two_on_trial_nobody_knows_which_it_was(shared: Place) -> None:
    old = Session(shared.store())
    one, other, first = old.put(3)
    old.apply(dispatched=[Dispatch(one.id, 1, 1, NOW, 2), Dispatch(other.id, 1, 1, NOW, 4), sent(first)])
    new = Session(shared.store(), new_submission("/in/other"))
    new.store.take(new.store.claims(None))
    assert counts(new) == {one.id: 2, other.id: 4, first.id: 1}


def test_bytes_and_count_are_loaded_together(shared: Place) -> None:
    old = Session(shared.store())
    task = replace(old.tasks(1)[0], raw=b"echo \xff")
    old.apply(inserted=[task])
    old.apply(dispatched=[Dispatch(task.id, 1, 1, NOW, 1)])
    new = Session(shared.store(), new_submission("/in/other"))
    new.store.take(new.store.claims(None))
    (loaded,) = new.drain()
    assert (loaded.raw, loaded.deaths, loaded.execution) == (b"echo \xff", 2, 2)


@pytest.mark.parametrize("stored", ['{"poison":5}', "{}"])
def test_a_submission_goes_on_whatever_limit_is_said(shared: Place, stored: str) -> None:
    old = Session(shared.store(), new_submission(options=stored))
    old.put(1)
    new = Session(shared.store(), new_submission("/in/other"))
    for options in ("{}", '{"poison":4}', '{"poison":5}'):
        like = new_submission(options=options)
        (claim,) = new.store.claims(like)
        assert claim.submission == old.submission.id
    taken = new.store.take([claim], {"poison": 7})
    assert [limit_in(one.options) for one in taken.submissions] == [7]
