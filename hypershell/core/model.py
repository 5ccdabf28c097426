"""The records that travel between feed, scheduler, wire and store.

Pure data. One struct serves the core, the wire and the store so that a task is built once and never
converted on its way. Only the scheduler changes a task (``execution``, ``schedule_time`` and ``deaths``).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from hypershell.core.fields import Count, Id, Int32, Int64, Name, Natural, Real, Scalar, Text

__all__ = [
    "CANCELLED_BY_USER",
    "KEPT_MOST",
    "KEPT_WINDOW",
    "OUTPUT_OVERDRAFT",
    "OUTPUT_WINDOW",
    "TIMED_OUT",
    "UPDATING",
    "WINDOWS_STATUS",
    "ClientInfo",
    "FeedMark",
    "Int32",
    "Kept",
    "Result",
    "Room",
    "Scalar",
    "Special",
    "Submission",
    "Task",
]

#: Bytes of each stream of a task that come back with its result; a peer that sends more is refused.
KEPT_MOST = 1 << 20
KeptBytes = Annotated[bytes, Meta(max_length=KEPT_MOST)]
#: Bytes of kept output that are not durable yet, at which a client starts no task; each of those that run then may
#: add those of both its streams.
KEPT_WINDOW = 16 << 20

#: Bytes of what tasks print that a client may have on their way to the server: it reads no more from its tasks.
OUTPUT_WINDOW = 1 << 20
#: Bytes that may come on top: a read that began before, and the unfinished lines of tasks that are stopped. A peer
#: that sends more is given up.
OUTPUT_OVERDRAFT = 1 << 20

#: The `digest` of a mark while lines are added out of their order: no FILE begins so.
UPDATING = "updating"


class Task(Struct, array_like=True, gc=False):
    """One command line to run; the identity on the wire is ``(id, execution)``.

    Times are seconds since the epoch (UTC), sizes bytes, durations seconds.
    """

    id: Id
    args: str
    submission: Int64
    execution: Int32 = 0
    attempt: Int32 = 1
    group: Natural = 0
    raw: bytes | None = None
    """The bytes of the line where it is not UTF-8; ``args`` then holds an escaped form."""
    timeout: Real | None = None
    tag: dict[str, Scalar] | None = None
    submit_time: Real = 0.0
    schedule_time: Real = 0.0
    previous_id: Id | None = None
    cores: Natural | None = None
    memory: Count | None = None
    tried: Int32 = 0
    """Attempts that do not count any more, since the task was given again after its final failure."""
    deaths: Natural = 0
    """How often a client died that may have run it (``core.poison``)."""


#: Below this are the statuses of 32 bits of Windows: 0xC0000005 is -1073741819.
WINDOWS_STATUS = -200


class Special:
    """Exit statuses of tasks that have none of their own; outside of every signal's ``-n``.

    Signals end at 64, so these can never be a death by signal (docs/decisions/0002), and never one of Windows.
    """

    CANCELLED = -100
    """Before it ran; a task that was stopped keeps its own status."""
    TEMPLATE_FAILED = -101
    IMPOSSIBLE = -102
    NOT_STARTED = -103
    POISON = -104
    """Its client died too often while it ran."""


#: The `error` of a result whose task was stopped, or not started, because the user cancelled it.
CANCELLED_BY_USER = "cancelled"

#: How the `error` of a result begins whose task was over its time limit.
TIMED_OUT = "timeout"


class Kept(Struct, array_like=True, gc=False, frozen=True):
    """What a task printed, the first `KEPT_MOST` bytes of each stream; the sizes count all of it."""

    out: KeptBytes
    err: KeptBytes
    out_size: Count
    err_size: Count

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return len(self.out) + len(self.err)


class Result(Struct, array_like=True, gc=False, frozen=True):
    """How one execution ended on its client. ``command`` is None where it equals the task's args."""

    id: Id
    execution: Int32
    exit_status: Int32
    start: Real
    end: Real
    command: str | None = None
    error: Text | None = None
    """Why there is no ordinary exit: ``timeout``, ``template: ...``, ``too long: ...``, ``cancelled``."""
    outpath: Text | None = None
    errpath: Text | None = None
    utime: Real | None = None
    """CPU time in user mode, seconds (getrusage(2))."""
    stime: Real | None = None
    maxrss: Real | None = None
    """Peak resident set, bytes."""
    kept: Kept | None = None
    """What it printed, where its submission asks for that."""


class Room(Struct, array_like=True, frozen=True):
    """How many tasks can run at a time on a client whose machine is, or was, short of something."""

    slots: Natural
    """Of those that it announced."""
    in_vain: bool
    """Nothing runs there, and its last attempt to start a task failed; its next one is not answered yet."""
    reason: Annotated[str, Meta(max_length=1000)]
    """What is, or was, missing."""


class Submission(Struct, array_like=True, frozen=True):
    """One act of handing over tasks: all that a restart would otherwise have to be told again.

    ``id`` is a time-ordered 63-bit integer. ``options`` is canonical JSON of the options that change tasks.
    """

    id: int
    source: str
    """``file``, ``stdin`` or ``command``."""
    path: str | None
    template: str
    options: str
    cwd: str
    submit_id: str
    submit_host: str
    submit_time: float


class FeedMark(Struct, frozen=True, gc=False):
    """How far a submission has been read; committed with the rows that were read up to there."""

    submission: int
    offset: int
    """Bytes of the FILE that are behind us."""
    lines: int
    digest: str
    """SHA-256 of the first ``offset`` bytes, hex."""
    complete: bool = False


class ClientInfo(Struct, array_like=True, frozen=True):
    """What a client says of itself when it joins."""

    id: Name
    host: Name
    pid: Natural
    slots: Natural
    version: Name
    system: Name
    """``sys.platform`` of the client."""
    rank: Int32 = -1
    outlives: bool = False
    """It goes on without its server and comes back (TCP): what it is given is durable before it is sent."""
    labels: Annotated[tuple[Name, ...], Meta(max_length=1000)] = ()
    """Words by which ``label:`` of a task chooses clients."""
