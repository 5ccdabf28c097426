"""What launchers and schedulers say by their variables (as measured under each)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.mpi.environ import claims, expected_size, job_id, launcher_name, local_size, rank_hint

HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALNRANKS": "2", "HYDI_CONTROL_FD": "7"}
OPENMPI = {
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_RANK": "0",
}
STEP = {"SLURM_JOB_ID": "5", "SLURM_STEP_NUM_TASKS": "6", "SLURM_PROCID": "3", "SLURM_NODEID": "2"}
BATCH = {"SLURM_JOB_ID": "5", "SLURM_NTASKS": "64", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}


@pytest.mark.parametrize(
    ("environ", "launcher", "size", "rank", "local"),
    [
        ({}, None, None, None, None),
        (HYDRA, "mpiexec (Hydra)", 4, 1, 2),
        (OPENMPI, "mpirun (Open MPI)", 8, 0, 4),
        (STEP, "srun", 6, 3, None),
        ({**STEP, "PMI_SIZE": "6", "PMI_RANK": "3"}, "srun", 6, 3, None),
        ({**STEP, "PMIX_RANK": "3"}, "srun", 6, 3, None),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2(x2),1,1"}, "srun", 6, 3, 1),
        (BATCH, None, None, None, None),
        ({"FLUX_JOB_SIZE": "3", "FLUX_TASK_RANK": "2"}, "flux run", 3, 2, None),
        ({"FLUX_JOB_SIZE": "3"}, None, None, None, None),
        ({"PALS_RANKID": "9", "PALS_LOCAL_SIZE": "4"}, "mpiexec (PALS)", 10, 9, 4),
        ({"PMIX_RANK": "0"}, "a PMIx launcher", None, 0, None),
        ({"PMI_SIZE": "many", "PMI_RANK": "²"}, None, None, None, None),
    ],
)
def test_launchers(
    environ: dict[str, str], launcher: str | None, size: int | None, rank: int | None, local: int | None
) -> None:
    assert expected_size(environ) == size
    assert rank_hint(environ) == rank
    assert local_size(environ) == local
    assert launcher_name(environ) == launcher


def test_ranks_started_by_mpiexec_through_srun_know_their_nearest_launcher_first() -> None:
    inside = {**STEP, **HYDRA, "SLURM_STEP_NUM_TASKS": "2"}
    assert next(claim.size for claim in claims(inside)) == 4
    assert expected_size(inside) == 4
    assert local_size(inside) == 2


@pytest.mark.parametrize(
    ("entry", "node", "size"),
    [
        ("4", 0, 4),
        ("4", 1, None),
        ("2(x3),1", 2, 2),
        ("2(x3),1", 3, 1),
        ("2(x3", 0, 2),
        ("x", 0, None),
        ("", 0, None),
    ],
)
def test_tasks_per_node_of_a_step(entry: str, node: int, size: int | None) -> None:
    environ = {"SLURM_STEP_NUM_TASKS": "7", "SLURM_NODEID": str(node), "SLURM_STEP_TASKS_PER_NODE": entry}
    assert local_size(environ) == size


@pytest.mark.parametrize("variable", ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID", "JOB_ID"])
def test_job_id(variable: str) -> None:
    assert job_id({}) is None
    assert job_id({variable: ""}) is None
    assert job_id({variable: "17.server"}) == "17.server"


NAMES = st.sampled_from(sorted({*HYDRA, *OPENMPI, *STEP, *BATCH, "FLUX_JOB_SIZE", "SLURM_STEP_TASKS_PER_NODE"}))


@given(st.dictionaries(NAMES, st.text(max_size=12)))
def test_any_values_are_survived(environ: dict[str, str]) -> None:
    size = expected_size(environ)
    assert size is None or size >= 1
    local = local_size(environ)
    assert local is None or local >= 0
    assert (launcher_name(environ) is None) <= (size is None)
