"""Ranks that cannot begin, or are none of ours: somebody says so, and the job ends."""

from __future__ import annotations

import pytest

from tests.integration.test_mpi import Job
from tests.testbed.cli import Hs
from tests.testbed.jobs import Jobs
from tests.testbed.mpi import ROOT, Mpi, each_mpi, finish, launch, start
from tests.testbed.slurm import Slurm

#: The ranks in ``BROKEN`` lose what the variable ``LACKS`` names, before our first line.
BREAKS = """
import os

names = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
rank = next((os.environ[name] for name in names if name in os.environ), "")
if rank and rank in os.environ.get("BROKEN", "").split():
    if os.environ["LACKS"] == "MPI":
        os.environ["MPI4PY_LIBMPI"] = "/no/libmpi.so"
    else:
        def refuse(*args, **options):
            raise OSError(11, "Resource temporarily unavailable")
        os.posix_spawn = refuse
"""

#: Rank 1 begins when rank 0 has called the roll.
LATE = """
import sys, time
from hypershell.mpi import launch, transport
transport.ROLL_CALL = 0.2
said = []

def serve(world, end):
    while not said:
        end.poll()
        time.sleep(0.01)
    open(sys.argv[1], "w").close()
    print(said[0])
    return 0

def work(world, end):
    from pathlib import Path
    while not Path(sys.argv[1]).exists():
        time.sleep(0.01)
    return 0

sys.exit(launch.run_mpi(serve, work, warn=said.append))
"""


def broken(hs: Hs, ranks: str, lacks: str) -> dict[str, str]:
    (hs.folder / "sitecustomize.py").write_text(BREAKS)
    hs.file(["echo x"])
    site = {"HYPERSHELL_SITE": str(hs.site), "PYTHONPATH": f"{hs.folder}:{ROOT}"}
    return {**site, "BROKEN": ranks, "LACKS": lacks}


@each_mpi()
@pytest.mark.parametrize("survive", [False, True], ids=["", "ulfm"])
@pytest.mark.parametrize(
    ("ranks", "lacks", "reason"),
    [
        ("1", "MPI", "no MPI library found (tried /no/libmpi.so)"),
        ("0", "guard", "cannot start the guard process"),
        ("0 1 2", "MPI", "no MPI library found"),
    ],
)
def test_a_rank_that_cannot_begin_is_named_and_ends_the_job(
    hs: Hs, mpi: Mpi, survive: bool, ranks: str, lacks: str, reason: str
) -> None:
    if survive and mpi.name != "openmpi":
        return  # MPICH has no ULFM
    environ = broken(hs, ranks, lacks)
    process = start(mpi, 3, ["-m", "hypershell", "mpi", "tasks.in"], environ, cwd=hs.folder, survive=survive)
    done = finish(process, timeout=60)
    assert done.status not in (0, None), done.stderr
    if not survive:
        assert done.status == 5
    lines = [line for line in done.stderr.splitlines() if "cannot begin" in line]
    assert len(lines) == 1 and reason in lines[0], done.stderr
    assert lines[0].startswith(tuple(f"hs: rank {rank} on " for rank in ranks.split()))
    assert done.stdout == "" and "Traceback" not in done.stderr


@each_mpi()
def test_a_rank_that_cannot_begin_ends_its_step(cluster: Slurm, hs: Hs, mpi: Mpi) -> None:
    jobs = Jobs(cluster, hs, mpi)
    exports = " ".join(f"{name}='{value}'" for name, value in broken(hs, "1", "MPI").items())
    script = jobs.write(f'export {exports}; exec srun --mpi="$HS_PMI" hs mpi tasks.in --db tasks.db')
    state, _ = cluster.wait(jobs.submit(script))
    assert state in ("FAILED", "CANCELLED") and "hs: rank 1 on node" in jobs.output(), jobs.output()


@each_mpi()
def test_ranks_that_have_not_joined_are_named(hs: Hs, mpi: Mpi) -> None:
    done = launch(mpi, 2, ["-c", LATE, str(hs.folder / "called")])
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("rank 1 has not joined in 0 s: still starting, or another program (MPMD)")


@each_mpi(only="openmpi")
def test_a_variable_of_ulfm_is_not_ulfm(hs: Hs, mpi: Mpi) -> None:
    """Set by hand, or inherited by a task of a run that has it: mpirun found that ranks exit improperly."""
    hs.file(["echo inner"], "inner.in")
    hs.file(['hs() { "$HS_PYTHON" -m hypershell "$@"; }; hs mpi -n 2 --no-db inner.in; echo status $?'])
    job = Job(hs, mpi)
    environ = {**job.env, "HS_PYTHON": mpi.python, "OMPI_MCA_mpi_ft_enable": "1"}
    done = job.run(2, "tasks.in", env=environ)
    assert (done.status, done.stdout, done.stderr) == (0, "inner\nstatus 0\n", "")
    environ = {**job.env, "HS_PYTHON": mpi.python}
    words = ["-m", "hypershell", "mpi", "--no-db", "tasks.in"]
    process = start(mpi, 2, words, environ, cwd=hs.folder, survive=True)
    again = finish(process)
    assert (again.status, again.stdout, again.stderr) == (0, "inner\nstatus 0\n", "")
