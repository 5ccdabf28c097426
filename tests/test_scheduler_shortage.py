"""Clients without room: they get what they can run, nobody is judged by it, and a run that stands still ends."""

from __future__ import annotations

import pytest

from hypershell.core import events as ev
from hypershell.core.model import Room
from hypershell.server.status import state_of
from tests.sim.trace import Run

REASON = "cannot make a pipe: Too many open files"


def say(run: Run, client: int, slots: int, back: str = "", *, in_vain: bool = False) -> list[str]:
    """A client tells how many tasks it can run, and hands some back."""
    names = [run._execution(name) for name in back.split()]
    return run.tell(ev.ResultsReceived(client, [], names, room=Room(slots, in_vain, REASON)))


def stuck(run: Run, client: int, back: str) -> list[str]:
    return say(run, client, 0, back, in_vain=True)


def test_a_client_gets_what_it_has_room_for() -> None:
    run = Run()
    run.join(1, 8)
    run.submit("a b c d")
    assert say(run, 1, 2) == []
    run.submit("e f")
    assert run.end(1, "a b c d", seconds=1e9)[-1] == "send 1: e.1 f.1"
    run.submit("g h i")
    assert run.end(1, "e", seconds=1e9)[-1] == "send 1: g.1"
    assert say(run, 1, 8)[-1] == "send 1: h.1 i.1"


@pytest.mark.parametrize("bundlesize", [None, 1, 100])
def test_what_one_cannot_start_others_run(bundlesize: int | None) -> None:
    run = Run(bundlesize=bundlesize, attempts=1)
    run.join(1, 2)
    run.submit("a b")
    run.join(2, 2)
    lines = stuck(run, 1, " ".join(name for name in "ab" if name in run.executions))
    assert all(line.startswith(("record", "send 2")) for line in lines)
    run.submit("c")
    run.feed_ended()
    run.end(2, "a b")
    run.end(2, "c")
    assert run.durable()[-1] == "finish complete: 3 good, 0 bad, 0 held, 0 left"


def test_an_attempt_is_one_task_however_large_bundles_are() -> None:
    run = Run(bundlesize=10)
    run.join(1, 4)
    run.submit("a b c d e f g h")
    stuck(run, 1, "a b c d e f g h")
    assert say(run, 1, 1, in_vain=True)[-1] == "send 1: a.2"
    assert stuck(run, 1, "a") == ["record 5: a.2 back"]


def test_nobody_is_judged_by_what_could_not_be_started() -> None:
    run = Run(quarantine=1)
    run.join(1)
    run.join(2)
    run.submit("a b")
    for _ in range(20):
        stuck(run, 1, "a")
        say(run, 1, 1, in_vain=True)
    assert run.scheduler.set_aside() == ([], [])


def test_status_shows_it() -> None:
    run = Run()
    run.join(1, 4)
    run.submit("a b")
    say(run, 1, 2)
    (client,) = run.scheduler.clients()
    assert (client.slots, state_of(client)) == (2, "running")
    stuck(run, 1, "a b")
    assert state_of(client) == "no room"
    run.drain()
    assert state_of(client) == "draining"


# A run that stands still


def standing() -> Run:
    run = Run(room_wait=60.0)
    run.join(1, 2)
    run.submit("a b c")
    run.feed_ended()
    stuck(run, 1, "a b")
    return run


def test_a_run_that_stands_still_ends_with_the_reason() -> None:
    run = standing()
    assert run.pause(59.0) == []
    lines = run.pause(1.0)
    assert lines == [
        f"critical: No task could be started for 60 s on host: {REASON}; "
        "free some there or allow more (ulimit), or use fewer slots (-N)",
        "drain [1]",
    ]
    assert run.scheduler.stopping == "no room"
    assert run.durable()[-1] == "finish no room: 0 good, 0 bad, 0 held, 3 left"


def test_attempts_in_between_change_nothing_but_their_answer_is_waited_for() -> None:
    run = standing()
    for _ in range(5):
        run.pause(10.0)
        say(run, 1, 1, in_vain=True)
        stuck(run, 1, "a")
    run.pause(9.5)
    say(run, 1, 1, in_vain=True)
    assert run.pause(5.0) == []
    assert stuck(run, 1, "a")[1].startswith("critical: No task could be started for 60 s")


def test_a_task_that_runs_again_ends_the_wait() -> None:
    run = standing()
    run.pause(50.0)
    say(run, 1, 1, in_vain=True)
    say(run, 1, 1)
    assert run.pause(1000.0) == []
    run.end(1, "a")
    assert run.pause(1000.0) == []


def test_a_result_counts_as_much() -> None:
    run = standing()
    run.pause(50.0)
    say(run, 1, 1, in_vain=True)
    run.end(1, "a")
    stuck(run, 1, "b")
    assert run.pause(59.0) == []
    assert run.pause(1.0)[0].startswith("critical: No task")


def test_others_that_run_something_are_waited_for() -> None:
    run = Run()
    run.join(1)
    run.join(2)
    run.submit("a b c")
    stuck(run, 1, "a")
    assert run.pause(1000.0) == []
    run.lose(2)
    assert run.pause(59.0) == []
    assert "on host" in run.pause(1.0)[0]


def test_the_loss_of_the_one_without_room_ends_the_wait() -> None:
    run = Run(closed=False)
    run.join(1)
    run.submit("a")
    stuck(run, 1, "a")
    run.lose(1)
    assert run.pause(1000.0) == []


def test_without_work_for_it_nothing_stands_still() -> None:
    run = standing()
    run.cancel("a b c")
    assert run.pause(1000.0) == []
    assert run.durable()[-1].startswith("finish complete")


def test_a_server_that_is_to_stay_stays() -> None:
    run = Run(forever=True)
    run.join(1)
    run.submit("a")
    stuck(run, 1, "a")
    assert run.pause(1000.0) == []


def test_a_client_never_gets_more_than_it_announced() -> None:
    run = Run(closed=False)
    run.join(1, 2)
    say(run, 1, 100)
    assert [client.slots for client in run.scheduler.clients()] == [2]
    say(run, 1, 0)
    run.lose(1)
    run.join(2, 1)
    assert run.submit("a")[-1] == "send 2: a.1"
