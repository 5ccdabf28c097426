"""What can happen to the scheduler: past-tense facts, one struct each. Drivers make them, the core reads them."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from hypershell.core.model import ClientInfo, FeedMark, Result, Room, Task

__all__ = [
    "AllocationEnds",
    "CancelRequested",
    "ClientJoined",
    "ClientLeft",
    "ClientLost",
    "DrainRequested",
    "Durable",
    "Event",
    "FeedEnded",
    "FeedOpened",
    "InterruptRequested",
    "LimitFound",
    "ResultsReceived",
    "StoreFailed",
    "StoreResumed",
    "StoreStalled",
    "TasksChanged",
    "TasksLoaded",
    "TasksSubmitted",
    "TimePassed",
    "WorkFound",
]


class TasksSubmitted(Struct, frozen=True, gc=False):
    """Lines were read: new tasks in input order, ids ascending, and how far the reading is."""

    tasks: list[Task]
    mark: FeedMark | None = None
    rejected: list[tuple[Task, str]] = []
    """Lines that can never run (a NUL, a bad tag): recorded as failed, with the reason."""


class FeedOpened(Struct, frozen=True, gc=False):
    """Beside the feeds that are known one more will be read (a FILE that an earlier run left half read)."""


class FeedEnded(Struct, frozen=True, gc=False):
    """No more lines will come from this feed; a complete `mark` is to be recorded, None: it could not be read."""

    mark: FeedMark | None = None


class WorkFound(Struct, frozen=True, gc=False):
    """The store holds unfinished tasks that are now ours: how many in each group."""

    pending: dict[int, int]
    failed: dict[int, int] = {}
    """Final failures per group of the submissions that were taken over (they hold a group barrier)."""
    withheld: dict[str, list[Task]] = {}
    """Per id of a client that outlives its server: what it was given. Not counted in `pending`."""
    poison: dict[int, int] = {}
    """Of submissions with an own limit of deaths: what it is (``Policy.poison``)."""
    died: bool = False
    """Whether a server died that had them: one of them may have been the reason."""


class LimitFound(Struct, frozen=True, gc=False):
    """The tasks of a submission have this time limit, seconds, whatever else limits them."""

    submission: int
    limit: float


class TasksLoaded(Struct, frozen=True, gc=False):
    """The answer to ``LoadMore``."""

    group: int
    tasks: list[Task]
    exhausted: bool
    unfit: list[tuple[Task, str]] = []
    """Rows that cannot be run: the store has ended them as failed, with the reason."""


class CancelRequested(Struct, frozen=True, gc=False):
    """The user cancelled or deleted tasks. Of those in `settled` the store has the last word already.

    `signal` names the first that a running task gets; None: the usual one.
    """

    ids: list[str]
    settled: list[str] = []
    signal: str | None = None


class TasksChanged(Struct, frozen=True, gc=False):
    """The user changed tasks that have not ended: what their rows say now. Group and execution are as they were."""

    tasks: list[Task]


class ClientJoined(Struct, frozen=True, gc=False):
    client: int
    info: ClientInfo
    holds: list[tuple[str, int]] = []
    """Executions that it has in hand; of a client that comes back."""


class ClientLeft(Struct, frozen=True, gc=False):
    """The client said goodbye: it holds nothing any more."""

    client: int


class ClientLost(Struct, frozen=True, gc=False):
    client: int
    reason: str
    outside: bool = False
    """It is none of those whose number is known (``Policy.expected``), whether or not it had joined."""


class ResultsReceived(Struct, frozen=True, gc=False):
    """Ended executions, and executions handed back without a result (never started, or stopped by us)."""

    client: int
    results: list[Result]
    returned: list[tuple[str, int]] = []
    leaving: bool = False
    """The client starts nothing more and leaves when what it runs has ended."""
    room: Room | None = None
    """How many tasks can run there, where that has changed."""


class Durable(Struct, frozen=True, gc=False):
    """Every ``Record`` up to and including `seq` is committed."""

    seq: int


class StoreFailed(Struct, frozen=True, gc=False):
    """The store will take nothing more (disk full past the cap, database gone, run fenced)."""

    reason: str


class StoreStalled(Struct, frozen=True, gc=False):
    """The store takes nothing at the moment (disk full, locked) and is tried again."""


class StoreResumed(Struct, frozen=True, gc=False):
    """The store takes records again after ``StoreStalled``."""


class DrainRequested(Struct, frozen=True, gc=False):
    """Release nothing more; queued tasks come back, running ones end, after `limit` seconds by force."""

    reason: str
    limit: float | None = None


class InterruptRequested(Struct, frozen=True, gc=False):
    """Stop running tasks now."""


class AllocationEnds(Struct, frozen=True, gc=False):
    """The scheduler of this machine ends us at that (monotonic) time."""

    at: float


class TimePassed(Struct, frozen=True, gc=False):
    """``Scheduler.deadline`` has been reached."""


Event: TypeAlias = (
    TasksSubmitted
    | FeedOpened
    | FeedEnded
    | WorkFound
    | LimitFound
    | TasksLoaded
    | CancelRequested
    | TasksChanged
    | ClientJoined
    | ClientLeft
    | ClientLost
    | ResultsReceived
    | Durable
    | StoreFailed
    | StoreStalled
    | StoreResumed
    | DrainRequested
    | InterruptRequested
    | AllocationEnds
    | TimePassed
)
