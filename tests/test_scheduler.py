"""The scheduler as stories: what it is told, and what it wants done, line by line (see ``tests.sim.trace``)."""

from __future__ import annotations

import msgspec
import pytest

from hypershell.core import events as ev
from hypershell.core.model import FeedMark, Result
from tests.sim.trace import HELD, Run, running, task

STARTING = "info: Starting with task group 0"

# -- the ordinary way ----------------------------------------------------------------------------------------


def test_from_the_first_line_to_the_end() -> None:
    run = Run()
    assert run.join(1, 2) == ["record 1: client 1 joined"]
    assert run.submit("a b c") == [
        "record 2: insert a b c, dispatch a.1>1 b.1>1",
        STARTING,
        "send 1: a.1 b.1",
    ]
    assert run.end(1, "a") == ["record 3: a.1 succeeded, dispatch c.1>1", "send 1: c.1"]
    assert run.feed_ended(FeedMark(1, 6, 3, "", True)) == ["record 4: mark 3 complete"]
    assert run.end(1, "b c") == ["record 5: b.1 succeeded, c.1 succeeded"]
    assert run.durable() == ["dismiss [1]", "finish complete: 3 good, 0 bad, 0 held, 0 left"]
    assert run.join(2) == []
    assert run.scheduler.finished


def test_the_end_waits_until_all_is_durable() -> None:
    run = running("a")
    run.feed_ended()
    run.end(1, "a")
    assert run.durable(run.last_seq - 1) == []
    assert run.durable(run.last_seq) == ["dismiss [1]", "finish complete: 1 good, 0 bad, 0 held, 0 left"]


def test_empty_input_ends_at_once() -> None:
    run = Run()
    assert run.feed_ended() == ["dismiss []", "finish complete: 0 good, 0 bad, 0 held, 0 left"]


def test_empty_input_with_a_client() -> None:
    run = Run()
    run.join(1)
    assert run.feed_ended() == []
    assert run.durable() == ["dismiss [1]", "finish complete: 0 good, 0 bad, 0 held, 0 left"]


def test_pauses_of_the_input_do_not_end_the_run() -> None:
    """Defect 1 of the tool before: all that was submitted *so far* is done, yet more is to come."""
    run = running("a")
    run.end(1, "a")
    assert run.durable() == []
    assert run.submit("b")[-1] == "send 1: b.1"
    run.end(1, "b")
    assert run.durable() == []
    assert run.feed_ended() == ["dismiss [1]", "finish complete: 2 good, 0 bad, 0 held, 0 left"]


def test_finished_rows_of_earlier_runs_are_nothing() -> None:
    """Defect 2: old tasks in the database, all done, must not end a run whose input has not been read."""
    run = Run()
    run.join(1)
    assert run.tell(ev.WorkFound({}, {})) == []
    assert run.durable() == []
    assert run.submit("a")[-1] == "send 1: a.1"
    run.end(1, "a")
    run.feed_ended()
    assert run.durable()[-1] == "finish complete: 1 good, 0 bad, 0 held, 0 left"


def test_a_late_client_gets_nothing_and_is_dismissed_with_the_others() -> None:
    run = running("a", 1, closed=False)
    run.feed_ended()
    run.end(1, "a")
    assert run.join(2) == ["record 4: client 2 joined"]
    assert run.durable() == ["dismiss [1, 2]", "finish complete: 1 good, 0 bad, 0 held, 0 left"]


def test_clients_take_turns() -> None:
    run = Run()
    run.join(1)
    run.join(2)
    assert run.submit("a b c")[2:] == ["send 1: a.1", "send 2: b.1"]
    assert run.end(2, "b")[-1] == "send 2: c.1"


# -- failures and retries ------------------------------------------------------------------------------------


def test_a_retry_is_a_linked_row_with_every_attribute() -> None:
    """Defect 8: the tool before lost cores, memory and timeout of a retried task."""
    run = Run(attempts=2)
    run.join(1)
    tag = {"site": "b", "n": 2}
    first = task("a", 3, timeout=9.5, tag=tag, cores=4, memory=1 << 33, raw=b"\xff", submit_time=7.0)
    run.tell(ev.TasksSubmitted([first]))
    assert run.end(1, "a", 1) == ["record 3: insert r1, a.1 failed -> r1, dispatch r1.1>1", "send 1: r1.1"]
    again = msgspec.to_builtins(run.inserted["r1"])
    changed = {"id": "r1", "attempt": 2, "previous_id": "a", "execution": 1}
    names = first.__struct_fields__
    old = dict(zip(names, msgspec.to_builtins(first), strict=True))
    new = dict(zip(names, again, strict=True))
    old.pop("schedule_time"), new.pop("schedule_time")
    assert new == old | changed
    run.feed_ended()
    run.end(1, "r1", 1)
    assert run.durable()[-1] == "finish complete: 0 good, 1 bad, 0 held, 0 left"


def test_retries_come_after_new_tasks() -> None:
    run = running("a b c d", 1, attempts=2)
    assert run.end(1, "a", 1)[-1] == "send 1: b.1"
    assert run.end(1, "b", 1)[-1] == "send 1: c.1"
    run.end(1, "c")
    assert [run.end(1, name)[-1] for name in ("d", "r1")] == ["send 1: r1.1", "send 1: r2.1"]


def test_eager_retries_come_first() -> None:
    run = running("a b c d", 1, attempts=2, eager=True)
    assert run.end(1, "a", 1)[-1] == "send 1: r1.1"
    assert run.end(1, "r1")[-1] == "send 1: b.1"


def test_returned_tasks_go_before_eager_retries() -> None:
    run = Run(attempts=2, eager=True, closed=False, poison=0)
    run.join(1, 2)
    run.submit("a b c")
    run.end(1, "a", 1)  # r1 takes the slot
    run.lose(1)
    run.join(2, 1)
    assert run.executions == {"a": 1, "b": 2, "r1": 1}
    assert run.end(2, "b")[-1] == "send 2: r1.2"


def test_an_error_is_a_failure_whatever_the_status() -> None:
    run = running("a", attempts=1)
    result = Result("a", 1, 0, 1000.0, 1001.0, error="timeout")
    assert run.tell(ev.ResultsReceived(1, [result])) == ["record 3: a.1 failed"]
    assert run.scheduler.counts.failed == 1


def test_death_by_hangup_is_a_failure() -> None:
    """Defect 17: a status of -1 once meant something else."""
    run = running("a", attempts=2)
    assert run.end(1, "a", -1)[0].startswith("record 3: insert r1, a.1 failed -> r1")


def test_rejected_lines_are_final_failures_of_their_group() -> None:
    run = Run()
    run.join(1)
    lines = run.tell(ev.TasksSubmitted([task("a")], FeedMark(1, 9, 2, ""), [(task("x"), "NUL in line 2")]))
    assert lines[0] == "record 2: insert a x, x.0 failed, dispatch a.1>1, mark 2"
    run.feed_ended()
    run.end(1, "a")
    assert run.durable()[-1] == "finish complete: 1 good, 1 bad, 0 held, 0 left"


def test_a_rejected_line_holds_later_groups() -> None:
    run = Run()
    run.join(1)
    lines = run.tell(ev.TasksSubmitted([task("b", 1)], None, [(task("x", 0), "NUL")]))
    assert lines[-1] == f"critical: Failed task group 0: 1 failed (x); {HELD}"
    run.feed_ended()
    assert run.durable()[-1] == "finish group failed: 0 good, 1 bad, 1 held, 0 left"


# -- clients that go -----------------------------------------------------------------------------------------


def test_a_lost_client_costs_no_retry_and_its_tasks_come_first() -> None:
    run = Run(attempts=2, poison=0)
    run.join(1, 2)
    run.join(2, 1)
    run.submit("a b c d e")
    assert run.executions == {"a": 1, "b": 1, "c": 1}
    assert run.lose(1) == ["record 4: client 1 lost: silence, a.1 back, b.1 back"]
    assert run.end(2, "c")[-1] == "send 2: a.2"
    assert run.end(2, "a")[-1] == "send 2: b.2"
    assert run.end(2, "b", 1)[-1] == "send 2: d.1"
    assert run.scheduler.counts.lost == 2
    assert run.inserted["r1"].attempt == 2


def test_results_of_older_executions_are_counted_and_ignored() -> None:
    run = Run(poison=0)
    run.join(1)
    run.join(2)
    run.submit("a")
    run.lose(1)
    assert run.executions["a"] == 2
    assert run.end(1, "a.1") == []
    assert run.end(2, "a.1") == []
    assert run.give_back(2, "a.1") == []
    assert run.end(2, "nonsense.1") == []
    assert run.scheduler.counts.stale == 4
    assert run.end(2, "a.2") == ["record 5: a.2 succeeded"]
    assert run.end(2, "a.2") == []
    assert run.scheduler.counts.stale == 5


def test_tasks_that_a_client_gives_back_go_to_others() -> None:
    run = running("a b", 1)
    assert run.give_back(1, "a") == ["record 3: a.1 back, dispatch a.2>1", "send 1: a.2"]


def test_a_client_that_says_hello_twice_is_a_new_one() -> None:
    run = running("a b", 1)
    assert run.join(1, 2) == [
        "record 3: client 1 lost: joined again, client 1 joined, a.1 back, dispatch a.2>1 b.1>1",
        "send 1: a.2 b.1",
    ]
    assert run.scheduler.stopping is None


def test_without_clients_a_closed_run_ends() -> None:
    run = running("a b", 1)
    run.feed_ended()
    assert run.lose(1) == ["record 3: client 1 lost: silence, a.1 back", "drain []"]
    assert run.durable() == ["dismiss []", "finish no clients left: 0 good, 0 bad, 0 held, 2 left"]


def test_a_closed_run_waits_for_all_its_first_clients() -> None:
    run = Run(expected=2, poison=0)
    run.join(1)
    run.submit("a")
    assert run.lose(1) == ["record 3: client 1 lost: silence, a.1 back"]
    assert run.join(2)[-1] == "send 2: a.2"
    assert run.lose(2)[-1] == "drain []"
    assert run.durable()[-1] == "finish no clients left: 0 good, 0 bad, 0 held, 1 left"


def test_clients_lost_before_they_joined_are_counted() -> None:
    run = Run(expected=2)
    assert run.lose(2) == []
    assert run.lose(2) == []
    assert run.lose(1) == ["drain []", "dismiss []", "finish no clients left: 0 good, 0 bad, 0 held, 0 left"]


def test_idle_clients_that_leave_end_a_closed_run() -> None:
    """Their time without work is over while the input pauses."""
    run = Run(expected=2)
    run.join(1)
    run.join(2)
    assert run.leave(1) == ["record 3: client 1 left"]
    assert run.leave(2) == ["record 4: client 2 left", "drain []"]
    assert run.durable() == ["dismiss []", "finish idle: 0 good, 0 bad, 0 held, 0 left"]


def test_where_clients_can_come_the_run_waits_for_them() -> None:
    run = Run(closed=False, poison=0)
    run.join(1)
    run.submit("a")
    run.lose(1)
    assert run.durable() == []
    assert run.join(2)[-1] == "send 2: a.2"


@pytest.mark.parametrize("end", [float("nan"), float("inf"), -1e300])
def test_senseless_times_of_a_client_do_no_harm(end: float) -> None:
    run = running("a b c d", 1)
    run.tell(ev.ResultsReceived(1, [Result("a", 1, 0, 0.0, end)]))
    assert "b" in run.executions
    run.end(1, "b")
    assert "c" in run.executions


# -- how runs are stopped ------------------------------------------------------------------------------------


def test_drain() -> None:
    run = running("a b c", 2, bundlesize=2)
    assert run.drain() == ["drain [1]"]
    assert run.submit("d")[0].endswith("insert d")
    assert run.join(2)[0].endswith("client 2 joined")
    assert run.give_back(1, "b c")[0].endswith("b.1 back, c.1 back")
    assert run.end(1, "a", 1)[0].endswith("a.1 failed")
    assert run.durable() == ["dismiss [1, 2]", "finish drained: 0 good, 1 bad, 0 held, 3 left"]


def test_a_retry_is_recorded_while_draining() -> None:
    run = running("a", 1, attempts=2)
    run.drain()
    assert run.end(1, "a", 1) == ["record 3: insert r1, a.1 failed -> r1"]
    assert run.durable()[-1] == "finish drained: 0 good, 0 bad, 0 held, 1 left"


def test_drain_with_a_limit_interrupts_in_time() -> None:
    run = running("a b", 2)
    run.now = 10.0
    run.drain(limit=5.0)
    assert run.scheduler.deadline() == 15.0
    run.now = 14.9
    assert run.tell(ev.TimePassed()) == []
    run.now = 15.0
    assert run.tell(ev.TimePassed()) == ["interrupt [1]"]
    assert run.scheduler.deadline() is None
    run.give_back(1, "a b")
    assert run.durable()[-1] == "finish interrupted: 0 good, 0 bad, 0 held, 2 left"


def test_the_nearest_limit_of_several_drains_counts() -> None:
    run = running("a")
    run.drain()
    assert run.drain(limit=5.0) == []
    assert run.scheduler.deadline() == 5.0
    run.drain(limit=50.0)
    assert run.scheduler.deadline() == 5.0
    run.drain(limit=1.0)
    assert run.scheduler.deadline() == 1.0


def test_a_run_is_interrupted_where_tasks_were_stopped() -> None:
    """A signal that finds nothing running stops nothing: the run was drained."""
    run = running("a b", 1)
    run.drain()
    run.end(1, "a")
    run.interrupt()
    assert run.durable()[-1] == "finish drained: 1 good, 0 bad, 0 held, 1 left"


def test_interrupt() -> None:
    run = running("a b c", 2)
    assert run.interrupt() == ["drain [1]", "interrupt [1]"]
    assert run.interrupt() == []
    assert run.drain(limit=3.0) == []
    assert run.scheduler.deadline() is None
    assert run.give_back(1, "a b") == ["record 3: a.1 back, b.1 back"]
    assert run.durable() == ["dismiss [1]", "finish interrupted: 0 good, 0 bad, 0 held, 3 left"]


def test_interrupt_after_drain() -> None:
    run = running("a", 1)
    assert run.drain(limit=60.0) == ["drain [1]"]
    assert run.interrupt() == ["interrupt [1]"]
    run.give_back(1, "a")
    assert run.durable()[-1] == "finish interrupted: 0 good, 0 bad, 0 held, 1 left"


def test_a_client_lost_while_draining_holds_nothing_up() -> None:
    run = running("a", 1)
    run.drain()
    assert run.lose(1) == ["record 3: client 1 lost: silence, a.1 back"]
    assert run.durable()[-1] == "finish drained: 0 good, 0 bad, 0 held, 1 left"


def test_a_failed_store_ends_the_run_without_waiting_for_it() -> None:
    run = running("a b", 1)
    assert run.tell(ev.StoreFailed("disk full: free some space")) == [
        "critical: disk full: free some space",
        "drain [1]",
        "interrupt [1]",
    ]
    assert run.give_back(1, "a") == [
        "record 3: a.1 back",
        "dismiss [1]",
        "finish store failed: 0 good, 0 bad, 0 held, 2 left",
    ]


def test_a_store_that_fails_while_draining_is_the_reason() -> None:
    run = running("a", 1)
    run.drain()
    run.tell(ev.StoreFailed("disk full"))
    assert run.end(1, "a")[-1] == "finish store failed: 1 good, 0 bad, 0 held, 0 left"


def test_a_stalled_store_holds_work_back_until_it_takes_records_again() -> None:
    run = running("a b c", 1)
    assert run.tell(ev.StoreStalled()) == []
    assert run.end(1, "a") == ["record 3: a.1 succeeded"]
    assert run.tell(ev.StoreResumed()) == ["record 4: dispatch b.1>1", "send 1: b.1"]


def test_a_stalled_store_does_not_keep_a_run_from_draining() -> None:
    run = running("a b", 1)
    run.tell(ev.StoreStalled())
    run.drain()
    run.end(1, "a")
    assert run.durable()[-1] == "finish drained: 1 good, 0 bad, 0 held, 1 left"
