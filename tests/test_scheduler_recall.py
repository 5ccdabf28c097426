"""Near the end: queued tasks are taken back for those who have nothing to do, where that pays."""

from __future__ import annotations

import pytest

from hypershell.core import events as ev
from hypershell.core import recall
from tests.sim.trace import Run, task


def crowded(names: str = "a b c d", others: int = 1, slots: int = 1, **policy: object) -> Run:
    """Client 1 has one bundle with all the tasks; the others came too late for any."""
    run = Run(**({"bundlesize": 4} | policy))
    run.join(1, slots)
    run.submit(names)
    for number in range(others):
        run.join(number + 2)
    return run


def test_a_queued_task_goes_to_an_idle_client() -> None:
    run = crowded()
    assert run.pause(1.0) == ["recall 1: d.1"]
    assert run.give_back(1, "d") == ["record 4: d.1 back, dispatch d.2>2", "send 2: d.2"]
    assert run.end(2, "d") == ["record 5: d.2 succeeded"]
    assert run.pause(0.1) == ["recall 1: c.1"]
    run.give_back(1, "c")
    run.end(2, "c")
    run.feed_ended()
    assert run.end(1, "a b")[0] == "record 8: a.1 succeeded, b.1 succeeded"
    assert run.durable()[-1] == "finish complete: 4 good, 0 bad, 0 held, 0 left"


def test_every_idle_client_gets_one() -> None:
    """Taken back tasks are not given out as a bundle, after which most would have nothing to do again."""
    run = crowded(others=3)
    assert run.pause(1.0) == ["recall 1: d.1 c.1 b.1"]
    assert run.give_back(1, "b c d")[1:] == ["send 2: b.2", "send 3: c.2", "send 4: d.2"]
    assert run.pause(10.0) == []


def test_the_longest_queues_give_most() -> None:
    run = Run(bundlesize=8)
    run.join(1, 2)
    run.join(2, 2)
    run.submit("a b c d e f g h i j k")
    for number in range(3, 7):
        run.join(number)
    assert run.pause(1.0) == ["recall 1: h.1 g.1 f.1 e.1"]


def test_bundles_that_adapt() -> None:
    """What waits longer than it takes to move it is asked for at once, not when the client has long been silent."""
    run = Run()
    run.join(1, 1)
    run.submit("a")
    run.end(1, "a", seconds=0.03)
    run.submit(" ".join(f"t{n}" for n in range(20)))
    run.now = 0.4
    run.end(1, "t0", seconds=0.1)
    held = len(run.scheduler.clients()[0].holding)
    assert held > 2
    assert run.pause(1.0) == []  # others are ready, and there is nobody
    run.join(2, 8)
    while run.scheduler._groups.current.in_memory():  # type: ignore[union-attr]
        name = next(iter(run.scheduler.client(2).holding))  # type: ignore[union-attr]
        run.end(2, name, seconds=0.1)
    run.end(2, " ".join(run.scheduler.client(2).holding), seconds=0.1)  # type: ignore[union-attr]
    assert run.pause(0.3)[0].startswith("recall 1: ")


def test_short_tasks_are_left_alone_while_results_come() -> None:
    """A millisecond each: they are done before it pays to move them."""
    run = Run(bundlesize=50)
    run.join(1, 1)
    run.join(2, 1)
    run.submit(" ".join(f"t{n}" for n in range(100)))
    run.now = 0.05
    run.end(2, " ".join(f"t{n}" for n in range(50, 100)), seconds=0.001)
    for n in range(49):
        assert run.pause(0.1) == [], n
        run.end(1, f"t{n}", seconds=0.001)


def test_short_tasks_behind_a_long_one_are_taken_back() -> None:
    """As many as keep the idle one busy for a while, and no round trip is waited for between them."""
    run = Run(bundlesize=50)
    run.join(1, 1)
    run.join(2, 1)
    run.submit(" ".join(f"t{n:02}" for n in range(100)))
    run.end(2, " ".join(f"t{n}" for n in range(50, 100)), seconds=0.01)
    lines = run.pause(0.3)
    assert lines == ["recall 1: t49.1 t48.1 t47.1 t46.1 t45.1"]
    assert run.give_back(1, "t45 t46 t47 t48 t49")[1] == "send 2: t45.2"
    assert run.end(2, "t45", seconds=0.01)[1] == "send 2: t46.2"


def test_one_request_at_a_time() -> None:
    """Whoever has begun what was asked for does not answer: it is asked again later, not at every look."""
    run = crowded()
    assert run.pause(0.9) == ["recall 1: d.1"]
    assert run.pause(1.5) == ["recall 1: d.1"]


def test_what_has_begun_meanwhile_stays() -> None:
    run = crowded("a b")
    assert run.pause(1.0) == ["recall 1: b.1"]
    run.end(1, "a")
    run.feed_ended()
    assert run.pause(10.0) == []
    assert run.end(1, "b") == ["record 5: b.1 succeeded"]
    assert run.executions["b"] == 1


def test_a_client_that_leaves_with_the_request_on_its_way() -> None:
    run = crowded("a b")
    assert run.pause(1.0) == ["recall 1: b.1"]
    assert run.lose(1)[0] == "record 4: client 1 lost: silence, a.1 back, b.1 back, dispatch a.2>2"
    assert run.pause(10.0) == []


def test_nothing_is_taken_back_while_rows_are_read() -> None:
    run = Run(bundlesize=2, window=2)
    run.join(1)
    run.tell(ev.WorkFound({0: 3}, {}))
    run.load([task("a"), task("b")], exhausted=False)
    assert run.scheduler._loading
    run.join(2)
    assert run.pause(10.0) == []
    assert run.load([]) == []
    assert run.pause(1.0) == ["recall 1: b.1"]


@pytest.mark.parametrize("stop", ["drain", "interrupt"])
def test_a_run_that_stops_asks_for_nothing(stop: str) -> None:
    run = crowded()
    getattr(run, stop)()
    assert run.pause(10.0) == []
    assert run.scheduler.deadline() is None


def test_nor_while_the_store_fails() -> None:
    run = crowded()
    run.tell(ev.StoreStalled())
    assert run.pause(10.0) == []
    run.tell(ev.StoreResumed())
    assert run.pause(1.0) == ["recall 1: d.1"]


def test_a_client_that_hands_back_is_not_asked() -> None:
    run = crowded()
    run.give_back(1, "d", leaving=True)
    run.end(2, "d")
    assert run.pause(10.0) == []


def test_what_a_user_cancels_is_not_asked_for() -> None:
    run = crowded()
    run.cancel("d c")
    assert run.pause(0.9) == ["recall 1: b.1"]


def test_cancelled_while_on_its_way_back() -> None:
    run = crowded()
    assert run.pause(1.0) == ["recall 1: d.1"]
    run.cancel("d")
    assert run.give_back(1, "d") == ["record 4: d.1 cancelled"]


def test_what_is_not_durable_is_not_asked_for() -> None:
    run = crowded(durable_dispatch=True)
    assert run.pause(10.0) == []
    assert run.durable(2) == ["send 1: a.1 b.1 c.1 d.1"]
    assert run.pause(1.0) == ["recall 1: d.1"]


def test_only_what_an_idle_client_can_take() -> None:
    """Those with a label that nobody idle has stay where they are."""
    run = Run(bundlesize=4)
    run.join(1, labels=("gpu",))
    run.submit("a b c")
    run.submit("d", tag={"label": "gpu"})
    run.join(2)
    assert run.pause(0.9) == ["recall 1: c.1"]
    other = Run(bundlesize=4)
    other.join(1, labels=("gpu",))
    other.submit("a b c d", tag={"label": "gpu"})
    other.join(2)
    assert other.pause(10.0) == []


def test_tasks_that_wait_for_others_do_not_matter() -> None:
    run = Run(bundlesize=4)
    run.join(1, system="win32")
    run.submit("a b c d", tag={"os": "windows"})
    run.join(2, system="win32")
    run.join(3)
    run.submit(" ".join(f"t{n}" for n in range(20)))
    assert run.pause(0.9) == ["recall 1: d.1"]
    assert run.give_back(1, "d")[1] == "send 2: d.2"


def test_clients_that_outlive_the_server_give_back_too() -> None:
    run = Run(bundlesize=4)
    run.join(1, outlives=True)
    run.submit("a b")
    run.join(2, outlives=True)
    run.durable()
    assert run.pause(1.0) == ["recall 1: b.1"]
    assert run.give_back(1, "b") == ["record 4: b.1 back, dispatch b.2>2"]
    assert run.durable() == ["kept 1: 1", "send 2: b.2"] or run.sent["b"].execution == 2


def test_many_idle_clients_get_theirs_in_several_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "MOST", 3)
    run = crowded("a b c d e f g h", others=6, bundlesize=8)
    assert run.pause(0.9) == ["recall 1: h.1 g.1 f.1"]
    run.give_back(1, "h g f")
    assert run.pause(0.9) == ["recall 1: e.1 d.1 c.1"]


def test_nothing_wakes_a_run_in_which_nobody_has_a_queue() -> None:
    run = Run()
    run.join(1, 2)
    run.join(2, 2)
    run.submit("a b c")
    assert run.scheduler.deadline() is None
    busy = crowded(others=0)
    busy.pause(1.0)
    assert busy.scheduler.deadline() is None  # nobody is idle


def test_looks_that_lead_to_nothing_become_rare() -> None:
    """The idle one can take none of what waits."""
    run = Run(bundlesize=4)
    run.join(1, labels=("gpu",))
    run.submit("a b c d", tag={"label": "gpu"})
    run.join(2)
    looks = 0
    while run.now < 100.0:
        due = run.scheduler.deadline()
        assert due is not None
        run.pause(due - run.now)
        looks += 1
    assert looks < 110
