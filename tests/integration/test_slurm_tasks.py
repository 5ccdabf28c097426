"""Tasks of ``hs mpi`` in a job of a real Slurm: MPI programs, ``srun`` in a task, and the cores of a node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, clean_environ, each_mpi, environments
from tests.testbed.mpi_tasks import expected, lines, write_programs
from tests.testbed.slurm import Slurm, missing

pytestmark = pytest.mark.skipif(bool(missing()) and os.environ.get("CI") != "true", reason=missing() or "present")

#: How Slurm starts ranks of each MPI.
PMI = {"mpich": "pmi2", "openmpi": "pmix"}

#: Said in full: Slurm otherwise puts three ranks on one node where it can, and not always tells MPICH so.
LAYOUT = ["-N2", "-n4", "--ntasks-per-node=2"]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    cluster = Slurm(nodes=2)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def no_other_job(slurm: Slurm) -> None:
    """Let what a test before left come to its end."""
    slurm.settle()


def run(slurm: Slurm, hs: Hs, words: list[str], *args: str) -> list[str]:
    """Run ``hs mpi`` under a launcher; the lines that its tasks printed, sorted."""
    done = subprocess.run(
        [*words, "-m", "hypershell", "mpi", "tasks.in", "-b1", "-W", "60", *args],
        cwd=hs.folder, env=slurm.environ({**clean_environ(), "HYPERSHELL_SITE": str(hs.site)}),
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


@each_mpi()
@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_tasks_are_mpi_programs_and_steps(hs: Hs, mpi: Mpi, slurm: Slurm, launcher: str) -> None:
    """Under ``srun`` of either MPI of the tasks, under ``mpirun`` in an allocation those of the same MPI."""
    inner = [other for other in environments() if not other.missing and (launcher == "srun" or other == mpi)]
    write_programs(hs.folder, *inner)
    tasks = [line for one in inner for line in lines(one)]
    wanted = [line for one in inner for line in expected(one)]
    for one in inner:  # steps of their own, beside the one that runs us
        tasks.append(f"srun -N1 -n2 --mpi={PMI[one.name]} ./one-{one.name} step-{one.name}")
        wanted.append(f"step-{one.name} 2")
    hs.file(tasks)
    if launcher == "srun":
        words = ["srun", *LAYOUT, f"--mpi={PMI[mpi.name]}", mpi.python]
    else:
        unbound = ["--bind-to", "none"] if mpi.name == "openmpi" else []
        words = ["salloc", "-Q", *LAYOUT, mpi.mpiexec, "-n", "4", *unbound, mpi.python]
    assert run(slurm, hs, words) == sorted(wanted)
    assert hs.states() == {"succeeded": len(tasks)}


@each_mpi()
def test_the_job_can_be_hidden_and_its_commands_still_work(hs: Hs, mpi: Mpi, slurm: Slurm) -> None:
    hs.file(["echo ${SLURM_JOB_ID-none} $(srun -Q --jobid=$(squeue -h -o %A) --overlap -N1 -n1 echo step)"])
    words = ["srun", *LAYOUT, f"--mpi={PMI[mpi.name]}", mpi.python]
    assert run(slurm, hs, words, "--task-env", "job") == ["none step"]


@each_mpi()
def test_slots_have_cores_of_their_own_on_each_node(hs: Hs, mpi: Mpi, slurm: Slurm) -> None:
    have = os.sched_getaffinity(0)
    hs.file(["echo $SLURMD_NODENAME $TASK_CLIENT_ID $TASK_SLOT $TASK_CORE_LIST; sleep 0.1"] * 12)
    words = ["srun", *LAYOUT, f"--mpi={PMI[mpi.name]}", mpi.python]
    rows = [line.split() for line in run(slurm, hs, words, "--bind", "cores")]
    slots = {(node, client, slot): {int(core) for core in cores.split(",")} for node, client, slot, cores in rows}
    assert slots
    for node, count in (("node1", 1), ("node2", 2)):  # rank 0, on node1, runs no tasks
        sets = [cores for (where, *_), cores in slots.items() if where == node]
        assert len(sets) <= count  # a rank that comes late may get no task
        assert all(cores <= have and len(cores) == max(len(have) // count, 1) for cores in sets)
        if sets and count <= len(have):
            assert sum(map(len, sets)) == len(set().union(*sets))
