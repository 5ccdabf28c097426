"""``--restart`` is about the work: how it is run may change, other work is named, failures can be tried again."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.integration.test_mpi import Job
from tests.testbed.cli import Done, Hs
from tests.testbed.mpi import Mpi, each_mpi


def killed(hs: Hs, line: str, *words: str, env: dict[str, str] | None = None) -> None:
    """A run of `line`, which prints "up" and then waits, as ``kill -9`` leaves it."""
    hs.file([line])
    process = hs.start("cluster", "tasks.in", "--restart", *words, env=env)
    if process.stdout is not None and "--capture" not in words:
        assert process.stdout.readline() == b"up\n"
    while "--capture" in words and not (hs.folder / "up").exists():
        assert process.poll() is None
    process.kill()
    process.communicate()


def again(hs: Hs, *words: str, env: dict[str, str] | None = None) -> Done:
    return hs.run("cluster", "tasks.in", "--restart", *words, env=env)


def test_another_limit_goes_on_with_the_same_work(hs: Hs) -> None:
    """The case of a user who raises ``-W``: what succeeded does not run again."""
    hs.file(["echo a", "echo b"])
    assert again(hs, "-W", "1").out == "a\nb\n"
    for words in (["-W", "10", "-r2", "-N2", "-b1"], ["--keep-output"], []):
        done = again(hs, *words, env={"HYPERSHELL_EXPORT_NEW": "1"})
        assert (done.status, done.out) == (0, "") and done.err.startswith("hs: all of tasks.in was done before")
    assert hs.rows("SELECT count(*) FROM submission") == [(1,)]


def test_a_limit_holds_for_what_was_not_run_yet_and_stays(hs: Hs) -> None:
    killed(hs, "echo up; exec sleep 1000", "-W", "500")
    assert again(hs, env={"HYPERSHELL_TASK_TIMEOUT": "0.2"}).status == 7
    assert again(hs, "--retry-failed").status == 7
    assert hs.rows("SELECT attempt, substr(error, 1, 7) FROM task ORDER BY id") == [(1, "timeout"), (2, "timeout")]
    assert '"task_timeout":0.2' in hs.rows("SELECT options FROM submission")[0][0]


def test_exports_stay_unless_they_are_given_anew(hs: Hs) -> None:
    line = "test -e go && echo $A $B {% echo $B %} || { echo up; touch go; exec sleep 1000; }"
    killed(hs, line.replace("{% echo $B %}", ""), env={"HYPERSHELL_EXPORT_A": "1", "HYPERSHELL_EXPORT_B": "2"})
    assert again(hs, env={"HYPERSHELL_EXPORT_B": "3"}).out == "1 3\n"


def test_capture_stays_until_output_goes_elsewhere(hs: Hs) -> None:
    line = "test -e up && echo said || { touch up; exec sleep 1000; }"
    killed(hs, line, "--capture")
    done = again(hs)
    ((path,),) = hs.rows("SELECT outpath FROM task")
    assert (done.status, done.out) == (0, "")
    with open(path) as captured:
        assert captured.read() == "said\n"
    (hs.folder / "up").unlink()
    hs.file([line, ""])
    killed(hs, f"{line} #", "--capture", "--repeat")
    assert again(hs, "-o", "out").status == 0
    assert (hs.folder / "out").read_text() == "said\n"


def test_an_unfinished_rest_is_taken_with_what_its_submission_says(hs: Hs) -> None:
    """``--restart`` alone knows nothing of a FILE's options, and needs not."""
    killed(hs, "test -e go && echo $A && exec sleep 1000 || { echo up; touch go; exec sleep 1000; }", "-W", "1.5",
           env={"HYPERSHELL_EXPORT_A": "stored"})  # fmt: skip
    done = hs.run("cluster", "--restart")
    assert (done.status, done.out) == (7, "stored\n")
    assert hs.rows("SELECT error FROM task") == [("timeout",)]


def test_failures_of_earlier_runs_are_listed_without_those_of_other_work(hs: Hs) -> None:
    hs.file(["false", "true  # HYPERSHELL: a=b"])
    assert again(hs).status == again(hs, "-t", "false {}").status == 7
    found = re.search(r"2 tasks failed in earlier runs \(list them with: hs (.*?)\)", again(hs).err)
    assert found is not None
    assert len(hs.run(*shlex.split(found[1]), "id").out.splitlines()) == 2
    assert "; 1 task failed in earlier runs and cannot be tried again; " in again(hs, "--retry-failed").err


def test_other_work_of_the_same_file_is_named(hs: Hs) -> None:
    hs.file(["1", "2"])
    again(hs, "-t", "echo {}")
    done = again(hs, "-t", "echo x{}")
    assert done.out == "x1\nx2\n" and len(done.err.splitlines()) == 1
    assert "all of it is done) with another template: 'echo {}' there, 'echo x{}' here" in done.err
    (hs.folder / "sub").mkdir()
    done = again(hs, "-t", "echo x{}", env={"HYPERSHELL_TASK_CWD": "sub"})
    assert done.out == "x1\nx2\n" and f"in another folder: '{hs.folder}' there, '{hs.folder}/sub' here" in done.err


def test_a_second_run_of_a_file_says_so(hs: Hs) -> None:
    hs.file(["test -e ok"])
    assert hs.run("cluster", "tasks.in").status == 7
    (hs.folder / "ok").touch()
    done = hs.run("cluster", "tasks.in")
    assert done.status == 0 and len(done.err.splitlines()) == 1
    words = r"tasks.in was run before \(submission \d+ of .*; 1 task has failed\); this run does all of it once"
    assert re.search(words, done.err) and "--restart --retry-failed" in done.err
    done = hs.run("cluster", "tasks.in")
    assert "all of it is done); this run does all of it once more (--restart runs nothing again" in done.err
    assert hs.run("cluster", "tasks.in", "-t", "echo {}").err == "", "other work"


def test_failed_tasks_again_and_the_groups_behind_them(hs: Hs) -> None:
    hs.file(["echo first; test -e ok", "echo good", "echo z # HYPERSHELL: group:1", "echo # HYPERSHELL: group:x"])
    done = again(hs, "-f", "failed")
    assert done.status == 7 and sorted(done.out.split()) == ["first", "good"]
    assert "failed tasks are tried again by: hs cluster tasks.in --restart -f failed --retry-failed" in done.err
    assert "held back (--restart --retry-failed tries the failed tasks again)" in done.err
    (hs.folder / "ok").touch()
    assert again(hs).out == ""
    done = again(hs, "--retry-failed", "-f", "failed")
    assert (done.status, done.out) == (7, "first\n"), "the bad line is bad for ever, and holds its group"
    assert (hs.folder / "failed").read_text() == "echo # HYPERSHELL: group:x\n"


def test_a_group_is_released_when_what_held_it_succeeds(hs: Hs) -> None:
    hs.file(["test -e ok", "echo later # HYPERSHELL: group:1", "echo last # HYPERSHELL: group:2"])
    assert again(hs).status == 7
    assert again(hs, "--retry-failed").status == 7
    (hs.folder / "ok").touch()
    for out in ("later\nlast\n", ""):
        done = again(hs, "--retry-failed")
        assert (done.status, done.out) == (0, out)
    assert hs.rows("SELECT attempt, state FROM task WHERE args = 'test -e ok' ORDER BY id") == [
        (1, "failed"), (2, "failed"), (3, "succeeded"),
    ]  # fmt: skip


def test_retries_are_counted_anew(hs: Hs) -> None:
    hs.file(["echo try; false"])
    assert again(hs, "-r1").out == "try\ntry\n"
    assert again(hs, "-r2", "--retry-failed").out == "try\ntry\ntry\n"
    assert hs.rows("SELECT attempt, retried FROM task ORDER BY id") == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 0)]


def test_a_kill_in_the_middle_loses_and_doubles_nothing(hs: Hs) -> None:
    hs.file([f"test -e ok || exit 3; test {n} != 5 || test -e go || {{ echo up; exec sleep 1000; }}; echo {n}"
             for n in range(10)])  # fmt: skip
    assert again(hs).status == 7
    (hs.folder / "ok").touch()
    process = hs.start("cluster", "tasks.in", "--restart", "--retry-failed", "-b1")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(6)] == [*(b"%d\n" % n for n in range(5)), b"up\n"]
    process.kill()
    process.communicate()
    (hs.folder / "go").touch()
    done = again(hs, "--retry-failed")
    assert done.status == 0 and {"5", "6", "7", "8", "9"} <= set(done.out.split())
    assert hs.rows("SELECT attempt, state, count(*) FROM task GROUP BY attempt, state") == [
        (1, "failed", 10), (2, "succeeded", 10),
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["cluster", "server"])
def test_failed_tasks_of_all_submissions_again(hs: Hs, command: str) -> None:
    assert hs.run("cluster", input="echo {}$TASK_ATTEMPT; test -e ok\n").status == 7
    (hs.folder / "ok").touch()
    if command == "cluster":
        done = hs.run("cluster", "--restart", "--retry-failed")
        assert (done.status, done.out) == (0, "{}2\n")
        return
    process = hs.start("server", "--restart", "--retry-failed", "--connect-file", "door", "--port", "0")
    while not (hs.folder / "door").exists():
        assert process.poll() is None
    assert hs.run("client", "--connect", "door").out == "{}2\n"
    process.communicate(timeout=60)
    assert process.returncode == 0


@each_mpi()
def test_over_mpi(hs: Hs, mpi: Mpi) -> None:
    """Each rank gets the limit and the exports of the submission, and tries failures again."""
    job = Job(hs, mpi)
    hs.file(["echo $A; test -e ok", "exec sleep 1000"])
    first = job.run(2, "tasks.in", "--restart", "-W", "0.5", env={"HYPERSHELL_EXPORT_A": "a"})
    assert first.status == 7 and first.stdout == "a\n"
    (hs.folder / "ok").touch()
    second = job.run(2, "tasks.in", "--restart", "--retry-failed")
    assert second.status == 7 and second.stdout == "a\n"
    assert "the same command" in second.stderr
    assert hs.rows("SELECT attempt, state, substr(error, 1, 7) FROM task ORDER BY attempt, state, error") == [
        (1, "failed", None), (1, "failed", "timeout"), (2, "failed", "timeout"), (2, "succeeded", None),
    ]  # fmt: skip
