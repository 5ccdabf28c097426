"""Which jobs survive their ranks, and the end of a launcher that waits for ever. Both need no MPI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hypershell.mpi.failures import FT_ENABLE, MpiFailed, survives
from hypershell.mpi.launcher_end import find_ancestor, remind_launcher


@pytest.mark.parametrize(
    ("library", "value", "expected"),
    [
        ("Open MPI 5.0.11", "1", True),
        ("Open MPI 5.0.11", "true", True),
        ("Open MPI 6.1.0", "yes", True),
        ("Open MPI 5.0.11", "0", False),
        ("Open MPI 5.0.11", "false", False),
        ("Open MPI 5.0.11", None, False),
        ("Open MPI 4.1.8", "1", False),
        ("Open MPI", "1", False),
        ("MPICH 5.0.2", "1", False),
    ],
)
def test_a_job_survives_its_ranks_with_ulfm(library: str, value: str | None, expected: bool) -> None:
    environ = {"OMPI_COMM_WORLD_SIZE": "2"} | ({} if value is None else {FT_ENABLE: value})
    assert survives(library, environ, None) is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["mpirun", "--with-ft", "ulfm", "-n", "2", "hs", "mpi"], True),
        (["prterun", "--with-ft=mpi", "hs", "mpi"], True),
        (["mpirun", "--with-ft", "no", "hs", "mpi"], False),
        (["mpirun", "-n", "2", "hs", "mpi"], False),
    ],
)
def test_the_launcher_decides_not_a_variable_that_a_user_set(words: list[str], expected: bool) -> None:
    environ = {"OMPI_COMM_WORLD_SIZE": "2", FT_ENABLE: "1"}
    assert survives("Open MPI 5.0.11", environ, words) is expected


def test_outside_of_a_launcher_the_variable_means_nothing() -> None:
    assert survives("Open MPI 5.0.11", {FT_ENABLE: "1"}, None) is False


@pytest.mark.skipif(sys.platform != "linux", reason="the parent is told by proc(5)")
def test_the_launcher_is_found_behind_a_wrapper(tmp_path: Path) -> None:
    launcher = tmp_path / "mpirun"
    shutil.copy(os.path.realpath("/bin/sh"), launcher)
    code = "from hypershell.mpi.failures import launcher_words; print(launcher_words())"
    inner = f'"{sys.executable}" -c "{code}"; :'
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [launcher, "-c", 'sh -c "$0"; :', inner, "--with-ft", "ulfm"]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert "'--with-ft', 'ulfm'" in done.stdout


def test_a_process_of_no_launcher_finds_none() -> None:
    assert find_ancestor(("mpirun",), process=1) is None


def test_a_failure_of_mpi_leaves_work_that_the_same_command_finishes() -> None:
    assert MpiFailed.exit_status == 75


@pytest.mark.skipif(sys.platform != "linux", reason="the parent is told by proc(5)")
def test_a_launcher_that_does_not_end_is_ended(tmp_path: Path) -> None:
    launcher = tmp_path / "mpirun"  # the name of the program decides
    shutil.copy(os.path.realpath("/bin/sh"), launcher)
    code = "from hypershell.mpi.launcher_end import remind_launcher; print(remind_launcher(1))"
    script = f'"{sys.executable}" -c "{code}"; while :; do sleep 1; done'
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [launcher, "-c", script]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == -15 and done.stdout.strip().isdecimal()


def test_another_parent_is_left_alone() -> None:
    assert remind_launcher(1) is None
