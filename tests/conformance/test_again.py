"""What a takeover changes beside the owner: how tasks are run, and final failures that are given again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from hypershell.core.actions import Dispatch, Finish, Finished
from hypershell.core.model import Result, Special, Submission, Task
from hypershell.core.states import CANCELLED, FAILED, PENDING, SUCCEEDED
from hypershell.data.store import Fenced
from tests.conformance.test_store import IDS, NOW, SHARED, Place, Session, new_run, new_submission, place_of


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest) -> Place:
    return place_of(request, request.param)


def end(session: Session, task: Task, state: str = FAILED, next_id: str | None = None, **rest: Any) -> Finished:
    """How a task ended on client 1; `rest` are fields of its result."""
    result = Result(task.id, task.execution + 1, int(state != SUCCEEDED), NOW, NOW, **rest)
    return Finished(1, state, NOW, result, next_id, task)


class Taker(Session):
    """A run that takes the one submission over."""

    def __init__(self, place: Place, **given: Any) -> None:
        self.store = place.store()
        self.run = new_run()
        self.store.open()
        self.store.begin_run(self.run)
        self.seq = 0
        self.taken = self.store.take(self.store.claims(new_submission()), given)
        (self.submission,) = self.taken.submissions

    def again(self, most: int = 100, new_id: Callable[[], str] = IDS.task) -> int:
        return self.store.retry_failed(self.submission.id, new_id, most)

    def fail(self, task: Task) -> Task:
        """The task fails and is tried again, as the scheduler does it."""
        retry = replace(task, id=IDS.task(), attempt=task.attempt + 1, previous_id=task.id, execution=0)
        sent = Dispatch(task.id, task.execution + 1, 1, NOW)
        self.apply(inserted=[retry], dispatched=[sent], finished=[end(self, task, next_id=retry.id)])
        return retry


def left(place: Place) -> list[Task]:
    """Two final failures, in groups 0 and 2, a success, a cancelled task, a bad line, and one that waits."""
    session = Session(place.store())
    first, good, gone, bad = session.put(4)
    second, waits = session.put(2, group=2)
    never = Finished(-1, FAILED, NOW, Result(bad.id, 0, Special.NOT_STARTED, NOW, NOW, error="NUL"), None, bad)
    failed = [end(session, first), end(session, second), never]
    session.apply(finished=[*failed, end(session, good, SUCCEEDED), end(session, gone, CANCELLED)])
    session.store.end_run(Finish(1, 3, 0, 1, "drained"))
    session.store.close()
    return [first, good, gone, bad, second, waits]


def test_a_takeover_says_how_tasks_are_run(shared: Place) -> None:
    before = '{"capture":true,"exports":{"A":"1","B":"2"},"task_timeout":1.0}'
    Session(shared.store(), new_submission(options=before))
    first = Taker(shared, task_timeout=10.0, exports={"B": "3"})
    changed = '{"capture":true,"exports":{"A":"1","B":"3"},"task_timeout":10.0}'
    assert first.submission.options == changed
    assert Taker(shared).submission.options == changed


def test_a_takeover_that_comes_to_nothing_changes_nothing(shared: Place) -> None:
    Session(shared.store())
    slow, quick = (Session(shared.store(), new_submission(f"/in/{n}")) for n in range(2))
    claims = slow.store.claims(new_submission())
    quick.store.take(claims)
    assert slow.store.take(claims, {"task_timeout": 5.0}).submissions == []
    assert Taker(shared).submission.options == "{}"


def test_final_failures_are_given_again_as_their_next_attempts(shared: Place) -> None:
    first, good, gone, bad, second, waits = left(shared)
    taker = Taker(shared)
    assert (taker.taken.pending, taker.taken.failed) == ({2: 1}, {0: 2, 2: 1})
    assert (taker.again(), taker.again()) == (2, 0)
    now = taker.store.survey([taker.submission.id])
    assert (now.pending, now.failed) == ({0: 1, 2: 2}, {0: 1})
    rows = shared.rows()
    for old in (first, second):
        new = rows[rows[old.id]["next_id"]]
        assert rows[old.id]["retried"] and rows[old.id]["state"] == FAILED
        assert (new["state"], new["attempt"], new["previous_id"]) == (PENDING, 2, old.id)
        assert (new["args"], new["group"], new["execution"]) == (old.args, old.group, 0)
    for old, state in ((good, SUCCEEDED), (gone, CANCELLED), (bad, FAILED), (waits, PENDING)):
        assert (rows[old.id]["state"], rows[old.id]["next_id"]) == (state, None)
    assert [task.args for page in taker.store.failures(taker.submission.id) for task in page] == [bad.args]


def test_all_of_a_task_is_given_again(shared: Place) -> None:
    session = Session(shared.store())
    (task,) = session.put(1, raw=b"echo \xff", timeout=5.0, tag={"a": 1}, cores=2, memory=1 << 40)
    session.apply(finished=[end(session, task)])
    taker = Taker(shared)
    assert taker.again() == 1
    (again,) = taker.drain()
    assert again == replace(task, id=again.id, attempt=2, previous_id=task.id, tried=1)


def test_giving_again_that_is_killed_in_the_middle_goes_on(shared: Place) -> None:
    session = Session(shared.store())
    tasks = session.put(5)
    session.apply(finished=[end(session, task) for task in tasks])
    killed = Taker(shared)
    assert killed.again(2) == 2
    after = Taker(shared)
    assert (after.taken.pending, after.taken.failed) == ({0: 2}, {0: 3})
    assert (after.again(), after.again()) == (3, 0)
    found = after.drain()
    assert sorted(task.previous_id or "" for task in found) == [task.id for task in tasks]
    assert [task.tried for task in found] == [1] * 5
    with pytest.raises(Fenced):
        killed.again()


def test_retries_of_what_was_given_again_know_what_counts(shared: Place) -> None:
    """Whatever restarts come in between, and through however many attempts."""
    session = Session(shared.store())
    task, plain = session.put(2)
    session.apply(finished=[end(session, task)])
    taker = Taker(shared)
    taker.again()
    (given,) = [one for one in taker.drain() if one.previous_id]
    third = taker.fail(taker.fail(given))
    other = taker.fail(plain)
    later = Taker(shared)
    found = {one.id: (one.attempt, one.tried) for one in later.drain()}
    assert found == {third.id: (4, 1), other.id: (2, 0)}
    later.apply(finished=[end(later, third), end(later, other, SUCCEEDED)])
    last = Taker(shared)
    assert last.again() == 1
    assert [(one.attempt, one.tried) for one in last.drain()] == [(5, 4)]


def test_what_has_only_failures_is_claimed_where_they_are_asked_for(shared: Place) -> None:
    session = Session(shared.store(), replace(new_submission(), source="stdin"))
    (task,) = session.put(1)
    session.apply(finished=[end(session, task)])
    other = Session(shared.store(), new_submission("/in/other"))
    assert session.submission.id not in [claim.submission for claim in other.store.claims(None)]
    assert session.submission.id in [claim.submission for claim in other.store.claims(None, failed=True)]


def test_what_is_known_of_a_file_that_was_run_before(shared: Place) -> None:
    first, *_ = left(shared)
    other = Session(shared.store(), new_submission("/in/other")).store

    def known(same_work: bool, **changes: Any) -> Submission | None:
        found = other.earlier(replace(new_submission(), **changes), same_work)
        assert found is None or (found.failed, found.unfinished) == (3, True)
        return None if found is None else found.submission

    here = known(True)
    assert here is not None and here.id == first.submission
    assert known(True, template="x {}") is None and known(False, template="x {}") == here
    assert known(True, cwd="/") is None and known(False, cwd="/") == here
    assert known(False, path="/nowhere") is None and known(False, options='{"submit":{}}') is None
