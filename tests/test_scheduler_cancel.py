"""Cancelling under a running scheduler, as stories (see ``tests.sim.trace``)."""

from __future__ import annotations

from hypershell.core import events as ev
from hypershell.core.model import Special
from tests.sim.trace import Run, running, task


def test_a_ready_task_is_dropped() -> None:
    run = running("a b c", 1)
    assert run.cancel("b") == ["record 3: b.0 cancelled"]
    run.feed_ended()
    assert run.end(1, "a")[-1] == "send 1: c.1"
    run.end(1, "c")
    assert run.durable()[-1] == "finish complete: 2 good, 0 bad, 0 held, 0 left, 1 cancelled"


def test_a_dispatched_task_is_stopped_by_its_client() -> None:
    run = running("a b", 1, attempts=3)
    assert run.cancel("a") == ["cancel 1: a.1"]
    assert run.stopped(1, "a") == ["record 3: a.1 cancelled, dispatch b.1>1", "send 1: b.1"]
    run.feed_ended()
    run.end(1, "b")
    assert run.durable()[-1] == "finish complete: 1 good, 0 bad, 0 held, 0 left, 1 cancelled"


def test_whatever_the_stopped_task_exits_with() -> None:
    run = running("a", 1, attempts=3)
    run.cancel("a")
    assert run.stopped(1, "a", 0) == ["record 3: a.1 cancelled"]


def test_a_result_that_was_faster_stands_and_is_not_tried_again() -> None:
    run = running("a b", 2, attempts=3)
    run.cancel("a b")
    assert run.end(1, "a") == ["record 3: a.1 succeeded"]
    assert run.end(1, "b", 3) == ["record 4: b.1 failed"]


def test_where_the_store_has_the_last_word_no_result_counts() -> None:
    run = running("a", 1)
    assert run.cancel("", settled="a") == ["cancel 1: a.1"]
    assert run.end(1, "a") == ["record 3: a.1 cancelled"]
    run.feed_ended()
    assert run.durable()[-1] == "finish complete: 0 good, 0 bad, 0 held, 0 left, 1 cancelled"


def test_a_lost_client_and_a_return_end_what_was_cancelled() -> None:
    run = running("a b c", 3, poison=0)
    run.join(2)
    run.cancel("a b")
    assert run.give_back(1, "a") == ["record 4: a.1 cancelled"]
    lines = run.lose(1)
    assert lines == ["record 5: client 1 lost: silence, b.1 cancelled, c.1 back, dispatch c.2>2", "send 2: c.2"]
    assert run.stopped(1, "b.1") == []


def test_what_waits_for_its_dispatch_is_never_sent() -> None:
    run = Run(durable_dispatch=True)
    run.join(1, 2)
    assert run.submit("a b c")[0] == "record 2: insert a b c, dispatch a.1>1 b.1>1"
    assert run.cancel("a") == ["record 3: a.1 cancelled, dispatch c.1>1"]
    assert run.durable() == ["send 1: b.1", "send 1: c.1"]


def test_a_cancelled_task_holds_no_group_back() -> None:
    run = running("a", 1)
    run.submit("z", group=1)
    run.feed_ended()
    run.cancel("a")
    assert run.stopped(1, "a") == [
        "record 4: a.1 cancelled",
        "info: Completed task group 0 - starting task group 1",
        "load group 1, 4096",
    ]


def test_what_only_the_store_held_is_not_waited_for() -> None:
    run = Run(feed=False)
    run.join(1)
    assert run.tell(ev.WorkFound({0: 2}))[-1] == "load group 0, 4096"
    assert run.cancel("", settled="b") == []
    run.load([task("a")])
    run.end(1, "a")
    assert run.durable()[-1] == "finish complete: 1 good, 0 bad, 0 held, 0 left, 1 cancelled"


def test_a_page_on_its_way_does_not_bring_it_back() -> None:
    run = Run(feed=False)
    run.join(1)
    run.tell(ev.WorkFound({0: 3}))
    assert run.load([task("a"), task("b")], exhausted=False)[-1].startswith("load group 0")
    run.cancel("b")
    run.load([task("b"), task("c")])
    assert run.end(1, "a")[-1] == "send 1: c.1"
    run.end(1, "c")
    assert run.durable()[-1] == "finish complete: 2 good, 0 bad, 0 held, 0 left, 1 cancelled"


def test_unknown_tasks_and_stopping() -> None:
    run = running("a", 1)
    assert run.cancel("x") == []
    run.drain()
    assert run.cancel("a") == ["cancel 1: a.1"]
    assert run.cancel("a") == ["cancel 1: a.1"]
    run.stopped(1, "a", Special.CANCELLED)
    assert run.durable()[-1] == "finish drained: 0 good, 0 bad, 0 held, 0 left, 1 cancelled"


def test_a_client_that_says_cancelled_unasked_reports_a_failure() -> None:
    run = running("a", 1)
    assert run.stopped(1, "a") == ["record 3: a.1 failed"]


def test_a_task_that_is_cancelled_twice_counts_once() -> None:
    """The second user found it waiting in the store, where the record of the first had not come yet."""
    run = running("a b", 1)
    assert run.cancel("b") == ["record 3: b.0 cancelled"]
    run.cancel("", settled="b")
    run.feed_ended()
    run.end(1, "a")
    assert run.durable()[-1] == "finish complete: 1 good, 0 bad, 0 held, 0 left, 1 cancelled"
