"""Clients at which everything fails at once; one test a story."""

from __future__ import annotations

import pytest

from hypershell.core import events as ev
from hypershell.core.model import Result, Special
from tests.sim.trace import Run

NO_MORE = (
    "warning: Client on host (c1) gets no more tasks: its last 3 failed within a second each; others take over"
)


def two(names: str, slots: int = 1, **policy: object) -> Run:
    """Two clients and a list; three failures are enough."""
    run = Run(**{"quarantine": 3, "bundlesize": 1, "closed": False} | policy)
    run.submit(names)
    run.join(1, slots)
    run.join(2)
    return run


def held(run: Run, client: int) -> list[str]:
    found = run.scheduler._clients.get(client)
    return [] if found is None else list(found.holding)


def fail(run: Run, client: int, times: int, seconds: float = 0.01) -> list[str]:
    """So many executions of a client fail, one after the other."""
    lines: list[str] = []
    for _ in range(times):
        lines = run.end(client, held(run, client)[0], 1, seconds)
    return lines


def names(count: int) -> str:
    return " ".join(f"t{n:02}" for n in range(count))


def test_a_client_that_fails_everything_at_once_gets_no_more() -> None:
    run = two(names(20))
    assert NO_MORE in fail(run, 1, 3)
    left = held(run, 1)
    # What it still had goes back: it spends no attempt, and another client gets it.
    assert fail(run, 1, 1)[0].endswith(f"{left[0]}.1 back")
    assert held(run, 1) == []
    assert run.scheduler.counts.failed == 3
    assert run.end(2, held(run, 2)[0])[-1] == f"send 2: {left[0]}.2"


def test_the_others_do_the_rest() -> None:
    run = two(names(8))
    fail(run, 1, 3)
    fail(run, 1, len(held(run, 1)))
    run.feed_ended()
    while held(run, 2):
        run.end(2, held(run, 2)[0])
    assert run.durable()[-1] == "finish complete: 5 good, 3 bad, 0 held, 0 left"


def test_a_list_of_failing_tasks_runs_to_its_end_on_the_only_client() -> None:
    run = Run(quarantine=3)
    run.join(1)
    run.submit(names(20))
    run.feed_ended()
    while held(run, 1):
        assert not any("gets no more" in line for line in fail(run, 1, 1))
    assert run.durable()[-1] == "finish complete: 0 good, 20 bad, 0 held, 0 left"


def test_a_list_of_failing_tasks_sets_nobody_aside() -> None:
    """Both clients fail alike: the tasks are to blame."""
    run = two(names(40))
    run.feed_ended()
    while held(run, 1) or held(run, 2):
        for client in (1, 2):
            if held(run, client):
                assert not any("gets no more" in line for line in fail(run, client, 1))
    assert run.durable()[-1] == "finish complete: 0 good, 40 bad, 0 held, 0 left"


def test_when_tasks_fail_elsewhere_too_the_client_gets_work_again() -> None:
    run = two(names(40))
    fail(run, 1, 3)
    again = fail(run, 2, 1)
    assert "info: Client on host (c1) gets tasks again: tasks of others fail so too" in again
    assert held(run, 1)


def test_failures_that_take_their_time_are_those_of_the_tasks() -> None:
    run = two(names(20))
    assert not any("gets no more" in line for _ in range(6) for line in fail(run, 1, 1, seconds=1.0))


def test_a_success_in_between_begins_the_count_anew() -> None:
    run = two(names(60))
    fail(run, 1, 2)
    run.end(1, held(run, 1)[0])
    assert NO_MORE not in fail(run, 1, 3)
    assert any("its last 15 failed" in line for line in fail(run, 1, 12))


@pytest.mark.parametrize(
    ("status", "error"),
    [(Special.TEMPLATE_FAILED, "template: bad"), (-9, "timeout"), (-2, "cancelled")],
)
def test_what_no_client_could_help_says_nothing_of_one(status: int, error: str) -> None:
    run = two(names(20))
    for _ in range(6):
        key = held(run, 1)[0]
        result = Result(key, run.executions[key], status, 1000.0, 1000.0, error=error)
        assert not any("gets no more" in line for line in run.tell(ev.ResultsReceived(1, [result])))


def test_zero_switches_it_off() -> None:
    run = two(names(40), quarantine=0)
    assert not any("gets no more" in line for _ in range(20) for line in fail(run, 1, 1))


def test_when_the_others_leave_the_run_goes_on_with_it() -> None:
    run = two(names(20))
    fail(run, 1, 3)
    fail(run, 1, len(held(run, 1)))
    assert "info: Client on host (c1) gets tasks again: nobody else is here" in run.lose(2)
    assert held(run, 1)


def test_connecting_anew_is_no_way_out() -> None:
    run = Run(quarantine=3, bundlesize=1, closed=False)
    run.join(1, outlives=True)
    run.join(2)
    run.join(3)
    run.submit(names(20))
    run.durable()
    for _ in range(3):
        fail(run, 1, 1)
        run.durable()
    run.lose(1, outside=True)
    run.join(11, id="c1", outlives=True)
    assert held(run, 11) == []


def test_clients_of_another_kind_could_not_take_over() -> None:
    run = Run(quarantine=3, closed=False)
    run.join(1)
    run.join(2, system="win32")
    run.submit(names(20))
    assert not any("gets no more" in line for _ in range(10) for line in fail(run, 1, 1))
    assert held(run, 1)


def test_of_many_clients_the_few_bad_ones_are_set_aside() -> None:
    run = Run(quarantine=3, bundlesize=1, closed=False)
    for client in range(1, 11):
        run.join(client)
    run.submit(names(99))
    told = []
    for _ in range(3):
        for client in (1, 2):
            told += fail(run, client, 1)
        for client in range(3, 11):
            run.end(client, held(run, client)[0])
    assert sum("gets no more tasks" in line for line in told) == 2


def test_a_success_of_what_it_still_had_absolves_it() -> None:
    run = Run(quarantine=3, closed=False)
    run.join(1, 2)
    run.join(2, 2)
    run.submit(names(20))
    key, *_ = held(run, 1)
    for _ in range(3):
        run.end(1, held(run, 1)[1], 1, 0.01)
    assert run.scheduler._clients.get(1).aside  # type: ignore[union-attr]
    assert "info: Client on host (c1) gets tasks again: a task succeeded there" in run.end(1, key)
    assert len(held(run, 1)) >= 2
