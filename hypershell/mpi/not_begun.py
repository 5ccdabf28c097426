"""The end of a job in which a rank cannot begin: without it the others wait for that rank in MPI_Init, for ever.

A rank that merely exits before MPI_Init ends a job of Open MPI; Hydra, ULFM and srun go on without a word
(measured, docs/decisions/0003).
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from typing import NoReturn

from hypershell.errors import ExitStatus, HyperShellError
from hypershell.mpi.environ import HYDRA, launcher_name, rank_hint
from hypershell.mpi.failures import FT_ENABLE
from hypershell.mpi.launcher_end import stop_launcher
from hypershell.ostext import one_line

__all__ = ["OUTPUT_GRACE", "leave_before_init"]

#: Seconds for the launcher to pass on what a failing rank has printed; Hydra drops what it has not yet read.
OUTPUT_GRACE = 0.5


def leave_before_init(error: BaseException, environ: Mapping[str, str]) -> NoReturn:
    """Name this rank and its host, end the whole job, and exit; to be called before MPI_Init.

    Ranks of one node that fail together say it once.
    """
    status = error.exit_status if isinstance(error, HyperShellError) else ExitStatus.UNCAUGHT
    if _is_first_here():
        rank = rank_hint(environ)
        name = "a rank" if rank is None else f"rank {rank}"
        text = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(f"hs: {name} on {platform.node()} cannot begin: {one_line(text)}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(OUTPUT_GRACE)
    _end_job(status, environ)
    os._exit(status)


def _end_job(status: int, environ: Mapping[str, str]) -> None:
    """Tell whoever started us, by the shortest way that works without MPI."""
    launcher = launcher_name(environ)
    if launcher == HYDRA:
        _abort_by_pmi(status, environ)
    elif launcher == "srun":
        _cancel_step(environ)
    elif FT_ENABLE in environ:  # without ULFM our exit ends the job, with our status
        stop_launcher()


def _abort_by_pmi(status: int, environ: Mapping[str, str]) -> None:
    """The ``abort`` of PMI-1, as MPI_Abort sends it (the PMI wire protocol of MPICH)."""
    try:
        os.write(int(environ["PMI_FD"]), f"cmd=abort exitcode={status}\n".encode())
        time.sleep(OUTPUT_GRACE)  # Hydra kills us meanwhile
    except (OSError, KeyError, ValueError):
        pass  # it started us without a connection


def _cancel_step(environ: Mapping[str, str]) -> None:
    step = ".".join(environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    try:
        os.posix_spawnp("scancel", ["scancel", "--signal=KILL", step], dict(environ))
    except OSError:
        pass  # --kill-on-bad-exit of srun does it


def _is_first_here() -> bool:
    """Whether no other rank of this node and job is ending like this one at the moment.

    The lock is on what the kernel shows of our parent, the launcher's process here: no file is needed.
    """
    try:
        import fcntl

        descriptor = os.open(f"/proc/{os.getppid()}/stat", os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass  # nothing to lock: say it once too often
    return True
