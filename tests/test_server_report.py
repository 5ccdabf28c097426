"""What a run says at its end: exit status, last line, failures file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hypershell.core.actions import Finish, Finished
from hypershell.core.model import Result, Task
from hypershell.server.report import Failures, exit_status, last_line, nothing_done


def finish(succeeded: int = 3, failed: int = 0, held: int = 0, unfinished: int = 0, **more: object) -> Finish:
    return Finish(succeeded, failed, held, unfinished, **{"reason": "complete", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "read", "allow", "status"),
    [
        (finish(), True, False, 0),
        (finish(failed=1), True, False, 7),
        (finish(failed=1), True, True, 0),
        (finish(held=1), True, False, 7),
        (finish(failed_before=1), True, False, 7),
        (finish(unfinished=1, reason="drained"), True, False, 75),
        (finish(failed=2, unfinished=1, reason="drained"), True, True, 75),
        (finish(reason="drained"), False, False, 75),
        (finish(reason="drained"), True, False, 0),
        (finish(unfinished=1, reason="interrupted"), True, False, 75),
        (finish(reason="interrupted"), True, False, 0),
        (finish(reason="store failed"), True, False, 5),
        (finish(unfinished=1, reason="no clients left"), True, False, 75),
        (finish(unfinished=1, failed=1, reason="no room"), True, False, 75),
    ],
)
def test_exit_status(how: Finish, read: bool, allow: bool, status: int) -> None:
    assert exit_status(how, read, allow) == status


@pytest.mark.parametrize("reason", ["drained", "interrupted"])
def test_ctrl_c_has_a_status_of_its_own_where_something_is_left(reason: str) -> None:
    assert exit_status(finish(unfinished=1, reason=reason), True, False, was_interrupted=True) == 4
    assert exit_status(finish(reason=reason), False, False, was_interrupted=True) == 4
    assert exit_status(finish(failed=1, reason=reason), True, False, was_interrupted=True) == 7
    assert exit_status(finish(reason=reason), True, False, was_interrupted=True) == 0


def test_last_line() -> None:
    assert last_line(finish(), True, "look", "again") is None
    assert last_line(finish(failed=1), True, "look", "again") == "1 of 4 tasks failed (look)"
    assert last_line(finish(held=2), True, "look", None) == "2 tasks in later groups held back"
    assert last_line(finish(failed_before=1), True, "look", None) == "1 task failed in earlier runs (look)"
    both = finish(unfinished=1, reason="drained")
    assert last_line(both, False, "look", "again") == (
        "1 task unfinished and the input was not read to its end (go on with: again)"
    )
    assert last_line(finish(succeeded=0, reason="store failed"), False, "look", "again") is None


def test_failures_that_cannot_be_tried_again_have_another_way_out() -> None:
    line = last_line(finish(failed_before=2), True, "look", "again", retry="retry", tried_again=True)
    assert line is not None and "retry" not in line
    assert line.startswith("2 tasks failed in earlier runs and cannot be tried again (look); correct the lines and")
    both = last_line(finish(failed=1, failed_before=2), True, "look", "again", retry="retry", tried_again=True)
    assert both is not None and "failed in earlier runs and cannot be tried again; " in both
    assert both.endswith("; failed tasks are tried again by: retry")


def test_a_restart_without_work_says_so() -> None:
    idle = Finish(0, 0, 0, 0, "complete")
    assert nothing_done(idle, "a.in") == (
        "all of a.in was done before, so nothing was run (without --restart all of it runs again)"
    )
    assert nothing_done(idle, None) == "nothing to go on with: there is no unfinished task without a living server"
    assert nothing_done(Finish(1, 0, 0, 0, "complete"), "a.in") is None
    assert nothing_done(Finish(0, 0, 0, 0, "drained"), "a.in") is None


def ended(task: Task, next_id: str | None = None, state: str = "failed") -> Finished:
    return Finished(1, state, 0.0, Result(task.id, 1, 1, 0.0, 0.0), next_id, task)


def test_failures_hold_the_lines_of_final_failures_byte_for_byte(tmp_path: Path) -> None:
    failures = Failures("failed")
    plain, raw = Task("a", "echo é", 1), Task("b", "echo \\xff", 1, raw=b"echo \xff")
    retried, good = Task("c", "retried", 1), Task("e", "good", 1)
    failures.add([ended(plain), ended(retried, "d"), ended(good, None, "succeeded")])
    fd = os.open(tmp_path / "failed", os.O_WRONLY | os.O_CREAT)
    failures.begin(fd)  # what came before is held
    failures.add([ended(raw)])
    os.close(fd)
    assert (tmp_path / "failed").read_bytes() == "echo é\n".encode() + b"echo \xff\n"


def test_failures_that_cannot_be_written_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures("failed")
    fd = os.open("/dev/full", os.O_WRONLY)
    failures.begin(fd)
    for name in "ab":
        failures.add([ended(Task(name, "false", 1))])
    os.close(fd)
    assert caplog.text.count("failed: No space left on device; failures are missing there") == 1


def test_what_did_not_reach_the_store_is_said() -> None:
    ended_so = Finish(5, 0, 0, 3, "store failed")
    assert last_line(ended_so, True, "find", None, unwritten=4) == (
        "3 tasks unfinished; 4 changes did not reach the database: what they tell of is unfinished there"
    )
    assert last_line(Finish(5, 0, 0, 0, "complete"), True, "find", None, unwritten=4) is None


def test_files_that_must_be_restored_first_are_said() -> None:
    ended_so = Finish(0, 0, 0, 0, "complete")
    line = last_line(ended_so, False, "find", "hs --restart", unread=1)
    assert line is not None and line.endswith("(restore the files named above, then go on with: hs --restart)")


def test_cancelled_tasks_are_counted_apart_and_are_no_failure() -> None:
    ended_so = Finish(5, 0, 0, 0, "complete", cancelled=2)
    assert last_line(ended_so, True, "find", None) == "2 tasks cancelled"
    assert exit_status(ended_so, True, False) == 0
    mixed = Finish(5, 1, 0, 0, "complete", cancelled=1)
    assert last_line(mixed, True, "find", None) == "1 of 6 tasks failed (find); 1 task cancelled"
    assert exit_status(mixed, True, False) == 7
