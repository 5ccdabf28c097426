"""Groups of tasks: ascending barriers. Which group runs now, what waits for it, what holds it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from heapq import heappop, heappush

from hypershell.core.model import Task

__all__ = ["Group", "Groups"]


class Group:
    """One group of this run; everything unfinished is either in memory, in the store or in flight."""

    __slots__ = ("failed", "failures", "fresh", "front", "in_line", "inflight", "number", "ready", "stored")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ready: deque[Task] = deque()
        self.front: deque[Task] = deque()
        """Tasks that go before `ready`: returned ones, and retries where they are eager."""
        self.stored = 0
        """Pending rows that only the store holds."""
        self.fresh = 0
        """Of `stored`, those added since the last ``LoadMore``, which its answer may not show."""
        self.inflight = 0
        self.failed = 0
        self.failures: list[str] = []
        """The first few ids of final failures, to name them."""
        self.in_line = False
        """Whether it stands in the line of ``Groups``."""

    def in_memory(self) -> int:
        return len(self.ready) + len(self.front)

    def unfinished(self) -> int:
        return len(self.ready) + len(self.front) + self.stored + self.inflight

    def store(self, count: int = 1) -> None:
        self.stored += count
        self.fresh += count

    def take(self) -> Task:
        """The next task to send; the caller knows that there is one."""
        return self.front.popleft() if self.front else self.ready.popleft()

    def withdraw(self, wanted: Set[str]) -> list[Task]:
        """Take those of `wanted` out that are ready; they are none of this group any more."""
        gone: list[Task] = []
        for queue in (self.front, self.ready):
            found = [task for task in queue if task.id in wanted]
            if found:
                gone += found
                kept = [task for task in queue if task.id not in wanted]
                queue.clear()
                queue.extend(kept)
        return gone

    def revise(self, told: Mapping[str, Task], make: Callable[[Task, Task], Task]) -> None:
        """Put another task, made of the old one and what is told of it, in the place of each that is ready."""
        for queue in (self.front, self.ready):
            if any(task.id in told for task in queue):
                revised = [make(task, told[task.id]) if task.id in told else task for task in queue]
                queue.clear()
                queue.extend(revised)

    def fail(self, task_id: str) -> None:
        self.failed += 1
        if len(self.failures) < 5:
            self.failures.append(task_id)


class Groups:
    """All groups of a run and the rule that says which one is current. No step grows with the number of groups."""

    def __init__(self) -> None:
        self._groups: dict[int, Group] = {}
        self._line: list[int] = []
        """A heap of the numbers of all groups with work except the current one, and of some that have none."""
        self._failed: Group | None = None
        self.current: Group | None = None

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def get(self, number: int) -> Group:
        group = self._groups.get(number)
        if group is None:
            group = self._groups[number] = Group(number)
        return group

    def store(self, group: Group, count: int = 1) -> None:
        """The store holds `count` more tasks of `group`, current or not."""
        group.store(count)
        if not group.in_line:
            group.in_line = True
            heappush(self._line, group.number)

    def fail(self, group: Group, task_id: str) -> None:
        """A task of `group` failed for good."""
        group.fail(task_id)
        self._note_failed(group)

    def failed_before(self, group: Group, count: int) -> None:
        """So many tasks of `group` failed for good in an earlier run."""
        if count:
            group.failed += count
            self._note_failed(group)

    def unfinished(self) -> int:
        return sum(group.unfinished() for group in self._groups.values())

    def waiting(self) -> Group | None:
        """The lowest group that has work, other than the current one."""
        line = self._line
        while line:
            group = self._groups[line[0]]
            if group is not self.current and group.unfinished():
                return group
            heappop(line)
            group.in_line = False
        return None

    def holder(self, number: int) -> Group | None:
        """The lowest group below `number` with a final failure: it holds `number` back."""
        failed = self._failed
        return failed if failed is not None and failed.number < number else None

    def _note_failed(self, group: Group) -> None:
        if self._failed is None or group.number < self._failed.number:
            self._failed = group
