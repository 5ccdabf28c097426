"""Who shares a node with a rank of ``hs mpi``, by what launcher and rank 0 say. Called by ``apps.mpi``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypershell.executor.affinity import Node, widen_affinity
from hypershell.mpi.environ import local_rank, local_size

if TYPE_CHECKING:
    from hypershell.core.model import ClientInfo
    from hypershell.proto.messages import ClientSettings

__all__ = ["node_of_server", "node_of_worker"]

def node_of_worker(info: ClientInfo, warn: Callable[[str | None], None]) -> Callable[[ClientSettings], Node]:
    """What widens the cores of a worker rank once its settings are known, and then tells who else is there."""

    def find(settings: ClientSettings) -> Node:
        is_whole, warning = widen_affinity(os.environ, settings.task_bind)
        warn(warning)
        # Ranks are counted alike on a node and in the job, so rank 0 is the lowest of its node.
        beside_server = settings.server_host == info.host and local_rank(os.environ) != 0
        return _node(is_whole, settings.slots, settings.slots - beside_server, settings.slots)

    return find


def node_of_server(mode: str, ranks: int) -> tuple[Callable[[ClientSettings], Node], str | None]:
    """The same for rank 0, whose cores are widened at once: the number of slots may depend on them."""
    is_whole, warning = widen_affinity(os.environ, mode)

    def find(settings: ClientSettings) -> Node:
        return _node(is_whole, settings.slots + (ranks > 1), settings.slots, settings.slots)

    return find, warning


def _node(is_whole: bool, slots: int, first: int, own: int) -> Node:
    rank, size = local_rank(os.environ), local_size(os.environ)
    if not is_whole or rank is None or size is None or rank >= size:
        return Node(0, 1, own, own)  # of the cores that are ours alone
    return Node(rank, size, slots, first)
