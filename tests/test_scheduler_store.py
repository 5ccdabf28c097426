"""Work that waits in the store, dispatches that wait for it, and the brake: stories of the scheduler."""

from __future__ import annotations

from hypershell.core import events as ev
from tests.sim.trace import HELD, Run, task

STARTING = "info: Starting with task group 0"


# -- durable dispatch ----------------------------------------------------------------------------------------


def test_a_durable_dispatch_is_sent_once_it_is_committed() -> None:
    run = Run(durable_dispatch=True)
    run.join(1)
    assert run.submit("a b") == ["record 2: insert a b, dispatch a.1>1", STARTING]
    assert run.durable(1) == []
    assert run.durable(2) == ["send 1: a.1"]
    assert run.end(1, "a") == ["record 3: a.1 succeeded, dispatch b.1>1"]
    assert run.durable() == ["send 1: b.1"]


def test_a_commit_is_asked_for_where_a_dispatch_or_the_end_waits_for_it() -> None:
    run = Run(durable_dispatch=True)
    run.join(1)
    assert run.asked == []
    run.submit("a")
    assert run.asked == [2]
    run.durable()
    run.feed_ended()
    assert run.asked == [2]
    run.end(1, "a")
    assert run.asked == [2, 3]
    assert run.durable()[-1].startswith("finish complete")
    assert run.asked == [2, 3]


def test_what_nobody_waits_for_is_committed_when_the_writer_likes() -> None:
    run = Run()
    run.join(1)
    run.submit("a b")
    run.end(1, "a")
    run.feed_ended()
    assert run.asked == []
    run.end(1, "b")
    assert run.asked == [run.last_seq]


def test_what_was_not_yet_sent_comes_back_on_drain() -> None:
    run = Run(durable_dispatch=True)
    run.join(1, 2)
    run.submit("a b")
    assert run.drain() == ["record 3: a.1 back, b.1 back", "drain [1]"]
    assert run.durable() == ["dismiss [1]", "finish drained: 0 good, 0 bad, 0 held, 2 left"]


def test_what_was_not_yet_sent_to_a_lost_client_goes_to_another() -> None:
    run = Run(durable_dispatch=True)
    run.join(1)
    run.join(2)
    run.submit("a")
    assert run.lose(1) == ["record 4: client 1 lost: silence, a.1 back, dispatch a.2>2"]
    assert run.durable() == ["send 2: a.2"]


# -- work in the store ---------------------------------------------------------------------------------------


def test_what_does_not_fit_stays_in_the_store_and_is_loaded_later() -> None:
    run = Run(window=2)
    run.join(1)
    assert run.submit("a b c d")[0].endswith("dispatch a.1>1")
    assert run.scheduler.unfinished() == 4
    lines = run.end(1, "a")
    assert lines[-1].startswith("send 1: b.1")
    assert run.load([task("c"), task("d")]) == []
    assert run.end(1, "b")[-1] == "send 1: c.1"
    assert run.end(1, "c")[-1] == "send 1: d.1"
    run.feed_ended()
    run.end(1, "d")
    assert run.durable()[-1] == "finish complete: 4 good, 0 bad, 0 held, 0 left"


def test_loading_asks_for_as_much_as_there_is_room() -> None:
    run = Run(window=4)
    run.join(1)
    assert run.submit("a b c d e f g")[-1] == "send 1: a.1"
    assert run.end(1, "a")[-1:] == ["load group 0, 2"]
    assert run.end(1, "b")[-1] == "send 1: c.1"  # no second question while one is open


def test_loaded_tasks_that_are_known_or_settled_are_skipped() -> None:
    run = Run(window=4)
    run.join(1, 2)
    run.submit("a b c d e f")  # e and f are in the store; a and b run
    assert run.scheduler.unfinished() == 6
    run.end(1, "a")
    run.end(1, "b")
    run.load([task("a"), task("b"), task("c"), task("d"), task("e")], exhausted=False)
    assert run.scheduler.unfinished() == 4
    run.load([task("f")])
    assert sorted(run.executions) == ["a", "b", "c", "d"]
    run.end(1, "c d", seconds=60)
    assert sorted(run.executions) == ["a", "b", "c", "d", "e", "f"]


def test_an_exhausted_store_corrects_the_count() -> None:
    """Somebody cancelled tasks meanwhile: what is not there is not waited for."""
    run = Run()
    run.join(1)
    assert run.tell(ev.WorkFound({0: 3})) == [STARTING, "load group 0, 4096"]
    run.load([task("a")], exhausted=True)
    run.feed_ended()
    run.end(1, "a")
    assert run.durable()[-1] == "finish complete: 1 good, 0 bad, 0 held, 0 left"


def test_rows_that_came_after_the_question_are_asked_for_again() -> None:
    run = Run()
    run.join(1)
    run.tell(ev.WorkFound({0: 1}))
    assert run.submit("b") == ["record 2: insert b"]
    assert run.load([task("a")], exhausted=True)[-1] == "load group 0, 4096"
    assert run.load([task("b")]) == []
    run.feed_ended()
    assert run.end(1, "a")[-1] == "send 1: b.1"


def test_a_run_does_not_end_while_it_is_loading() -> None:
    run = Run(feed=False)
    run.join(1)
    run.tell(ev.WorkFound({0: 1}))
    assert run.durable() == []
    assert run.load([task("a", 0, execution=4, attempt=2)])[-1] == "send 1: a.5"


def test_restart_takes_up_what_is_left() -> None:
    run = Run(feed=False, attempts=2)
    assert run.tell(ev.WorkFound({0: 2, 1: 1})) == [STARTING, "load group 0, 4096"]
    run.join(1, 2)
    assert run.load([task("a", execution=1), task("b")]) == ["record 2: dispatch a.2>1 b.1>1", "send 1: a.2 b.1"]
    assert run.end(1, "a b")[-1] == "load group 1, 4096"
    run.load([task("c", 1)], group=1)
    run.end(1, "c")
    assert run.durable()[-1] == "finish complete: 3 good, 0 bad, 0 held, 0 left"


def test_failures_of_the_run_before_hold_its_groups() -> None:
    run = Run(feed=False)
    run.join(1)
    assert run.tell(ev.WorkFound({1: 4}, {0: 2})) == [
        f"critical: Failed task group 0: 2 failed (failures of an earlier run); {HELD}"
    ]
    assert run.durable()[-1] == "finish group failed: 0 good, 0 bad, 4 held, 0 left"


def test_tasks_that_were_given_again_have_all_their_retries() -> None:
    run = Run(feed=False, attempts=2)
    run.join(1, 2)
    run.tell(ev.WorkFound({0: 2}))
    run.load([task("given", attempt=3, tried=2), task("plain", attempt=2)])
    assert run.end(1, "plain", 1) == ["record 3: plain.1 failed"]
    assert run.end(1, "given", 1)[0] == "record 4: insert r1, given.1 failed -> r1, dispatch r1.1>1"
    assert (run.inserted["r1"].attempt, run.inserted["r1"].tried) == (4, 2)
    assert run.end(1, "r1", 1) == ["record 5: r1.1 failed"]
    assert run.durable()[-1] == "finish complete: 0 good, 2 bad, 0 held, 0 left"


def test_new_lines_do_not_pass_failures_of_the_run_before() -> None:
    run = Run()
    run.join(1)
    run.tell(ev.WorkFound({}, {0: 1}))
    assert run.submit("b", group=1)[-1].startswith("critical: Failed task group 0")


def test_retries_go_to_the_store_when_others_wait_there() -> None:
    run = Run(window=2, attempts=2)
    run.join(1)
    run.submit("a b c")
    assert run.end(1, "a", 1)[0] == "record 3: insert r1, a.1 failed -> r1, dispatch b.1>1"
    assert run.end(1, "b")[1:] == []
    assert run.load([task("c"), run.inserted["r1"]])[-1] == "send 1: c.1"
    assert run.end(1, "c")[-1] == "send 1: r1.1"


# -- the brake -----------------------------------------------------------------------------------------------


def test_a_full_memory_store_brakes_the_feed() -> None:
    run = Run(window=4, brake=True)
    run.join(1)
    assert run.submit("a b c d e")[-1] == "pause"
    assert run.scheduler.unfinished() == 5
    assert run.end(1, "a")[1:] == ["send 1: b.1", "load group 0, 2"]
    assert run.end(1, "b")[1:] == ["send 1: c.1", "resume"]


def test_without_the_brake_the_feed_never_waits() -> None:
    run = Run(window=4)
    run.join(1)
    assert "pause" not in run.submit(" ".join(f"t{n}" for n in range(100)))
