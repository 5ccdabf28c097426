"""``--walltime`` and ``--status-file`` as a user meets them, and what schedulers say when they are asked."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.testbed.cli import Hs


def status(hs: Hs, name: str = "status.json") -> dict[str, object]:
    found: dict[str, object] = json.loads((hs.folder / name).read_text())
    return found


def stand_in(hs: Hs, name: str, script: str) -> dict[str, str]:
    """A command of a scheduler that is not on this machine; the environment in which it is found."""
    folder = hs.folder / "bin"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


# -- walltime ------------------------------------------------------------------------------------------------


def test_a_run_ends_before_its_walltime_and_the_next_one_does_the_rest(hs: Hs) -> None:
    hs.file(["read line <fifo"] * 2 + ["true"] * 3)
    os.mkfifo(hs.folder / "fifo")
    done = hs.run("cluster", "tasks.in", "--walltime", "4", "--drain-time", "2", "-S", "0.1",
                  "--status-file", "status.json")  # fmt: skip
    assert done.status == 75
    assert "The allocation ends in 0:00:0" in done.err and "5 tasks unfinished" in done.err
    assert hs.states() == {"pending": 5}
    assert hs.rows("SELECT outcome FROM run") == [("walltime",)]
    told = status(hs)
    assert (told["state"], told["reason"], told["exit_status"]) == ("ended", "walltime", 75)
    assert (told["succeeded"], told["unfinished"], told["complete"]) == (0, 5, True)
    (hs.folder / "fifo").unlink()
    (hs.folder / "fifo").write_text("go\n")
    again = hs.run("cluster", "tasks.in", "--restart", "--walltime", "0")
    assert again.status == 0 and hs.states() == {"succeeded": 5}


def test_a_task_whose_limit_is_too_long_does_not_begin(hs: Hs) -> None:
    hs.file(["touch short # HYPERSHELL: timeout:10", "touch long # HYPERSHELL: timeout:2h", "touch last"])
    done = hs.run("cluster", "tasks.in", "--walltime", "1h", "--status-file", "status.json")
    assert done.status == 75 and "1 could not end before that" in done.err
    assert [(hs.folder / name).exists() for name in ("short", "long", "last")] == [True, False, True]
    assert status(hs)["unfinished"] == 1
    assert hs.run("cluster", "tasks.in", "--restart").status == 0
    assert (hs.folder / "long").exists()


def test_the_limit_of_all_tasks_counts(hs: Hs) -> None:
    hs.file(["touch ran"])
    assert hs.run("cluster", "tasks.in", "--walltime", "1h", "-W", "2h").status == 75
    assert not (hs.folder / "ran").exists()


@pytest.mark.parametrize(
    ("variable", "command", "answer"),
    [
        ("SLURM_JOB_ID", "squeue", "0:02"),
        ("PBS_JOBID", "qstat", "    Resource_List.walltime = 00:00:02"),
        ("FLUX_JOB_ID", "flux", "2"),
        ("LSB_JOBID", "bjobs", "0:00 L"),
    ],
)
def test_a_scheduler_is_asked(hs: Hs, variable: str, command: str, answer: str) -> None:
    env = stand_in(hs, command, f"echo '{answer}'; echo \"$0 $*\" >>{hs.folder}/asked")
    os.mkfifo(hs.folder / "fifo")
    hs.file(["read line <fifo"])
    done = hs.run("cluster", "tasks.in", "-S", "0.1", "--status-file", "status.json", env={**env, variable: "42"})
    assert done.status == 75, done.err
    assert status(hs)["reason"] == "walltime"
    assert len((hs.folder / "asked").read_text().splitlines()) == 1


def test_a_variable_makes_the_command_needless(hs: Hs) -> None:
    env = stand_in(hs, "squeue", f"touch {hs.folder}/asked")
    hs.file(["touch ran"])
    end = str(int(time.time()) - 10)
    done = hs.run("cluster", "tasks.in", env={**env, "SLURM_JOB_ID": "42", "SLURM_JOB_END_TIME": end})
    assert done.status == 75 and not (hs.folder / "asked").exists() and not (hs.folder / "ran").exists()


@pytest.mark.parametrize("script", ["exit 1", "echo what; exit 0", "exec sleep 1000", "kill -9 $$"])
def test_a_scheduler_that_fails_or_hangs_does_no_harm(hs: Hs, script: str) -> None:
    env = stand_in(hs, "squeue", script)
    hs.file(["echo 1"])
    done = hs.run("cluster", "tasks.in", env={**env, "SLURM_JOB_ID": "42"})
    assert (done.status, done.out) == (0, "1\n")


def test_a_scheduler_that_is_busy_is_asked_again(hs: Hs) -> None:
    env = stand_in(hs, "squeue", f"cd {hs.folder}; if test -e asked; then echo 0:02; else touch asked; exit 1; fi")
    os.mkfifo(hs.folder / "gate")
    hs.file(["read line <gate"])
    done = hs.run("cluster", "tasks.in", "-S", "0.1", env={**env, "SLURM_JOB_ID": "42"})
    assert done.status == 75 and "The allocation ends in" in done.err


def test_a_command_that_hangs_ends_with_the_run(hs: Hs) -> None:
    os.mkfifo(hs.folder / "alive")
    env = stand_in(hs, "squeue", f"exec 3>{hs.folder}/alive; echo up >&3; exec sleep 1000")
    hs.file(["read line <gate"])
    os.mkfifo(hs.folder / "gate")
    process = hs.start("cluster", "tasks.in", env={**env, "SLURM_JOB_ID": "42"})
    with open(hs.folder / "alive") as alive:
        assert alive.readline() == "up\n"
        (hs.folder / "gate").write_text("go\n")
        assert alive.read() == ""
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_job_without_a_limit_is_nothing_to_warn_of(hs: Hs) -> None:
    hs.file(["read line <gate"])
    os.mkfifo(hs.folder / "gate")
    env = stand_in(hs, "squeue", f"echo UNLIMITED; echo go >{hs.folder}/gate")
    done = hs.run("cluster", "tasks.in", env={**env, "SLURM_JOB_ID": "42"})
    assert (done.status, done.err) == (0, "")


def test_a_scheduler_without_its_command_does_no_harm(hs: Hs) -> None:
    hs.file(["echo 1"])
    assert hs.run("cluster", "tasks.in", env={"LSB_JOBID": "42"}).out == "1\n"


def test_term_drains_until_the_end_at_most(hs: Hs) -> None:
    os.mkfifo(hs.folder / "up")
    os.mkfifo(hs.folder / "fifo")
    hs.file(["echo up >up; read line <fifo"])
    process = hs.start("cluster", "tasks.in", "--walltime", "6", "--drain-time", "1h", "-S", "0.1",
                       "--status-file", "status.json")  # fmt: skip
    with open(hs.folder / "up") as up:
        assert up.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert status(hs)["reason"] == "interrupted"
    assert hs.states() == {"pending": 1}


# -- the status file -----------------------------------------------------------------------------------------


def test_the_status_file_tells_how_it_stands_and_how_it_ended(hs: Hs) -> None:
    os.mkfifo(hs.folder / "up")
    hs.file(["cp status.json seen; echo up >up; read line <up", "false", "true"])
    process = hs.start("cluster", "tasks.in", "-N1", "--status-file", "status.json", "-r1")
    with open(hs.folder / "up") as up:
        assert up.readline() == "up\n"
    seen = status(hs, "seen")
    assert seen["state"] in ("starting", "running") and seen["exit_status"] is None
    (hs.folder / "up").write_text("go\n")
    process.communicate(timeout=60)
    assert process.returncode == 7
    told = status(hs)
    assert (told["state"], told["reason"], told["exit_status"]) == ("ended", "complete", 7)
    assert (told["succeeded"], told["failed"], told["unfinished"], told["ends"]) == (2, 1, 0, None)
    assert told["run"] == hs.rows("SELECT id FROM run")[0][0]
    # One line each, for scripts that have no parser of JSON.
    assert '\n  "exit_status": 7,\n' in (hs.folder / "status.json").read_text()
    assert [path.name for path in hs.folder.iterdir() if path.name.endswith(".partial")] == []


def test_a_killed_run_leaves_no_exit_status(hs: Hs) -> None:
    os.mkfifo(hs.folder / "up")
    hs.file(["echo up >up; read line <up"])
    process = hs.start("cluster", "tasks.in", "--status-file", "status.json")
    with open(hs.folder / "up") as up:
        assert up.readline() == "up\n"
    process.kill()
    process.communicate(timeout=60)
    assert status(hs)["exit_status"] is None and status(hs)["state"] != "ended"


def test_a_run_that_cannot_begin_says_why(hs: Hs) -> None:
    assert hs.run("cluster", "nothing.in", "--status-file", "status.json").status == 5
    told = status(hs)
    assert (told["state"], told["exit_status"]) == ("ended", 5) and "nothing.in" in str(told["reason"])


def test_a_status_file_that_cannot_be_written_is_named_before_anything_runs(hs: Hs) -> None:
    hs.file(["touch ran"])
    done = hs.run("cluster", "tasks.in", "--status-file", "nowhere/status.json")
    assert done.status == 5 and "cannot write the status file" in done.err
    done = hs.run("cluster", "tasks.in", "--status-file", "tasks.in")
    assert done.status == 2 and "would overwrite FILE" in done.err
    assert not (hs.folder / "ran").exists() and (hs.folder / "tasks.in").read_text() == "touch ran\n"


def test_a_full_disk_does_not_hurt_the_run(hs: Hs) -> None:
    """The folder of the file disappears meanwhile, which fails like a full disk: at the open."""
    (hs.folder / "status").mkdir()
    hs.file(["mv status gone", "echo 1"])
    done = hs.run("cluster", "tasks.in", "-N1", "--status-file", "status/status.json")
    assert (done.status, done.out) == (0, "1\n")
    assert done.err.count("cannot write the status file") == 1
    told = status(hs, "gone/status.json")
    assert told["state"] != "ended"


# -- jobs that are started again -----------------------------------------------------------------------------


def test_a_job_that_is_started_again_goes_on(hs: Hs) -> None:
    hs.file(["echo 1", "test -e there && echo 2"])
    env = {"SLURM_RESTART_COUNT": "0"}
    assert hs.run("cluster", "tasks.in", env=env).out == "1\n"
    hs.file(["echo 3"], "more.in")
    env = {"SLURM_RESTART_COUNT": "1"}
    again = hs.run("cluster", "tasks.in", env=env)
    assert again.out == "" and again.err.count("SLURM_RESTART_COUNT: this job was started before") == 1
    # A FILE that no run has begun is begun, stdin has nothing to go on with.
    assert hs.run("cluster", "more.in", env=env).out == "3\n"
    for words, input in ((["cluster"], "echo 4\n"), (["cluster", "more.in", "--no-db"], None)):
        done = hs.run(*words, input=input, env=env)
        assert (done.status, done.err) == (0, "") and done.out in ("3\n", "4\n")
