"""Clients that come back, to the same server and to the one after it; one test a story."""

from __future__ import annotations

from hypershell.core import events as ev
from hypershell.core.model import Task
from tests.sim.trace import Run, task


def outside(names: str = "a b", slots: int = 2, **policy: object) -> Run:
    """A run with one client from outside, number 100, that has its first tasks."""
    run = Run(closed=False, **policy)
    run.join(100, slots, outlives=True)
    run.submit(names)
    run.durable()
    return run


def back(run: Run, client: int, holds: str, slots: int = 2, name: str = "c100") -> list[str]:
    """The client `name` comes back under a new number with executions in hand, as in ``a.1``."""
    pairs = [(key, int(number)) for key, _, number in (one.partition(".") for one in holds.split())]
    return run.join(client, slots, pairs, id=name, outlives=True)


def taken_over(withheld: dict[str, list[Task]], pending: dict[int, int] | None = None, **policy: object) -> Run:
    """A server that took over what an earlier one had left."""
    run = Run(closed=False, **policy)
    run.tell(ev.WorkFound(pending or {}, {}, withheld))
    run.tell(ev.FeedEnded())
    return run


def out(name: str, execution: int = 1, group: int = 0) -> Task:
    return task(name, group, execution=execution, schedule_time=900.0)


def test_after_a_cut_a_client_goes_on_with_what_still_waits() -> None:
    run = outside()
    assert run.lose(100, outside=True) == ["record 3: client 100 lost: silence, a.1 back, b.1 back"]
    assert back(run, 101, "a.1 b.1") == ["record 4: client 101 joined, dispatch a.1>101 b.1>101"]
    assert run.end(101, "a b") == ["record 5: a.1 succeeded, b.1 succeeded"]


def test_what_was_given_to_another_meanwhile_is_stopped() -> None:
    run = outside(poison=0)
    run.lose(100, outside=True)
    run.join(1)
    assert back(run, 101, "a.1 b.1") == ["record 5: client 101 joined, dispatch b.1>101", "cancel 101: a.1"]
    assert run.end(101, "a.1") == []
    assert run.scheduler.counts.stale == 1
    assert run.end(1, "a.2")[0] == "record 6: a.2 succeeded"


def test_a_client_may_be_back_before_its_loss_is_seen() -> None:
    run = outside()
    first = back(run, 101, "a.1 b.1")
    assert first == ["record 3: client 100 lost: joined again, client 101 joined, dispatch a.1>101 b.1>101"]
    assert run.end(100, "a.1") == []  # what was on its way over the old connection
    assert run.lose(100, outside=True) == []
    assert run.end(101, "a b") == ["record 4: a.1 succeeded, b.1 succeeded"]


def test_what_never_arrived_is_given_out_again() -> None:
    run = outside()
    run.lose(100, outside=True)
    assert back(run, 101, "b.1") == ["record 4: client 101 joined, a.1 back, dispatch b.1>101 a.2>101"]
    assert run.durable() == ["send 101: a.2"]


def test_a_result_that_is_known_already_changes_nothing() -> None:
    run = outside("a")
    run.end(100, "a")
    run.lose(100, outside=True)
    assert back(run, 101, "a.1") == ["record 5: client 101 joined", "cancel 101: a.1"]
    assert run.end(101, "a.1") == []


def test_an_older_execution_is_not_its_own() -> None:
    run = outside("a", slots=1)
    run.lose(100, outside=True)
    run.join(1)
    run.lose(1)  # execution 2 has come back too
    told = ["record 6: client 101 joined, a.2 back, dispatch a.3>101", "cancel 101: a.1"]
    assert back(run, 101, "a.1", 1) == told


def test_strangers_that_claim_tasks_are_told_to_stop_them() -> None:
    run = outside()
    assert back(run, 101, "a.1 x.7", name="another") == ["record 3: client 101 joined", "cancel 101: a.1 x.7"]


def test_ranks_have_nothing_to_bring() -> None:
    run = outside(poison=0)
    run.lose(100, outside=True)
    assert run.join(1, 2, [("a", 1)]) == [
        "record 4: client 1 joined, dispatch a.2>1 b.2>1",
        "send 1: a.2 b.2",
    ]


def test_a_new_server_waits_for_clients_of_the_old_one() -> None:
    run = Run(closed=False)
    assert run.tell(ev.WorkFound({}, {}, {"c100": [out("a"), out("b", 3)]})) == [
        "info: 2 tasks are with clients of an earlier server: 60 s for them to return",
        "info: Starting with task group 0",
    ]
    assert run.join(1, 4) == ["record 1: client 1 joined"]
    assert run.scheduler.deadline() == 60.0
    assert back(run, 101, "a.1 b.3") == ["record 2: client 101 joined, dispatch a.1>101 b.3>101"]
    assert run.scheduler.unfinished() == 2
    run.feed_ended()
    run.end(101, "a")
    run.end(101, "b.3")
    assert run.durable()[-1] == "finish complete: 2 good, 0 bad, 0 held, 0 left"


def test_who_does_not_come_back_in_time_loses_its_tasks() -> None:
    run = taken_over({"c100": [out("b", 3), out("a")]})
    run.join(1, 4)
    run.now = 59.9
    assert run.tell(ev.TimePassed()) == []
    run.now = 60.0
    assert run.tell(ev.TimePassed()) == [
        "record 2: b.3 back, a.1 back, dispatch a.2>1 b.4>1",
        "warning: 2 tasks of clients that did not come back go to others",
        "send 1: a.2 b.4",
    ]
    assert run.scheduler.deadline() is None
    assert back(run, 101, "a.1") == ["record 3: client 101 joined", "cancel 101: a.1"]


def test_late_but_before_another_got_it() -> None:
    run = taken_over({"c100": [out("a")]})
    run.now = 61.0
    run.tell(ev.TimePassed())
    assert back(run, 101, "a.1") == ["record 2: client 101 joined, dispatch a.1>101"]


def test_what_a_client_of_the_old_server_has_no_more_goes_to_anybody_at_once() -> None:
    run = taken_over({"c100": [out("a"), out("b")]})
    run.join(1)
    assert back(run, 101, "b.1") == [
        "record 2: client 101 joined, a.1 back, dispatch b.1>101 a.2>1",
        "send 1: a.2",
    ]


def test_the_time_to_come_back_can_be_chosen() -> None:
    run = taken_over({"c100": [out("a")]}, reclaim=5.0)
    assert run.scheduler.deadline() == 5.0


def test_a_user_can_cancel_what_is_with_an_absent_client() -> None:
    run = taken_over({"c100": [out("a"), out("b")]})
    run.join(1)
    assert run.cancel("a") == ["record 2: a.1 cancelled"]
    assert back(run, 101, "a.1 b.1") == ["record 3: client 101 joined, dispatch b.1>101", "cancel 101: a.1"]


def test_tasks_of_later_groups_go_on_where_they_are() -> None:
    """The old server had read two lists; of one it was at a later group."""
    run = taken_over({"c100": [out("z", 1, 3)]}, {0: 1})
    back(run, 101, "z.1", 1)
    run.join(1)
    assert run.load([task("a")])[-1] == "send 1: a.1"
    assert run.end(101, "z.1") == ["record 4: z.1 succeeded"]
    run.end(1, "a")
    assert run.durable()[-1].startswith("finish complete: 2 good")


def test_a_later_group_of_which_a_client_gives_a_task_back_comes_in_its_turn() -> None:
    run = taken_over({"c100": [out("z", 1, 3)]}, {0: 1}, poison=0)
    back(run, 101, "z.1", 1)
    run.join(1)
    run.load([task("a")])
    assert run.lose(101, outside=True) == ["record 4: client 101 lost: silence, z.1 back"]
    assert run.end(1, "a") == [
        "record 5: a.1 succeeded, dispatch z.2>1",
        "info: Completed task group 0 - starting task group 3",
        "send 1: z.2",
    ]


def test_a_failed_group_does_not_end_what_a_client_still_runs() -> None:
    run = taken_over({"c100": [out("z", 1, 3)]}, {0: 1})
    back(run, 101, "z.1", 1)
    run.join(1)
    run.load([task("a")])
    run.end(1, "a", 1)
    assert run.durable() == []
    run.end(101, "z.1")
    assert run.durable()[-1] == "finish complete: 1 good, 1 bad, 0 held, 0 left"


def test_a_draining_server_lets_a_client_that_comes_back_end_its_tasks() -> None:
    run = outside("a b c")
    run.lose(100, outside=True)
    run.join(1)
    run.drain()
    assert back(run, 101, "b.1") == ["record 5: client 101 joined, a.1 back, dispatch b.1>101", "drain [101]"]
    assert run.end(101, "b.1") == ["record 6: b.1 succeeded"]


def test_a_server_whose_store_failed_leaves_clients_that_outlive_it_alone() -> None:
    run = outside("a b c", slots=1)
    run.join(1)
    lines = run.tell(ev.StoreFailed("disk full"))
    assert "drain [1]" in lines and "interrupt [1]" in lines
    assert not any("100]" in line for line in lines)


def test_a_drained_server_leaves_absent_clients_their_tasks_for_the_next() -> None:
    run = taken_over({"c100": [out("a")]})
    run.join(1)
    assert run.drain() == ["drain [1]"]
    assert run.scheduler.deadline() is None
    assert run.durable()[-1] == "finish drained: 0 good, 0 bad, 0 held, 1 left"
