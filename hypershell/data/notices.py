"""The words between the server and the writer: what a run asks of the store, and what the thread answers.

Plain data and one protocol; imports nothing that touches a database, so that the loop can start without it.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from msgspec import Struct

from hypershell.core.actions import Finish, LoadMore, Record
from hypershell.core.events import (
    CancelRequested,
    Durable,
    StoreFailed,
    StoreResumed,
    StoreStalled,
    TasksLoaded,
    WorkFound,
)
from hypershell.core.model import FeedMark, Submission
from hypershell.data.lease import BEAT
from hypershell.errors import StoreError

__all__ = ["Adopted", "Notice", "Opened", "Plan", "Told", "Tuning", "Waiting", "WriterLike"]


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


class Tuning(Struct, frozen=True):
    """Sizes in rows, times in seconds; measured with benchmarks/writer_rate.py."""

    switch_interval: float = 1e-4
    """Of the interpreter, while the thread lives: with the usual 5 ms a busy main thread halves the rate."""
    batch_rows: int = 8192
    batch_age: float = 0.15
    """A commit that nobody waits for is put off for so long, so that it holds many records."""
    high: int = 32_768
    low: int = 8_192
    beat: float = BEAT
    look: float = 0.1
    """Time between two looks for requests of users and, with `Plan.forever`, for new work."""
    tell_after: float = 1.0
    """A failing write is reported when it has failed for so long."""
    give_up: float = 300.0
    """How long a failing write is tried again."""
    most_rows: int = 2_000_000
    """More rows than this are not held while writes fail."""


class Opened(Struct, frozen=True):
    """The store is ready. `resumed` is how far the FILE of the plan was read by an earlier run."""

    left_alone: int
    resumed: FeedMark | None
    submissions: list[Submission]
    marks: list[FeedMark] = []
    """Of all submissions taken over: how far each was read."""


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
    | StoreFailed
    | StoreStalled
    | StoreResumed
    | Opened
    | Waiting
    | Adopted
    | Told
)


class WriterLike(Protocol):
    """What the server needs of a writer; `Writer` has a thread, ``memory.MemoryWriter`` needs none."""

    def start(self) -> None: ...
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
    def ended(self) -> bool: ...
    @property
    def error(self) -> StoreError | None: ...
