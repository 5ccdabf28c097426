"""Tasks that are MPI programs, by name, for runs of ``hs mpi`` under any launcher; and what they print.

Each prints its name and the size of its world, once.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.testbed.mpi import Mpi

_PROGRAM = r"""
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) { printf("%s %d\n", argv[1], size); fflush(stdout); }
    MPI_Finalize();
    return 0;
}
"""
_PYTHON = """\
import sys
from mpi4py import MPI
comm = MPI.COMM_WORLD
total = comm.allreduce(1)
if comm.rank == 0:
    print(sys.argv[1], total, flush=True)
"""


def write_programs(folder: Path, *inner: Mpi) -> None:
    """What `lines` needs, compiled for each MPI in `inner`."""
    (folder / "one.c").write_text(_PROGRAM)
    (folder / "one.py").write_text(_PYTHON)
    for mpi in inner:
        compiler = str(Path(mpi.python).parent / "mpicc")
        subprocess.run([compiler, "one.c", "-o", f"one-{mpi.name}"], cwd=folder, check=True)


def lines(mpi: Mpi) -> list[str]:
    """Tasks of each kind, those of MPI with `mpi`."""
    nested = f"{mpi.mpiexec} {'--oversubscribe --bind-to none ' if mpi.name == 'openmpi' else ''}-n 2"
    return [
        f"echo plain-{mpi.name} 0",
        f"./one-{mpi.name} singleton-{mpi.name}",
        f"{nested} ./one-{mpi.name} nested-{mpi.name}",
        f"{mpi.python} one.py python-{mpi.name}",
        f"{nested} {mpi.python} one.py nested-python-{mpi.name}",
    ]


def expected(mpi: Mpi) -> list[str]:
    """The lines that those tasks print, sorted."""
    sizes = {"plain": 0, "singleton": 1, "nested": 2, "python": 1, "nested-python": 2}
    return sorted(f"{kind}-{mpi.name} {size}" for kind, size in sizes.items())
