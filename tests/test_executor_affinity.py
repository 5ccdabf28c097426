"""Cores of ranks and slots: how a node is divided, and what tasks then see."""

from __future__ import annotations

import os

import pytest

from hypershell.apps.words import name_binding
from hypershell.executor.affinity import Node, cores_of_slots, settle, share_of
from hypershell.executor.places import Places
from hypershell.mpi.environ import local_rank, local_size
from tests.testbed.cli import Hs

#: Ranks, slots of a worker, slots of rank 0 of the node, cores.
NODES = [(1, 1, 1, 8), (4, 2, 2, 8), (4, 2, 1, 8), (9, 1, 0, 8), (8, 1, 0, 8), (2, 1, 0, 8), (3, 2, 2, 8),
         (3, 1, 1, 7), (2, 8, 8, 8), (64, 1, 0, 64), (5, 3, 2, 128), (3, 1, 0, 2), (2, 2, 1, 2)]  # fmt: skip


def ranks(size: int, slots: int, first: int) -> list[Node]:
    return [Node(rank, size, slots, first) for rank in range(size)]


@pytest.mark.parametrize("node", NODES)
def test_a_share_has_a_core_for_each_slot_and_all_shares_are_the_node(node: tuple[int, int, int, int]) -> None:
    *shape, count = node
    cores = [core * 2 + 1 for core in range(count)]  # their numbers need not follow each other
    shares = [share_of(cores, one) for one in ranks(*shape) if one.own]
    slots = [one.own for one in ranks(*shape) if one.own]
    assert frozenset().union(*shares) == frozenset(cores)
    if sum(slots) > count or shape[0] > count:
        assert set(shares) == {frozenset(cores)}
    for share, own in zip(shares, slots, strict=True):
        assert len(share) >= max(min(own, count), count * own // sum(slots))


def test_shares_follow_the_slots() -> None:
    assert [sorted(share_of(range(8), one)) for one in ranks(2, 2, 2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert sorted(share_of(range(8), Node(1, 2, 1, 0))) == list(range(8))  # rank 0 runs nothing
    assert [len(share_of(range(64), one)) for one in ranks(4, 16, 16)] == [16] * 4


@pytest.mark.parametrize("node", NODES)
def test_slots_have_cores_of_their_own_as_long_as_there_are_enough(node: tuple[int, int, int, int]) -> None:
    *shape, count = node
    cores = range(100, 100 + count)
    sets = [one for rank in ranks(*shape) for one in cores_of_slots(cores, rank)]
    total = shape[2] + (shape[0] - 1) * shape[1]
    assert len(sets) == total and all(one and one <= set(cores) for one in sets)
    if total <= count:
        assert sum(map(len, sets)) == len(frozenset().union(*sets))
        assert {len(one) for one in sets} == {count // total}
    else:
        assert {len(one) for one in sets} == {1} and len(set(sets)) == count


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_crowded_node_is_told_and_none_leaves_all_as_it_is() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert settle("none", Node(0, 1, 1, 1)) is None and os.sched_getaffinity(0) == before
        settled = settle("cores", Node(0, 1, len(before) + 1, len(before) + 1))
        assert settled is not None and settled.warning is not None
        assert f"{len(before) + 1} slots on {len(before)} core" in settled.warning
        assert settled.slots[0] == settled.slots[-1] == {min(before)}
    finally:
        os.sched_setaffinity(0, before)


def test_places_are_numbered_from_below() -> None:
    places = Places([frozenset({4}), frozenset({5, 7})])
    third, first, second = places.of(2), places.of(0), places.of(1)
    assert (first.slot, first.shown, second.slot, second.shown) == (0, b"4", 1, b"5,7")
    assert (third.slot, third.shown, places.of(1) is second) == (2, b"4", True)
    assert Places().of(0).cores is None


def test_the_place_among_the_ranks_of_a_node() -> None:
    assert local_rank({}) is None
    assert (
        local_rank({"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "3", "SLURM_LOCALID": "0"})
        == 3
    )
    assert local_rank({"MPI_LOCALNRANKS": "4", "MPI_LOCALRANKID": "2"}) == 2
    assert local_rank({"SLURM_LOCALID": "0"}) is None  # a batch script has it
    step = {"SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "6", "SLURM_NODEID": "0"}
    assert (local_rank(step), local_size({**step, "SLURM_STEP_TASKS_PER_NODE": "2(x3)"})) == (1, 2)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--bind", "cores"], ["--task-bind", "cores"]),
        (["--bind=Share", "f"], ["--task-bind=Share", "f"]),
        (["--bind", "none", "--bind", "0.0.0.0"], ["--task-bind", "none", "--bind", "0.0.0.0"]),
        (["-H", "cores"], ["-H", "cores"]),
        (["--bind", "cores.example"], ["--bind", "cores.example"]),
        (["--", "--bind", "cores"], ["--", "--bind", "cores"]),
        (["--bind"], ["--bind"]),
    ],
)
def test_bind_is_an_address_or_a_word(argv: list[str], expected: list[str]) -> None:
    assert name_binding("mpi", argv) == expected
    assert name_binding("server", argv) == argv


SHOW = "python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep=\",\")'; echo $TASK_SLOT $TASK_CORE_LIST"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
@pytest.mark.parametrize("capture", [[], ["--capture"]])
def test_each_slot_of_hs_cluster_has_cores_of_its_own(hs: Hs, capture: list[str]) -> None:
    have = sorted(os.sched_getaffinity(0))
    os.mkfifo(hs.folder / "go")
    # Both run at the same time, for each waits for the other.
    hs.file([f"{SHOW}; echo >go", f"{SHOW}; read x <go"])
    done = hs.run("cluster", "tasks.in", "-N2", "-b1", "--bind", "cores", *capture)
    assert done.status == 0, done.err
    text = done.out
    if capture:
        text = "".join(path.read_text() for path in (hs.site / "lib" / "task").rglob("*.out"))
    each = max(len(have) // 2, 1)
    expected = [have[:each], have[each : 2 * each] or have[:1]]
    assert sorted(text.split()) == sorted(
        word for slot, cores in enumerate(expected) for word in (shown(cores), str(slot), shown(cores))
    )


@pytest.mark.parametrize("mode", ["none", "share"])
def test_otherwise_hs_cluster_leaves_the_cores_as_they_are(hs: Hs, mode: str) -> None:
    hs.file([SHOW])
    done = hs.run("cluster", "tasks.in", "-N1", "--bind", mode)
    have = shown(sorted(os.sched_getaffinity(0)))
    assert (done.status, done.out.split()) == (0, [have, "0", "null"]), done.err


def shown(cores: list[int]) -> str:
    return ",".join(map(str, cores))
