"""What the scheduler does when a user changes tasks: those that wait take it over, what runs keeps it for later."""

from __future__ import annotations

from msgspec.structs import replace

from hypershell.core import events as ev
from hypershell.core.model import Result, Task
from tests.sim.trace import Run, running, task


def changed(name: str) -> Task:
    """What the row of a task says after a change."""
    return replace(
        task(name), args=f"new {name}", raw=b"\xff", timeout=9.0, tag={"x": 1}, cores=2, memory=3, submission=1
    )


def content(task: Task) -> tuple[object, ...]:
    return task.args, task.raw, task.timeout, task.tag, task.cores, task.memory


def test_a_task_that_is_ready_is_sent_as_it_was_changed() -> None:
    run = running("a b c", 1)
    assert run.change(changed("b")) == []
    run.end(1, "a")
    assert content(run.sent["b"]) == content(changed("b"))
    run.end(1, "b")
    assert content(run.sent["c"]) == content(task("c"))


def test_the_order_and_the_execution_stay() -> None:
    run = running("a b c", 1, closed=False, poison=0)
    run.lose(1)
    run.change(changed("a"), changed("c"))
    assert run.join(2)[-1] == "send 2: a.2"
    assert run.end(2, "a")[-1] == "send 2: b.1"
    assert run.end(2, "b")[-1] == "send 2: c.1"
    assert [content(run.sent[name]) for name in "abc"] == [
        content(changed("a")), content(task("b")), content(changed("c")),
    ]  # fmt: skip


def test_a_task_that_runs_keeps_it_for_its_next_attempt() -> None:
    """And its row tells the command that really ran."""
    run = running("a", 1, attempts=2)
    before = run.sent["a"]
    run.change(changed("a"))
    assert content(before) == content(task("a")), "the client has this one"
    actions = run.scheduler.handle(ev.ResultsReceived(1, [Result("a", 1, 3, 0.0, 1.0)]), 1.0)
    (record,) = [action for action in actions if hasattr(action, "finished")][:1]
    assert record.finished[0].result.command == "a"  # type: ignore[union-attr]
    assert content(record.inserted[0]) == content(changed("a"))  # type: ignore[union-attr]


def test_a_task_that_comes_back_is_sent_again_as_it_was_changed() -> None:
    run = running("a", 1, poison=0)
    run.change(changed("a"))
    run.join(2)
    run.lose(1)
    assert content(run.sent["a"]) == content(changed("a"))
    actions = run.scheduler.handle(ev.ResultsReceived(2, [Result("a", 2, 0, 0.0, 1.0)]), 1.0)
    (record,) = [action for action in actions if hasattr(action, "finished")]
    assert record.finished[0].result.command is None, "it ran as its row says"  # type: ignore[union-attr]


def test_a_command_of_a_template_stays() -> None:
    run = running("a", 1)
    run.change(changed("a"))
    actions = run.scheduler.handle(ev.ResultsReceived(1, [Result("a", 1, 0, 0.0, 1.0, command="made of a")]), 1.0)
    (record,) = [action for action in actions if hasattr(action, "finished")]
    assert record.finished[0].result.command == "made of a"  # type: ignore[union-attr]


def test_what_waits_for_its_dispatch_to_be_durable_is_sent_as_it_was_changed() -> None:
    run = running("a", 1, durable_dispatch=True)
    assert run.change(changed("a")) == []
    assert run.durable() == ["send 1: a.1"]
    assert content(run.sent["a"]) == content(changed("a"))
    actions = run.scheduler.handle(ev.ResultsReceived(1, [Result("a", 1, 0, 0.0, 1.0)]), 1.0)
    (record,) = [action for action in actions if hasattr(action, "finished")]
    assert record.finished[0].result.command is None  # type: ignore[union-attr]


def test_what_is_not_in_memory_is_no_concern() -> None:
    run = Run(feed=False)
    run.join(1)
    run.tell(ev.WorkFound({0: 2}))
    assert run.change(changed("a"), changed("z")) == []
    run.load([task("a"), task("b")])
    assert content(run.sent["a"]) == content(task("a")), "a page that is read has the new values by itself"
