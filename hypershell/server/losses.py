"""What did not take part in a run to its end: ranks that were lost, hosts that were set aside. In words."""

from __future__ import annotations

import logging

from hypershell.core.clients import Client
from hypershell.core.nodes import Node

__all__ = ["Losses", "in_words", "set_aside_line"]

log = logging.getLogger("hypershell.server")

#: Hosts that are named at the end; of more only their number is told.
MOST_HOSTS = 8


class Losses:
    """Told of each loss; `line` sums them up."""

    def __init__(self) -> None:
        self._ranks: dict[str, list[int]] = {}
        self._tasks = 0

    def note(self, peer: int, client: Client | None, reason: str) -> None:
        """Client number `peer` is lost; `client` as it was before, None: it had not introduced itself."""
        if client is None or client.info.rank < 0:
            log.warning("Client %s lost: %s", peer, reason)
            return
        held = len(client.holding)
        self._ranks.setdefault(client.info.host, []).append(client.info.rank)
        self._tasks += held
        away = "" if not held else "; its task goes to others" if held == 1 else f"; its {held} tasks go to others"
        log.warning("Lost a client on %s: %s%s", client.info.host, reason, away)

    def line(self) -> str | None:
        """What was lost, or None."""
        if not self._ranks:
            return None
        count = sum(map(len, self._ranks.values()))
        what = "1 rank was lost" if count == 1 else f"{count} ranks were lost"
        tasks = "1 task, which was" if self._tasks == 1 else f"{self._tasks} tasks, which were"
        where = [f"{in_words(ranks)} on {host}" for host, ranks in sorted(self._ranks.items())]
        more = f"; and on {len(where) - MOST_HOSTS} more hosts" if len(where) > MOST_HOSTS else ""
        return f"{what} with {tasks} taken back: {'; '.join(where[:MOST_HOSTS])}{more}"


def in_words(ranks: list[int]) -> str:
    """``rank 3``, ``ranks 1-4, 7``."""
    runs: list[list[int]] = []
    for rank in sorted(set(ranks)):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"rank {text}" if len(runs) == 1 and runs[0][0] == runs[0][1] else f"ranks {text}"


def set_aside_line(nodes: list[Node], clients: list[Client]) -> str | None:
    """Who got no more tasks, since everything failed at once there; or None."""
    named = [f"node {node.host} ({node.clients} clients)" for node in nodes]
    named += [f"client {client.info.id} on {client.info.host}" for client in clients]
    if not named:
        return None
    more = f", and {len(named) - MOST_HOSTS} more" if len(named) > MOST_HOSTS else ""
    return f"set aside, for all that ran there failed at once: {', '.join(named[:MOST_HOSTS])}{more}"
