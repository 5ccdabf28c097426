"""What launchers and schedulers tell a process through its environment; asked before, and without, MPI.

Owns the names of their variables, nothing else. Called by ``mpi.world`` (is this launcher ours?), by
``apps`` (are we inside a launcher?) and by the executor's environment (the node's share of a rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = [
    "HYDRA",
    "SECRETS",
    "Claim",
    "claims",
    "expected_size",
    "job_id",
    "launcher_name",
    "local_rank",
    "local_size",
    "rank_hint",
]

Environ = Mapping[str, str]

#: What ``hs mpi -n`` took out of the command line of its ranks, for rank 0: a list in JSON.
SECRETS = "HS_MPI_SECRETS"

#: The name of MPICH's launcher, and Intel's.
HYDRA = "mpiexec (Hydra)"


class Claim(NamedTuple):
    """A variable by which a launcher says how many ranks it started (at least)."""

    launcher: str
    variable: str
    size: int


#: Nearest launcher first: (variable that holds a size, who sets it). A step of Slurm comes last, because
#: mpiexec and mpirun start their own processes through srun and leave that step's variables in place.
_SIZES = (
    ("OMPI_COMM_WORLD_SIZE", "mpirun (Open MPI)"),
    ("MV2_COMM_WORLD_SIZE", "mpirun_rsh (MVAPICH2)"),
    ("PMI_SIZE", "mpiexec"),
    ("MPI_LOCALNRANKS", HYDRA),
    ("PALS_LOCAL_SIZE", "mpiexec (PALS)"),
    ("JSM_NAMESPACE_SIZE", "jsrun"),
    ("FLUX_JOB_SIZE", "flux run"),
    ("SLURM_STEP_NUM_TASKS", "srun"),
)
#: Variables that hold a rank: a process with rank 3 has at least three others beside it.
_RANKS = (
    ("OMPI_COMM_WORLD_RANK", "mpirun (Open MPI)"),
    ("MV2_COMM_WORLD_RANK", "mpirun_rsh (MVAPICH2)"),
    ("PMI_RANK", "mpiexec"),
    ("PALS_RANKID", "mpiexec (PALS)"),
    ("JSM_NAMESPACE_RANK", "jsrun"),
    ("PMIX_RANK", "a PMIx launcher"),
    ("FLUX_TASK_RANK", "flux run"),
)
_LOCAL_SIZES = (
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MV2_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALNRANKS",
    "PALS_LOCAL_SIZE",
    "JSM_NAMESPACE_LOCAL_SIZE",
    "FLUX_TASK_LOCAL_SIZE",
)
_LOCAL_RANKS = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "PALS_LOCAL_RANKID",
    "JSM_NAMESPACE_LOCAL_RANK",
    "FLUX_TASK_LOCAL_ID",
)
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID", "JOB_ID")


def claims(environ: Environ) -> list[Claim]:
    """What the environment says about the number of ranks, the nearest launcher first.

    Rank 0 says nothing about the others, and ``SLURM_NTASKS`` is no claim: a batch script has it without being
    a task of a step.
    """
    found = []
    for variable, launcher in _SIZES:
        size = _number(environ, variable)
        if size and (variable != "FLUX_JOB_SIZE" or "FLUX_TASK_RANK" in environ):
            found.append(Claim(_who(environ, launcher), variable, size))
    for variable, launcher in _RANKS:
        rank = _number(environ, variable)
        if rank:
            found.append(Claim(_who(environ, launcher), variable, rank + 1))
    return found


def expected_size(environ: Environ) -> int | None:
    """Ranks that the launcher around us started, at least; None outside of any launcher."""
    found = claims(environ)
    if not found:
        return None
    nearest = found[0].launcher
    return max(claim.size for claim in found if claim.launcher == nearest)


def launcher_name(environ: Environ) -> str | None:
    """The launcher that started this process as a rank, in words for a message; None outside of any."""
    found = claims(environ)
    if found:
        return found[0].launcher
    for variable, launcher in _RANKS:
        if _number(environ, variable) is not None:
            return _who(environ, launcher)
    return None


def rank_hint(environ: Environ) -> int | None:
    """Our rank as the launcher sees it, None where it does not say. MPI alone knows for certain."""
    for variable, _ in _RANKS:
        rank = _number(environ, variable)
        if rank is not None:
            return rank
    return _number(environ, "SLURM_PROCID") if "SLURM_STEP_NUM_TASKS" in environ else None


def local_size(environ: Environ) -> int | None:
    """Ranks on this node, where the launcher says so (no collective is spent on it)."""
    for variable in _LOCAL_SIZES:
        size = _number(environ, variable)
        if size is not None and size > 0:
            return size
    if "SLURM_STEP_NUM_TASKS" in environ:
        return _slurm_local(environ)
    return None


def local_rank(environ: Environ) -> int | None:
    """The number of this rank among those of this node, by the launcher that `local_size` asks."""
    for size, variable in zip(_LOCAL_SIZES, _LOCAL_RANKS, strict=True):
        if _number(environ, size):
            return _number(environ, variable)
    return _number(environ, "SLURM_LOCALID") if "SLURM_STEP_NUM_TASKS" in environ else None


def job_id(environ: Environ) -> str | None:
    """The batch job around us: Slurm, PBS, LSF, Flux or Grid Engine."""
    for variable in _JOBS:
        value = environ.get(variable)
        if value:
            return value
    return None


def _who(environ: Environ, launcher: str) -> str:
    """The name a user would know: PMI alone may be srun's (``--mpi=pmi2``), PMIx too."""
    if launcher in ("mpiexec", "a PMIx launcher"):
        if "MPI_LOCALNRANKS" in environ or "HYDI_CONTROL_FD" in environ:
            return HYDRA
        if "PALS_RANKID" in environ:
            return "mpiexec (PALS)"
        if "OMPI_COMM_WORLD_SIZE" in environ:
            return "mpirun (Open MPI)"
        if "SLURM_STEP_NUM_TASKS" in environ:
            return "srun"
        if "FLUX_JOB_SIZE" in environ:
            return "flux run"
    return launcher


def _slurm_local(environ: Environ) -> int | None:
    """This node's entry of ``SLURM_STEP_TASKS_PER_NODE``, as in ``2(x3),1`` (srun(1))."""
    node = _number(environ, "SLURM_NODEID")
    if node is None:
        return None
    for entry in environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        tasks, _, times = entry.partition("(x")
        count, repeat = tasks.strip(), times.rstrip(") ") or "1"
        if not (count.isdecimal() and repeat.isdecimal()):
            return None
        if node < int(repeat):
            return int(count)
        node -= int(repeat)
    return None


def _number(environ: Environ, variable: str) -> int | None:
    value = environ.get(variable, "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else None
