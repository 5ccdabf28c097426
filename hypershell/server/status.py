"""How a run stands, as one record: for ``hs status``. Reads the scheduler, decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec import Struct

from hypershell.core.clients import Client
from hypershell.core.scheduler import Scheduler
from hypershell.proto.visits import ClientStatus, Status

__all__ = ["Pace", "RunFacts", "make_status", "state_of"]


class Pace:
    """Tasks per second over the last minute, from counts that are told now and then. Times are monotonic."""

    WINDOW = 60.0
    STEP = 1.0

    def __init__(self, now: float) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def note(self, now: float, done: int) -> None:
        """`done` tasks have ended by now."""
        samples = self._samples
        if now - samples[-1][0] < self.STEP:
            return
        samples.append((now, done))
        while len(samples) > 2 and now - samples[1][0] >= self.WINDOW:
            samples.popleft()

    def rate(self, now: float, done: int) -> float:
        """Tasks per second."""
        begin, before = self._samples[0]
        return (done - before) / (now - begin) if now > begin else 0.0


class RunFacts(Struct, frozen=True):
    """What does not change in a run. `started` is seconds since the epoch."""

    run: str
    host: str
    pid: int
    version: str
    transport: str
    started: float
    database: str


def make_status(
    facts: RunFacts,
    scheduler: Scheduler,
    pace: Pace,
    now: float,
    complete: bool,
    silence: Callable[[int], float | None],
    lost: str | None = None,
) -> Status:
    """The status at monotonic time `now`.

    `silence` tells seconds since a client was heard of, `lost` which ranks were lost.
    """
    counts = scheduler.counts
    clients = scheduler.clients()
    dispatched = scheduler.inflight() + scheduler.away()
    left = scheduler.unfinished()
    done = counts.succeeded + counts.failed + counts.cancelled
    rate = pace.rate(now, done)
    return Status(
        run=facts.run,
        host=facts.host,
        pid=facts.pid,
        version=facts.version,
        transport=facts.transport,
        started=facts.started,
        now=scheduler.epoch + now,
        state=scheduler.stopping or "running",
        tasks={
            "pending": left - dispatched,
            "dispatched": dispatched,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
        },
        complete=complete,
        rate=rate,
        eta=left / rate if complete and rate > 0 else None,
        group=scheduler.group(),
        release=scheduler.release_plan(),
        database=facts.database,
        clients=[_client(client, silence(client.number)) for client in clients],
        aside=[node.host for node in scheduler.set_aside()[0]],
        lost=lost,
        late=counts.stale,
        ends=scheduler.allocation_end(),
    )


def state_of(client: Client) -> str:
    """What a client does, in a word or two."""
    if client.draining:
        return "draining"
    if client.aside:
        return "quarantined"
    return "running" if client.stuck is None else "no room"


def _client(client: Client, silent: float | None) -> ClientStatus:
    info = client.info
    return ClientStatus(
        id=info.id,
        host=info.host,
        rank=info.rank,
        system=info.system,
        version=info.version,
        slots=client.slots,
        held=len(client.holding),
        since=client.since,
        silent=silent,
        state=state_of(client),
        labels=info.labels,
    )
