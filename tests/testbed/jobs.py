"""Jobs of ``hs mpi`` in a cluster of ``tests.testbed.slurm``: submitted by ``sbatch``, with one MPI wheel."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.testbed.cli import Hs
from tests.testbed.mpi import ROOT, Mpi, clean_environ
from tests.testbed.slurm import Slurm

__all__ = ["SCRIPTS", "Jobs"]

SCRIPTS = ROOT / "jobscripts"
#: What each MPI speaks under srun.
PMI = {"mpich": "pmi2", "openmpi": "pmix"}


class Jobs:
    """Jobs of one test, in the folder and site of `hs`, with ``hs`` and launchers of `mpi` in the PATH."""

    def __init__(self, slurm: Slurm, hs: Hs, mpi: Mpi) -> None:
        self.slurm, self.hs, self.mpi, self.folder = slurm, hs, mpi, hs.folder
        self.db = hs.folder / "tasks.db"
        programs = hs.folder / "bin"
        programs.mkdir()
        (programs / "hs").write_text(f'#!/bin/sh\nexec {mpi.python} -m hypershell "$@"\n')
        (programs / "hs").chmod(0o755)
        path = f"{programs}:{Path(mpi.python).parent}:{os.environ['PATH']}"
        self.env = clean_environ({**hs.environ({"HS_PMI": PMI[mpi.name]}), "PATH": path})

    def submit(self, script: str, *options: str, ranks: int = 2) -> str:
        """Submit a script of ``jobscripts/`` or of the folder, with so many ranks on each node."""
        if not (self.folder / script).exists():
            shutil.copy(SCRIPTS / script, self.folder / script)
        size = ["--nodes=2", f"--ntasks-per-node={ranks}", "--output=job.out", "--open-mode=append"]
        return self.slurm.submit(Path(script), [*size, *options], self.folder, self.env)

    def write(self, command: str, name: str = "job.sh") -> str:
        (self.folder / name).write_text(f"#!/bin/sh\n{command}\n")
        return name

    def output(self) -> str:
        path = self.folder / "job.out"
        return path.read_text() if path.exists() else ""

    def states(self) -> dict[str, int]:
        return dict(self.hs.rows("SELECT state, count(*) FROM task GROUP BY state", db=self.db))

    def status(self) -> dict[str, object]:
        told: dict[str, object] = json.loads((self.folder / "status.json").read_text())
        return told
