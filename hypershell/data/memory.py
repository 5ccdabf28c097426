"""The store of ``--no-db``: unfinished tasks in this process, final ones only counted; and its writer.

The same interface as the store in a database, without its promises: what is in memory dies with the process.
Imports neither SQLAlchemy nor ``sqlite3``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from hypershell.core.actions import Dispatch, Finish, Finished, LoadMore, Record
from hypershell.core.events import CancelRequested, Durable, StoreFailed, TasksChanged, TasksLoaded
from hypershell.core.model import Submission, Task
from hypershell.core.states import DISPATCHED, PENDING
from hypershell.data.batch import Batch, Change, execution_of
from hypershell.data.lease import Owner
from hypershell.data.notices import Notice, Opened, Plan, Ready
from hypershell.data.store import Claim, Earlier, Refused, RunInfo, Taken
from hypershell.errors import HyperShellError, StoreError

__all__ = ["MemoryStore", "MemoryWriter"]


class _Row:
    """What is known of an unfinished task."""

    __slots__ = ("deaths", "execution", "state", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.state = PENDING
        self.execution = 0
        self.deaths = task.deaths

    def pending(self) -> Task:
        """The task as a store in a database would return it."""
        task = self.task
        same = task.execution == self.execution and task.deaths == self.deaths
        return task if same else replace(task, execution=self.execution, deaths=self.deaths)


class MemoryStore:
    """See ``store.Store``. With `keep` the final changes are kept too, for whoever wants to look at them."""

    def __init__(self, keep: bool = False) -> None:
        self.refused = 0
        self.finished: dict[str, tuple[Task, Finished]] = {}
        self._keep = keep
        self._rows: dict[str, _Row] = {}
        #: group -> submission -> ids in the order of their insertion
        self._waiting: dict[int, dict[int, deque[str]]] = {}

    def open(self, create: bool = True) -> None:
        pass

    def begin_run(self, run: RunInfo) -> None:
        pass

    def forget_run(self) -> None:
        pass

    def add_submission(self, submission: Submission) -> None:
        pass

    def apply(self, records: Sequence[Record]) -> None:
        batch = Batch(records)
        rows = self._rows
        for task in batch.inserted.values():
            if task.id not in rows and task.id not in self.finished:
                rows[task.id] = _Row(task)
                self._waiting.setdefault(task.group, {}).setdefault(task.submission, deque()).append(task.id)
        self.refused += batch.refused
        for key, change in batch.changes.items():
            self._change(key, change)

    def unfit(self) -> list[tuple[Task, str]]:
        return []

    def load(self, group: int, limit: int, again: bool = False) -> tuple[list[Task], bool]:
        if again:
            fresh: dict[int, deque[str]] = {}
            for key, known in self._rows.items():
                if known.task.group == group:
                    fresh.setdefault(known.task.submission, deque()).append(key)
            self._waiting[group] = fresh
        queues = self._waiting.get(group, {})
        found: list[Task] = []
        for number in sorted(queues):
            queue = queues[number]
            while queue and len(found) < limit:
                row = self._rows.get(queue.popleft())
                if row is not None and row.state == PENDING:
                    found.append(row.pending())
        return found, not any(queues.values())

    def claims(self, like: Submission | None, failed: bool = False) -> list[Claim]:
        return []

    def earlier(self, like: Submission, same_work: bool) -> Earlier | None:
        return None

    def take(self, claims: Sequence[Claim], given: Mapping[str, Any] | None = None) -> Taken:
        return Taken()

    def retry_failed(self, number: int, new_id: Callable[[], str], most: int) -> int:
        return 0

    def survey(self, numbers: Sequence[int]) -> Taken:
        return Taken()

    def failures(self, number: int) -> Iterator[list[Task]]:
        return iter(())

    def lines(self, number: int) -> Iterator[list[Task]]:
        return iter(())

    def left_alone(self, dead: Callable[[Owner], bool]) -> int:
        return 0

    def changed(self) -> bool:
        return False

    def requests(self) -> CancelRequested | TasksChanged | None:
        return None

    def drop_requests(self) -> None:
        pass

    def beat(self) -> None:
        pass

    def end_run(self, finish: Finish) -> None:
        pass

    def close(self) -> None:
        self._rows.clear()
        self._waiting.clear()

    def _change(self, key: str, change: Change) -> None:
        row = self._rows.get(key)
        if row is None or execution_of(change) < row.execution:
            self.refused += 1
            return
        row.execution = execution_of(change)
        if isinstance(change, Finished):
            del self._rows[key]
            if self._keep:
                self.finished[key] = (row.task, change)
        else:
            row.state = DISPATCHED if isinstance(change, Dispatch) else PENDING
            if change.deaths is not None:
                row.deaths = change.deaths


class MemoryWriter:
    """The surface of ``writer.Writer`` over a `MemoryStore`: every call is done at once, in the caller's thread.

    So `wake` is called at the start and the end only: whoever submits finds the answer in the next `poll`.
    """

    backlog = 0
    full = False
    behind = False

    def __init__(self, run: RunInfo, plan: Plan, wake: Callable[[], None]) -> None:
        self.ended = False
        self.error: StoreError | None = None
        self._plan = plan
        self._wake = wake
        self._store = MemoryStore()
        self._outbox: deque[Notice] = deque()

    def start(self) -> None:
        submissions = [self._plan.submission] if self._plan.submission else []
        self._outbox += (Ready(), Opened(0, None, submissions))
        self._wake()

    def accept(self) -> None:
        pass

    def refuse(self, error: HyperShellError) -> None:
        self.error = Refused(str(error))
        self._outbox.append(StoreFailed(str(error)))

    def own(self, submission: Submission) -> None:
        pass

    def submit(self, record: Record) -> None:
        self._store.apply([record])
        self._outbox.append(Durable(record.seq))

    def hurry(self) -> None:
        pass

    def load(self, wanted: LoadMore) -> None:
        tasks, exhausted = self._store.load(wanted.group, wanted.limit, wanted.again)
        self._outbox.append(TasksLoaded(wanted.group, tasks, exhausted))

    def poll(self) -> list[Notice]:
        taken = list(self._outbox)
        self._outbox.clear()
        return taken

    def finish(self, finish: Finish) -> None:
        self._store.close()
        self.ended = True
        self._wake()

    def join(self, timeout: float | None = None) -> bool:
        return self.ended
