"""The end of the allocation in the scheduler, as stories; and the quantile that its rule rests on."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.core import events as ev
from hypershell.core.model import Task
from hypershell.core.walltime import COMMIT, Durations, Walltime
from hypershell.executor.ladder import KILL, ladder
from tests.sim.trace import Run, task

#: 100 s of drain time, 20 s of it to stop tasks and to commit.
POLICY: dict[str, object] = {"drain_time": 100.0, "stopping": 20.0}


def begin(end: float, slots: int = 1, **policy: object) -> Run:
    """A run with one client whose allocation ends at that time."""
    run = Run(**{**POLICY, **policy})
    run.join(1, slots)
    assert run.tell(ev.AllocationEnds(end)) == []
    return run


def submit(run: Run, *tasks: Task) -> list[str]:
    return run.tell(ev.TasksSubmitted(list(tasks)))


def sent(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("send")]


def test_tasks_without_a_limit_begin_until_drain_time_and_most_durations_are_left() -> None:
    run = begin(1000.0)
    assert run.scheduler.deadline() == 900.0
    run.submit("a b c d")
    run.now = 60.0
    assert sent(run.end(1, "a")) == ["send 1: b.1"]
    assert run.scheduler.deadline() == pytest.approx(1000 - 100 - 60, abs=7.6)
    run.now = 800.0
    assert sent(run.end(1, "b")) == ["send 1: c.1"]
    run.now = 840.0
    assert run.tell(ev.TimePassed()) == [
        "drain [1]",
        "warning: The allocation ends in 0:02:40: no new tasks, waiting for up to 1 that were given out",
    ]
    assert run.scheduler.stopping == "walltime"
    run.now = 850.0
    assert sent(run.end(1, "c")) == []
    assert run.durable() == ["dismiss [1]", "finish walltime: 3 good, 0 bad, 0 held, 1 left"]


def test_what_still_runs_is_stopped_before_the_end() -> None:
    run = begin(1000.0)
    run.submit("a b")
    run.now = 900.0
    assert run.tell(ev.TimePassed())[0] == "drain [1]"
    assert run.scheduler.deadline() == 980.0
    run.now = 980.0
    assert run.tell(ev.TimePassed()) == [
        "warning: The allocation ends in 0:00:20: stopping running tasks",
        "interrupt [1] by 9 s",
    ]
    run.give_back(1, "a")
    assert run.durable()[-1] == "finish walltime: 0 good, 0 bad, 0 held, 2 left"


def test_a_task_with_a_limit_begins_while_it_can_end() -> None:
    run = begin(1000.0, feed=True)
    submit(run, task("a", timeout=600.0), task("b", timeout=600.0), task("c", timeout=500.0), task("d"))
    run.now = 400.0  # b would need 600 s, and 20 s to be stopped
    assert sent(run.end(1, "a", seconds=1.0)) == ["send 1: c.1"]
    assert sent(run.end(1, "c", seconds=1.0)) == ["send 1: d.1"]
    assert run.end(1, "d", seconds=1.0) == ["record 5: d.1 succeeded"]
    assert run.feed_ended() == [
        "drain [1]",
        "warning: The allocation ends in 0:10:00: no new tasks, 1 could not end before that",
    ]
    assert run.durable()[-1] == "finish walltime: 3 good, 0 bad, 0 held, 1 left"


def test_tasks_for_nobody_here_do_not_hide_those_that_came_too_late() -> None:
    run = begin(1000.0, feed=True)
    submit(run, task("a", timeout=600.0), task("b", timeout=600.0), task("m", tag={"os": "darwin"}))
    run.tell(ev.FeedEnded())
    run.now = 500.0
    told = run.end(1, "a", seconds=1.0)
    assert "warning: The allocation ends in 0:08:20: no new tasks, 1 could not end before that" in told
    assert run.scheduler.stopping == "walltime"


def test_short_limits_are_served_when_others_begin_no_more() -> None:
    run = begin(1000.0)
    submit(run, task("a"), task("b"), task("c", timeout=30.0), task("d", timeout=30.0), task("e", timeout=90.0))
    run.now = 899.0
    assert run.tell(ev.TimePassed()) == []
    run.now = 905.0
    assert sent(run.end(1, "a", seconds=1.0)) == ["send 1: c.1"]
    assert run.scheduler.stopping is None
    run.now = 951.0
    lines = run.end(1, "c", seconds=1.0)  # 49 s are left, d would need 50
    assert "drain [1]" in lines and sent(lines) == []
    assert run.durable()[-1] == "finish walltime: 2 good, 0 bad, 0 held, 3 left"


def test_the_limit_of_all_tasks_counts_too() -> None:
    run = begin(1000.0, task_limit=600.0)
    submit(run, task("a", timeout=5000.0), task("b"))
    run.now = 381.0
    assert sent(run.end(1, "a", seconds=1.0)) == []
    run = begin(1000.0, task_limit=600.0)
    submit(run, task("a", timeout=5000.0), task("b"))
    run.now = 379.0
    assert sent(run.end(1, "a", seconds=1.0)) == ["send 1: b.1"]


def test_a_limit_that_a_submission_brings_counts_too() -> None:
    run = begin(1000.0)
    run.tell(ev.LimitFound(1, 600.0))
    submit(run, task("a", timeout=5000.0), task("b"))
    run.now = 381.0
    assert sent(run.end(1, "a", seconds=1.0)) == []


def test_a_shorter_limit_makes_a_task_begin_after_all() -> None:
    run = begin(1000.0)
    submit(run, task("a"), task("b", timeout=2000.0))
    assert sent(run.end(1, "a", seconds=1.0)) == []
    assert sent(run.change(task("b", timeout=20.0))) == ["send 1: b.1"]


def test_what_waits_can_be_cancelled_and_returns_stay_put_off() -> None:
    run = begin(1000.0, slots=2)
    submit(run, task("a", timeout=900.0), task("b", timeout=999.0), task("c", timeout=900.0))
    assert run.executions == {"a": 1, "c": 1}
    run.now = 500.0
    assert sent(run.give_back(1, "a")) == []
    assert run.cancel("b")[0] == "record 4: b.0 cancelled"
    assert run.scheduler.unfinished() == 2


def test_tasks_queued_behind_others_begin_later() -> None:
    """With a fixed bundle the third of a slot begins when two before it have ended."""
    run = begin(1000.0, bundlesize=10)
    submit(run, *(task(f"w{n}", timeout=300.0) for n in range(10)))
    for n in range(10):
        run.end(1, f"w{n}", seconds=250.0)
    run.now = 100.0
    lines = submit(run, *(task(f"t{n}", timeout=300.0) for n in range(10)))
    assert sent(lines) == ["send 1: t0.1 t1.1 t2.1"]


def test_a_short_allocation_still_runs_something() -> None:
    run = begin(60.0)
    assert run.scheduler.deadline() == 30.0
    assert sent(run.submit("a b")) == ["send 1: a.1"]


def test_an_allocation_that_is_over_runs_nothing() -> None:
    run = Run(**POLICY)
    run.join(1)
    run.now = 10.0
    lines = run.tell(ev.AllocationEnds(5.0))
    assert lines[0] == "drain [1]" and lines[1].startswith("warning: The allocation ends in 0:00:00")
    assert run.submit("a")[-1].startswith("record")
    assert run.durable()[-1] == "finish walltime: 0 good, 0 bad, 0 held, 1 left"


def test_term_drains_until_the_end_at_most() -> None:
    run = begin(50.0)
    run.submit("a")
    run.drain(100.0)
    assert run.scheduler.deadline() == 37.5  # half of the time is drain time, half of that is for stopping
    run = begin(1000.0)
    run.submit("a")
    run.drain(100.0)
    assert run.scheduler.deadline() == 100.0


def test_a_run_that_is_done_ends_as_such() -> None:
    run = begin(1000.0)
    run.submit("a")
    run.feed_ended()
    run.now = 990.0
    run.end(1, "a")
    assert run.durable()[-1] == "finish complete: 1 good, 0 bad, 0 held, 0 left"


def test_a_server_that_waits_for_tasks_ends_too() -> None:
    run = begin(1000.0, forever=True)
    run.now = 900.0
    assert run.tell(ev.TimePassed())[0] == "drain [1]"
    assert run.durable()[-1] == "finish walltime: 0 good, 0 bad, 0 held, 0 left"


def test_rows_in_the_store_are_not_read_without_end() -> None:
    run = begin(1000.0, window=4, feed=False)
    lines = run.tell(ev.WorkFound({0: 100}, {}))
    number = 0
    while any(line.startswith("load") for line in lines):
        lines = run.load([task(f"t{number + n}", timeout=5000.0) for n in range(2)], exhausted=False)
        number += 2
    assert number <= 8
    assert run.scheduler.stopping == "walltime"
    assert run.durable()[-1] == "finish walltime: 0 good, 0 bad, 0 held, 100 left"


# -- the quantile --------------------------------------------------------------------------------------------


def test_nothing_known_is_zero() -> None:
    assert Durations().value == 0.0


@given(st.lists(st.floats(0.002, 1e8), min_size=1, max_size=200))
def test_the_quantile_is_never_too_small_and_an_eighth_too_large_at_most(values: list[float]) -> None:
    durations = Durations()
    for value in values:
        durations.add(value)
    exact = sorted(values)[max(0, -(-9 * len(values) // 10) - 1)]
    assert exact * (1 - 1e-9) <= durations._walk() <= exact * 1.1251


def test_it_follows_the_durations_in_bounded_memory() -> None:
    durations = Durations()
    for n in range(100_000):
        durations.add(1.0 if n % 20 else 100.0)
    assert 1.0 <= durations.value <= 1.125
    size = len(durations._buckets)
    for _ in range(100_000):
        durations.add(100.0)
    assert 100.0 <= durations.value <= 112.5 and len(durations._buckets) == size


def test_what_clients_may_send_does_no_harm() -> None:
    durations = Durations()
    for value in (nan, inf, -inf, -5.0, 0.0, 5e-324, 1.7e308):
        durations.add(value)
    assert durations.count == 4 and durations.value > 0


@given(st.floats(0, 1e6), st.floats(0, 1e5), st.floats(0, 1e5), st.floats(-1e6, 1e6))
def test_drain_and_stopping_fit_into_what_is_left(end: float, drain: float, stopping: float, now: float) -> None:
    walltime = Walltime(end, now, drain, stopping, None, Durations())
    assert 0 <= walltime.stopping <= walltime.drain <= max(0.0, walltime.left)
    closing = walltime.close_at()
    assert closing is not None and closing <= walltime.stop_at() <= walltime.end


@given(
    st.floats(0.1, 1e5), st.floats(0.0, 1e5), st.floats(0.0, 1e4), st.floats(0.0, 1.0), st.booleans()
)
def test_a_task_that_ignores_all_signals_is_killed_and_recorded_before_the_end(
    left: float, drain: float, wait: float, share: float, early: bool
) -> None:
    """Whatever drain time, ``--signalwait`` and walltime: the last signal leaves time to commit."""
    walltime = Walltime(left, 0.0, drain, 2 * wait + 5.0, None, Durations())
    begins = walltime.stop_at() * (share if early else 1.0)
    steps = ladder(min(wait, walltime.grace(begins)), False, begins)
    assert steps[0][1] == KILL
    kept = min(COMMIT, (left - begins) / 2)
    assert steps[0][0] <= left - kept + 1e-6
    assert kept > 0
