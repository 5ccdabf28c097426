"""The choices of a run that change scheduling, and the counts of what happened in it."""

from __future__ import annotations

from msgspec import Struct

from hypershell.core.needs import POSIX

__all__ = ["Counts", "Policy"]


class Policy(Struct, frozen=True):
    """The choices of a run that change scheduling."""

    attempts: int = 1
    """Executions with a result that a task may have: retries + 1."""
    eager: bool = False
    """Retries go before new tasks."""
    bundlesize: int | None = None
    window: int = 8192
    """Ready tasks held in memory; the rest waits in the store."""
    brake: bool = False
    """Pause the feed when the window is full (a store in memory must not hold all of the input)."""
    barrier_at_end: bool = False
    """Groups above 0 start only when the whole feed has been read (a FILE)."""
    forever: bool = False
    feed: bool = True
    """A feed is attached; its end will be told."""
    durable_dispatch: bool = False
    """Every dispatch is durable before the task is sent (stdin); to clients that outlive us all are."""
    reclaim: float = 60.0
    """Seconds for which what an earlier server gave to clients that outlive it is withheld from others."""
    quarantine: int = 10
    """Failures in a row, each within a second, after which a client gets no more if others do well; 0: never."""
    poison: int | None = None
    """Deaths of its client after which a task fails, 0: never, None: as its submission says (``core.poison``)."""
    careful: bool = False
    """The first tasks are sent when their rows are durable: a run that is repeated when it dies finds them."""
    family: str = POSIX
    """The family of systems whose clients get tasks that name none: ``posix`` or ``windows``."""
    delay_start: float = 0.0
    """Seconds that all clients wait for their first work; negative: over which that is spread."""
    release_rate: float | None = 0.0
    """Clients per second that get their first work; 0: no limit, None: by their number."""
    door: bool = False
    """Others than the expected clients may join: tasks that none of those can take wait for one that can."""
    closed: bool = True
    """Clients that do not outlive the server are counted: when they have all left and nobody is here, the run ends.
    False: it waits for clients, as long as there is work."""
    expected: int = 1
    """How many those counted clients are, with any that are lost before they join."""
    drain_time: float = 60.0
    """Seconds that running tasks get to end in before the allocation does."""
    stopping: float = 25.0
    """Seconds that it takes to stop a task that does not want to end, and to commit."""
    task_limit: float | None = None
    """The time limit of every task, seconds."""
    room_wait: float = 60.0
    """Seconds after which the run ends where nothing runs and no task could be started for want of descriptors,
    processes or memory; not where it is to go on ``forever``."""


class Counts(Struct):
    """What happened in this run."""

    submitted: int = 0
    succeeded: int = 0
    failed: int = 0
    """Final failures."""
    failed_before: int = 0
    """Final failures, in earlier runs, of what was taken over."""
    cancelled: int = 0
    """Taken out by the user."""
    retried: int = 0
    lost: int = 0
    """Executions that ended with their client."""
    stale: int = 0
    """Results of older executions or unknown tasks: counted, never applied."""
