"""Groups of tasks: ascending barriers. Which group runs now, what waits for it, what holds it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from heapq import heappop, heappush

from hypershell.core.clients import Kind
from hypershell.core.model import Task
from hypershell.core.needs import POSIX, Need
from hypershell.core.poison import lane_for

__all__ = ["LATE", "Group", "Groups", "Lane"]

#: The lane of tasks that cannot begin before the allocation ends: no client meets this need.
LATE: Need = ("", None)


class Lane:
    """Ready tasks with the same need, in memory."""

    __slots__ = ("front", "ready")

    def __init__(self) -> None:
        self.ready: deque[Task] = deque()
        self.front: deque[Task] = deque()
        """Tasks that go before `ready`: returned ones, and retries where they are eager."""

    def count(self) -> int:
        return len(self.ready) + len(self.front)

    def take(self) -> Task:
        """The next task to send; the caller knows that there is one."""
        return self.front.popleft() if self.front else self.ready.popleft()

    def place(self) -> tuple[bool, str]:
        """Before which other lane this one is served; the caller knows that there is a task."""
        return (False, self.front[0].id) if self.front else (True, self.ready[0].id)


class Group(Lane):
    """One group of this run; everything unfinished is either in memory, in the store or in flight.

    It is itself the lane of the usual need. `family` of systems is that of the server.
    """

    __slots__ = ("again", "away", "failed", "failures", "family", "fresh", "in_line", "inflight", "lanes", "number",
                 "passed", "stored", "woken")  # fmt: skip

    def __init__(self, number: int, family: str = POSIX) -> None:
        super().__init__()
        self.number = number
        self.family = family
        self.lanes: dict[Need, Lane] = {}
        """Of other needs, from the first task on that has one."""
        self.woken: dict[Need | None, None] = {}
        """Needs whose lanes have got tasks when they had none."""
        self.passed: dict[Need | None, int] = {}
        """Pending rows that were read and left in the store, since nobody here can take them."""
        self.again = False
        """The next reading begins at the beginning."""
        self.stored = 0
        """Pending rows that only the store holds and that have not been read yet."""
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
        count = len(self.ready) + len(self.front)
        return count + sum(lane.count() for lane in self.lanes.values()) if self.lanes else count

    def unfinished(self) -> int:
        left = len(self.ready) + len(self.front) + self.stored + self.inflight + self.away
        if self.lanes or self.passed:
            left += sum(lane.count() for lane in self.lanes.values()) + sum(self.passed.values())
        return left

    def store(self, count: int = 1) -> None:
        self.stored += count
        self.fresh += count

    def lane_of(self, need: Need | None) -> Lane:
        """Where tasks with `need` wait; whoever adds one says so by ``woken``."""
        if need is None:
            return self
        lane = self.lanes.get(need)
        if lane is None:
            lane = self.lanes[need] = Lane()
        return lane

    def add(self, task: Task) -> None:
        """One more ready task, behind the others."""
        self._lane_for(task).ready.append(task)

    def add_front(self, task: Task, first: bool = False) -> None:
        """One more task that goes before the ready ones: the `first` or the last of them."""
        front = self._lane_for(task).front
        if first:
            front.appendleft(task)
        else:
            front.append(task)

    def _lane_for(self, task: Task) -> Lane:
        need = lane_for(task, self.family)
        lane = self.lane_of(need)
        if not lane.count():
            self.woken[need] = None
        return lane

    def all_lanes(self) -> list[tuple[Need | None, Lane]]:
        return [(None, self), *self.lanes.items()]

    def for_kind(self, kind: Kind) -> int:
        """How many ready tasks clients of `kind` can take."""
        count = len(self.ready) + len(self.front) if kind.usual else 0
        if self.lanes:
            count += sum(self.lanes[need].count() for need in kind.needs if need in self.lanes)
        return count

    def take_for(self, kind: Kind) -> Task:
        """The next task for a client of `kind`, which there is: in the order of the input over all it can take."""
        lanes: list[tuple[Need | None, Lane]] = [(None, self)] if kind.usual else []
        lanes += [(need, self.lanes[need]) for need in kind.needs if need in self.lanes]
        need, lane = min((one for one in lanes if one[1].count()), key=lambda one: one[1].place())
        return self._take_of(need, lane)

    def _take_of(self, need: Need | None, lane: Lane) -> Task:
        task = lane.take()
        if need is not None and not lane.count():
            del self.lanes[need]
        return task

    def suspects_for(self, kind: Kind) -> int:
        """How many suspects clients of `kind` can take."""
        if not self.lanes:
            return 0
        return sum(self.lanes[need].count() for need in (*kind.suspects, *kind.trials) if need in self.lanes)

    def suspect_for(self, kind: Kind) -> Need | None:
        """The lane of the next suspect for a client of `kind`: those in least deaths first."""
        for needs in (kind.suspects, kind.trials):
            found = [need for need in needs if need in self.lanes and self.lanes[need].count()]
            if found:
                return min(found, key=lambda need: self.lanes[need].place())
        return None

    def take_suspect(self, need: Need) -> Task:
        """The next task of this lane, in which there is one."""
        return self._take_of(need, self.lanes[need])

    def put_off(self, task: Task) -> None:
        """This task does not begin any more in this run."""
        self.lane_of(LATE).ready.append(task)

    def late(self) -> int:
        """How many tasks in memory are put off."""
        lane = self.lanes.get(LATE)
        return 0 if lane is None else lane.count()

    def take_out(self, chosen: Callable[[Task], bool]) -> list[Task]:
        """Take out the ready tasks that are `chosen`."""
        gone: list[Task] = []
        for _, lane in self.all_lanes():
            for queue in (lane.front, lane.ready):
                found = [task for task in queue if chosen(task)]
                if found:
                    gone += found
                    kept = [task for task in queue if not chosen(task)]
                    queue.clear()
                    queue.extend(kept)
        return gone

    def revise(self, told: Mapping[str, Task], make: Callable[[Task, Task], Task]) -> None:
        """Put another task, made of the old one and what is told of it, in the place of each that is ready."""
        moved: list[tuple[bool, Task]] = []
        for need, lane in self.all_lanes():
            for queue in (lane.front, lane.ready):
                if not any(task.id in told for task in queue):
                    continue
                stay: list[Task] = []
                for task in queue:
                    if task.id in told:
                        task = make(task, told[task.id])
                        if lane_for(task, self.family) != need:
                            moved.append((queue is lane.front, task))
                            continue
                    stay.append(task)
                queue.clear()
                queue.extend(stay)
        for in_front, task in moved:
            self.add_front(task) if in_front else self.add(task)

    def fail(self, task_id: str) -> None:
        self.failed += 1
        if len(self.failures) < 5:
            self.failures.append(task_id)


class Groups:
    """All groups of a run and the rule that says which one is current. No step grows with the number of groups."""

    def __init__(self, family: str = POSIX) -> None:
        self._family = family
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
            group = self._groups[number] = Group(number, self._family)
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
