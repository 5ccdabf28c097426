"""What tasks of ``hs mpi`` find around them: MPI programs as tasks, the launcher's variables, the cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.testbed.cli import Hs
from tests.testbed.mpi import Ended, Mpi, clean_environ, each_mpi, environments, finish, launch
from tests.testbed.mpi_tasks import expected, lines, write_programs

PRESENT = [mpi for mpi in environments() if not mpi.missing]


def run(hs: Hs, mpi: Mpi, ranks: int, *args: str, env: dict[str, str] | None = None) -> Ended:
    words = ["-m", "hypershell", "mpi", "tasks.in", *args]
    return launch(mpi, ranks, words, {"HYPERSHELL_SITE": str(hs.site), **(env or {})}, cwd=hs.folder)


@each_mpi()
@pytest.mark.parametrize("level", ["rank", "job"])
def test_tasks_are_mpi_programs_of_any_mpi(hs: Hs, mpi: Mpi, level: str) -> None:
    """Each kind, of either MPI, on each of two workers (defect: launcher variables leak into tasks)."""
    inner = PRESENT if level == "rank" else [mpi]
    write_programs(hs.folder, *inner)
    hs.file([line for one in inner for line in lines(one)])
    done = run(hs, mpi, 3, "-b1", "--task-env", level)
    assert done.status == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(line for one in inner for line in expected(one))
    assert hs.states() == {"succeeded": 5 * len(inner)}


@each_mpi()
def test_the_launchers_variables_are_at_hand_or_left(hs: Hs, mpi: Mpi) -> None:
    rank = {"mpich": "PMI_RANK", "openmpi": "OMPI_COMM_WORLD_RANK"}[mpi.name]
    hs.file([f"echo ${{{rank}-none}} ${{SLURM_NTASKS-none}}; echo $HS_LAUNCHER_ENV"])
    env = {"SLURM_NTASKS": "7", "SLURM_CONF": "/nowhere/slurm.conf"}
    for level, shown, originals in (
        ("rank", "none 7", {rank: "1"}),
        ("job", "none none", {rank: "1", "SLURM_NTASKS": "7"}),
        ("none", "1 7", {}),
    ):
        done = run(hs, mpi, 2, "--no-db", "--task-env", level, env=env)
        assert done.status == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first == shown
        removed = json.loads(second or "{}")
        assert {name: removed.get(name) for name in originals} == originals
        assert "SLURM_CONF" not in removed and bool(removed) == bool(originals)


# Cores. Ranks that share them in three ways, under launchers that bind each rank to one core.

SHOW = f"{sys.executable} -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep=\",\")'"


def run_bound(hs: Hs, mpi: Mpi, ranks: int, *args: str) -> list[tuple[str, str, set[int], str]]:
    """What each task tells of its client, its slot, its cores and the cores that it was told of."""
    bind = ["-bind-to", "core:1"]
    if mpi.name == "openmpi":
        bind = ["--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "core:overload-allowed"]
    line = f"echo $TASK_CLIENT_ID $TASK_SLOT $({SHOW}) $TASK_CORE_LIST; sleep 0.1"
    hs.file([line] * (4 * ranks))
    words = ["-m", "hypershell", "mpi", "tasks.in", "-b1", *args]
    process = subprocess.Popen(
        [mpi.mpiexec, "-n", str(ranks), *bind, mpi.python, *words],
        cwd=hs.folder, env=clean_environ({"HYPERSHELL_SITE": str(hs.site)}), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    done = finish(process)
    assert done.status == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return [(client, slot, set(map(int, cores.split(","))), told) for client, slot, cores, told in rows]


needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")


@needs_affinity
@each_mpi()
@pytest.mark.parametrize(("mode", "ranks"), [("none", 3), ("share", 2), ("share", 3)])
def test_a_launchers_binding_does_not_strangle_tasks(hs: Hs, mpi: Mpi, mode: str, ranks: int) -> None:
    have = os.sched_getaffinity(0)
    told = run_bound(hs, mpi, ranks, "--bind", mode)
    workers = ranks - 1
    for client, slot, cores, shown in told:
        assert (slot, shown) == ("0", "null") and client
        if mode == "none" or workers == 1 or ranks > len(have):
            assert cores == have
        else:
            assert cores <= have and len(cores) >= len(have) // workers


@needs_affinity
@each_mpi()
@pytest.mark.parametrize(("ranks", "slots"), [(3, 1), (3, 2)])
def test_each_slot_of_all_ranks_of_a_node_has_cores_of_its_own(hs: Hs, mpi: Mpi, ranks: int, slots: int) -> None:
    have = os.sched_getaffinity(0)
    told = run_bound(hs, mpi, ranks, "--bind", "cores", f"-N{slots}")
    total = ranks * slots - 1
    by_slot: dict[tuple[str, str], set[int]] = {}
    for client, slot, cores, shown in told:
        assert shown == ",".join(map(str, sorted(cores)))
        assert by_slot.setdefault((client, slot), cores) == cores <= have
    assert {len(cores) for cores in by_slot.values()} == {max(len(have) // total, 1)}
    if total <= len(have):
        assert sum(map(len, by_slot.values())) == len(set().union(*by_slot.values()))


@each_mpi()
def test_bind_takes_an_address_and_a_word(hs: Hs, mpi: Mpi) -> None:
    hs.file(["test -e c.json && echo $TASK_CORE_LIST"])  # the file is there as long as the server
    args = ["--bind", "cores", "--bind", "127.0.0.1", "--port", "0", "--connect-file", "c.json"]
    done = run(hs, mpi, 2, *args)
    assert done.status == 0, done.stderr
    assert done.stdout.strip() not in ("", "null")


@each_mpi()
def test_the_start_of_each_rank_is_reported(hs: Hs, mpi: Mpi) -> None:
    hs.file(["echo $TASK_CLIENT_ID; sleep 0.2"] * 6)
    done = run(hs, mpi, 3, "--startup-report", "-b1")
    assert done.status == 0, done.stderr
    head, _, median, *rows = done.stderr.splitlines()
    assert head.startswith(f"Start-up of {len(rows)} of 3 ranks") and median.split()[0] == "median"
    by_rank = {int(row.split()[0]): row.split()[2:] for row in rows}
    assert {0} < set(by_rank) <= {0, 1, 2} and by_rank[0][-2] == "none"  # one that comes late is not in it
    worked = [list(map(float, row)) for row in by_rank.values() if row[-2] != "none"]
    assert worked
    for *phases, total in worked:
        assert abs(sum(phases) - total) < 0.05 and total > 0
