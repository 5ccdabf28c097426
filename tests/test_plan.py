"""The release plan: stories of the scheduler, properties of the line, and the curve of ten thousand clients."""

from __future__ import annotations

from collections import Counter, deque
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.release_curve import draw, in_flight
from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.model import ClientInfo, Result, Task
from hypershell.core.plan import AUTO_SLOTS, TICK
from hypershell.core.scheduler import Policy, Scheduler
from tests.sim.trace import Run


def sends(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("send")]


def later(run: Run, seconds: float) -> list[str]:
    """Wait so long; the scheduler must have asked for a call by then."""
    run.now += seconds
    due = run.scheduler.deadline()
    assert due is not None and due <= run.now
    return run.tell(ev.TimePassed())


# -- stories -------------------------------------------------------------------------------------------------


def test_all_wait_for_the_delay() -> None:
    run = Run(delay_start=5.0, expected=2)
    assert run.join(1)[1:] == ["info: First work of clients by plan: after 5 s; 0 of 2 clients released"]
    run.join(2)
    assert sends(run.submit("a b c")) == []
    assert run.scheduler.deadline() == 5.0
    run.now = 4.9
    assert run.tell(ev.TimePassed()) == []
    assert len(sends(later(run, 0.1))) == 2
    assert run.scheduler.deadline() is None
    run.join(3)
    assert run.executions.keys() == {"a", "b", "c"}, "who comes after the delay need not wait"


def test_the_first_work_is_spread_evenly() -> None:
    run = Run(delay_start=-60.0, expected=6)
    for number in range(1, 7):
        run.join(number)
    starts = [run.now] if len(sends(run.submit("a b c d e f"))) == 1 else []
    while (due := run.scheduler.deadline()) is not None:
        run.now = due
        starts += [run.now] * len(sends(run.tell(ev.TimePassed())))
    assert starts == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]


def test_a_rate_and_who_has_had_work_is_not_held_again() -> None:
    run = Run(release_rate=2.0)
    run.join(1)
    run.join(2)
    assert sends(run.submit("a b c d")) == ["send 1: a.1"]
    assert sends(run.end(1, "a")) == ["send 1: b.1"]
    assert sends(later(run, 0.5)) == ["send 2: c.1"]
    assert run.scheduler.release_plan() == "2 clients per second; 2 of 2 clients released"


def test_nodes_go_before_further_ranks_of_a_node() -> None:
    run = Run(delay_start=1.0)
    for number, host in enumerate(["n1", "n1", "n1", "n2", "n2", "n3"], 1):
        run.join(number, host=host)
    run.submit("a b c")
    assert {line.split(":")[0] for line in sends(later(run, 1.0))} == {"send 1", "send 4", "send 6"}


def test_the_first_bundle_is_one_task_for_each_slot() -> None:
    run = Run(release_rate=1.0)
    run.join(1)
    run.join(2)
    names = " ".join(f"t{n}" for n in range(200))
    assert sends(run.submit(names)) == ["send 1: t0.1"]
    (sent,) = sends(run.end(1, "t0", seconds=0.01))
    assert len(sent.split()) > 10, "results have come: the bundles grow"
    (sent,) = [line for line in sends(later(run, 1.0)) if line.startswith("send 2")]
    assert len(sent.split()) == 3, "the first bundle of the other one"
    (sent,) = sends(run.end(2, sent.split()[2], seconds=0.01))
    assert len(sent.split()) > 10


def test_time_without_work_is_not_saved_for_a_rush() -> None:
    run = Run(release_rate=1.0)
    for number in range(1, 4):
        run.join(number)
    run.now = 100.0
    assert len(sends(run.submit("a b c"))) == 1
    assert run.scheduler.deadline() == 101.0


def test_clients_leave_the_line_only_for_a_task() -> None:
    """One task, three clients: the two others have not been released, so that later work is staggered too."""
    run = Run(release_rate=1.0)
    for number in range(1, 4):
        run.join(number)
    assert sends(run.submit("a")) == ["send 1: a.1"]
    assert run.scheduler.deadline() is None
    run.now = 50.0
    assert sends(run.submit("b c d")) == ["send 2: b.1"]


def test_drain_empties_the_line() -> None:
    run = Run(release_rate=1.0)
    run.join(1)
    run.join(2)
    run.submit("a b")
    assert run.drain() == ["drain [1, 2]"]
    assert run.scheduler.deadline() is None
    run.end(1, "a")
    assert run.durable()[-1] == "finish drained: 1 good, 0 bad, 0 held, 1 left"


def test_the_lost_do_not_hold_up_the_line() -> None:
    run = Run(release_rate=1.0)
    for number in range(1, 5):
        run.join(number)
    run.submit("a b c d")
    run.lose(2)
    run.lose(3)
    assert sends(later(run, 1.0)) == ["send 4: b.1"]


def test_nothing_goes_while_the_store_stalls() -> None:
    run = Run(delay_start=1.0)
    run.join(1)
    run.submit("a")
    run.tell(ev.StoreStalled())
    run.now = 2.0
    assert run.tell(ev.TimePassed()) == [] and run.scheduler.deadline() is None
    assert sends(run.tell(ev.StoreResumed())) == ["send 1: a.1"]


def test_a_kind_without_work_does_not_hold_up_others() -> None:
    run = Run(release_rate=1.0)
    run.join(1, system="win32")
    run.join(2)
    assert sends(run.submit("a")) == ["send 2: a.1"]


def test_few_clients_do_not_wait_by_themselves() -> None:
    run = Run(release_rate=None, expected=AUTO_SLOTS)
    run.join(1)
    run.join(2)
    assert len(sends(run.submit("a b"))) == 2
    assert run.scheduler.deadline() is None
    assert run.scheduler.release_plan() == "all at once"


def test_many_slots_of_clients_that_nobody_expected_wait() -> None:
    run = Run(release_rate=None, closed=False)
    run.join(1, AUTO_SLOTS)
    run.join(2, 500)
    run.join(3, 500)
    names = " ".join(f"t{n}" for n in range(2000))
    assert [line.split(":")[0] for line in sends(run.submit(names))] == ["send 2", "send 1"]
    assert sends(later(run, 0.5))[0].startswith("send 3: ")


# -- properties ----------------------------------------------------------------------------------------------

moments = st.floats(0, 30)


@given(
    st.lists(st.tuples(moments, st.sampled_from("xyz")), min_size=1, max_size=40),
    st.sampled_from([0.5, 3.0, 40.0]),
    st.sampled_from([0.0, 4.0]),
)
def test_never_more_than_the_rate_and_everybody_in_the_end(
    joins: list[tuple[float, str]], rate: float, delay: float
) -> None:
    joins.sort()
    run = Run(release_rate=rate, delay_start=delay, expected=len(joins))
    run.submit(" ".join(f"t{n}" for n in range(len(joins))))
    starts: list[float] = []
    arriving = deque(enumerate(joins, 1))
    while arriving or run.scheduler.deadline() is not None:
        due = run.scheduler.deadline()
        if arriving and (due is None or arriving[0][1][0] <= due):
            number, (run.now, host) = arriving.popleft()
            lines = run.join(number, host=host)
        else:
            assert due is not None
            run.now = due
            lines = run.tell(ev.TimePassed())
        starts += [run.now] * len(sends(lines))
    assert len(starts) == len(joins)
    assert starts[0] >= joins[0][0] + delay
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            assert last - first <= (starts[last] - starts[first] + TICK) * rate + 1e-6


# -- ten thousand --------------------------------------------------------------------------------------------


def curve(policy: Policy, clients: int, per_node: int) -> list[tuple[float, ClientInfo]]:
    """When each of so many clients got its first task; tasks last an hour."""
    numbers = iter(range(10**6))
    scheduler = Scheduler(policy, lambda: f"{next(numbers):09}")
    infos = {n: ClientInfo(f"c{n}", f"node{n // per_node}", n, 1, "0", "linux") for n in range(clients)}
    found: list[tuple[float, ClientInfo]] = []

    def tell(event: ev.Event, now: float) -> None:
        sent = [one for one in scheduler.handle(event, now) if isinstance(one, act.SendTasks)]
        assert all(len(one.tasks) == 1 for one in sent)
        found.extend((now, infos[one.client]) for one in sent)

    for number, info in infos.items():
        tell(ev.ClientJoined(number, info), 0.0)
    tell(ev.TasksSubmitted([Task(f"t{n:06}", "x", 1) for n in range(clients + 10)]), 0.0)
    while (due := scheduler.deadline()) is not None:
        tell(ev.TimePassed(), due)
    return found


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        (Policy(release_rate=None, expected=10_000, window=20_000), 10),
        (Policy(delay_start=-60.0, release_rate=None, expected=10_000, window=20_000), 60),
        (Policy(release_rate=500.0, expected=10_000, window=20_000), 20),
    ],
)
def test_ten_thousand_clients_start_along_a_straight_line(policy: Policy, seconds: int) -> None:
    found = curve(policy, 10_000, per_node=40)
    assert len({info.id for _, info in found}) == 10_000
    assert len({info.host for _, info in found[:250]}) == 250, "every node before the second rank of any"
    assert found[-1][0] <= seconds + TICK
    each = Counter(min(int(when), seconds - 1) for when, _ in found)
    assert sorted(each) == list(range(seconds))
    assert max(each.values()) - min(each.values()) <= 2 + 10_000 * TICK / seconds * 2
    assert all(one[0] <= other[0] for one, other in pairwise(found))


def test_without_a_plan_ten_thousand_start_at_once() -> None:
    policy = Policy(release_rate=0.0, expected=10_000, window=20_000)
    assert {when for when, _ in curve(policy, 10_000, per_node=40)} == {0.0}


def test_the_picture_shows_the_ramp() -> None:
    """The script of the page, with few ranks: tasks last at least 20 s, so the first 20 s are the plan alone."""
    counts = in_flight({"delay_start": -20.0, "release_rate": None}, ranks=100)
    assert all(abs(counts[second] - 5 * second) <= 1 for second in range(20))
    assert max(counts) == 100 and counts[-1] >= 0
    ElementTree.fromstring(draw({"spread": counts}, 100))


def test_a_result_of_a_client_in_line_changes_nothing() -> None:
    run = Run(release_rate=1.0)
    run.join(1)
    run.join(2)
    run.submit("a b c")
    run.tell(ev.ResultsReceived(2, [Result("b", 1, 0, 0.0, 1.0)]))
    assert run.scheduler.counts.stale == 1
    assert "b" not in run.executions
