"""What MPI itself knows of dead ranks: user-level failure mitigation (ULFM), where it is switched on.

Failures are acknowledged and nothing more: no shrink, no revoke, no collective. Used by ``mpi.transport``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypershell.errors import ExitStatus, TransportError

__all__ = ["Failures", "MpiFailed", "survives"]


class MpiFailed(TransportError):
    """MPI returned an error that it does not recover from; what was committed stays."""

    exit_status = ExitStatus.UNFINISHED


def survives(library: str, environ: Mapping[str, str]) -> bool:
    """Whether the job goes on without a rank that died: Open MPI 5 under ``mpirun --with-ft ulfm``."""
    name, _, number = library.rpartition(" ")
    if name != "Open MPI" or not number.split(".")[0].isdecimal() or int(number.split(".")[0]) < 5:
        return False
    return environ.get("OMPI_MCA_mpi_ft_enable", "").lower() in ("1", "true", "yes", "on", "enabled", "t", "y")


class Failures:
    """The ranks of `comm` that MPI has seen die."""

    def __init__(self, mpi: Any, comm: Any) -> None:
        self._mpi = mpi
        self._comm = comm
        self._classes = {mpi.ERR_PROC_FAILED, mpi.ERR_PROC_FAILED_PENDING}
        self.dead: set[int] = set()

    def is_about(self, error: Any) -> bool:
        """Whether this error of MPI says that a rank died."""
        return error.Get_error_class() in self._classes

    def news(self) -> list[int]:
        """Ranks that have died since the last call; afterwards probes for any source work again."""
        group = self._comm.Get_failed()
        count = group.Get_size()
        known = self._mpi.Group.Translate_ranks(group, list(range(count)), self._comm.Get_group()) if count else []
        self._comm.Ack_failed(count)
        fresh = [rank for rank in known if rank not in self.dead]
        self.dead.update(fresh)
        return fresh
