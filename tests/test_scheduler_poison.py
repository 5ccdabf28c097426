"""Tasks that kill their clients: who is suspected, when suspects run, and when it is enough; one test a story."""

from __future__ import annotations

from typing import Any

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.model import Special
from hypershell.core.poison import suspect_lane
from tests.sim.trace import Run as Trace
from tests.sim.trace import task


class Run(Trace):
    """A run with a quick store: what waits for a commit goes out in the same turn."""

    def tell(self, event: ev.Event) -> list[str]:
        lines = super().tell(event)
        return lines + super().tell(ev.Durable(self.last_seq)) if self.scheduler._outbox else lines


def failed(run: Run, event: ev.Event) -> list[tuple[str, int, str | None]]:
    """What fails for good by this event: task, exit status, reason."""
    actions = run.scheduler.handle(event, run.now)
    records = [action for action in actions if isinstance(action, act.Record)]
    return [(one.result.id, one.result.exit_status, one.result.error) for record in records
            for one in record.finished]  # fmt: skip


def loaded(*deaths: int, **policy: Any) -> Run:
    """A run that found tasks t1, t2, ... whose clients died so often, and has no clients yet."""
    run = Run(**({"closed": False} | policy))
    run.tell(ev.WorkFound({0: len(deaths)}))
    run.feed_ended()
    run.load([task(f"t{n}", deaths=count) for n, count in enumerate(deaths, 1)])
    return run


def test_suspects_run_when_nothing_else_is_left() -> None:
    run = Run()
    run.join(1, 2)
    run.join(2)
    run.submit("a b c d e")
    assert run.lose(1) == ["record 4: client 1 lost: silence, a.1 back, b.1 back"]
    assert run.end(2, "c")[-1] == "send 2: d.1"
    assert run.end(2, "d")[-1] == "send 2: e.1"
    assert run.end(2, "e")[-1] == "send 2: a.2"
    assert run.end(2, "a")[-1] == "send 2: b.2"


def test_a_client_has_one_suspect_at_a_time() -> None:
    run = Run(closed=False)
    run.join(1, 4)
    run.submit("a b c")
    run.lose(1)
    run.join(2, 4)
    run.join(3, 4)
    assert run.executions == {"a": 2, "b": 2, "c": 1}
    run.submit("d")
    assert run.executions["d"] == 1  # others go beside a suspect
    assert run.end(3, "b")[-1] == "send 3: c.2"


def test_what_seems_to_wait_in_the_queue_may_have_run() -> None:
    run = Run(closed=False, bundlesize=3)
    run.join(1)
    run.submit("a b c")
    run.lose(1)
    run.join(2)
    run.join(3)
    run.join(4)
    assert [run.sent[name].deaths for name in "abc"] == [1, 1, 1]


def test_three_deaths_are_enough() -> None:
    run = Run(closed=False, attempts=5)
    run.submit("a")
    for client in (1, 2):
        run.join(client)
        run.lose(client)
    run.join(3)
    reason = "its client died 3 times while it ran (--poison 3)"
    assert failed(run, ev.ClientLost(3, "silence")) == [("a", Special.POISON, reason)]
    assert run.scheduler.counts.failed == 1 and run.scheduler.unfinished() == 0


def test_the_limit_is_that_of_the_user_or_of_the_submission() -> None:
    for told, of_submission, limit in ((4, 7, 4), (None, 5, 5), (None, None, 3)):
        run = Run(closed=False, poison=told)
        run.tell(ev.WorkFound({0: 1}, poison={} if of_submission is None else {1: of_submission}))
        run.load([task("a")])
        for client in range(1, limit):
            run.join(client)
            run.lose(client)
        run.join(limit)
        assert [one[0] for one in failed(run, ev.ClientLost(limit, "silence"))] == ["a"]


def test_zero_is_never() -> None:
    run = Run(closed=False, poison=0)
    run.submit("a b")
    for client in range(1, 9):
        run.join(client)
        run.lose(client)
    run.join(9)
    assert run.executions == {"a": 9}
    assert run.sent["a"].deaths == 0


def test_a_client_that_leaves_or_is_drained_did_not_die() -> None:
    run = Run(closed=False)
    run.submit("a b")
    run.join(1, 2)
    run.give_back(1, "a", leaving=True)
    run.end(1, "b")
    run.leave(1)
    run.join(2)
    assert run.sent["a"].deaths == 0


def test_who_is_lost_while_the_run_ends_was_ended_with_it() -> None:
    run = Run(closed=False)
    run.submit("a")
    run.join(1)
    run.drain()
    assert run.lose(1)[0] == "record 3: client 1 lost: silence, a.1 back"
    assert run.sent["a"].deaths == 0


def test_a_client_that_comes_back_did_not_die() -> None:
    run = Run(closed=False)
    run.join(100, 2, outlives=True)
    run.submit("a b")
    run.durable()
    run.lose(100, outside=True)
    run.join(1)
    assert run.sent["a"].deaths == 1  # it went to another one meanwhile
    run.join(101, 2, [("a", 1), ("b", 1)], id="c100", outlives=True)
    assert run.sent["a"].deaths == 0
    assert run.scheduler.client(101).holding["b"].deaths == 0  # type: ignore[union-attr]


def test_the_row_hears_that_it_was_no_death() -> None:
    """Whether the task still waits then or is given to another one: a restart goes by the row."""
    run = Run(closed=False)
    run.join(100, 2, outlives=True)
    run.submit("a b")
    run.durable()
    run.lose(100, outside=True)
    assert run.deaths == {"a": 1, "b": 1}
    run.join(101, 1, [], id="c100", outlives=True)
    assert run.executions == {"a": 2, "b": 1} and run.deaths == {"a": 0, "b": 0}
    run.lose(101)
    run.join(102)
    assert run.sent["a"].deaths == run.deaths["a"] == 1


def test_a_dispatch_that_was_not_sent_yet_suspects_nobody() -> None:
    run = Trace(closed=False, durable_dispatch=True)
    run.join(1)
    run.submit("a")
    run.lose(1)
    run.join(2)
    run.durable()
    assert run.sent["a"].deaths == 0


def test_a_cancelled_task_is_cancelled_although_its_client_died() -> None:
    run = loaded(2)
    run.join(1)
    run.cancel("t1")
    assert "t1.1 cancelled" in run.lose(1)[0]


def test_one_trial_at_a_time_and_more_as_they_end_well() -> None:
    run = loaded(*[2] * 8)
    for client in range(1, 9):
        run.join(client)
    out = []
    while len(out) < 8:
        running = [name for name in run.executions if name not in out]
        assert len(running) == max(1, min(8 - len(out), len(out) // 2))
        for name in running:
            holder = next(c.number for c in run.scheduler.clients() if name in c.holding)
            run.end(holder, name)
            out.append(name)
            break


def test_trials_come_after_the_other_suspects() -> None:
    run = loaded(2, 1, 0, 1)
    run.join(1)
    order = []
    while run.scheduler.inflight():
        order.append(next(iter(run.scheduler.client(1).holding)))  # type: ignore[union-attr]
        run.end(1, order[-1])
    assert order == ["t3", "t2", "t4", "t1"]


def test_beside_another_trial_the_last_death_is_held_against_nobody() -> None:
    run = loaded(*[2] * 6)
    run.join(1, 8)
    for name in ("t1", "t2", "t3", "t4"):
        run.end(1, name)
    run.join(2)  # by now two at a time, but on two clients, of which each has one
    assert {key for c in run.scheduler.clients() for key in c.holding} == {"t5", "t6"}
    assert [one[0] for one in failed(run, ev.ClientLost(2, "silence"))] == ["t6"]


def test_what_had_enough_deaths_under_earlier_servers_fails_at_once() -> None:
    run = Run()
    run.tell(ev.WorkFound({0: 2}))
    run.feed_ended()
    reason = "its client died 3 times while it ran (--poison 3)"
    tasks = [task("a", deaths=3), task("b", deaths=2)]
    assert failed(run, ev.TasksLoaded(0, tasks, True)) == [("a", Special.POISON, reason)]
    run.join(1)
    assert list(run.executions) == ["b"]


def test_a_retry_begins_without_a_count() -> None:
    run = loaded(1, attempts=2)
    run.join(1)
    run.end(1, "t1", 1)
    assert (run.inserted["r1"].deaths, run.sent["r1"].deaths) == (0, 0)


def test_results_are_durable_soon_while_suspects_run() -> None:
    run = Run(closed=False)
    run.tell(ev.WorkFound({0: 3}))
    run.load([task("a", deaths=1), task("b"), task("c")])
    run.join(1, 2)
    run.end(1, "b")
    for names in ("c", "a"):  # c ran beside a
        asked = len(run.asked)
        run.end(1, names)
        assert len(run.asked) == asked + 1
    run.submit("d")
    run.end(1, "d")
    assert len(run.asked) == asked + 1


def test_a_suspect_is_sent_when_that_is_durable() -> None:
    run = Trace(closed=False)
    run.tell(ev.WorkFound({0: 2}))
    run.load([task("a", deaths=1), task("b")])
    assert run.join(1, 2)[-1] == "send 1: b.1"
    assert run.durable() == ["send 1: a.1"]


def test_after_a_server_that_died_each_dispatch_is_durable_first() -> None:
    for died, limit, late in ((True, None, True), (False, None, False), (True, 0, False)):
        run = Trace(closed=False, poison=limit)
        run.tell(ev.WorkFound({0: 1}, died=died))
        run.load([task("a")])
        assert (run.join(1)[-1] == "send 1: a.1") is not late
        assert run.durable() == ["send 1: a.1"] * late


def test_a_run_that_may_be_repeated_has_its_rows_before_the_first_task() -> None:
    run = Trace(closed=False, careful=True)
    run.submit("a b")
    assert run.join(1)[-1] == "record 2: client 1 joined, dispatch a.1>1"
    assert run.durable() == ["send 1: a.1"]
    assert run.end(1, "a")[-1] == "send 1: b.1"


def test_many_suspects_stay_in_the_store() -> None:
    run = Run(closed=False, window=8)
    run.join(1)
    rows = [task(f"t{n:02}", deaths=1) for n in range(20)]
    run.tell(ev.WorkFound({0: 20}))
    run.feed_ended()
    order: list[str] = []
    run.load(rows)
    while len(order) < 20:
        lines: list[str] = []
        group = run.scheduler._groups.current
        assert group is not None and group.in_memory() <= 2 + 1
        held = list(run.scheduler.client(1).holding)  # type: ignore[union-attr]
        if held:
            order.append(held[0])
            lines = run.end(1, held[0])
        if any(line.startswith("load group 0") for line in lines):
            run.load([replaced(run, row) for row in rows if row.id not in order])
    assert order == [row.id for row in rows]


def replaced(run: Run, row: Any) -> Any:
    """The row as the store has it: a new object."""
    return task(row.id, deaths=1, execution=run.executions.get(row.id, 0))


def test_suspects_of_another_sort_wait_for_a_client_that_takes_them() -> None:
    run = Run(closed=False)
    run.submit("a", tag={"os": "windows"})
    run.join(1, system="win32")
    run.lose(1)
    lines = run.join(2)
    assert lines[-1] == "warning: 1 tasks wait for a client that takes os:windows: none is here"
    group = run.scheduler._groups.current
    assert group is not None and list(group.lanes) == [suspect_lane(("windows", None), False)]
    assert run.join(3, system="win32")[-1] == "send 3: a.2"
