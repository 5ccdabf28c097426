"""Clients that come by themselves and outlive the server beside those of a job; one test a story."""

from __future__ import annotations

from tests.sim.trace import Run, running


def outside(run: Run, client: int, slots: int = 1, **info: object) -> list[str]:
    return run.join(client, slots, outlives=True, **info)


def test_a_dispatch_to_a_client_that_outlives_us_is_durable_before_it_is_sent() -> None:
    run = Run()
    run.submit("a b")
    assert outside(run, 100) == ["record 2: client 100 joined, dispatch a.1>100"]
    assert run.asked == [2]
    # A rank of the same job gets its task at once.
    assert run.join(1) == ["record 3: client 1 joined, dispatch b.1>1", "send 1: b.1"]
    assert run.durable(2) == ["send 100: a.1"]


def test_results_are_acknowledged_when_they_are_durable() -> None:
    run = Run()
    run.submit("a b c")
    outside(run, 100, 2)
    run.durable()
    assert run.end(100, "a") == ["record 3: a.1 succeeded, dispatch c.1>100"]
    assert run.end(100, "b") == ["record 4: b.1 succeeded"]
    assert run.durable(3) == ["send 100: c.1", "kept 100: 1"]
    assert run.durable(4) == ["kept 100: 2"]


def test_one_acknowledgement_speaks_of_all_messages_before() -> None:
    run = Run()
    run.submit("a b")
    outside(run, 100, 2)
    run.durable()
    run.end(100, "a")
    run.end(100, "b")
    assert run.durable() == ["kept 100: 2"]


def test_a_result_that_changes_nothing_is_acknowledged_too() -> None:
    run = Run()
    outside(run, 100)
    run.durable()
    assert run.end(100, "x.1") == ["kept 100: 1"]
    assert run.scheduler.counts.stale == 1


def test_ranks_need_no_acknowledgement() -> None:
    run = running("a", 1)
    run.end(1, "a")
    assert run.durable() == []


def test_the_last_results_are_acknowledged_before_the_farewell() -> None:
    run = Run()
    run.submit("a")
    outside(run, 100)
    run.durable()
    run.feed_ended()
    run.end(100, "a")
    assert run.durable() == ["kept 100: 1", "dismiss [100]", "finish complete: 1 good, 0 bad, 0 held, 0 left"]


def test_who_is_gone_is_told_nothing() -> None:
    run = Run(closed=False)
    run.submit("a")
    outside(run, 100)
    run.durable()
    run.end(100, "a")
    run.lose(100, outside=True)
    assert run.durable() == []


def test_a_job_goes_on_with_outside_clients_when_its_ranks_are_gone() -> None:
    run = Run(expected=2)
    run.join(1)
    outside(run, 100)
    run.submit("a b c d")
    run.lose(1)
    run.lose(2)  # before it had joined
    assert run.scheduler.stopping is None
    assert "drain []" in run.lose(100, outside=True)
    assert run.scheduler.stopping == "no clients left"


def test_outside_clients_are_none_of_those_that_are_expected() -> None:
    run = Run(expected=2)
    run.submit("a b")
    outside(run, 100)
    run.lose(100, outside=True)
    run.lose(101, outside=True)  # it never said hello
    run.leave(102)
    assert run.scheduler.stopping is None
    run.join(1)
    assert run.scheduler.stopping is None
    assert run.lose(1) == ["record 5: client 1 lost: silence, a.2 back"]
    assert run.scheduler.stopping is None  # rank 2 has yet to come


def test_a_job_does_not_wait_for_outside_clients() -> None:
    run = running("a", 1)
    outside(run, 100)
    run.feed_ended()
    run.end(1, "a")
    assert run.durable()[-2:] == ["dismiss [1, 100]", "finish complete: 1 good, 0 bad, 0 held, 0 left"]


def test_a_server_alone_waits_for_clients_as_long_as_there_is_work() -> None:
    run = Run(closed=False)
    run.submit("a")
    run.feed_ended()
    run.durable()
    assert outside(run, 100) == ["record 2: client 100 joined, dispatch a.1>100"]
    run.lose(100, outside=True)
    assert not run.scheduler.finished
    outside(run, 101)
    run.durable()
    run.end(101, "a")
    assert run.durable()[-1] == "finish complete: 1 good, 0 bad, 0 held, 0 left"


def test_nothing_more_is_sent_to_a_client_that_is_about_to_leave() -> None:
    run = Run(closed=False)
    outside(run, 100, 2)
    outside(run, 101, 1)
    run.submit("a b c d")
    run.durable()
    back = run.give_back(100, "b", leaving=True)
    assert back == ["record 4: b.1 back"]
    assert run.end(100, "a") == ["record 5: a.1 succeeded"]
    assert run.leave(100) == ["record 6: client 100 left"]
    assert run.end(101, "c") == ["record 7: c.1 succeeded, dispatch b.2>101"]


def test_a_suspended_client_that_comes_back_late_changes_nothing() -> None:
    run = Run(closed=False)
    outside(run, 100)
    run.submit("a")
    run.durable()
    run.lose(100, outside=True)
    outside(run, 101)
    run.durable()
    assert run.end(100, "a.1") == []
    assert run.scheduler.counts.stale == 1
    assert run.end(101, "a") == ["record 5: a.2 succeeded"]
