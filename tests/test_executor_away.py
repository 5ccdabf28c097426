"""A client whose server is away: what goes on, what is held, what is handed over, and when it gives up."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

from hypershell.core.model import Kept, Task
from hypershell.executor import reports
from hypershell.executor.machine import Machine
from hypershell.executor.vocabulary import (
    Action,
    CancelOrdered,
    Dismissed,
    DrainOrdered,
    End,
    Exited,
    Greet,
    Interrupted,
    Report,
    ResultsKept,
    Say,
    ServerAway,
    ServerBack,
    ServerReached,
    TimePassed,
    Warn,
)
from hypershell.proto import messages
from hypershell.proto.messages import ClientSettings
from hypershell.transport import Again, Cut
from tests.test_executor_loop import gone
from tests.test_executor_machine import SETTINGS, exited, results, returned, signals, started, work
from tests.test_executor_rig import Rig, rig

AWAY = ServerAway("the connection was reset")


def settings(**changes: Any) -> ClientSettings:
    return ClientSettings(**{**SETTINGS, **changes})


def outliving(**changes: Any) -> Machine:
    return Machine(settings(**changes), epoch=1000.0, reconnect=600.0)


def held(actions: list[Action]) -> list[tuple[str, int]]:
    (greet,) = [action for action in actions if isinstance(action, Greet)]
    return sorted(greet.holds)


def test_running_and_queued_tasks_go_on_while_the_server_is_away() -> None:
    machine = outliving()
    machine.handle(work(*"abcd"), 0.0)
    (warning,) = machine.handle(AWAY, 1.0)
    assert warning == Warn("The server is away (the connection was reset): 4 tasks go on; looking for it for 600 s")
    assert started(machine.handle(exited("a"), 2.0)) == ["c"]
    assert started(machine.handle(exited("b", 3), 3.0)) == ["d"]
    assert machine.handle(exited("c"), 4.0) == []
    assert machine.deadline() == 601.0


def test_what_ended_meanwhile_is_handed_over() -> None:
    machine = outliving()
    machine.handle(work(*"abc"), 0.0)
    machine.handle(AWAY, 1.0)
    machine.handle(exited("a"), 2.0)
    actions = machine.handle(ServerReached(), 3.0)
    assert held(actions) == [("a", 1), ("b", 1), ("c", 1)]
    assert not results(actions)  # the server does not know yet what this client has
    assert results(machine.handle(ServerBack(settings()), 3.1)) == [("a", 0)]
    assert results(machine.handle(exited("b"), 4.0)) == [("b", 0)]


def test_results_are_kept_until_they_are_durable() -> None:
    machine = outliving()
    machine.handle(work("a", "b"), 0.0)
    assert results(machine.handle(exited("a"), 1.0)) == [("a", 0)]
    assert results(machine.handle(exited("b"), 2.0)) == [("b", 0)]
    machine.handle(ResultsKept(1), 2.1)
    machine.handle(AWAY, 3.0)
    assert held(machine.handle(ServerReached(), 4.0)) == [("b", 1)]
    assert results(machine.handle(ServerBack(settings()), 4.1)) == [("b", 0)]
    machine.handle(ResultsKept(1), 5.0)  # counted from the new beginning
    machine.handle(AWAY, 6.0)
    assert held(machine.handle(ServerReached(), 7.0)) == []


def test_a_client_that_ends_with_its_server_keeps_nothing() -> None:
    machine = Machine(settings())
    machine.handle(work("a"), 0.0)
    machine.handle(exited("a"), 1.0)
    assert machine.handle(ServerReached(), 2.0) == []
    assert machine.held == {}


def test_a_connection_that_fails_again_starts_no_new_wait() -> None:
    machine = outliving()
    machine.handle(work("a"), 0.0)
    machine.handle(AWAY, 1.0)
    machine.handle(ServerReached(), 300.0)
    assert machine.handle(ServerAway("refused"), 301.0) == []
    assert machine.deadline() == 601.0


def test_after_the_time_to_reconnect_tasks_are_stopped() -> None:
    machine = outliving()
    machine.handle(work("a", "b", "c"), 0.0)
    machine.handle(AWAY, 1.0)
    machine.handle(exited("a"), 2.0)
    assert [number for _, number in signals(machine.handle(TimePassed(), 601.0))] == [15, 15]
    assert machine.handle(ServerReached(), 601.05) == []
    machine.handle(exited("b", -15), 601.1)
    (end,) = machine.handle(exited("c", -15), 601.1)
    assert end == End(
        "the server did not come back within 600 s (the connection was reset); it did not get 1 results, whose "
        "tasks run again",
        lost=True,
    )


def test_an_idle_client_gives_up_too() -> None:
    machine = outliving()
    machine.handle(AWAY, 1.0)
    (end,) = machine.handle(TimePassed(), 601.0)
    assert isinstance(end, End) and end.lost


def test_what_was_handed_back_without_arriving_is_no_longer_held() -> None:
    machine = outliving()
    machine.handle(work(*"abcd"), 0.0)
    machine.handle(AWAY, 1.0)
    machine.handle(DrainOrdered(leave=True), 2.0)
    assert held(machine.handle(ServerReached(), 3.0)) == [("a", 1), ("b", 1)]
    actions = machine.handle(ServerBack(settings()), 3.1)
    assert actions == [Report([], [], leaving=True)]


def test_a_new_server_knows_nothing_of_the_orders_of_the_old_one() -> None:
    machine = outliving()
    machine.handle(work("a"), 0.0)
    machine.handle(DrainOrdered(), 1.0)
    machine.handle(AWAY, 2.0)
    machine.handle(ServerReached(), 3.0)
    machine.handle(ServerBack(settings(server_id="other", slots=9)), 3.1)
    assert machine.settings.server_id == "other"
    assert started(machine.handle(work("b", "c"), 4.0)) == ["b"]  # its own two slots are what it has


def test_a_drained_client_leaves_when_its_results_are_durable() -> None:
    machine = outliving()
    machine.handle(work("a"), 0.0)
    machine.handle(DrainOrdered(leave=True), 1.0)
    assert [type(action) for action in machine.handle(exited("a"), 2.0)] == [Report]
    assert machine.deadline() is None
    assert [type(action) for action in machine.handle(ResultsKept(2), 2.2)] == [Say, End]


def test_a_drained_client_waits_for_its_server_to_come_back() -> None:
    machine = outliving(idle_timeout=5.0)
    machine.handle(work("a"), 0.0)
    machine.handle(DrainOrdered(leave=True), 1.0)
    machine.handle(AWAY, 1.5)
    assert machine.handle(exited("a"), 2.0) == []
    assert machine.deadline() == 601.5
    machine.handle(ServerReached(), 3.0)
    assert results(machine.handle(ServerBack(settings()), 3.1)) == [("a", 0)]
    assert [type(action) for action in machine.handle(ResultsKept(9), 3.2)] == [Say, End]


def test_nobody_has_to_wait_twice() -> None:
    machine = outliving()
    machine.handle(work("a", "b"), 0.0)
    machine.handle(AWAY, 1.0)
    machine.handle(exited("a"), 2.0)
    machine.handle(Interrupted(1.0, leave=True), 3.0)
    assert [type(action) for action in machine.handle(exited("b", -2), 3.1)] == [Say, End]


def test_dismissed_is_the_end_whatever_was_not_called_durable() -> None:
    machine = outliving()
    machine.handle(work("a"), 0.0)
    machine.handle(exited("a"), 1.0)
    assert [type(action) for action in machine.handle(Dismissed(), 2.0)] == [End]


def test_an_older_execution_is_stopped_and_its_end_told() -> None:
    machine = outliving()
    machine.handle(work("a"), 0.0)
    machine.handle(AWAY, 1.0)
    machine.handle(ServerReached(), 2.0)
    machine.handle(ServerBack(settings()), 2.1)
    assert signals(machine.handle(CancelOrdered([("a", 1)]), 2.2)) == [("a", 2)]
    assert results(machine.handle(exited("a", -2), 2.3)) == [("a", -2)]


def test_with_too_many_results_in_hand_nothing_more_starts(monkeypatch: Any) -> None:
    monkeypatch.setattr(reports, "MOST", 2)
    machine = outliving(slots=1)
    machine.handle(work(*"abcd"), 0.0)
    machine.handle(AWAY, 0.5)
    assert started(machine.handle(exited("a"), 1.0)) == ["b"]
    assert started(machine.handle(exited("b"), 2.0)) == []
    assert not machine.hungry
    machine.handle(ServerReached(), 3.0)
    actions = machine.handle(ServerBack(settings()), 3.1)
    assert results(actions) == [("a", 0), ("b", 0)] and not started(actions)
    assert started(machine.handle(ResultsKept(1), 4.0)) == ["c"]


def test_returned_tasks_are_not_kept() -> None:
    machine = outliving()
    machine.handle(work(*"abc"), 0.0)
    assert returned(machine.handle(DrainOrdered(), 1.0)) == [("c", 1)]
    machine.handle(AWAY, 2.0)
    assert held(machine.handle(ServerReached(), 3.0)) == [("a", 1), ("b", 1)]


# The driver


def send(both: Rig, delivery: object) -> None:
    both.server.send(delivery)  # type: ignore[arg-type]


def test_a_real_client_goes_on_and_comes_back(tmp_path: Path) -> None:
    go, told = tmp_path / "go", tmp_path / "told"
    line = f"echo begun; while [ ! -e {go} ]; do sleep 0.01; done"
    with rig([line], slots=1, reconnect=60.0) as both:
        both.run(until=lambda: both.server.out == b"begun\n")
        send(both, Cut("cut"))
        go.touch()
        both.run(until=lambda: both.executor._machine is not None and not both.executor._machine._running)
        assert not both.server.results
        (first,) = both.server._tasks
        (second,) = both.server._tasks = [Task("second", f"echo $TASK_SERVER_ID > {told}", 1, 1)]
        both.server.settings = settings(server_id="another", slots=1)
        both.server._context = copy(both.server._context)  # another process would send another one
        both.server._dismiss = lambda: None  # type: ignore[method-assign]
        send(both, Again())
        both.run(until=lambda: set(both.server.results) == {first.id, second.id})
        assert both.server.holds == [(first.id, 1)]
        assert told.read_text() == "another\n"
        send(both, messages.Bye())
        both.run(until=lambda: both.executor.finished)
    assert both.executor.lost is None


def test_a_real_client_gives_up() -> None:
    with rig(["echo $$; exec sleep 1000"], reconnect=0.0) as both:
        both.run(until=lambda: both.server.out.endswith(b"\n"))
        send(both, Cut("cut"))
        both.run(until=lambda: both.executor.finished)
    assert both.executor.lost == "the server did not come back within 0 s (cut)"
    assert gone(int(both.server.out))


def test_a_client_that_was_never_welcomed_gives_up_too() -> None:
    with rig([], reconnect=0.0) as both:
        both.executor.turn(0.0)
        both.server.end.poll()
        send(both, Cut("cut"))
        both.run(until=lambda: both.executor.finished)
    assert both.executor.lost == "the server did not come back within 0 s"


def test_kept_output_bounds_what_is_held_as_well() -> None:
    """In bytes: nothing more starts while the server is away, and nothing is dropped."""
    machine = outliving(slots=1)
    machine.handle(work(*map(str, range(40))), 0.0)
    machine.handle(AWAY, 1.0)
    count = 0
    while machine._running:
        machine.handle(printed(str(count)), 2.0)
        count += 1
    assert count == reports.KEPT_WINDOW // reports.KEPT_BUNDLE
    assert len(held(machine.handle(ServerReached(), 3.0))) == 40
    actions = machine.handle(ServerBack(settings(slots=1)), 3.1)
    parts = [action.results for action in actions if isinstance(action, Report)]
    assert [len(part) for part in parts] == [1] * count, "each of them fits into a message"
    assert not started(actions)
    assert started(machine.handle(ResultsKept(1), 4.0)) == [str(count)]


def test_sent_output_counts_until_it_is_durable_and_is_sent_again_in_parts() -> None:
    machine = outliving(slots=1)
    machine.handle(work(*map(str, range(40))), 0.0)
    for number in range(16):
        machine.handle(printed(str(number)), 1.0)
    assert not machine._running and not machine.hungry
    machine.handle(AWAY, 2.0)
    machine.handle(ServerReached(), 3.0)
    actions = machine.handle(ServerBack(settings(slots=1)), 3.1)
    assert [len(action.results) for action in actions if isinstance(action, Report)] == [1] * 16
    assert started(machine.handle(ResultsKept(16), 4.0)) == ["16"]


def printed(name: str) -> Exited:
    """The end of a task that printed a MiB, which is kept."""
    return Exited(name, 0, 0.0, 1.0, kept=Kept(b"x" * reports.KEPT_BUNDLE, b"", reports.KEPT_BUNDLE, 0))
