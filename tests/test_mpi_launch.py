"""From one command line to ranks, and how a rank that fails ends the job: real launchers of both wheels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hypershell.errors import ExitStatus, LaunchError
from hypershell.mpi.launch import Launcher, command, find_launcher, start_under_launcher
from tests.testbed.mpi import ROOT, Ended, Mpi, clean_environ, each_mpi, finish, launch, start

ROLES = "tests.testbed.mpi_roles"


def play(mpi: Mpi, *part: str, ranks: int = 3) -> Ended:
    return launch(mpi, ranks, ["-m", ROLES, *part], timeout=60)


def alone(mpi: Mpi, *args: str, **environ: str) -> Ended:
    """Without a launcher."""
    process = subprocess.Popen(
        [mpi.python, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environ(environ),
        start_new_session=True,
    )
    return finish(process, timeout=60)


@each_mpi()
def test_starts_itself_under_the_launcher_of_its_mpi(mpi: Mpi) -> None:
    ended = alone(mpi, "-m", ROLES, "relaunch", "Plain", "7", "a b", ":", "$x'")
    assert ended.status == 7, ended.stderr
    assert ended.stdout == "3 ranks, 7 a b : $x'\n"


@each_mpi()
def test_refusal_of_rank_0_ends_all_in_good_order(mpi: Mpi) -> None:
    ended = play(mpi, "Refuses")
    assert ended.status == ExitStatus.BAD_CONFIG
    assert ended.stderr.count("hs: bad config") == 1
    assert "abort" not in ended.stderr.lower()


@each_mpi()
def test_exception_on_rank_0_commits_then_ends_the_job(mpi: Mpi, tmp_path: Path) -> None:
    ended = play(mpi, "ServerCrash", str(tmp_path / "notes"))
    assert ended.status == ExitStatus.UNCAUGHT
    assert "hs: rank 0 on " in ended.stderr
    assert "ValueError: broken badly\n" in ended.stderr
    assert "Traceback" in ended.stderr
    assert (tmp_path / "notes").read_text() == "stopped\ncommitted\n"


@each_mpi()
def test_exception_on_a_worker_ends_the_job(mpi: Mpi, tmp_path: Path) -> None:
    ended = play(mpi, "WorkerCrash", str(tmp_path / "notes"))
    assert ended.status == ExitStatus.UNCAUGHT
    assert "hs: rank 2 on " in ended.stderr
    assert (tmp_path / "notes").read_text() == "stopped\n"


@each_mpi()
def test_clean_up_that_hangs_is_ended_by_the_alarm(mpi: Mpi) -> None:
    ended = play(mpi, "Hangs")
    assert ended.status not in (0, None)


@each_mpi()
@pytest.mark.parametrize("rank", [0, 2])
def test_killed_rank_ends_the_job(mpi: Mpi, rank: int) -> None:
    process = start(mpi, 3, ["-m", ROLES, "Pid"])
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    os.kill(pids[rank], signal.SIGKILL)
    assert finish(process, timeout=60).status not in (0, None)


@each_mpi()
def test_single_rank_without_a_launcher_is_its_own_client(mpi: Mpi) -> None:
    ended = alone(mpi, "-m", ROLES, "Alone")
    assert ended.status == 0, ended.stderr
    assert ended.stdout == ("1 [Delivery(peer=0, message=Leave(reason='x'))] [Delivery(peer=0, message=Bye())]\n")


@each_mpi()
def test_one_poll_takes_a_bounded_number_of_messages(mpi: Mpi) -> None:
    ended = play(mpi, "Bounded")
    assert (ended.status, ended.stdout) == (0, "took 6000\n"), ended.stderr


@each_mpi()
def test_peer_that_takes_nothing_is_given_up(mpi: Mpi, tmp_path: Path) -> None:
    ended = play(mpi, "Deaf", str(tmp_path / "notes"), ranks=2)
    assert (tmp_path / "notes").read_text() == "rank 1 does not take its messages [1]\n"
    assert ended.status == ExitStatus.SUCCESS  # what rank 0 says, although it ends the job by force


@each_mpi()
def test_an_error_of_mpi_ends_the_job_after_the_commit(mpi: Mpi, tmp_path: Path) -> None:
    ended = play(mpi, "Broken", str(tmp_path / "notes"))
    assert (tmp_path / "notes").read_text() == "committed\n"
    assert ended.status == ExitStatus.UNFINISHED, ended.stderr


@each_mpi()
def test_open_mpi_as_root_is_refused_in_one_line(mpi: Mpi) -> None:
    code = (
        "import os, sys; os.geteuid = lambda: 0\n"
        "from hypershell.mpi.launch import start_under_launcher\n"
        "start_under_launcher(2, [sys.executable, '-c', 'print(1)'])"
    )
    ended = alone(mpi, "-c", code, OMPI_ALLOW_RUN_AS_ROOT="")
    if mpi.name == "openmpi":
        assert "LaunchError: Open MPI refuses to run as root; " in ended.stderr
    else:
        assert (ended.status, ended.stdout.split()) in [(0, ["1", "1"]), (0, ["11"])]


def fake(folder: Path, name: str, says: str) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(0o755)
    return str(path)


HYDRA, OPEN = "HYDRA build details:\n Version: 4.2", "mpirun (Open MPI) 4.1.8"


def test_launcher_of_another_mpi_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "none"))
    monkeypatch.setattr("hypershell.mpi.launch._beside_library", list)  # another test may have loaded an MPI
    hydra = fake(tmp_path / "a", "mpiexec", HYDRA)
    ompi = fake(tmp_path / "b", "mpirun", OPEN)
    environ = {"PATH": f"{tmp_path / 'a'}:{tmp_path / 'b'}"}
    assert find_launcher("Open MPI v5.0.1, package", environ) == Launcher(ompi, "openmpi")
    assert find_launcher("MPICH Version:      4.2", environ) == Launcher(hydra, "hydra")
    assert find_launcher("Intel(R) MPI Library 2021.18", environ) == Launcher(hydra, "hydra")
    with pytest.raises(
        LaunchError, match=r"no mpiexec of MPICH 4\.2 found; these belong to another MPI: .*/b/mpirun"
    ):
        find_launcher("MPICH Version: 4.2", {"PATH": str(tmp_path / "b")})
    with pytest.raises(LaunchError, match="no mpiexec is known for Some Other MPI"):
        find_launcher("Some Other MPI", environ)


def test_command_line_of_each_family() -> None:
    assert command(Launcher("/x/mpiexec", "hydra"), 4, ["hs", "mpi"]) == ["/x/mpiexec", "-n", "4", "hs", "mpi"]
    ompi = command(Launcher("/x/mpirun", "openmpi"), 4, ["hs"])
    assert ompi == ["/x/mpirun", "-n", "4", "--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none", "hs"]


@pytest.mark.parametrize("inside", [{"PMI_RANK": "0", "PMI_SIZE": "2"}, {"SLURM_STEP_NUM_TASKS": "1"}])
def test_no_launcher_inside_a_launcher(inside: dict[str, str]) -> None:
    with pytest.raises(LaunchError, match=r"^already started by .*, leave out -n 4$"):
        start_under_launcher(4, ["hs"], inside)
