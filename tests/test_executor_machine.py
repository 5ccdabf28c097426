"""The client's machine: readable traces, and properties under any order of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hypershell.core.model import Special, Task
from hypershell.executor.ladder import INT, KILL, TERM
from hypershell.executor.machine import SUSPECT_TIME, Machine
from hypershell.executor.vocabulary import (
    Action,
    CancelOrdered,
    Dismissed,
    DrainOrdered,
    End,
    Event,
    Exited,
    Expand,
    Expanded,
    Interrupted,
    RecallOrdered,
    Report,
    Say,
    ServerLost,
    SignalCame,
    SignalTask,
    Start,
    StartFailed,
    TimePassed,
    Warn,
    WorkArrived,
)
from hypershell.proto.messages import ClientSettings, Context

SETTINGS: dict[str, Any] = {
    "slots": 2,
    "bundlesize": None,
    "bundlewait": 5.0,
    "signalwait": 10.0,
    "idle_timeout": None,
    "task_timeout": None,
    "task_cwd": None,
    "capture": False,
    "capture_dir": b"",
    "log_level": "warning",
    "log_style": "default",
    "server_id": "server",
    "server_host": "host",
}


def make(**changes: Any) -> Machine:
    return Machine(ClientSettings(**{**SETTINGS, **changes}), epoch=1000.0)


def context(template: str = "{}", submission: int = 1) -> Context:
    return Context(submission, template.encode(), b"/", "me", "host")


def work(*ids: str, template: str = "{}", execution: int = 1, **fields: Any) -> WorkArrived:
    return WorkArrived([Task(id, f"run {id}", 1, execution, **fields) for id in ids], [context(template)])


def exited(id: str, status: int = 0) -> Exited:
    return Exited(id, status, 1.0, 2.0, 0.1, 0.2, 3.0)


def started(actions: list[Action]) -> list[str]:
    return [action.task.id for action in actions if isinstance(action, Start)]


def results(actions: list[Action]) -> list[tuple[str, int]]:
    reports = [action for action in actions if isinstance(action, Report)]
    return [(result.id, result.exit_status) for report in reports for result in report.results]


def returned(actions: list[Action]) -> list[tuple[str, int]]:
    return [pair for action in actions if isinstance(action, Report) for pair in action.returned]


def signals(actions: list[Action]) -> list[tuple[str, int]]:
    return [(action.id, action.signal) for action in actions if isinstance(action, SignalTask)]


# Signals of a launcher, which may go to tasks too


@pytest.mark.parametrize("number", [2, 10, 12, 15])
def test_a_task_that_dies_of_the_signal_that_comes_to_us_goes_back(number: int) -> None:
    for task_first in (True, False):
        machine = make()
        machine.handle(work("a", "b"), 0.0)
        events: list[Event] = [exited("a", -number), SignalCame(number)]
        actions = [
            action
            for when, event in enumerate(events if task_first else reversed(events))
            for action in machine.handle(event, 1.0 + when * 0.1)
        ]
        assert (results(actions), returned(actions)) == ([], [("a", 1)])


def test_a_task_that_dies_of_such_a_signal_alone_failed_a_moment_later() -> None:
    machine = make(slots=1)
    machine.handle(work("a", "b"), 0.0)
    assert machine.handle(exited("a", -15), 1.0) == []
    assert machine.deadline() == 1.0 + SUSPECT_TIME
    actions = machine.handle(TimePassed(), 1.0 + SUSPECT_TIME)
    assert (started(actions), results(actions)) == (["b"], [("a", -15)])
    assert results(machine.handle(SignalCame(15), 1.3)) == []


def test_another_signal_or_an_old_one_explains_nothing() -> None:
    machine = make()
    machine.handle(work("a", "b"), 0.0)
    machine.handle(SignalCame(10), 1.0)
    machine.handle(exited("a", -15), 1.1)
    machine.handle(exited("b", -10), 9.0)
    actions = machine.handle(TimePassed(), 10.0)
    assert sorted(results(actions)) == [("a", -15), ("b", -10)]


def test_an_interrupt_takes_a_suspect_back() -> None:
    machine = make(slots=1)
    machine.handle(work("a"), 0.0)
    machine.handle(exited("a", -10), 1.0)
    actions = machine.handle(Interrupted(1.0), 1.1)
    assert (signals(actions), returned(actions)) == ([], [("a", 1)])


# Starting and reporting


def test_slots_are_filled_and_refilled_in_order() -> None:
    machine = make()
    assert started(machine.handle(work("a", "b", "c", "d"), 0.0)) == ["a", "b"]
    assert started(machine.handle(exited("b"), 1.0)) == ["c"]
    assert started(machine.handle(exited("a"), 1.0)) == ["d"]


def test_a_slot_is_filled_before_results_are_sent() -> None:
    machine = make(slots=1, bundlesize=1)
    machine.handle(work("a", "b"), 0.0)
    kinds = [type(action) for action in machine.handle(exited("a"), 1.0)]
    assert kinds == [Start, Report]


def test_results_wait_until_they_are_half_of_what_is_queued() -> None:
    machine = make()
    machine.handle(work(*"abcdefghijkl"), 0.0)
    assert [results(machine.handle(exited(id), 1.0)) for id in "abc"] == [[], [], []]
    assert results(machine.handle(exited("d"), 1.0)) == [("a", 0), ("b", 0), ("c", 0), ("d", 0)]


def test_small_deliveries_do_not_make_small_bundles() -> None:
    machine = make()
    machine.handle(work(*"abcdefghij"), 0.0)
    machine.handle(work("k"), 0.0)
    assert results(machine.handle(exited("a"), 1.0)) == []


def test_what_ended_is_told_before_a_task_starts_that_may_kill_us() -> None:
    machine = make(slots=1)
    machine.handle(work(*"abcdefgh"), 0.0)
    assert results(machine.handle(exited("a"), 1.0)) == []
    actions = machine.handle(work("x", deaths=1), 2.0)
    assert results(actions) == [("a", 0)]
    for key in "bcdefg":  # and from then on everything at once
        assert results(machine.handle(exited(key), 3.0)) == [(key, 0)]
    actions = machine.handle(exited("h"), 4.0)
    assert [type(action) for action in actions] == [Report, Start] and started(actions) == ["x"]


def test_a_fixed_bundlesize_is_obeyed() -> None:
    machine = make(bundlesize=2)
    machine.handle(work(*"abcdefghij"), 0.0)
    assert results(machine.handle(exited("a"), 1.0)) == []
    assert results(machine.handle(exited("b"), 1.0)) == [("a", 0), ("b", 0)]


def test_the_oldest_result_waits_no_longer_than_bundlewait() -> None:
    machine = make()
    machine.handle(work(*"abcdefghij"), 0.0)
    machine.handle(exited("a"), 1.0)
    machine.handle(exited("b"), 3.0)
    assert machine.deadline() == 6.0
    assert results(machine.handle(TimePassed(), 6.0)) == [("a", 0), ("b", 0)]
    assert machine.deadline() is None


def test_results_go_at_once_when_the_client_is_about_to_be_idle() -> None:
    machine = make()
    machine.handle(work(*"abcd"), 0.0)
    assert results(machine.handle(exited("a"), 1.0)) == [("a", 0)]
    assert machine.hungry is False
    for id in "bcd":
        assert results(machine.handle(exited(id), 2.0)) == [(id, 0)]
    assert machine.hungry


def test_the_result_holds_what_the_exit_said() -> None:
    machine = make(slots=1)
    machine.handle(work("a", execution=7), 0.0)
    [report] = machine.handle(Exited("a", -9, 1.0, 2.0, 0.1, 0.2, 4096.0, "o", "e"), 1.0)
    assert isinstance(report, Report)
    [result] = report.results
    assert (result.execution, result.exit_status, result.start, result.end) == (7, -9, 1.0, 2.0)
    assert (result.utime, result.stime, result.maxrss) == (0.1, 0.2, 4096.0)
    assert (result.outpath, result.errpath, result.command, result.error) == ("o", "e", None, None)


# Templates


def test_a_template_makes_the_command() -> None:
    machine = make()
    [start] = machine.handle(work("a", template="./x {} >{/}.out"), 0.0)
    assert isinstance(start, Start) and start.command == "./x run a >run a.out"


@pytest.mark.parametrize(("windows", "command"), [(False, "./x 'run a&b'"), (True, './x "run a&b"')])
def test_a_template_quotes_for_the_shell_of_the_client(windows: bool, command: str) -> None:
    machine = Machine(ClientSettings(**SETTINGS), windows=windows)
    [start] = machine.handle(work("a&b", template="./x {:q}"), 0.0)
    assert isinstance(start, Start) and start.command == command


def test_a_line_that_cannot_be_quoted_for_cmd_fails_its_task() -> None:
    machine = Machine(ClientSettings(**SETTINGS), windows=True)
    actions = machine.handle(work("%PATH%", template="./x {:q}"), 0.0)
    (result,) = [result for action in actions if isinstance(action, Report) for result in action.results]
    assert (result.id, result.exit_status) == ("%PATH%", Special.TEMPLATE_FAILED)
    assert "{}: a per cent sign in the text cannot be quoted for cmd.exe" in (result.error or "")


def test_a_slot_that_is_free_again_is_given_out_again_the_lowest_first() -> None:
    machine = make(slots=3)
    actions = machine.handle(work("a", "b", "c", "d", "e", template="{slot} of {slot_count}"), 0.0)
    assert [action.command for action in actions if isinstance(action, Start)] == ["0 of 3", "1 of 3", "2 of 3"]
    for gone, slot in (("b", 1), ("a", 0)):
        (start,) = [action for action in machine.handle(exited(gone), 0.0) if isinstance(action, Start)]
        assert (start.slot, start.command) == (slot, f"{slot} of 3")


def test_a_task_whose_template_fails_takes_no_slot() -> None:
    machine = make()
    machine.handle(work("a", template="{[9]} {slot}"), 0.0)
    (start,) = [action for action in machine.handle(work("b", template="{slot}"), 0.0) if isinstance(action, Start)]
    assert (start.slot, start.command) == (0, "0")


def test_commands_of_a_template_run_before_the_task() -> None:
    machine = make(slots=1)
    [expand] = machine.handle(work("a", "b", template="x {% date %} {% pwd %}"), 0.0)
    assert isinstance(expand, Expand) and expand.commands == ("date", "pwd")
    [start] = machine.handle(Expanded("a", ["now", "/"]), 1.0)
    assert isinstance(start, Start) and start.command == "x now /"


def test_a_failed_command_of_a_template_fails_the_task() -> None:
    machine = make(slots=1)
    machine.handle(work("a", "b", template="{% false %}"), 0.0)
    actions = machine.handle(Expanded("a", error="it ended with status 1"), 2.0)
    assert [type(action) for action in actions] == [Expand, Report]
    assert isinstance(actions[1], Report)
    [result] = actions[1].results
    assert (result.exit_status, result.start) == (Special.TEMPLATE_FAILED, 1002.0)
    assert result.error == "template: it ended with status 1"


@pytest.mark.parametrize("template", ["{[9]}", "{[0", "{= 1/0 =}"])
def test_a_template_that_cannot_be_expanded_fails_each_task(template: str) -> None:
    machine = make()
    actions = machine.handle(work("a", "b", "c", template=template), 0.0)
    assert results(actions) == [(id, Special.TEMPLATE_FAILED) for id in "abc"]
    assert started(actions) == []


def test_bytes_that_are_not_utf8_pass_through_a_template() -> None:
    machine = make()
    [start] = machine.handle(work("a", template="x {}", raw=b"\xff"), 0.0)
    assert isinstance(start, Start) and start.command is not None
    assert start.command.encode("utf-8", "surrogateescape") == b"x \xff"
    [report] = machine.handle(exited("a"), 1.0)
    assert isinstance(report, Report) and report.results[0].command == "x \\xff"


# What a peer may get wrong


def test_a_task_of_an_unknown_submission_is_returned() -> None:
    machine = make()
    actions = machine.handle(WorkArrived([Task("a", "x", 99, 4)]), 0.0)
    assert returned(actions) == [("a", 4)]
    assert any(isinstance(action, Warn) and "99" in action.text for action in actions)


def test_a_task_that_is_already_here_is_not_run_twice() -> None:
    machine = make()
    machine.handle(work("a"), 0.0)
    again = machine.handle(work("a"), 1.0)
    assert (started(again), returned(again)) == ([], [])
    newer = machine.handle(work("a", execution=2), 1.0)
    assert (started(newer), returned(newer)) == ([], [("a", 2)])
    assert results(machine.handle(exited("a"), 2.0)) == [("a", 0)]


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_time_limit_that_is_none_is_named(timeout: float) -> None:
    actions = make().handle(work("a", timeout=timeout), 0.0)
    assert results(actions) == [("a", Special.NOT_STARTED)]


def test_facts_about_tasks_that_are_not_here_are_ignored() -> None:
    machine = make()
    for event in (exited("x"), StartFailed("x", "no", 1.0), Expanded("x")):
        assert machine.handle(event, 1.0) == []


# Time limits


def test_a_task_past_its_limit_is_stopped_in_three_steps() -> None:
    machine = make(task_timeout=30.0)
    machine.handle(work("a", timeout=5.0), 0.0)
    seen = []
    while (due := machine.deadline()) is not None:
        seen += [(due, number) for _, number in signals(machine.handle(TimePassed(), due))]
    assert seen == [(5.0, INT), (15.0, TERM), (25.0, KILL)]
    [report] = machine.handle(exited("a", -9), 25.0)
    assert isinstance(report, Report)
    assert (report.results[0].exit_status, report.results[0].error) == (-9, "timeout")


def test_the_general_limit_counts_where_it_is_smaller() -> None:
    machine = make(task_timeout=3.0)
    machine.handle(work("a", timeout=5.0), 10.0)
    assert machine.deadline() == 13.0


def test_a_task_that_ends_in_time_is_left_alone() -> None:
    machine = make(task_timeout=3.0)
    machine.handle(work("a"), 0.0)
    machine.handle(exited("a"), 2.9)
    assert machine.deadline() is None
    assert machine.handle(TimePassed(), 3.0) == []


def test_the_limit_of_a_submission_counts_unless_the_client_has_its_own() -> None:
    limited = [replace(context(), timeout=5.0)]
    for own, timeout, due in ((None, None, 5.0), (None, 2.0, 2.0), (None, 9.0, 5.0), (30.0, None, 30.0)):
        machine = make(task_timeout=own)
        machine.handle(WorkArrived([Task("a", "run a", 1, 1, timeout=timeout)], limited), 0.0)
        assert machine.deadline() == due


def test_commands_of_templates_are_limited_too() -> None:
    machine = make(task_timeout=3.0)
    machine.handle(work("a", template="{% sleep 9 %}"), 0.0)
    assert signals(machine.handle(TimePassed(), 3.0)) == [("a", KILL)]
    [report] = machine.handle(Expanded("a", error="died"), 3.1)
    assert isinstance(report, Report)
    assert (report.results[0].exit_status, report.results[0].error) == (
        Special.TEMPLATE_FAILED,
        "template: timeout",
    )


# Orders


def test_drain_returns_the_queue_and_lets_the_rest_end() -> None:
    machine = make()
    machine.handle(work(*"abcd"), 0.0)
    assert returned(machine.handle(DrainOrdered(), 1.0)) == [("c", 1), ("d", 1)]
    assert returned(machine.handle(work("e"), 1.0)) == [("e", 1)]
    assert results(machine.handle(exited("a", 3), 2.0)) == [("a", 3)]
    assert results(machine.handle(exited("b"), 2.0)) == [("b", 0)]
    assert [type(action) for action in machine.handle(Dismissed(), 3.0)] == [End]


def test_drain_with_leave_ends_when_the_last_task_has() -> None:
    machine = make()
    machine.handle(work("a"), 0.0)
    # The server hears of it at once: it would send more for the free slot.
    assert machine.handle(DrainOrdered(leave=True), 1.0) == [Report([], [], leaving=True)]
    assert [type(action) for action in machine.handle(exited("a"), 2.0)] == [Report, Say, End]


def test_interrupted_tasks_are_returned_without_a_result() -> None:
    machine = make()
    machine.handle(work(*"abc"), 0.0)
    actions = machine.handle(Interrupted(2.0), 1.0)
    assert signals(actions) == [("a", INT), ("b", INT)]
    assert returned(actions) == [("c", 1)]
    assert returned(machine.handle(exited("a", -2), 1.1)) == [("a", 1)]
    assert signals(machine.handle(TimePassed(), 3.0)) == [("b", TERM)]
    assert signals(machine.handle(TimePassed(), 5.0)) == [("b", KILL)]
    assert returned(machine.handle(exited("b", -9), 5.1)) == [("b", 1)]


def test_no_grace_is_kill_at_once() -> None:
    machine = make()
    machine.handle(work("a"), 0.0)
    assert signals(machine.handle(Interrupted(0.0), 1.0)) == [("a", KILL)]
    assert machine.deadline() is None


def test_a_second_interrupt_can_only_be_quicker() -> None:
    machine = make()
    machine.handle(work("a"), 0.0)
    machine.handle(Interrupted(10.0), 0.0)
    assert signals(machine.handle(Interrupted(0.0), 1.0)) == [("a", KILL)]
    assert signals(machine.handle(Interrupted(10.0), 2.0)) == []


def test_a_task_past_its_limit_stays_a_failure_when_interrupted() -> None:
    machine = make(task_timeout=1.0)
    machine.handle(work("a"), 0.0)
    machine.handle(TimePassed(), 1.0)
    machine.handle(Interrupted(0.0), 2.0)
    assert results(machine.handle(exited("a", -9), 2.0)) == [("a", -9)]


def test_a_lost_server_ends_tasks_and_client_within_a_moment() -> None:
    machine = make()
    machine.handle(work("a"), 0.0)
    assert signals(machine.handle(ServerLost("gone"), 1.0)) == [("a", TERM)]
    due = machine.deadline()
    assert due is not None and due <= 1.2
    assert signals(machine.handle(TimePassed(), due)) == [("a", KILL)]
    actions = machine.handle(exited("a", -9), due)
    assert isinstance(actions[-1], End) and actions[-1].reason == "gone"
    assert not any(isinstance(action, Say) for action in actions)


def test_bye_without_work_ends_at_once() -> None:
    assert [type(action) for action in make().handle(Dismissed(), 0.0)] == [End]


def test_nothing_comes_after_the_end() -> None:
    machine = make()
    machine.handle(Dismissed(), 0.0)
    assert machine.handle(work("a"), 1.0) == []
    assert machine.deadline() is None


def test_an_idle_client_leaves_after_its_time() -> None:
    machine = make(idle_timeout=60.0)
    assert machine.deadline() == 60.0
    machine.handle(work("a"), 30.0)
    assert machine.deadline() is None
    machine.handle(exited("a"), 100.0)
    assert machine.deadline() == 160.0
    actions = machine.handle(TimePassed(), 160.0)
    assert [type(action) for action in actions] == [Say, End]


# Properties


@dataclass
class Ledger:
    """What happened to every execution that was handed over, told by the actions alone."""

    machine: Machine
    given: set[tuple[str, int]] = field(default_factory=set)
    running: dict[str, int] = field(default_factory=dict)
    expanding: dict[str, int] = field(default_factory=dict)
    answered: list[tuple[str, int]] = field(default_factory=list)
    ended: bool = False
    now: float = 0.0
    executions: dict[str, int] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    """Of what runs or is expanded."""

    def tell(self, event: Event) -> None:
        for action in self.machine.handle(event, self.now):
            assert not self.ended
            if isinstance(action, Start):
                self.expanding.pop(action.task.id, None)
                assert action.task.id not in self.running
                self.running[action.task.id] = action.task.execution
                self.take(action.task.id, action.slot)
                assert action.command in (None, f"{action.slot}/{self.machine.slots}")
            elif isinstance(action, Expand):
                self.take(action.id, action.slot)
                self.expanding[action.id] = self.executions[action.id]
            elif isinstance(action, Report):
                self.answered += [(result.id, result.execution) for result in action.results]
                self.answered += action.returned
            elif isinstance(action, SignalTask):
                assert action.id in self.running or action.id in self.expanding
            elif isinstance(action, End):
                assert not self.running and not self.expanding
                self.ended = True
        assert len(self.running) + len(self.expanding) <= self.machine.slots

    def take(self, id: str, slot: int) -> None:
        """A task has one slot from its first command to its end, and nobody else has it meanwhile."""
        self.slots = {key: at for key, at in self.slots.items() if key in self.running or key in self.expanding}
        assert self.slots.pop(id, slot) == slot
        assert slot not in self.slots.values() and 0 <= slot < self.machine.slots
        self.slots[id] = slot

    def give(self, ids: list[int], template: str) -> None:
        tasks = []
        for number in ids:
            id = str(number)
            if self.ended or id in self.machine.held:
                continue
            execution = self.executions.get(id, 0) + 1
            self.executions[id] = execution
            self.given.add((id, execution))
            tasks.append(Task(id, "x", 1, execution, timeout=3.0 if number % 3 else None))
        self.tell(WorkArrived(tasks, [context(template)]))

    def recall(self, ids: list[int]) -> None:
        """Ask these back, whatever has become of them: none of them waits any longer."""
        self.tell(RecallOrdered([(str(number), self.executions.get(str(number), 1)) for number in ids]))
        assert {task.id for task in self.machine._queue}.isdisjoint(map(str, ids))


steps = st.one_of(
    st.tuples(st.just("give"), st.lists(st.integers(0, 12), max_size=8, unique=True)),
    st.tuples(st.just("exit"), st.integers(0, 7)),
    st.tuples(st.just("no start"), st.integers(0, 7)),
    st.tuples(st.just("expanded"), st.integers(0, 7)),
    st.tuples(st.just("not expanded"), st.integers(0, 7)),
    st.tuples(st.just("wait"), st.floats(0, 20)),
    st.tuples(st.just("tick"), st.none()),
    st.tuples(st.just("recall"), st.lists(st.integers(0, 12), max_size=8, unique=True)),
    st.tuples(st.just("drain"), st.booleans()),
    st.tuples(st.just("interrupt"), st.sampled_from([0.0, 0.5, 30.0])),
    st.tuples(st.just("lost"), st.none()),
    st.tuples(st.just("bye"), st.none()),
)


def _step(ledger: Ledger, what: str, detail: Any, template: str) -> None:
    running, expanding = sorted(ledger.running), sorted(ledger.expanding)
    if what == "give":
        ledger.give(detail, template)
    elif what in ("exit", "no start") and running:
        id = running[detail % len(running)]
        del ledger.running[id]
        ledger.tell(exited(id) if what == "exit" else StartFailed(id, "no", 0.0))
    elif what in ("expanded", "not expanded") and expanding:
        id = expanding[detail % len(expanding)]
        ledger.expanding.pop(id)
        ledger.tell(Expanded(id, [str(ledger.machine.slots)]) if what == "expanded" else Expanded(id, error="no"))
    elif what == "wait":
        ledger.now += detail
    elif what == "tick":
        ledger.now = max(ledger.now, ledger.machine.deadline() or 0.0)
        ledger.tell(TimePassed())
    elif what == "recall":
        ledger.recall(detail)
    elif what == "drain":
        ledger.tell(DrainOrdered(detail))
    elif what == "interrupt":
        ledger.tell(Interrupted(detail))
    elif what == "lost":
        ledger.tell(ServerLost("gone"))
    elif what == "bye":
        ledger.tell(Dismissed())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(steps, max_size=40),
    st.integers(1, 4),
    st.sampled_from([None, 1, 3]),
    st.sampled_from(["{}", "{slot}/{slot_count}", "{slot}/{% y %}", "{[5]}"]),
    st.sampled_from([None, 5.0]),
)
def test_every_execution_is_answered_exactly_once(
    story: list[tuple[str, Any]], slots: int, bundlesize: int | None, template: str, idle: float | None
) -> None:
    ledger = Ledger(make(slots=slots, bundlesize=bundlesize, idle_timeout=idle))
    for what, detail in story:
        _step(ledger, what, detail, template)
        answered = set(ledger.answered)
        assert len(answered) == len(ledger.answered)
        assert answered | set(ledger.machine.held.items()) == ledger.given
    while ledger.running or ledger.expanding:
        _step(ledger, "exit", 0, template)
        _step(ledger, "expanded", 0, template)
    ledger.now += 6.0
    ledger.tell(TimePassed())
    assert sorted(ledger.answered) == sorted(ledger.given)


# Cancelling single tasks


def errors(actions: list[Action]) -> list[tuple[str, int, str | None]]:
    reports = [action for action in actions if isinstance(action, Report)]
    return [(result.id, result.exit_status, result.error) for report in reports for result in report.results]


def test_a_cancelled_task_is_stopped_by_the_ladder_and_reported_at_once() -> None:
    machine = make(slots=1, bundlesize=100)
    assert started(machine.handle(work(*"abcdef"), 0.0)) == ["a"]
    assert signals(machine.handle(CancelOrdered([("a", 1)]), 1.0)) == [("a", INT)]
    assert machine.deadline() == 11.0
    assert signals(machine.handle(TimePassed(), 11.0)) == [("a", TERM)]
    assert signals(machine.handle(TimePassed(), 21.0)) == [("a", KILL)]
    actions = machine.handle(exited("a", -KILL), 21.5)
    assert errors(actions) == [("a", -KILL, "cancelled")] and started(actions) == ["b"]
    assert machine.handle(CancelOrdered([("a", 1)]), 22.0) == []


@pytest.mark.parametrize(
    ("first", "grace", "sent"),
    [
        (12, 1.0, [(0.0, 12), (1.0, INT), (2.0, TERM), (3.0, KILL)]),
        (INT, 1.0, [(0.0, INT), (1.0, TERM), (2.0, KILL)]),
        (TERM, 1.0, [(0.0, TERM), (1.0, KILL)]),
        (KILL, 1.0, [(0.0, KILL)]),
        (12, 0.0, [(0.0, 12), (0.0, KILL)]),
        (None, 0.0, [(0.0, KILL)]),
    ],
)
def test_a_cancelled_task_gets_the_users_signal_first(
    first: int | None, grace: float, sent: list[tuple[float, int]]
) -> None:
    machine = make(signalwait=grace)
    machine.handle(work("a"), 0.0)
    got = [(0.0, number) for _, number in signals(machine.handle(CancelOrdered([("a", 1)], first), 0.0))]
    while (due := machine.deadline()) is not None:
        got += [(due, number) for _, number in signals(machine.handle(TimePassed(), due))]
    assert got == sent


def test_a_second_cancel_may_bring_another_signal() -> None:
    machine = make()
    machine.handle(work("a"), 0.0)
    assert signals(machine.handle(CancelOrdered([("a", 1)]), 0.0)) == [("a", INT)]
    assert signals(machine.handle(CancelOrdered([("a", 1)]), 1.0)) == []
    assert signals(machine.handle(CancelOrdered([("a", 1)], 12), 1.0)) == [("a", 12)]
    assert machine.deadline() == 10.0, "the ladder goes on"
    assert signals(machine.handle(CancelOrdered([("a", 1)], KILL), 2.0)) == [("a", KILL)]
    assert machine.deadline() is None


def test_commands_of_a_template_are_killed_whatever_the_signal() -> None:
    machine = make()
    machine.handle(work("a", template="{% y %}"), 0.0)
    assert signals(machine.handle(CancelOrdered([("a", 1)], 12), 0.0)) == [("a", KILL)]


def test_a_queued_task_is_cancelled_before_it_starts() -> None:
    machine = make(slots=1)
    machine.handle(work("a", "b", "c"), 0.0)
    assert errors(machine.handle(CancelOrdered([("b", 1), ("c", 2), ("x", 1)]), 1.0)) == [("b", -100, "cancelled")]
    assert machine.held == {"a": 1, "c": 1}
    assert started(machine.handle(exited("a"), 2.0)) == ["c"]


def test_cancel_takes_effect_while_a_template_is_expanded() -> None:
    machine = make(slots=1)
    machine.handle(work("a", template="{% date %}"), 0.0)
    assert signals(machine.handle(CancelOrdered([("a", 1)]), 1.0)) == [("a", KILL)]
    assert errors(machine.handle(Expanded("a", error="killed"), 1.5)) == [("a", -100, "cancelled")]


def test_cancel_overrides_a_timeout_and_an_interrupt_keeps_it() -> None:
    machine = make(slots=2)
    machine.handle(work("a", timeout=5.0), 0.0)
    machine.handle(work("b"), 0.0)
    machine.handle(TimePassed(), 5.0)
    machine.handle(CancelOrdered([("a", 1), ("b", 1)]), 6.0)
    machine.handle(Interrupted(1.0), 7.0)
    assert errors(machine.handle(exited("a", -INT), 7.5)) == [("a", -INT, "cancelled")]
    assert errors(machine.handle(exited("b", -INT), 7.6)) == [("b", -INT, "cancelled")]


def test_what_goes_back_or_has_ended_is_not_cancelled_here() -> None:
    machine = make(slots=1)
    machine.handle(work("a"), 0.0)
    machine.handle(Interrupted(1.0), 1.0)
    assert machine.handle(CancelOrdered([("a", 1)]), 1.5) == []
    assert returned(machine.handle(exited("a", -INT), 1.6)) == [("a", 1)]


# Taken back for others


def test_what_is_asked_back_goes_at_once_if_it_has_not_started() -> None:
    machine = make(slots=1, bundlesize=100)
    machine.handle(work(*"abcdef"), 0.0)
    machine.handle(exited("a"), 1.0)
    asked = RecallOrdered([("f", 1), ("e", 1), ("d", 2), ("b", 1), ("a", 1), ("x", 1)])
    actions = machine.handle(asked, 2.0)
    assert returned(actions) == [("e", 1), ("f", 1)]
    assert results(actions) == [("a", 0)]  # which would have waited for a full bundle
    assert machine.held == {"b": 1, "c": 1, "d": 1}
    assert machine.handle(asked, 3.0) == []
    assert started(machine.handle(exited("b"), 4.0)) == ["c"]


def test_what_went_back_may_come_again() -> None:
    machine = make(slots=1)
    machine.handle(work("a", "b"), 0.0)
    assert returned(machine.handle(RecallOrdered([("b", 1)]), 1.0)) == [("b", 1)]
    assert machine.handle(work("b", execution=2), 2.0) == []
    assert machine.handle(RecallOrdered([("b", 1)]), 3.0) == []
    assert started(machine.handle(exited("a"), 4.0)) == ["b"]


def test_a_task_that_is_being_expanded_is_not_given_back() -> None:
    machine = make(slots=1)
    machine.handle(work("a", template="{% date %}"), 0.0)
    assert machine.handle(RecallOrdered([("a", 1)]), 1.0) == []


# The rate of starts


def test_tasks_start_no_faster_than_the_rate_and_results_do_not_wait_for_it() -> None:
    machine = make(slots=4, ratelimit=2.0)
    assert started(machine.handle(work("a", "b", "c", "d"), 10.0)) == ["a"]
    assert machine.deadline() == 10.5
    actions = machine.handle(exited("a"), 10.2)
    assert (started(actions), results(actions)) == ([], [("a", 0)])
    assert machine.deadline() == 10.5
    assert started(machine.handle(TimePassed(), 10.5)) == ["b"]
    assert started(machine.handle(TimePassed(), 10.75)) == []
    # Time without a start is not saved up.
    assert started(machine.handle(TimePassed(), 20.0)) == ["c"]
    assert started(machine.handle(TimePassed(), 20.1)) == []
    assert started(machine.handle(TimePassed(), 20.5)) == ["d"]
    assert machine.deadline() is None


def test_the_rate_wakes_nobody_where_no_slot_is_free() -> None:
    machine = make(slots=1, ratelimit=2.0)
    assert started(machine.handle(work("a", "b"), 10.0)) == ["a"]
    assert machine.deadline() is None
    assert started(machine.handle(exited("a"), 11.0)) == ["b"]


def test_what_waits_for_the_rate_goes_back_when_the_client_drains() -> None:
    machine = make(slots=2, ratelimit=0.1)
    machine.handle(work("a", "b"), 10.0)
    assert returned(machine.handle(DrainOrdered(False), 10.1)) == [("b", 1)]
    assert machine.deadline() is None


@settings(max_examples=50)
@given(st.lists(st.floats(0.0, 0.7), max_size=60), st.sampled_from([0.5, 2.0, 7.0]))
def test_no_second_sees_more_starts_than_the_rate(pauses: list[float], rate: float) -> None:
    machine = make(slots=1000, ratelimit=rate)
    now, starts = 0.0, []
    for number, pause in enumerate(pauses):
        now += pause
        starts += [now] * len(started(machine.handle(work(f"t{number}"), now)))
        due = machine.deadline()
        if due is not None and due > now:
            now = due
            starts += [now] * len(started(machine.handle(TimePassed(), now)))
    assert all(after - before >= 1 / rate - 1e-9 for before, after in pairwise(starts))
