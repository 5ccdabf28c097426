"""What every store must do, and the words that it shares with the writer and the server.

No SQLAlchemy, no file and no thread in here: the server imports this before the first task starts. ``sql`` keeps
the tasks in SQLite or PostgreSQL, ``memory`` in this process (``--no-db``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from hypershell.core.actions import Finish, Record
from hypershell.core.events import CancelRequested, TasksChanged
from hypershell.core.model import FeedMark, Submission, Task
from hypershell.data.lease import Owner, this_process
from hypershell.errors import StoreError
from hypershell.ostext import escaped

__all__ = [
    "Claim",
    "Earlier",
    "Fenced",
    "Owned",
    "Refused",
    "RunInfo",
    "Store",
    "Submitted",
    "Taken",
    "Transient",
    "describe_run",
    "sqlite_store",
]


class Fenced(StoreError):
    """Another server took over what this one owned; this one must end."""


class Refused(StoreError):
    """The run may not begin; nothing of it is to stay in the store."""


class Owned(Refused):
    """A live server owns the submission that was asked for. `run` is the id of its run."""

    def __init__(self, text: str, run: str) -> None:
        super().__init__(text)
        self.run = run


class Transient(StoreError):
    """A write that failed for a reason that may pass: disk full, database locked, connection lost."""


class Submitted(Struct, frozen=True):
    """A submission of a FILE: its terms as they are stored, its folder, when it was made, and the SHA-256 of the
    FILE up to where it was read."""

    number: int
    options: str
    cwd: str
    submit_time: float
    digest: str


class RunInfo(Struct, frozen=True):
    """One server's row in table ``run``, and its lease. ``ranks`` and ``slots`` are 0 where clients come and go."""

    id: str
    host: str
    boot_id: str
    pid: int
    pid_start: int
    transport: str
    ranks: int
    slots: int
    job: str | None
    command: str
    cwd: str
    start_time: float


def describe_run(
    run_id: str,
    *,
    transport: str,
    ranks: int,
    slots: int,
    job: str | None,
    command: str,
    cwd: str,
    start_time: float,
) -> RunInfo:
    """The run of the calling process. `job` names the scheduler's job, `start_time` is seconds since the epoch.

    `command` and `cwd` are for people: bytes that are not UTF-8 become text.
    """
    me = this_process()
    command, cwd = escaped(command), escaped(cwd)
    return RunInfo(
        run_id, me.host, me.boot_id, me.pid, me.pid_start, transport, ranks, slots, job, command, cwd, start_time
    )


class Claim(Struct, frozen=True):
    """A submission that could be taken over.

    `holder` is the run that its row names, `owner` that run's lease; None where there is none.
    """

    submission: int
    holder: str | None
    owner: Owner | None
    unfinished: bool
    mark: FeedMark
    """How far its FILE was read."""


class Earlier(Struct, frozen=True):
    """The newest submission of a FILE that runs made before."""

    submission: Submission
    unfinished: bool
    failed: int
    """Final failures, counted up to 100,000."""
    owner: Owner | None


class Taken(Struct, frozen=True):
    """Submissions that are now ours, how far each FILE was read, and their tasks per group."""

    submissions: list[Submission] = []
    marks: list[FeedMark] = []
    pending: dict[int, int] = {}
    failed: dict[int, int] = {}
    withheld: dict[str, list[Task]] = {}
    """Per id of a client that outlives its server: what it was given, which is left as it is."""
    died: bool = False
    """Whether a server that had them died, and did not end."""
    told: list[str] = []
    """What of them cannot be run, and was ended."""


class Store(Protocol):
    """One connection to the place where tasks are kept, used by one thread.

    Every method raises ``Fenced`` when another server took over, ``Transient`` when trying again may help, and
    another ``StoreError`` when it cannot.
    """

    @property
    def refused(self) -> int:
        """How many changes hit no row: older executions, rows that were final, rows unknown."""

    def open(self, create: bool = True) -> None:
        """Connect; make the tables where they are missing and `create` is true."""

    def begin_run(self, run: RunInfo) -> None:
        """Record the run whose lease every later write renews."""

    def forget_run(self) -> None:
        """Undo `begin_run`, before the first record: what was added goes, what was taken is nobody's."""

    def add_submission(self, submission: Submission) -> None:
        """Record a new submission that this run owns."""

    def apply(self, records: Sequence[Record]) -> None:
        """Write the records, in their order, in one transaction."""

    def load(self, group: int, limit: int, again: bool = False) -> tuple[list[Task], bool]:
        """Up to `limit` further pending tasks of `group` by submission and id; True when no more are there now.

        With `again` the reading begins anew.
        """

    def unfit(self) -> list[tuple[Task, str]]:
        """Rows that `load` has met since the last call and that cannot be run: they have failed, and why."""

    def claims(self, like: Submission | None, failed: bool = False) -> list[Claim]:
        """What could be taken: the newest submission of the same work, or all that others left unfinished.

        With `failed` also all that has final failures.
        """

    def earlier(self, like: Submission, same_work: bool) -> Earlier | None:
        """The newest submission of the same work, or else of the same FILE, that a run has made."""

    def take(self, claims: Sequence[Claim], given: Mapping[str, Any] | None = None) -> Taken:
        """Take over those whose owner has not moved since; their dispatched tasks become pending again.

        Those of clients that outlive their server stay as they are. `given` is what is told of how tasks run
        (``how.merged``), and holds for the submissions from now on.
        """

    def retry_failed(self, number: int, new_id: Callable[[], str], most: int) -> int:
        """Give up to `most` final failures of a submission of ours again, as new rows; how many these are."""

    def survey(self, numbers: Sequence[int]) -> Taken:
        """What there is now of submissions of ours that nobody works on yet."""

    def failures(self, number: int) -> Iterator[list[Task]]:
        """The final failures of a submission, by group and id, in pieces."""

    def lines(self, number: int) -> Iterator[list[Task]]:
        """The tasks of a submission as they were submitted, without later attempts, in pieces."""

    def left_alone(self, dead: Callable[[Owner], bool]) -> int:
        """How many tasks (up to 100,000) of nobody, or of an owner that is `dead`, could run."""

    def changed(self) -> bool:
        """Whether somebody else wrote since the last call."""

    def requests(self) -> CancelRequested | TasksChanged | None:
        """What users asked for since the last call, of tasks that are ours; there may be more."""

    def drop_requests(self) -> None:
        """Remove those of the requests so far that have been met, or needed only to be heard."""

    def beat(self) -> None:
        """Renew the lease."""

    def end_run(self, finish: Finish) -> None:
        """Record how the run ended; what it owned is free from then on."""

    def close(self) -> None:
        """Release everything; idempotent."""


def sqlite_store(path: Path) -> Callable[[], Store]:
    """A function that makes the store in the SQLite file `path`; only its call imports SQLAlchemy."""

    def make() -> Store:
        from hypershell.data.engine import Sqlite
        from hypershell.data.sql import SqlStore

        return SqlStore(Sqlite(path))

    return make
