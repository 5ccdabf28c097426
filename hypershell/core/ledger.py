"""The state of a run, and the order in which its changes become durable and its messages leave.

The lowest layer of the scheduler (``Ledger``, ``Release``, ``Intake``, ``Scheduler``): what is to be written goes
into one Record per event, and what may leave only after that Record is durable waits in the outbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.bundles import BundleSizer
from hypershell.core.clients import Client, Clients
from hypershell.core.groups import Group, Groups
from hypershell.core.model import CANCELLED_BY_USER, FeedMark, Result, Special, Task
from hypershell.core.plan import Ramp
from hypershell.core.policy import Counts, Policy
from hypershell.core.states import CANCELLED
from hypershell.core.walltime import Durations, Walltime

__all__ = ["Ledger"]

#: Cancelled tasks that are remembered until the store tells of them; beyond it the oldest is forgotten.
_MOST_CANCELLED = 10_000


class Ledger:
    """All that a run knows. Parameters: see ``Scheduler``."""

    def __init__(self, policy: Policy, new_id: Callable[[], str], epoch: float = 0.0) -> None:
        self.policy = policy
        self.counts = Counts()
        self.epoch = epoch
        self._new_id = new_id
        self._sizer = BundleSizer(policy.bundlesize)
        self._groups = Groups(policy.family)
        self._clients = Clients(policy.family)
        self._ramp = Ramp(policy)
        self._known: set[str] = set()
        self._settled: set[str] = set()
        self._cautious = False
        """An earlier server died with its tasks: dispatches are durable before they are sent."""
        self._urgent = False
        """Whether what happens in this call is to be durable soon, although nobody waits for it."""
        self._cancelling: dict[str, bool] = {}
        """Dispatched tasks that the user cancelled; whether the store has the last word on them already."""
        self._cancelled_here: dict[str, bool] = {}
        """The last tasks that were cancelled here, and not yet by the store too."""
        self._ran_as: dict[str, str] = {}
        """Tasks that were sent and whose line the user changed since: what they were sent as the last time."""
        self._risen: set[str] = set()
        """Tasks whose deaths became fewer, since a client that was taken for dead came back: rows may have more."""
        self._loading = False
        self._seq = 0
        self._durable = 0
        self._asked = 0
        """The last Record whose commit was asked for."""
        self._outbox: deque[tuple[int, act.SendTasks]] = deque()
        self._unsaid: deque[tuple[int, int, int]] = deque()
        """Acknowledgements that wait for a Record: its number, the client, the count of its messages."""
        self._withheld: dict[str, dict[str, Task]] = {}
        """Tasks of clients that may come back: id of the client -> id of the task -> task."""
        self._reclaims: deque[tuple[float, list[str]]] = deque()
        """Until when, and of which clients."""
        self._record: act.Record | None = None
        self._out: list[act.Action] = []
        self._feeds = int(policy.feed)
        self._queued = False
        """Whether clients may have more tasks than they can run."""
        self._recalled = 0
        """How many tasks were taken back from queues for others and wait for a slot."""
        self._paused = False
        self._stopping: str | None = None
        self._durations = Durations()
        self._walltime: Walltime | None = None
        """The end of the allocation, where it is known."""
        self._limits: dict[int, float] = {}
        """Time limits of the tasks of submissions, where they have one."""
        self._interrupt_at: float | None = None
        self._interrupted = False
        self._store_failed = False
        self._stalled = False
        self._blocked: Group | None = None
        self._seen: set[int] = set()
        """Clients that joined or were lost."""
        self._told_needs: set[str] = set()
        """Needs of which it was said that nobody here meets them."""
        self._finished = False
        self._wall = 0.0

    def inflight(self) -> int:
        """Executions that clients have in hand."""
        current = self._groups.current
        count = current.inflight if current is not None else 0
        if self._groups.early:
            count += sum(group.inflight for group in self._groups.early.values() if group is not current)
        return count

    def _changes(self) -> act.Record:
        """The Record of this call; made at the first change."""
        if self._record is None:
            self._seq += 1
            self._record = act.Record(self._seq)
        return self._record

    def _emit_record(self) -> None:
        """The Record goes out before what this call sends, or is kept before it where dispatch is durable."""
        record = self._record
        if record is None:
            return
        self._record = None
        self._out.insert(0, record)

    def _hurry(self) -> None:
        """Something waits for the last Record; the writer need not be told twice of the same one."""
        if self._asked < self._seq:
            self._asked = self._seq
            self._out.append(act.Commit())

    def _durable_reached(self, event: ev.Durable, now: float) -> None:
        self._durable = max(self._durable, event.seq)
        while self._outbox and self._outbox[0][0] <= self._durable:
            self._out.append(self._outbox.popleft()[1])
        self._say_durable()

    def _acknowledge(self, client: Client) -> None:
        """One more message with results came from `client`: tell it when all that followed from it is durable."""
        client.heard += 1
        self._unsaid.append((self._seq, client.number, client.heard))
        self._say_durable()

    def _say_durable(self) -> None:
        counts: dict[int, int] = {}
        while self._unsaid and self._unsaid[0][0] <= self._durable:
            _, number, count = self._unsaid.popleft()
            counts[number] = count
        here = [number for number in counts if self._clients.get(number) is not None]
        self._out += [act.Acknowledge(number, counts[number]) for number in here]

    def _limit(self, task: Task) -> float | None:
        """The smaller of the time limits of a task and of its submission."""
        general = self._limits.get(task.submission)
        return min(task.timeout or general, general) if general else task.timeout

    def _mark(self, mark: FeedMark | None) -> None:
        if mark is not None:
            self._changes().mark = mark

    def _forget(self, task: Task) -> None:
        """The task is in memory no longer; a page that is on its way may still show it."""
        self._known.discard(task.id)
        self._ran_as.pop(task.id, None)
        self._risen.discard(task.id)
        if self._loading:
            self._settled.add(task.id)

    def _cancelled(self, client: int, task: Task, result: Result | None = None) -> None:
        """The task ends as cancelled; without a result it never ran, or what it did is not known."""
        self._forget(task)
        self.counts.cancelled += 1
        self._cancelled_here[task.id] = True
        if len(self._cancelled_here) > _MOST_CANCELLED:
            del self._cancelled_here[next(iter(self._cancelled_here))]
        wall = self._wall
        if result is None:
            result = Result(task.id, task.execution, Special.CANCELLED, wall, wall, error=CANCELLED_BY_USER)
        ended = act.Finished(client, CANCELLED, task.schedule_time or wall, result, None, task)
        self._changes().finished.append(ended)

    def _take_back(self, client: int, tasks: list[Task]) -> None:
        """What `client` was given is ready again, except what the user cancelled meanwhile."""
        record = self._changes()
        if self._cancelling:
            gone = [task for task in tasks if self._cancelling.pop(task.id, None) is not None]
            for task in gone:
                self._groups.get(task.group).inflight -= 1
                self._cancelled(client, task)
            tasks = [task for task in tasks if task.id in self._known]
        for task in reversed(tasks):
            group = self._groups.get(task.group)
            group.inflight -= 1
            group.add_front(task, first=True)
        record.returned.extend(act.Return(task.id, task.execution, self._deaths(task)) for task in tasks)

    def _deaths(self, task: Task) -> int | None:
        """What is to be written of its deaths; None: what the row has is right."""
        return task.deaths or (0 if task.id in self._risen else None)
