"""A store that forgets, when its server is killed, what it has not committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from msgspec.structs import replace

from hypershell.core.actions import LoadMore, Record
from hypershell.core.events import Durable, Event, StoreFailed, TasksLoaded, WorkFound
from hypershell.core.model import FeedMark, Special, Task
from tests.sim.clock import Clock
from tests.sim.plan import Faults

__all__ = ["Disk", "Row", "Session"]


@dataclass(slots=True)
class Row:
    """The committed state of one task; `task` is as it was submitted, its execution is of no meaning here."""

    task: Task
    state: str = "pending"
    execution: int = 0
    client: int | None = None
    status: int | None = None
    next_id: str | None = None
    deaths: int = 0
    settled: bool = False
    """A user cancelled it while it was pending: no change of a server counts any more."""

    def pending(self) -> Task:
        """The task as a store gives it: a copy with its execution."""
        task = self.task
        return Task(task.id, task.args, task.submission, self.execution, task.attempt, task.group,
                    timeout=task.timeout, previous_id=task.previous_id, tag=task.tag,
                    deaths=self.deaths)  # fmt: skip


class Disk:
    """What survives. Changes that hit no row are noted in `wrong`: with one server there are none."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.mark: FeedMark | None = None
        self.requests: set[str] = set()
        """Tasks that a user wants stopped by the server that gave them out."""
        self.wrong: list[str] = []
        self.outliving: dict[int, str] = {}
        """Clients that go on without their server: number -> id."""

    def take_over(self) -> WorkFound:
        """What a new server finds. What was in flight is pending, except with clients that may come back."""
        pending: dict[int, int] = {}
        failed: dict[int, int] = {}
        withheld: dict[str, list[Task]] = {}
        out = [row for key, row in self.rows.items() if row.state == "dispatched" and key not in self.requests]
        died = [row for row in out if row.client not in self.outliving]
        alone = sum(row.deaths >= 2 for row in died) == 1
        for row in died:
            row.deaths += row.deaths < 2 or alone
        for key, row in self.rows.items():
            if key in self.requests and row.state in ("pending", "dispatched"):
                row.state, row.status = "cancelled", Special.CANCELLED
            if row.state == "dispatched" and row.client in self.outliving:
                withheld.setdefault(self.outliving[row.client], []).append(row.pending())
            elif row.state == "dispatched":
                row.state = "pending"
                row.execution += 1
            group = row.task.group
            if row.state == "pending":
                pending[group] = pending.get(group, 0) + 1
            elif row.state == "failed" and row.next_id is None:
                failed[group] = failed.get(group, 0) + 1
        return WorkFound(pending, failed, withheld, died=bool(died))

    def cancel(self, key: str) -> bool:
        """What a user's command does; whether that settles it."""
        row = self.rows[key]
        if row.state == "pending":
            row.state, row.status, row.settled = "cancelled", Special.CANCELLED, True
        else:
            self.requests.add(key)
        return row.settled

    def change(self, key: str) -> int:
        """Another thing that a user's command does: a tag counts up; its new value."""
        row = self.rows[key]
        tag = dict(row.task.tag or {})
        tag["version"] = version = int(tag.get("version") or 0) + 1
        row.task = replace(row.task, tag=tag)
        return version

    def apply(self, record: Record) -> None:
        """One record, its changes in the order of time: ended and returned executions, then new dispatches."""
        rows = self.rows
        self.outliving.update((c.client, c.info.id) for c in record.clients if c.info.outlives)
        for task in record.inserted:
            if task.id in rows:
                self.wrong.append(f"task {task.id} is inserted twice")
            rows[task.id] = Row(task)
        for returned in record.returned:
            before = ("dispatched",) if returned.deaths is None else ("pending", "dispatched")
            row = self._row(returned.id, before, returned.execution)
            if row is not None:
                row.state, row.client = "pending", None
                row.deaths = row.deaths if returned.deaths is None else returned.deaths
        for finished in record.finished:
            before = ("pending", "dispatched") if finished.client < 0 else ("dispatched",)
            row = self._row(finished.result.id, before, finished.result.execution)
            if row is not None:
                row.state, row.status, row.next_id = finished.state, finished.result.exit_status, finished.next_id
                if finished.next_id is not None and finished.next_id not in rows:
                    self.wrong.append(f"the retry {finished.next_id} is not inserted with the end of its task")
        for dispatch in record.dispatched:
            known = rows.get(dispatch.id)
            again = known is not None and known.execution == dispatch.execution
            before = ("pending", "dispatched") if again else ("pending",)
            row = self._row(dispatch.id, before, dispatch.execution - (not again))
            if row is not None:
                row.state, row.execution, row.client = "dispatched", dispatch.execution, dispatch.client
                row.deaths = row.deaths if dispatch.deaths is None else dispatch.deaths
        if record.mark is not None:
            self.mark = record.mark

    def _row(self, key: str, states: tuple[str, ...], execution: int) -> Row | None:
        row = self.rows.get(key)
        if row is not None and row.settled:
            return None
        if row is None or row.state not in states or row.execution != execution:
            self.wrong.append(f"a change of {key} in execution {execution}, {states}, hits no row: {row}")
            return None
        return row


class Session:
    """One server's use of the disk: a queue, commits after a random while, the answers in order."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        random: Random,
        pace: float,
        faults: Faults | None,
        answer: Callable[[Event], None],
        committed: Callable[[list[Record]], None],
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._random = random
        self._pace = pace
        self._faults = faults
        self._answer = answer
        self._committed = committed
        self._queue: deque[Record | LoadMore] = deque()
        self._planned = True
        self.dead = False
        self._unread: dict[int, deque[str]] = {}
        for key in sorted(disk.rows):
            row = disk.rows[key]
            if row.state == "pending":
                self._unread.setdefault(row.task.group, deque()).append(key)

    def open(self) -> None:
        """Nothing is written before this."""
        self._planned = False
        if self._queue:
            self._plan(0.0)

    def put(self, item: Record | LoadMore) -> None:
        self._queue.append(item)
        self._plan(self._pace * self._random.random())

    def _plan(self, delay: float) -> None:
        if not self._planned:
            self._planned = True
            self._clock.after(delay, self._commit)

    def _commit(self) -> None:
        self._planned = False
        if self.dead:
            return
        random, faults = self._random, self._faults
        if faults is not None and random.random() < faults.disk_fatal:
            self.dead = True
            self._answer(StoreFailed("the disk is gone"))
            return
        if faults is not None and random.random() < faults.disk_error:
            self._plan(1.0)
            return
        self._write(len(self._queue) if random.random() < 0.7 else random.randint(1, len(self._queue)))
        if self._queue:
            self._plan(self._pace * random.random())

    def _write(self, count: int) -> None:
        """Commit the first `count` items of the queue; a question is answered from what is then committed."""
        items = [self._queue.popleft() for _ in range(count)]
        records = [item for item in items if isinstance(item, Record)]
        for record in records:
            self._disk.apply(record)
            for task in record.inserted:
                self._unread.setdefault(task.group, deque()).append(task.id)
        if records:
            self._committed(records)
            self._answer(Durable(records[-1].seq))
        for item in items:
            if isinstance(item, LoadMore) and not self.dead:
                self._answer(self._load(item))

    def _load(self, wanted: LoadMore) -> TasksLoaded:
        """Further pending rows, as they are: copies, among them some that the server has in memory."""
        if wanted.again:
            rows = self._disk.rows
            self._unread[wanted.group] = deque(key for key in sorted(rows) if rows[key].task.group == wanted.group)
        unread = self._unread.get(wanted.group, deque())
        tasks: list[Task] = []
        while unread and len(tasks) < wanted.limit:
            row = self._disk.rows[unread.popleft()]
            if row.state == "pending":
                tasks.append(row.pending())
        return TasksLoaded(wanted.group, tasks, not unread)
