"""What ends while the client cannot look: the machine that is told so, and processes that tell when they ended."""

from __future__ import annotations

import os
import sys
import time

import pytest

from hypershell.core.quarantine import fails_at_once
from hypershell.executor.real_end import RealEnds
from hypershell.executor.unseen import LATE, LOOKS, Lookout
from hypershell.executor.vocabulary import Action, Exited, LeaderEnded, Report, TimePassed, Unseen
from tests.test_executor_machine import INT, exited, make, results, signals, work
from tests.test_executor_rig import rig

AWAY = "its client could not look from 00:16:40.5 to 00:16:43.0 UTC (stopped, or no processor time)"


def ended(id: str, *between: float) -> Exited:
    earliest, latest = between or (0.5, 3.0)
    return Exited(id, 0, 1.0, 2.0, unseen=Unseen(0.5, 3.0, (earliest, latest)))


def error_of(actions: list[Action]) -> str | None:
    [report] = actions
    assert isinstance(report, Report)
    return report.results[0].error


def errors(*events: Exited | LeaderEnded, limit: float = 2.0) -> list[tuple[int, str | None]]:
    machine = make(task_timeout=limit)
    machine.handle(work("a"), 0.0)
    actions = [action for event in events for action in machine.handle(event, 3.0)]
    assert signals(actions) == []
    reports = [action for action in actions if isinstance(action, Report)]
    return [(result.exit_status, result.error) for report in reports for result in report.results]


def test_a_task_that_ended_in_time_while_nobody_looked_succeeded() -> None:
    assert errors(ended("a", 1.65, 1.7)) == [(0, None)]


def test_a_task_that_ran_past_its_limit_while_nobody_looked_is_a_timeout() -> None:
    [(status, error)] = errors(ended("a", 2.45, 2.5))
    assert (status, error) == (0, f"timeout, noticed late: {AWAY}")


def test_where_it_cannot_be_told_the_error_says_what_is_known() -> None:
    unknown = f"timeout not ruled out: {AWAY}; its end lies between "
    assert errors(ended("a")) == [(0, unknown + "00:16:40.5 and 00:16:43.0 UTC")]
    assert errors(ended("a", 1.9, 2.1)) == [(0, unknown + "00:16:41.9 and 00:16:42.1 UTC")]
    assert errors(ended("a"), limit=3.5) == [(0, None)], "it ended before its limit in any case"


def test_a_task_without_a_limit_only_ended() -> None:
    machine = make()
    machine.handle(work("a", "b"), 0.0)
    actions = machine.handle(ended("a"), 3.0) + machine.handle(ended("b", 1.7, 1.7), 3.0)
    assert results(actions) == [("a", 0), ("b", 0)]


def test_a_death_by_a_launchers_signal_past_the_limit_is_a_timeout_too() -> None:
    machine = make(task_timeout=2.0)
    machine.handle(work("a"), 0.0)
    event = Exited("a", -15, 1.0, 2.0, unseen=Unseen(0.5, 3.0, (2.4, 2.5)))
    assert error_of(machine.handle(event, 3.0)) == f"timeout, noticed late: {AWAY}"


def test_a_task_that_still_runs_past_its_limit_is_stopped_and_its_error_says_why_so_late() -> None:
    machine = make(task_timeout=2.0)
    machine.handle(work("a"), 0.0)
    assert signals(machine.handle(TimePassed(Unseen(0.5, 3.0)), 3.0)) == [("a", INT)]
    assert error_of(machine.handle(exited("a", -2), 3.1)) == f"timeout, noticed late: {AWAY}"


def test_what_was_over_before_the_client_was_away_is_a_plain_timeout() -> None:
    machine = make(task_timeout=0.4)
    machine.handle(work("a"), 0.0)
    machine.handle(TimePassed(Unseen(0.5, 3.0)), 3.0)
    assert error_of(machine.handle(exited("a", -2), 3.1)) == "timeout"


def test_while_last_output_is_read_the_limit_counts_no_longer() -> None:
    machine = make(task_timeout=2.0)
    machine.handle(work("a"), 0.0)
    assert machine.handle(LeaderEnded("a"), 1.95) == []
    assert machine.deadline() is None
    assert machine.handle(TimePassed(), 2.02) == []
    assert error_of(machine.handle(exited("a"), 2.05)) is None


def test_the_verdict_on_a_leader_that_ended_unseen_stays() -> None:
    [(_, error)] = errors(LeaderEnded("a", Unseen(0.5, 3.0, (2.4, 2.5))), exited("a"))
    assert error == f"timeout, noticed late: {AWAY}"


def test_such_a_timeout_says_nothing_against_the_client() -> None:
    machine = make(task_timeout=2.0)
    machine.handle(work("a"), 0.0)
    [report] = machine.handle(Exited("a", 0, 1.0, 1.5, unseen=Unseen(0.5, 3.0, (2.4, 2.5))), 3.0)
    assert isinstance(report, Report) and not fails_at_once(report.results[0])


def test_a_lookout_tells_of_looks_that_came_late() -> None:
    lookout = Lookout()
    assert lookout.look(1000.0) is None
    lookout.looked(1000.0, 1000.0 + LOOKS)
    assert lookout.look(1000.0 + LOOKS + LATE / 2) is None
    assert lookout.look(1000.0 + LOOKS + 2 * LATE) == Unseen(1000.0, 1000.0 + LOOKS + 2 * LATE)
    lookout.looked(1002.0, None)
    assert lookout.look(5000.0) is None


# Real processes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_kernel_tells_when_a_child_ended() -> None:
    since = time.monotonic()
    early = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitid(os.P_PID, early, os.WEXITED | os.WNOWAIT)
    between = time.monotonic()
    late = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "0.3")
    os.waitid(os.P_PID, late, os.WEXITED | os.WNOWAIT)
    real = RealEnds(since)
    told = {}
    while len(told) < 2:
        real.peek()
        pid, _ = os.waitpid(-1, 0)
        told[pid] = real.of(pid)
    first, second = told[early], told[late]
    assert since <= first[0] <= first[1] <= between + 0.1
    assert between + 0.3 <= second[1] <= time.monotonic()
    assert second[0] > between + 0.2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("background", ["", "sleep 3 & "])
def test_a_loop_that_stood_still_records_ends_as_the_kernel_had_them(background: str) -> None:
    """Limit 1 s: the first is over in time, the second is not. Both are over when the loop goes on."""
    with rig([f"{background}sleep 0.1", f"{background}sleep 1.5"], fields={"timeout": 1.0}) as both:
        jobs: list[int] = []

        def are_started() -> bool:
            jobs[:] = [] if both.executor._jobs is None else both.executor._jobs._by_pid
            return len(jobs) == 2

        both.run(until=are_started)
        for pid in jobs:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        server = both.run()
    first, second = server.result(0), server.result(1)
    assert (first.exit_status, first.error) == (0, None)
    assert first.end - first.start < 1.0
    assert (second.exit_status, str(second.error)[:23]) == (0, "timeout, noticed late: ")
    assert second.end - second.start >= 1.5
