"""``hs mpi`` under a real Slurm of two nodes: the job scripts, the end of the job, signals, resubmission."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.testbed.cli import Hs
from tests.testbed.jobs import Jobs
from tests.testbed.mpi import Mpi, each_mpi
from tests.testbed.slurm import Slurm

SRUN = 'srun --kill-on-bad-exit=1 --mpi="$HS_PMI" hs mpi tasks.in --restart'


@pytest.fixture
def jobs(cluster: Slurm, hs: Hs, mpi: Mpi) -> Iterator[Jobs]:
    yield Jobs(cluster, hs, mpi)
    cluster.settle()


@each_mpi()
def test_the_job_script(jobs: Jobs) -> None:
    jobs.hs.file([f"echo {n} $TASK_CLIENT_ID; hostname >>hosts.$TASK_CLIENT_ID" for n in range(40)])
    assert jobs.slurm.wait(jobs.submit("slurm-mpi.sh")) == ("COMPLETED", "0:0"), jobs.output()
    assert jobs.states() == {"succeeded": 40}
    lines = [line.split() for line in jobs.output().splitlines()]
    assert sorted(int(number) for number, _ in lines) == list(range(40))
    ran_on = {line for path in jobs.folder.glob("hosts.*") for line in path.read_text().split()}
    assert ran_on == {"node1", "node2"}
    assert jobs.hs.rows("SELECT ranks, outcome FROM run", db=jobs.db) == [(4, "complete")]


@each_mpi()
def test_mpirun_inside_the_allocation(jobs: Jobs) -> None:
    jobs.hs.file([f"echo {n}" for n in range(20)])
    extra = "--bind-to none" if jobs.mpi.name == "openmpi" else ""
    script = jobs.write(f"exec mpirun {extra} -n 4 hs mpi tasks.in --restart --db tasks.db")
    assert jobs.slurm.wait(jobs.submit(script)) == ("COMPLETED", "0:0"), jobs.output()
    assert sorted(map(int, jobs.output().split())) == list(range(20))
    assert jobs.hs.rows("SELECT ranks FROM run", db=jobs.db) == [(4,)]


@each_mpi(seldom="openmpi")
def test_slurm_tells_when_the_job_ends(jobs: Jobs) -> None:
    """A task whose limit is beyond the end does not begin, and the status says that one is left."""
    known = "until grep -q '\"ends\": [0-9]' status.json; do sleep 0.1; done"
    jobs.hs.file([known, "true # HYPERSHELL: timeout:1h"])
    script = jobs.write(f"exec {SRUN} --db tasks.db --status-file status.json -b1")
    job = jobs.submit(script, "--time=10", "--nodes=1")
    assert jobs.slurm.wait(job) == ("FAILED", "75:0"), jobs.output()
    assert jobs.states() == {"succeeded": 1, "pending": 1}
    told = jobs.status()
    assert (told["state"], told["reason"], told["exit_status"]) == ("ended", "walltime", 75)
    ends, started = told["ends"], told["started"]
    assert isinstance(ends, float) and isinstance(started, float) and 0 < ends - started <= 601


@each_mpi(seldom="openmpi")
def test_a_job_submits_itself_until_all_is_done(jobs: Jobs) -> None:
    jobs.hs.file(["echo >>ran", "until test -e go; do sleep 0.1; done; echo >>ran.too"])
    jobs.env["HYPERSHELL_SERVER_WALLTIME"] = "5"
    first = jobs.submit("slurm-resubmit.sh", "--nodes=1")
    assert jobs.slurm.wait(first) == ("COMPLETED", "0:0"), jobs.output()
    (jobs.folder / "go").touch()
    second = jobs.output().partition("Submitted batch job ")[2].split()[0]
    assert jobs.slurm.wait(second) == ("COMPLETED", "0:0"), jobs.output()
    assert jobs.slurm.jobs() == []
    assert jobs.states() == {"succeeded": 2}
    assert jobs.hs.rows("SELECT outcome FROM run ORDER BY start_time", db=jobs.db) == [("walltime",), ("complete",)]
    assert [(jobs.folder / name).read_text() for name in ("ran", "ran.too")] == ["\n", "\n"]


def blocked(jobs: Jobs) -> str:
    """A job with one rank for tasks, the second of which writes to a pipe that it runs, and does not end."""
    os.mkfifo(jobs.folder / "up")
    jobs.hs.file(["true", "exec 3>up; echo up >&3; exec sleep 1000"])
    jobs.env |= {"HYPERSHELL_SERVER_DRAIN_TIME": "1", "HYPERSHELL_TASK_SIGNALWAIT": "0.5"}
    command = f"exec {SRUN} --db tasks.db --status-file status.json -b1"
    return jobs.submit(jobs.write(command), "--nodes=1")


@each_mpi()
def test_scancel_commits_and_leaves_nothing_behind(jobs: Jobs) -> None:
    job = blocked(jobs)
    with open(jobs.folder / "up") as up:
        assert up.readline() == "up\n"
        jobs.slurm.run("scancel", job)
        assert up.read() == ""
    assert jobs.slurm.wait(job)[0] == "CANCELLED", jobs.output()
    assert jobs.states() == {"succeeded": 1, "pending": 1}
    told = jobs.status()
    assert (told["state"], told["exit_status"], told["unfinished"]) == ("ended", 75, 1)


@each_mpi()
def test_usr1_of_slurm_drains(jobs: Jobs) -> None:
    """It reaches the tasks too; one that dies of it was stopped with the run and goes back."""
    job = blocked(jobs)
    with open(jobs.folder / "up") as up:
        assert up.readline() == "up\n"
        jobs.slurm.run("scancel", "--signal=USR1", job)
        assert up.read() == ""
    assert jobs.slurm.wait(job) == ("FAILED", "75:0"), jobs.output()
    assert jobs.states() == {"succeeded": 1, "pending": 1}
    assert jobs.status()["reason"] == "drained"


@each_mpi(seldom="openmpi")
def test_a_job_that_is_requeued_goes_on(jobs: Jobs) -> None:
    """Slurm starts it again with SLURM_RESTART_COUNT, and the command need not say ``--restart``."""
    os.mkfifo(jobs.folder / "up")
    jobs.hs.file(["echo >>ran", "test -e go || { exec 3>up; echo up >&3; exec sleep 1000; }"])
    jobs.env |= {"HYPERSHELL_SERVER_DRAIN_TIME": "0.5", "HYPERSHELL_TASK_SIGNALWAIT": "0.5"}
    command = SRUN.replace(" --restart", "")
    job = jobs.submit(jobs.write(f"exec {command} --db tasks.db -b1"), "--nodes=1", "--requeue")
    with open(jobs.folder / "up") as up:
        assert up.readline() == "up\n"
        (jobs.folder / "go").touch()
        jobs.slurm.run("scontrol", "requeue", job)
        assert up.read() == ""
    jobs.slurm.hasten(job)
    assert jobs.slurm.wait(job) == ("COMPLETED", "0:0"), jobs.output()
    assert jobs.output().count("SLURM_RESTART_COUNT: this job was started before") == 1
    assert jobs.states() == {"succeeded": 2} and (jobs.folder / "ran").read_text() == "\n"


@each_mpi(seldom="openmpi")
def test_a_rank_that_dies_under_srun_ends_the_job_and_the_same_command_does_the_rest(jobs: Jobs) -> None:
    os.mkfifo(jobs.folder / "up")
    jobs.hs.file(["true", "test -e go && exit; touch go; exec 3>up; echo up >&3; kill -9 $PPID; exec sleep 1000"])
    script = jobs.write(f"exec {SRUN} --db tasks.db -b1")
    job = jobs.submit(script, "--nodes=1")
    with open(jobs.folder / "up") as up:
        assert up.readline() == "up\n"
        assert up.read() == ""  # nothing of the lost rank stays behind
    assert jobs.slurm.wait(job)[0] == "FAILED", jobs.output()
    assert jobs.slurm.wait(jobs.submit(script, "--nodes=1")) == ("COMPLETED", "0:0"), jobs.output()
    assert jobs.states() == {"succeeded": 2}
    assert jobs.hs.rows("SELECT max(attempt), max(execution) > 1 FROM task", db=jobs.db) == [(1, 1)]


@each_mpi(seldom="openmpi")
def test_outside_clients_join_the_hybrid_job(jobs: Jobs) -> None:
    """A client from outside does what the ranks cannot: tasks with its label."""
    jobs.hs.file(["echo in $SLURM_JOB_ID", "echo out $SLURM_JOB_ID # HYPERSHELL: label:desk"])
    job = jobs.submit("slurm-hybrid.sh", "--nodes=1")
    connect = jobs.folder / "connect.json"
    while not connect.exists():
        assert job in jobs.slurm.jobs(), jobs.output()
        time.sleep(0.05)
    done = jobs.hs.run("client", "--connect", "connect.json", "--label", "desk")
    assert (done.status, done.out) == (0, "out\n"), done.err
    assert jobs.slurm.wait(job) == ("COMPLETED", "0:0"), jobs.output()
    assert f"in {job}\n" in jobs.output() and jobs.states() == {"succeeded": 2}


@each_mpi()
def test_a_megabyte_of_standard_input_reaches_rank_0(jobs: Jobs) -> None:
    """By ``srun`` itself, and by ``hs mpi -n`` past an mpiexec that starts its ranks by ``srun``."""
    jobs.hs.file([f"echo {number} # {'x' * 5000}" for number in range(210)])
    by_srun = 'cat tasks.in | srun --mpi="$HS_PMI" hs mpi --no-db >srun.out'
    script = jobs.write(f"{by_srun} && cat tasks.in | hs mpi -n 4 --no-db >own.out")
    assert jobs.slurm.wait(jobs.submit(script)) == ("COMPLETED", "0:0"), jobs.output()
    for name in ("srun.out", "own.out"):
        assert sorted(map(int, (jobs.folder / name).read_text().split())) == list(range(210))
