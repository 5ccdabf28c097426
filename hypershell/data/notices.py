"""The words between the server and the writer: what a run asks of the store, and what the thread answers.

Plain data and one protocol; imports nothing that touches a database, so that the loop can start without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from hypershell.core.actions import Finish, LoadMore, Record
from hypershell.core.events import (
    CancelRequested,
    Durable,
    StoreFailed,
    StoreResumed,
    StoreStalled,
    TasksChanged,
    TasksLoaded,
    WorkFound,
)
from hypershell.core.model import FeedMark, Submission, Task
from hypershell.data.lease import BEAT
from hypershell.data.store import Store
from hypershell.errors import HyperShellError, StoreError

__all__ = [
    "Added",
    "Adopted",
    "FailedBefore",
    "Keeping",
    "Notice",
    "Opened",
    "Plan",
    "Ready",
    "Revised",
    "Told",
    "Tuning",
    "Waiting",
    "WriterLike",
]


class Added(Struct, frozen=True):
    """New lines of a FILE that has changed: up to where it is read now, and their tasks per group."""

    mark: FeedMark
    pending: dict[int, int]
    failed: dict[int, int]
    text: str
    """What is told of it."""


class Keeping(Struct, frozen=True):
    """How the database thread stays alive in a long step."""

    attempt: Callable[[Callable[[], Any]], Any]
    """Does something, again and again while its failure may pass."""
    breathe: Callable[[], bool]
    """Renews the lease when it is time; whether the run is to end instead."""


class Revised(Protocol):
    """A FILE that may have changed since it was submitted (``server/revision.py``)."""

    repeats: bool

    def has_changed(self, mark: FeedMark) -> bool: ...
    def add_lines(self, store: Store, number: int, keeping: Keeping) -> Added | None: ...


class Plan(Struct, frozen=True):
    """What a run wants from the store at its start."""

    submission: Submission | None = None
    """What is handed over now: FILE or stdin."""
    restart: bool = False
    """Take over what was left: that of `submission` where it is given, else everything that nobody works on."""
    forever: bool = False
    """Take over, all the time, what nobody works on."""
    take_over: bool = False
    """Do not wait for the lease of a server on another host."""
    revision: Revised | None = None
    """What to do where the FILE of `submission` has changed; None: it must not have."""
    asks: bool = False
    """Nothing is written after ``Opened`` until the loop says `accept` or `refuse`."""
    given: dict[str, Any] = {}
    """What this start says of how tasks are run (``how.merged``); holds for what `restart` takes over."""
    again: Callable[[], str] | None = None
    """With `restart`: final failures are given again, under ids that this makes."""


class Tuning(Struct, frozen=True):
    """Sizes in rows, times in seconds; measured with benchmarks/writer_rate.py."""

    switch_interval: float = 1e-4
    """Of the interpreter, while the thread lives: with the usual 5 ms a busy main thread halves the rate."""
    batch_rows: int = 8192
    batch_age: float = 0.1
    """A commit that nobody waits for is put off for so long, so that it holds many records."""
    batch_bytes: int = 8 << 20
    """Kept output of one transaction; one record (less than 3 MiB) may come on top."""
    high: int = 32_768
    low: int = 8_192
    high_bytes: int = 64 << 20
    low_bytes: int = 16 << 20
    """Kept output that waits to be written: above the first no task is released until it is down to the second."""
    beat: float = BEAT
    look: float = 0.1
    """Time between two looks for requests of users and, with `Plan.forever`, for new work."""
    tell_after: float = 1.0
    """A failing write is reported when it has failed for so long."""
    give_up: float = 300.0
    """How long a failing write is tried again."""
    most_rows: int = 2_000_000
    """More rows than this are not held while writes fail."""
    most_bytes: int = 1 << 30
    """Nor more kept output."""


class Ready(Struct, frozen=True):
    """The database is open and recorded this run; nothing has to be imported or opened for it any more."""


class Opened(Struct, frozen=True):
    """The store is ready. `resumed` is how far the FILE of the plan was read by an earlier run."""

    left_alone: int
    resumed: FeedMark | None
    submissions: list[Submission]
    marks: list[FeedMark] = []
    """Of all submissions taken over: how far each was read."""


class FailedBefore(Struct, frozen=True):
    """Final failures of what was taken over, which stay so although failures were given again."""

    tasks: list[Task]


class Waiting(Struct, frozen=True):
    """The start waits for the lease of another server."""

    text: str


class Adopted(Struct, frozen=True):
    """Submissions that became ours while we run."""

    submissions: list[Submission]
    marks: list[FeedMark] = []


class Told(Struct, frozen=True):
    """A line for the log; `level` is a name of the logging module in small letters."""

    level: str
    text: str


Notice: TypeAlias = (
    Durable
    | TasksLoaded
    | WorkFound
    | CancelRequested
    | TasksChanged
    | StoreFailed
    | StoreStalled
    | StoreResumed
    | Ready
    | Opened
    | FailedBefore
    | Waiting
    | Adopted
    | Told
)


class WriterLike(Protocol):
    """What the server needs of a writer; `Writer` has a thread, ``memory.MemoryWriter`` needs none."""

    def start(self) -> None: ...
    def accept(self) -> None: ...
    def refuse(self, error: HyperShellError) -> None: ...
    def own(self, submission: Submission) -> None: ...
    def submit(self, record: Record) -> None: ...
    def hurry(self) -> None: ...
    def load(self, wanted: LoadMore) -> None: ...
    def poll(self) -> list[Notice]: ...
    def finish(self, finish: Finish) -> None: ...
    def join(self, timeout: float | None = None) -> bool: ...

    @property
    def backlog(self) -> int: ...
    @property
    def full(self) -> bool: ...
    @property
    def behind(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    @property
    def error(self) -> StoreError | None: ...
