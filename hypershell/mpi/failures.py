"""What MPI itself knows of dead ranks: user-level failure mitigation (ULFM), where it is switched on.

Failures are acknowledged and nothing more: no shrink, no revoke, no collective. Used by ``mpi.transport``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypershell.errors import ExitStatus, TransportError
from hypershell.mpi.launcher_end import find_ancestor

__all__ = ["FT_ENABLE", "Failures", "MpiFailed", "launcher_words", "survives"]

#: What ``mpirun --with-ft ulfm`` sets for the library of its ranks.
FT_ENABLE = "OMPI_MCA_mpi_ft_enable"

_YES = frozenset({"1", "true", "yes", "on", "enabled", "t", "y"})
_NO = frozenset({"0", "false", "no", "off", "none", "f", "n"})


class MpiFailed(TransportError):
    """MPI returned an error that it does not recover from; what was committed stays."""

    exit_status = ExitStatus.UNFINISHED


def survives(library: str, environ: Mapping[str, str], launcher: Sequence[str] | None) -> bool:
    """Whether the job goes on without a rank that died: Open MPI 5 under ``mpirun --with-ft ulfm``.

    That option sets a variable for the ranks. A user can set it too, and a task inherits it, but without the option
    the launcher ends the job when a rank dies, and complains of a rank that leaves without MPI_Finalize.

    :param launcher: see ``launcher_words``; where it is None the variable decides.
    """
    name, _, number = library.rpartition(" ")
    if name != "Open MPI" or not number.split(".")[0].isdecimal() or int(number.split(".")[0]) < 5:
        return False
    if "OMPI_COMM_WORLD_SIZE" not in environ or environ.get(FT_ENABLE, "").lower() not in _YES:
        return False
    return launcher is None or _asks_for_ulfm(launcher)


def _asks_for_ulfm(words: Sequence[str]) -> bool:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option == "--with-ft":
            return (value if equals else following).lower() not in _NO
    return False


def launcher_words() -> list[str] | None:
    """The command line of the mpirun that this process descends from; None where that runs elsewhere."""
    found = find_ancestor(("mpirun", "mpiexec", "prterun"))
    return None if found is None else found.words


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
