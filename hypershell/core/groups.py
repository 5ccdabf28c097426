"""Groups of tasks: ascending barriers. Which group runs now, what waits for it, what holds it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from hypershell.core.model import Task

__all__ = ["Group", "Groups"]


class Group:
    """One group of this run; everything unfinished is either in memory, in the store or in flight."""

    __slots__ = ("away", "failed", "failures", "fresh", "front", "in_line", "inflight", "number", "ready", "stored")

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
        self.away = 0
        """Tasks with clients that may come back."""
        self.failed = 0
        self.failures: list[str] = []
        """The first few ids of final failures, to name them."""
        self.in_line = False
        """Whether it stands in the line of ``Groups``."""

    def in_memory(self) -> int:
        return len(self.ready) + len(self.front)

    def unfinished(self) -> int:
        return len(self.ready) + len(self.front) + self.stored + self.inflight + self.away

    def store(self, count: int = 1) -> None:
        self.stored += count
        self.fresh += count

    def take(self) -> Task:
        """The next task to send; the caller knows that there is one."""
        return self.front.popleft() if self.front else self.ready.popleft()

    def take_out(self, chosen: Callable[[Task], bool]) -> list[Task]:
        """Take out the ready tasks that are `chosen`."""
        gone: list[Task] = []
        for queue in (self.front, self.ready):
            found = [task for task in queue if chosen(task)]
            if found:
                gone += found
                kept = [task for task in queue if not chosen(task)]
                queue.clear()
                queue.extend(kept)
        return gone

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
        self.early: dict[int, Group] = {}
        """Groups of which clients had tasks when this run began; their turn may not have come yet."""

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
        self.queue(group)

    def queue(self, group: Group) -> None:
        """`group` has work, current or not."""
        if not group.in_line:
            group.in_line = True
            heappush(self._line, group.number)

    def in_hand(self) -> list[Group]:
        """The groups that may have ready tasks in memory: the current one, and of the early ones some."""
        current = self.current
        early = [group for group in self.early.values() if group is not current and group.in_memory()]
        return early if current is None else [current, *early]

    def out_of_turn(self) -> bool:
        """Whether clients have tasks of groups other than the current one, or may come back with some."""
        return any((g.inflight or g.away) and g is not self.current for g in self.early.values())

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
