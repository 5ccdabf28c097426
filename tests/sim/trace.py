"""A scheduler whose events and actions read as short lines of text, for tests that tell a story."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from msgspec.structs import replace

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.checks import check
from hypershell.core.model import CANCELLED_BY_USER, ClientInfo, FeedMark, Result, Scalar, Task
from hypershell.core.scheduler import Policy, Scheduler

__all__ = ["Run", "running", "task"]


def task(name: str, group: int = 0, **rest: object) -> Task:
    """A task named `name`; its line is the name too."""
    return Task(name, name, 1, group=group, **rest)  # type: ignore[arg-type]


#: What is said of groups behind a failed one.
HELD = "later groups are held back (--restart --retry-failed tries the failed tasks again)"


class Run:
    """One scheduler. Each method tells it one fact and gives what it wants done, an action per line.

    ``a.2>1`` is execution 2 of task a, given to client 1. Retries are named r1, r2, ... A wish to commit is no
    line: ``asked`` holds the number of the last Record at each. After every fact the rules of ``core.checks`` must
    hold.
    """

    def __init__(self, **policy: object) -> None:
        numbers = count(1)
        self.scheduler = Scheduler(Policy(**policy), lambda: f"r{next(numbers)}", epoch=1000.0)  # type: ignore[arg-type]
        self.now = 0.0
        self.executions: dict[str, int] = {}
        self.inserted: dict[str, Task] = {}
        self.sent: dict[str, Task] = {}
        """What was sent last of each task."""
        self.deaths: dict[str, int] = {}
        """The count that each row has, where one was written."""
        self.last_seq = 0
        self.asked: list[int] = []

    # -- facts -------------------------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> list[str]:
        lines = []
        for action in self.scheduler.handle(event, self.now):
            if isinstance(action, act.Commit):
                self.asked.append(self.last_seq)
            else:
                lines.append(self._line(action))
        assert check(self.scheduler) == []
        return lines

    def submit(
        self, names: str, group: int = 0, mark: FeedMark | None = None, tag: dict[str, Scalar] | None = None
    ) -> list[str]:
        return self.tell(ev.TasksSubmitted([task(name, group, tag=tag) for name in names.split()], mark))

    def feed_ended(self, mark: FeedMark | None = None) -> list[str]:
        return self.tell(ev.FeedEnded(mark))

    def join(self, client: int, slots: int = 1, holds: Sequence[tuple[str, int]] = (), **info: object) -> list[str]:
        """`holds` is what it has in hand, `info` are further fields of ``ClientInfo``."""
        known = ClientInfo(f"c{client}", "host", client, slots, "0", "linux")
        return self.tell(ev.ClientJoined(client, replace(known, **info), list(holds)))

    def lose(self, client: int, reason: str = "silence", outside: bool = False) -> list[str]:
        return self.tell(ev.ClientLost(client, reason, outside))

    def leave(self, client: int) -> list[str]:
        return self.tell(ev.ClientLeft(client))

    def end(self, client: int, names: str, status: int = 0, seconds: float = 60.0) -> list[str]:
        """Executions end: ``"a b"`` the newest ones, ``"a.1"`` a certain one."""
        results = [Result(*self._execution(name), status, 1000.0, 1000.0 + seconds) for name in names.split()]
        return self.tell(ev.ResultsReceived(client, results))

    def give_back(self, client: int, names: str, leaving: bool = False) -> list[str]:
        return self.tell(ev.ResultsReceived(client, [], [self._execution(name) for name in names.split()], leaving))

    def cancel(self, names: str, settled: str = "") -> list[str]:
        """The user wants tasks stopped; of those in `settled` the store has the last word."""
        return self.tell(ev.CancelRequested([*names.split(), *settled.split()], settled.split()))

    def change(self, *tasks: Task) -> list[str]:
        """The user changed tasks: what their rows say now."""
        return self.tell(ev.TasksChanged(list(tasks)))

    def stopped(self, client: int, names: str, status: int = -2) -> list[str]:
        """What a client says of tasks that it stopped because it was told to."""
        keys = [self._execution(name) for name in names.split()]
        results = [Result(*key, status, 1000.0, 1001.0, error=CANCELLED_BY_USER) for key in keys]
        return self.tell(ev.ResultsReceived(client, results))

    def load(self, tasks: Sequence[Task], exhausted: bool = True, group: int = 0) -> list[str]:
        return self.tell(ev.TasksLoaded(group, list(tasks), exhausted))

    def durable(self, seq: int | None = None) -> list[str]:
        return self.tell(ev.Durable(self.last_seq if seq is None else seq))

    def drain(self, limit: float | None = None) -> list[str]:
        return self.tell(ev.DrainRequested("drained", limit))

    def pause(self, seconds: float) -> list[str]:
        """Time goes by, and the scheduler is woken whenever it wanted to be."""
        lines: list[str] = []
        end = self.now + seconds
        while (due := self.scheduler.deadline()) is not None and due <= end:
            assert due >= self.now
            self.now = due
            lines += self.tell(ev.TimePassed())
        self.now = end
        return lines

    def interrupt(self) -> list[str]:
        return self.tell(ev.InterruptRequested())

    # -- words -------------------------------------------------------------------------------------------

    def _execution(self, name: str) -> tuple[str, int]:
        key, _, number = name.partition(".")
        return key, int(number) if number else self.executions[key]

    def _line(self, action: act.Action) -> str:
        if isinstance(action, act.Record):
            return self._record(action)
        if isinstance(action, act.SendTasks):
            self.sent.update((one.id, one) for one in action.tasks)
            return f"send {action.client}: " + " ".join(f"{t.id}.{t.execution}" for t in action.tasks)
        if isinstance(action, act.CancelTasks):
            return f"cancel {action.client}: " + " ".join(f"{key}.{number}" for key, number in action.tasks)
        if isinstance(action, act.RecallTasks):
            return f"recall {action.client}: " + " ".join(f"{key}.{number}" for key, number in action.tasks)
        if isinstance(action, act.Acknowledge):
            return f"kept {action.client}: {action.count}"
        if isinstance(action, act.LoadMore):
            return f"load group {action.group}, {action.limit}" + (", again" if action.again else "")
        if isinstance(action, act.Note):
            return f"{action.level}: {action.text}"
        if isinstance(action, act.Finish):
            counts = f"{action.succeeded} good, {action.failed} bad, {action.held} held, {action.unfinished} left"
            cancelled = f", {action.cancelled} cancelled" if action.cancelled else ""
            return f"finish {action.reason}: {counts}{cancelled}"
        clients = getattr(action, "clients", None)
        name = {"DrainClients": "drain", "InterruptClients": "interrupt", "DismissClients": "dismiss",
                "PauseFeed": "pause", "ResumeFeed": "resume"}[type(action).__name__]  # fmt: skip
        grace = getattr(action, "grace", None)
        return name if clients is None else f"{name} {clients}" + ("" if grace is None else f" by {grace:g} s")

    def _record(self, record: act.Record) -> str:
        self.last_seq = record.seq
        self.inserted.update((one.id, one) for one in record.inserted)
        self.executions.update((one.id, one.execution) for one in record.dispatched)
        moved = [*record.returned, *record.dispatched]
        self.deaths.update((one.id, one.deaths) for one in moved if one.deaths is not None)
        parts: list[str] = []
        if record.inserted:
            parts.append("insert " + " ".join(one.id for one in record.inserted))
        parts += [f"client {c.client} {c.left or 'joined'}" for c in record.clients]
        for ended in record.finished:
            again = "" if ended.next_id is None else f" -> {ended.next_id}"
            parts.append(f"{ended.result.id}.{ended.result.execution} {ended.state}{again}")
        parts += [f"{one.id}.{one.execution} back" for one in record.returned]
        if record.dispatched:
            parts.append("dispatch " + " ".join(f"{d.id}.{d.execution}>{d.client}" for d in record.dispatched))
        if record.mark is not None:
            parts.append(f"mark {record.mark.lines}{' complete' if record.mark.complete else ''}")
        return f"record {record.seq}: " + ", ".join(parts)


def running(names: str = "a b c", slots: int = 2, **policy: object) -> Run:
    """A run with one client that has its first tasks, the feed still open."""
    run = Run(**policy)
    run.join(1, slots)
    run.submit(names)
    return run
