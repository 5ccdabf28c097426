"""What the scheduler wants done: imperatives, one struct each. The server carries them out in order."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from hypershell.core.model import ClientInfo, FeedMark, Result, Task

__all__ = [
    "Acknowledge",
    "Action",
    "CancelTasks",
    "ClientChange",
    "Commit",
    "DismissClients",
    "Dispatch",
    "DrainClients",
    "Finish",
    "Finished",
    "InterruptClients",
    "LoadMore",
    "Note",
    "PauseFeed",
    "RecallTasks",
    "Record",
    "ResumeFeed",
    "Return",
    "SendTasks",
]


class Dispatch(Struct, frozen=True, gc=False):
    """pending -> dispatched."""

    id: str
    execution: int
    client: int
    time: float
    deaths: int | None = None
    """Deaths of clients that had it; None: there was none."""


class Finished(Struct, frozen=True, gc=False):
    """dispatched -> succeeded, failed or cancelled (the last also from pending).

    `next_id` names the row of the retry, which the same Record inserts.
    """

    client: int
    state: str
    schedule_time: float
    result: Result
    next_id: str | None = None
    task: Task | None = None
    """The task itself, for those who report it."""


class Return(Struct, frozen=True, gc=False):
    """dispatched -> pending: the execution gave no result and costs no retry.

    With `deaths` also of a task that is pending: its client was no death after all.
    """

    id: str
    execution: int
    deaths: int | None = None
    """As in ``Dispatch``."""


class ClientChange(Struct, frozen=True, gc=False):
    """A row of table ``client``: joined (``left`` is None) or gone."""

    client: int
    info: ClientInfo
    time: float
    left: str | None = None
    """``left``, or ``lost: reason`` (then the column ``evicted`` is true)."""


class Record(Struct, gc=False):
    """Changes that belong together; written in one transaction, and only then ``Durable(seq)``."""

    seq: int
    inserted: list[Task] = []
    dispatched: list[Dispatch] = []
    finished: list[Finished] = []
    returned: list[Return] = []
    clients: list[ClientChange] = []
    mark: FeedMark | None = None


class Commit(Struct, frozen=True, gc=False):
    """Something waits for the Records so far to become durable: write them now."""


class SendTasks(Struct, frozen=True, gc=False):
    client: int
    tasks: list[Task]


class Acknowledge(Struct, frozen=True, gc=False):
    """Tell this client that the first `count` of its messages with results since it joined are durable."""

    client: int
    count: int


class LoadMore(Struct, frozen=True, gc=False):
    """Read up to `limit` further pending tasks of `group` from the store, after all earlier Records."""

    group: int
    limit: int
    again: bool = False
    """Begin anew: among those that were read before are some that are wanted now."""


class PauseFeed(Struct, frozen=True, gc=False):
    pass


class ResumeFeed(Struct, frozen=True, gc=False):
    pass


class DrainClients(Struct, frozen=True, gc=False):
    """Tell these clients to hand back what they have not started."""

    clients: list[int]


class CancelTasks(Struct, frozen=True, gc=False):
    """Tell this client to stop these executions (id, execution), with `signal` first (None: the usual one)."""

    client: int
    tasks: list[tuple[str, int]]
    signal: str | None = None


class RecallTasks(Struct, frozen=True, gc=False):
    """Tell this client to hand back those of these executions (id, execution) that it has not started."""

    client: int
    tasks: list[tuple[str, int]]


class InterruptClients(Struct, frozen=True, gc=False):
    """Tell these clients to stop their tasks (INT, TERM, KILL)."""

    clients: list[int]
    grace: float | None = None
    """The most seconds between these signals, where the end of the allocation is near."""


class DismissClients(Struct, frozen=True, gc=False):
    """Nothing more will come for these clients: they end."""

    clients: list[int]


class Note(Struct, frozen=True, gc=False):
    """A line for the log; `level` is a name of the logging module, `logger` the part after ``hypershell.``."""

    level: str
    logger: str
    text: str


class Finish(Struct, frozen=True, gc=False):
    """All is done and durable. Counts are of this run; `unfinished` includes what was held back."""

    succeeded: int
    failed: int
    held: int
    unfinished: int
    reason: str
    """``complete``, ``drained``, ``walltime``, ``interrupted``, ``group failed``, ``store failed``, ``idle``
    or ``out of memory``."""
    failed_before: int = 0
    """Final failures, in earlier runs, of what this run took over."""
    cancelled: int = 0
    """Tasks that the user cancelled or deleted meanwhile."""


Action: TypeAlias = (
    Record
    | Commit
    | SendTasks
    | Acknowledge
    | LoadMore
    | PauseFeed
    | ResumeFeed
    | DrainClients
    | CancelTasks
    | RecallTasks
    | InterruptClients
    | DismissClients
    | Note
    | Finish
)
