"""Where the time of the slowest ranks went until their first task (``hs mpi --startup-report``).

``Tapped`` sits between the transport and the server and reads along; nothing of it is there without the option.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from hypershell.ostext import one_line
from hypershell.proto.messages import Hello, Results, Startup
from hypershell.transport import Delivery, Endpoint

__all__ = ["Rank", "Tapped", "report"]

#: Ranks in the table.
SLOWEST = 10

_HEAD = ("launched", "interp.", "imports", "MPI_Init", "1st task", "total")


class Rank(NamedTuple):
    """What one rank told; `first` is when its first task began, None where it had none."""

    number: int
    host: str
    startup: Startup
    first: float | None = None

    def phases(self, earliest: float) -> tuple[float, ...]:
        """Seconds of each phase, and of all; the first is the delay after the process that began `earliest`."""
        told = self.startup
        marks = [earliest, told.process, told.main, told.imported, told.initialized]
        marks.append(told.initialized if self.first is None else self.first)
        spent = [after - before for before, after in itertools.pairwise(marks)]
        return (*spent, marks[-1] - earliest)


def report(ranks: Sequence[Rank], size: int) -> str:
    """The table, at most 80 columns wide: medians, and the slowest ranks.

    :param size: ranks of the job.
    """
    earliest = min(rank.startup.process for rank in ranks)
    phases = {rank.number: rank.phases(earliest) for rank in ranks}
    slowest = sorted(ranks, key=lambda rank: -phases[rank.number][-1])[:SLOWEST]
    medians = [statistics.median(column) for column in zip(*phases.values(), strict=True)]
    lines = [
        f"Start-up of {len(ranks)} of {size} ranks: seconds in each phase, the slowest first",
        _row("rank", "host", _HEAD),
        _row("", "median", [f"{value:.2f}" for value in medians]),
    ]
    for rank in slowest:
        words = [f"{value:.2f}" for value in phases[rank.number]]
        if rank.first is None:
            words[-2] = "none"
        lines.append(_row(str(rank.number), rank.host, words))
    return "\n".join(lines) + "\n"


def _row(number: str, host: str, words: Iterable[str]) -> str:
    shown = host if len(host) <= 17 else host[:16] + "~"
    return f"{number:>6} {one_line(shown):<17}" + "".join(f" {word:>8}" for word in words)


class Tapped:
    """An ``Endpoint`` that hears what the ranks say of their start.

    :param size: ranks of the job.
    :param clients: those of them that run tasks.
    :param own: this rank, which need not be one of them.
    :param write: where the table goes: when each of `clients` has had a task, else at the end.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        size: int,
        clients: int,
        own: Rank,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._size = size
        self._clients = clients
        self._write = _to_stderr if write is None else write
        self._ranks = {own.number: own}
        self._waiting: dict[int, int] = {}
        """Peers that have no result yet, and the number of their rank."""
        self._begun = 0
        self._is_told = False

    def poll(self) -> list[Delivery]:
        """What has arrived."""
        deliveries = self._endpoint.poll()
        if not self._is_told:
            for peer, message in deliveries:
                if type(message) is Results and peer in self._waiting and message.results:
                    self._first(peer, min(result.start for result in message.results))
                elif type(message) is Hello and message.startup is not None:
                    self._joined(peer, message, message.startup)
        return deliveries

    def _joined(self, peer: int, message: Hello, told: Startup) -> None:
        times = (told.process, told.main, told.imported, told.initialized)
        if all(map(math.isfinite, times)):
            number = message.info.rank
            self._ranks[number] = Rank(number, message.info.host, told)
            self._waiting[peer] = number

    def _first(self, peer: int, start: float) -> None:
        if not math.isfinite(start):
            return
        number = self._waiting.pop(peer)
        self._ranks[number] = self._ranks[number]._replace(first=start)
        self._begun += 1
        if self._begun >= self._clients:
            self.end()

    def end(self) -> None:
        """Tell what is known, once."""
        if not self._is_told:
            self._is_told = True
            self._write(report(list(self._ranks.values()), self._size))

    def send(self, peer: int, message: Any) -> None:
        """Passed on, as is all that follows."""
        self._endpoint.send(peer, message)

    def flush(self) -> bool:
        return self._endpoint.flush()

    def wait_hint(self, now: float) -> float | None:
        return self._endpoint.wait_hint(now)

    def expect(self, soon: bool) -> None:
        self._endpoint.expect(soon)

    def silence(self, peer: int) -> float | None:
        return self._endpoint.silence(peer)

    def drop(self, peer: int, reason: str) -> None:
        self._waiting.pop(peer, None)
        self._endpoint.drop(peer, reason)

    def close(self) -> None:
        self._endpoint.close()


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
