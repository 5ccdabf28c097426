"""What every store must do for clients that come and go: what they hold stays theirs when a server is taken over,
and what nobody could take is read again."""

from __future__ import annotations

import sqlite3

import pytest
from msgspec.structs import replace

from hypershell.core.actions import ClientChange, Dispatch, Finish, Return
from hypershell.core.states import DISPATCHED, PENDING, SUCCEEDED
from hypershell.ids import IdSource
from tests.conformance.test_store import (
    CLIENT,
    NAMES,
    NOW,
    SHARED,
    Place,
    PostgresSchema,
    Session,
    SqliteFile,
    ended,
    ids,
    new_submission,
    place_of,
    sent,
)

OUTSIDE = replace(CLIENT, id=IdSource().task(), outlives=True)


@pytest.fixture(params=SHARED)
def place(request: pytest.FixtureRequest) -> Place:
    return place_of(request, request.param)


def given(session: Session, count: int) -> list[str]:
    """Tasks that client 7, which outlives the server, has been given; the second in its third execution."""
    tasks = session.put(count, tag={"n": 1}, timeout=5.0)
    session.apply(clients=[ClientChange(7, OUTSIDE, NOW)])
    session.apply(dispatched=[Dispatch(task.id, 3 if n == 1 else 1, 7, NOW + 1) for n, task in enumerate(tasks)])
    return ids(tasks)


def known(place: Place) -> list[str]:
    """The clients that the database knows to outlive their servers."""
    query = "SELECT id FROM outliving"
    if isinstance(place, PostgresSchema):
        return [row[0] for row in place.server.query(query, schema=place.address.schema)]
    assert isinstance(place, SqliteFile)
    with sqlite3.connect(place.path) as link:
        return [row[0] for row in link.execute(query)]


def test_a_takeover_leaves_clients_that_may_come_back_their_tasks(place: Place) -> None:
    old = Session(place.store())
    mine = given(old, 2)
    (lost,) = old.put(1)
    old.apply(dispatched=[sent(lost)])
    waiting = old.put(2)

    new = Session(place.store(), new_submission("/in/other"))
    taken = new.store.take(new.store.claims(None))
    assert taken.pending == {0: 3}
    assert list(taken.withheld) == [OUTSIDE.id]
    assert [(task.id, task.execution) for task in taken.withheld[OUTSIDE.id]] == [(mine[0], 1), (mine[1], 3)]
    assert ids(new.drain()) == [lost.id, *ids(waiting)]
    assert [place.rows()[key]["state"] for key in (*mine, lost.id)] == [DISPATCHED, DISPATCHED, PENDING]


def test_what_is_withheld_is_as_it_was_submitted(place: Place) -> None:
    old = Session(place.store())
    task = replace(old.tasks(1, tag={"n": 1, "os": "any"}, timeout=5.0, cores=2)[0], raw=b"echo \xff")
    old.apply(inserted=[task], clients=[ClientChange(7, OUTSIDE, NOW)])
    old.apply(dispatched=[Dispatch(task.id, 1, 7, NOW + 1)])
    new = Session(place.store(), new_submission("/in/other"))
    taken = new.store.take(new.store.claims(None))
    assert taken.withheld == {OUTSIDE.id: [replace(task, execution=1, schedule_time=NOW + 1)]}


def test_a_client_that_comes_back_ends_the_same_execution(place: Place) -> None:
    old = Session(place.store())
    (first, second) = given(old, 2)
    new = Session(place.store(), new_submission("/in/other"))
    withheld = new.store.take(new.store.claims(None)).withheld[OUTSIDE.id]
    new.apply(clients=[ClientChange(9, OUTSIDE, NOW + 5)], dispatched=[Dispatch(first, 1, 9, NOW + 1)])
    row = place.rows()[first]
    assert (row["state"], row["client_id"], row["server_id"]) == (DISPATCHED, OUTSIDE.id, new.run.id)
    new.apply(finished=[ended(withheld[0])])
    assert (place.rows()[first]["state"], new.store.refused) == (SUCCEEDED, 0)
    assert place.rows()[second]["state"] == DISPATCHED


def test_what_was_taken_back_can_become_its_clients_again(place: Place) -> None:
    """In one record and in two, as the connection is cut and made again."""
    for together in (False, True):
        session = Session(place.store())
        (key, _) = given(session, 2)
        left = [ClientChange(7, OUTSIDE, NOW + 2, "lost: silence")]
        joined = [ClientChange(8, OUTSIDE, NOW + 3)]
        again = [Dispatch(key, 1, 8, NOW + 1)]
        if together:
            session.apply(clients=[*left, *joined], dispatched=again)
        else:
            session.apply(clients=left, returned=[Return(key, 1)])
            session.apply(clients=joined, dispatched=again)
        row = place.rows()[key]
        assert (row["state"], row["execution"], row["client_id"]) == (DISPATCHED, 1, OUTSIDE.id)
        assert OUTSIDE.id in known(place)


def test_a_task_that_nobody_came_back_with_is_pending_under_its_execution(place: Place) -> None:

    old = Session(place.store())
    (key, _) = given(old, 2)
    new = Session(place.store(), new_submission("/in/other"))
    new.store.take(new.store.claims(None))
    new.apply(returned=[Return(key, 1)])
    assert (place.rows()[key]["state"], place.rows()[key]["execution"]) == (PENDING, 1)
    new.apply(dispatched=[sent(new.tasks(1)[0])])  # of no row: refused
    new.apply(dispatched=[Dispatch(key, 2, 1, NOW)])
    assert (place.rows()[key]["state"], place.rows()[key]["execution"]) == (DISPATCHED, 2)


def test_withheld_tasks_stay_so_from_one_server_to_the_next(place: Place) -> None:
    mine = given(Session(place.store()), 2)
    for number in range(2):
        new = Session(place.store(), new_submission(f"/in/{number}"))
        taken = new.store.take(new.store.claims(None))
        assert ids(taken.withheld[OUTSIDE.id]) == mine


def test_the_end_of_a_run_forgets_clients_that_have_nothing(place: Place) -> None:
    session = Session(place.store())
    other = replace(OUTSIDE, id=IdSource().task())
    given(session, 1)
    session.apply(clients=[ClientChange(8, other, NOW)])
    assert sorted(known(place)) == sorted([OUTSIDE.id, other.id])
    session.store.end_run(Finish(0, 0, 0, 1, "drained"))
    assert known(place) == [OUTSIDE.id]


def test_a_database_without_the_table_gets_it(place: Place) -> None:
    old = Session(place.store())
    old.put(1)
    old.store.close()
    if isinstance(place, PostgresSchema):
        place.server.query("DROP TABLE outliving", schema=place.address.schema)
    else:
        assert isinstance(place, SqliteFile)
        with sqlite3.connect(place.path) as link:
            link.execute("DROP TABLE outliving")
    new = Session(place.store(), new_submission("/in/other"))
    assert new.store.take(new.store.claims(None)).withheld == {}
    assert known(place) == []


@pytest.mark.parametrize("kind", NAMES)
def test_reading_can_begin_anew(request: pytest.FixtureRequest, kind: str) -> None:
    """Only what is still pending comes again, in the order of the input; other groups go on where they are."""
    session = Session(place_of(request, kind).store())
    tasks, others = session.put(5), session.put(3, group=1)
    assert ids(session.drain()) == ids(tasks)
    session.store.load(1, 1)
    session.apply(dispatched=[sent(tasks[0]), sent(tasks[2])], finished=[ended(tasks[2])])
    found, exhausted = session.store.load(0, 2, True)
    assert (ids(found), exhausted) == ([tasks[1].id, tasks[3].id], False)
    assert ids(session.drain()) == [tasks[4].id]
    assert ids(session.drain(1)) == ids(others[1:])
