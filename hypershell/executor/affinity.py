"""The cores that tasks may use: the share of the node that belongs to this client, not the core of its rank.

Open MPI and Intel MPI bind each rank to a core or two; a child inherits that, and all tasks of a rank would crowd
there. Called by ``apps.mpi`` before the first message, and by ``executor.loop`` once the settings are known.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Node", "Settled", "cores_of_slots", "settle", "share_of", "widen_affinity"]


class Node(NamedTuple):
    """The ranks of this node, and this one among them, as the launcher counts them."""

    rank: int
    size: int
    slots: int
    """Of a rank that only executes."""
    first: int
    """Of the lowest rank of this node: less where it is rank 0 of the job."""

    @property
    def total(self) -> int:
        """All slots of this node."""
        return self.first + (self.size - 1) * self.slots

    @property
    def before(self) -> int:
        """Slots of lower ranks of this node."""
        return self.first + (self.rank - 1) * self.slots if self.rank else 0

    @property
    def own(self) -> int:
        """Slots of this rank."""
        return self.slots if self.rank else self.first


class Settled(NamedTuple):
    """The cores of this process, those of each of its slots (none: the same), and what to tell the user."""

    cores: frozenset[int]
    slots: tuple[frozenset[int], ...] = ()
    warning: str | None = None


def settle(mode: str, node: Node) -> Settled | None:
    """Give this process the cores that `mode` leaves it, and tell which those of its slots are.

    :param mode: ``share`` or ``cores``; with ``none`` nothing changes.
    :param node: one rank, unless the cores that we have now are those of the whole node.
    :returns: None where nothing is to be done, or this system has no affinity.
    """
    if mode == "none" or not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    if mode == "share":
        settled = Settled(share_of(cores, node))
    else:
        slots = cores_of_slots(cores, node)
        settled = Settled(frozenset().union(*slots), slots, _crowded(len(cores), node))
    try:
        os.sched_setaffinity(0, settled.cores)
    except OSError as error:
        return Settled(frozenset(cores), (), f"Tasks are not bound: {error.strerror or error}")
    return settled


def share_of(cores: Sequence[int], node: Node) -> frozenset[int]:
    """The cores, of those of a node, that belong to one rank.

    In proportion to its slots, rounded up (neighbours may overlap by a core), never fewer than its slots. Where
    there are more slots or ranks than cores it is all of them.
    """
    count = len(cores)
    if max(node.total, node.size) > count or not node.own:
        return frozenset(cores)
    size = max(-(-count * node.own // node.total), node.own)
    start = min(node.before * count // node.total, count - size)
    return frozenset(cores[start : start + size])


def cores_of_slots(cores: Sequence[int], node: Node) -> tuple[frozenset[int], ...]:
    """The cores of each slot of one rank: as many as every slot of the node can have for itself.

    Where there are more slots than cores, each has one, and some have the same.
    """
    each = len(cores) // max(node.total, 1)
    numbers = range(node.before, node.before + node.own)
    if not each:
        return tuple(frozenset({cores[number % len(cores)]}) for number in numbers)
    return tuple(frozenset(cores[number * each : (number + 1) * each]) for number in numbers)


def _crowded(count: int, node: Node) -> str | None:
    if node.total <= count:
        return None
    return f"--bind cores: {node.total} slots on {count} core{'s' * (count != 1)} here; some have the same one"


def widen_affinity(environ: Mapping[str, str], mode: str = "share") -> tuple[bool, str | None]:
    """Let this process, and with it its tasks, run on all cores that the kernel allows it.

    A cpuset (cgroups(7)) stays in force: the kernel cuts the request down to it (sched_setaffinity(2)). In a Slurm
    job without one, where more cores would come out than the job has on this node, the binding stays, except
    with the mode ``none``.

    :param environ: where ``SLURM_CPUS_ON_NODE`` is looked up.
    :returns: whether the cores that we now have are those of the node, not of the rank; and a warning for the log
        where tasks remain bound.
    """
    if not hasattr(os, "sched_setaffinity"):
        return False, None
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, range(os.cpu_count() or max(before) + 1))
    except OSError as error:
        return False, _warning(before, error.strerror or str(error))
    after = os.sched_getaffinity(0)
    share = environ.get("SLURM_CPUS_ON_NODE", "")
    if mode != "none" and share.isdigit() and len(after) > int(share):
        os.sched_setaffinity(0, before)
        if len(before) < int(share):
            return False, _warning(
                before, f"the job has {share} of {len(after)} cores here and no cpuset says which"
            )
        return before == after, None
    return True, None


def _warning(cores: set[int], reason: str) -> str:
    return (
        f"All tasks of this rank share {len(cores)} core{'s' * (len(cores) != 1)} ({reason}); "
        "start with --bind-to none or --cpu-bind=none"
    )
