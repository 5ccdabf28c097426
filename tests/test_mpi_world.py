"""Which MPI this is, whether the launcher is its own, and what is imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hypershell.errors import ExitStatus, LaunchError
from hypershell.mpi.world import check_launcher, check_protocol, short_name, two_wheels
from tests.testbed.mpi import ROOT, Mpi, clean_environ, each_mpi, environments, launch

ROLES = "tests.testbed.mpi_roles"


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("MPICH Version:      5.0.2\nMPICH Release date: x", "MPICH 5.0.2"),
        ("Open MPI v5.0.11, package: Open MPI user@host, ident\x00", "Open MPI 5.0.11"),
        ("Intel(R) MPI Library 2021.18 for Linux* OS\n", "Intel MPI 2021.18"),
        ("MVAPICH Version     :\t4.0", "MVAPICH Version :"),
        ("", "an unknown MPI"),
    ],
)
def test_short_name(version: str, name: str) -> None:
    assert short_name(version) == name


SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        (SRUN, "SLURM_STEP_NUM_TASKS"),
        ({**SRUN, "PMI_SIZE": "4", "PMI_RANK": "0"}, "PMI_SIZE"),
        ({"PMI_SIZE": "3", "PMI_RANK": "0", "MPI_LOCALNRANKS": "1"}, "PMI_SIZE"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0"}, "OMPI_COMM_WORLD_SIZE"),
        ({"PALS_RANKID": "5"}, "PALS_RANKID"),
        ({"FLUX_JOB_SIZE": "2", "FLUX_TASK_RANK": "0"}, "FLUX_JOB_SIZE"),
        ({"PMIX_RANK": "1"}, "PMIX_RANK"),
    ],
)
def test_launcher_that_promised_more_ranks_is_refused(environ: dict[str, str], variable: str) -> None:
    with pytest.raises(LaunchError, match=rf"\({variable}\).*our MPI is MPICH 5, which does not understand"):
        check_launcher(1, "MPICH 5", environ)
    check_launcher(4, "MPICH 5", environ)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "64", "SLURM_PROCID": "0"},
        {"PMI_SIZE": "1", "PMI_RANK": "0", "MPI_LOCALNRANKS": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {**SRUN, "PMI_SIZE": "1", "PMI_RANK": "0", "MPI_LOCALNRANKS": "1"},
    ],
)
def test_a_single_rank_that_is_meant_is_let_through(environ: dict[str, str]) -> None:
    check_launcher(1, "MPICH 5", environ)


HYDRA = {"PMI_RANK": "0", "PMI_SIZE": "2", "HYDI_CONTROL_FD": "7"}
PMIX = {"PMIX_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("version", "environ", "way_out"),
    [
        ("Open MPI v5.0.1", HYDRA, "use the mpiexec of Open MPI 5"),
        ("MPICH Version: 5.0", PMIX, "use the mpiexec of MPICH 5"),
        ("MPICH Version: 5.0", {**SRUN, "PMIX_RANK": "0"}, "try srun --mpi=pmi2"),
    ],
)
def test_protocol_that_the_library_does_not_speak(version: str, environ: dict[str, str], way_out: str) -> None:
    with pytest.raises(LaunchError, match=f"^started by .*which does not understand this launcher; {way_out}"):
        check_protocol(version, environ)


@pytest.mark.parametrize(
    ("version", "environ"),
    [
        ("Open MPI v5.0.1", PMIX),
        ("Open MPI v4.1.8", {**SRUN, "PMI_RANK": "0"}),
        ("MPICH Version: 5.0", HYDRA),
        ("MPICH Version: 5.0 MPICH configure: --with-pmix=/usr", PMIX),
        ("Intel(R) MPI Library 2021.18", PMIX),
        ("MPICH Version: 5.0", {}),
    ],
)
def test_protocol_that_may_be_spoken_is_let_through(version: str, environ: dict[str, str]) -> None:
    check_protocol(version, environ)


def test_wheels_of_two_mpis_in_one_environment(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert two_wheels(str(tmp_path)) is None
    (tmp_path / "bin" / "mpichversion").touch()
    assert two_wheels(str(tmp_path)) is None
    (tmp_path / "bin" / "ompi_info").touch()
    hint = two_wheels(str(tmp_path))
    assert hint is not None and "overwrite each other's mpirun" in hint


@each_mpi(both=True)
def test_launcher_of_the_other_wheel_is_refused_once_and_by_name(mpi: Mpi) -> None:
    (other,) = [found for found in environments() if found.name != mpi.name]
    assert not mpi.missing and not other.missing
    command = other.command(3, ["-m", ROLES, "Plain"])
    command[command.index(other.python)] = mpi.python
    ended = subprocess.run(
        command, cwd=ROOT, env=clean_environ(), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == ExitStatus.RUNTIME_ERROR
    assert ended.stderr.count("which does not understand this launcher") == 1
    assert (ended.stdout, "Warning" in ended.stderr) == ("", False)


def test_missing_library_is_one_line_with_a_way_out() -> None:
    code = (
        "import sys\nfrom hypershell.errors import LaunchError\nfrom hypershell.mpi.world import open_world\n"
        "try: open_world({})\nexcept LaunchError as error: print(error)"
    )
    environ = clean_environ({"MPI4PY_LIBMPI": "/no/libmpi.so"})
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    ).stdout
    assert said.count("\n") == 1
    assert said.startswith(
        "no MPI library found (tried /no/libmpi.so); install one with pip install 'hypershell-mpi["
    )


HEAVY = "sqlalchemy rich ssl h5py numpy cmdkit argparse asyncio multiprocessing subprocess"


@each_mpi()
def test_a_rank_imports_little(mpi: Mpi) -> None:
    code = (
        "import sys\nfrom hypershell.mpi.launch import run_mpi\nfrom hypershell.mpi.environ import rank_hint\n"
        "status = run_mpi(lambda world, end: 0, lambda world, end: 0)\n"
        f"print([name for name in '{HEAVY}'.split() if name in sys.modules])"
    )
    ended = launch(mpi, 2, ["-c", code])
    assert (ended.status, ended.stdout.replace("\n", "")) == (0, "[][]"), ended.stderr


def test_nothing_but_a_world_imports_mpi4py() -> None:
    code = "import sys, hypershell.mpi.launch, hypershell.mpi.environ; print('mpi4py' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean_environ(), capture_output=True, text=True
    )
    assert said.stdout == "False\n", said.stderr


@each_mpi()
def test_version_is_known_before_mpi_starts(mpi: Mpi) -> None:
    code = (
        "from hypershell.mpi.world import library_version, short_name\nname = short_name(library_version())\n"
        "from mpi4py import MPI\nprint(name, MPI.Is_initialized())"
    )
    ended = launch(mpi, 1, ["-c", code])
    family = {"mpich": "MPICH", "openmpi": "Open MPI"}[mpi.name]
    assert ended.stdout.startswith(family) and ended.stdout.endswith(" False\n"), ended.stderr
