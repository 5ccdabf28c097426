"""Groups: which one is current and what holds another back; alone, and as stories of the scheduler."""

from __future__ import annotations

from hypershell.core import events as ev
from hypershell.core.groups import Group, Groups
from tests.sim.trace import HELD, Run, running, task


def test_what_goes_first() -> None:
    group = Group(0)
    group.ready.extend([task("a"), task("b")])
    group.front.append(task("r"))
    assert group.in_memory() == 3
    assert [group.take().id for _ in range(3)] == ["r", "a", "b"]


def test_unfinished_is_all_that_is_somewhere() -> None:
    group = Group(0)
    group.ready.append(task("a"))
    group.front.append(task("b"))
    group.inflight = 3
    group.store(2)
    assert (group.unfinished(), group.in_memory(), group.fresh) == (7, 2, 2)


def test_only_the_first_failures_are_named() -> None:
    group = Group(0)
    for number in range(8):
        group.fail(f"t{number}")
    assert group.failed == 8
    assert group.failures == ["t0", "t1", "t2", "t3", "t4"]


def test_groups_wait_in_ascending_order() -> None:
    groups = Groups()
    for number in (5, 2, 9, 0, 5):
        groups.store(groups.get(number))
    groups.current = groups.get(2)
    groups.get(9).stored = 0
    assert groups.unfinished() == 4
    assert {group.number for group in groups} == {0, 2, 5, 9}
    order = []
    while (waiting := groups.waiting()) is not None:
        assert groups.waiting() is waiting
        order.append(waiting.number)
        groups.current, waiting.stored = waiting, 0
    assert order == [0, 2, 5]


def test_a_group_that_gets_work_again_waits_again() -> None:
    groups = Groups()
    one = groups.current = groups.get(1)
    groups.store(one, 3)
    assert groups.waiting() is None
    one.stored = 0
    groups.current = groups.get(4)
    assert groups.waiting() is None
    groups.store(one)
    assert groups.waiting() is one


def test_the_lowest_failed_group_below_holds() -> None:
    groups = Groups()
    for number in (3, 1, 4):
        groups.fail(groups.get(number), "x")
    groups.failed_before(groups.get(2), 5)
    groups.failed_before(groups.get(0), 0)
    assert groups.holder(1) is None
    assert groups.holder(4) is groups.get(1)
    assert groups.holder(0) is None
    assert groups.get(2).failed == 5


# -- stories -------------------------------------------------------------------------------------------------


def test_of_the_first_lines_the_lowest_group_runs_first() -> None:
    run = Run()
    run.join(1)
    assert run.tell(ev.TasksSubmitted([task("e", 5), task("a", 1), task("f", 5)]))[0].endswith("dispatch a.1>1")
    assert run.end(1, "a") == [
        "record 3: a.1 succeeded",
        "info: Completed task group 1 - starting task group 5",
        "load group 5, 4096",
    ]


def test_from_a_file_later_groups_wait_for_its_end() -> None:
    run = Run(barrier_at_end=True)
    run.join(1, 2)
    run.submit("b", group=1)
    assert run.submit("a")[-1] == "send 1: a.1"
    assert run.end(1, "a") == ["record 4: a.1 succeeded"]
    assert run.feed_ended() == ["info: Completed task group 0 - starting task group 1", "load group 1, 4096"]
    assert run.load([task("b", 1)], group=1)[-1] == "send 1: b.1"


def test_from_stdin_the_next_group_waits_only_for_what_is_there() -> None:
    run = running("a", 1)
    run.submit("b", group=1)
    assert run.end(1, "a")[1:] == ["info: Completed task group 0 - starting task group 1", "load group 1, 4096"]
    run.load([task("b", 1)], group=1)
    assert run.submit("c", group=0) == ["record 6: insert c"]
    assert run.end(1, "b")[1:] == ["info: Completed task group 1 - starting task group 0", "load group 0, 4096"]
    assert run.load([task("c")])[-1] == "send 1: c.1"


def test_lines_for_a_group_that_was_done_wait_for_lower_ones_that_come_with_them() -> None:
    run = running("a", 1)
    run.submit("b", group=1)
    run.end(1, "a")
    run.load([task("b", 1)], group=1)
    run.end(1, "b")
    assert run.tell(ev.TasksSubmitted([task("c", 1), task("d", 0)]))[0].endswith("dispatch d.1>1")
    assert run.end(1, "d")[1:] == ["info: Completed task group 0 - starting task group 1", "load group 1, 4096"]
    assert run.load([task("c", 1)], group=1)[-1] == "send 1: c.1"


def test_a_retry_belongs_to_the_group_and_holds_the_next() -> None:
    run = running("a", 1, attempts=2)
    run.submit("b", group=1)
    assert run.end(1, "a", 1)[-1] == "send 1: r1.1"
    assert "info: Completed task group 0 - starting task group 1" in run.end(1, "r1")


def test_a_failed_group_holds_the_later_ones() -> None:
    run = running("a", 1)
    run.submit("b c", group=1)
    run.feed_ended()
    assert run.end(1, "a", 3) == [
        "record 4: a.1 failed",
        f"critical: Failed task group 0: 1 failed (a); {HELD}",
    ]
    assert run.durable() == ["dismiss [1]", "finish group failed: 0 good, 1 bad, 2 held, 0 left"]


def test_forever_a_failed_group_holds_the_later_ones_and_the_run_goes_on() -> None:
    run = running("a", 1, forever=True)
    run.submit("b", group=1)
    run.feed_ended()
    assert run.end(1, "a", 3)[-1] == f"warning: Failed task group 0: 1 failed (a); {HELD}"
    assert run.durable() == []
    assert run.submit("c")[-1] == "send 1: c.1"
    assert run.end(1, "c") == [f"record {run.last_seq}: c.1 succeeded"]
    run.durable()
    assert run.drain() == ["drain [1]", "dismiss [1]", "finish drained: 1 good, 1 bad, 0 held, 1 left"]


def test_a_failed_last_group_holds_nobody() -> None:
    run = running("a", 1)
    run.feed_ended()
    run.end(1, "a", 3)
    assert run.durable()[-1] == "finish complete: 0 good, 1 bad, 0 held, 0 left"
