"""Changes by users meet lanes and clients that come back: tasks move, and rows tell what ran."""

from __future__ import annotations

from msgspec.structs import replace

from hypershell.core import events as ev
from hypershell.core.actions import Record
from hypershell.core.model import Result, Scalar
from tests.sim.trace import Run, task
from tests.test_scheduler_change import changed, content
from tests.test_scheduler_returning import back, out, outside, taken_over

GPU: dict[str, Scalar] = {"label": "gpu"}


def finished(run: Run, client: int, name: str, execution: int) -> Result | None:
    """The result that is recorded of an execution that ended well without a word on its command."""
    event = ev.ResultsReceived(client, [Result(name, execution, 0, 0.0, 60.0)])
    records = [action for action in run.scheduler.handle(event, 1.0) if isinstance(action, Record)]
    return records[0].finished[0].result if records else None


def test_a_new_label_moves_a_task_to_those_that_carry_it() -> None:
    run = Run(closed=False, bundlesize=1)
    run.submit("a b c")
    run.change(replace(task("b"), tag=GPU))
    assert run.join(1, 3)[-2:] == ["send 1: a.1", "send 1: c.1"]
    assert run.join(2, 1, labels=("gpu",))[-1] == "send 2: b.1"


def test_a_task_without_its_label_goes_to_anybody_who_is_free() -> None:
    run = Run(closed=False)
    run.join(1, 2)
    run.submit("a", tag=GPU)
    assert run.change(task("a"))[-1] == "send 1: a.1"


def test_what_is_changed_in_a_lane_of_its_own_keeps_its_place() -> None:
    run = Run(closed=False, bundlesize=1)
    run.submit("a b", tag=GPU)
    run.change(replace(task("a"), tag={**GPU, "x": 1}, args="new a"))
    assert run.join(1, 1, labels=("gpu",))[-2:] == ["send 1: a.1", "send 1: b.1"]
    assert run.sent["a"].args == "new a"


def test_what_is_not_sent_yet_stays_here_if_the_client_is_unfit_now() -> None:
    run = outside("a b")
    run.end(100, "a b")
    run.submit("c d")
    assert run.change(replace(task("c"), tag=GPU))[0].endswith("c.1 back")
    assert run.durable() == ["send 100: d.1", "kept 100: 1"]
    assert run.join(2, 1, labels=("gpu",))[-1] == "send 2: c.2"


def test_rows_that_were_passed_over_are_read_again() -> None:
    run = Run(closed=False, feed=False, window=4)
    run.join(1, 1)
    run.tell(ev.WorkFound({0: 3}))
    run.load([task(name, tag=GPU) for name in "abc"])
    lines = run.change(replace(task("c"), tag=None))
    assert "load group 0, 4, again" in lines
    assert run.load([task("b", tag=GPU), task("c")])[-1] == "send 1: c.1"


def test_a_client_that_comes_back_ran_what_it_was_sent() -> None:
    """Taken back, changed, and its own again: its row tells the line that ran, not the newer one."""
    run = outside("a", 1)
    run.lose(100, outside=True)
    run.change(changed("a"))
    back(run, 101, "a.1", 1)
    result = finished(run, 101, "a", 1)
    assert result is not None and result.command == "a"


def test_a_change_before_the_loss_is_not_forgotten_either() -> None:
    run = outside("a", 1)
    run.change(changed("a"))
    run.lose(100, outside=True)
    back(run, 101, "a.1", 1)
    result = finished(run, 101, "a", 1)
    assert result is not None and result.command == "a"


def test_an_absent_client_is_told_nothing_and_others_get_what_is_new() -> None:
    run = taken_over({"c100": [out("a"), out("b")]}, reclaim=5.0)
    run.join(1, 2)
    run.change(changed("a"), changed("b"))
    back(run, 101, "a.1")
    result = finished(run, 101, "a", 1)
    assert result is not None and result.command == "a"
    assert content(run.sent["b"]) == content(changed("b")), "which it did not bring"
