"""What does the core cost per event and per task, and does that grow with the number of clients?

The real scheduler, nothing else: clients answer each task with one message that carries one result (the dearest
way), as they would with tasks of some length. Then the same with bundles of short tasks, and with one group per ten
tasks. Seven rounds each, the median and its spread. Usage: python benchmarks/core_rate.py [TASKS_PER_CLIENT]
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from report import report  # noqa: E402

from hypershell.core.actions import LoadMore, Record, SendTasks  # noqa: E402
from hypershell.core.events import (  # noqa: E402
    ClientJoined,
    Durable,
    Event,
    FeedEnded,
    ResultsReceived,
    TasksLoaded,
    TasksSubmitted,
)
from hypershell.core.model import ClientInfo, Result, Task  # noqa: E402
from hypershell.core.scheduler import Policy, Scheduler  # noqa: E402
from hypershell.ids import IdSource  # noqa: E402

BAR, GOAL = 20.0, 8.0
#: The dearest size may cost so much more than the cheapest one.
FLAT_BAR, FLAT_GOAL = 2.0, 1.5
ROUNDS = 7
LEAST_TASKS = 20_000
BATCH = 2000


class Cost(NamedTuple):
    events: int
    tasks: int
    seconds: float
    """Inside ``handle``, all events."""
    result_events: int
    result_seconds: float


class Load:
    """Feeds a scheduler and answers for its clients and its store at once; only ``handle`` is timed."""

    def __init__(self, clients: int, tasks: int, seconds: float, per_group: int | None) -> None:
        ids = IdSource()
        self.scheduler = Scheduler(Policy(), ids.task)
        self.tasks = [Task(ids.task(), "true", 1, group=n // per_group if per_group else 0) for n in range(tasks)]
        self.clients = clients
        self.seconds = seconds
        self.waiting: deque[tuple[int, Task]] = deque()
        self.answers: deque[Event] = deque()
        self.stored: dict[int, list[Task]] = {}
        self.spent = 0.0
        self.events = 0
        self.last = 0

    def tell(self, event: Event) -> float:
        begun = time.perf_counter()
        actions = self.scheduler.handle(event, 0.0)
        took = time.perf_counter() - begun
        self.spent += took
        self.events += 1
        for action in actions:
            if isinstance(action, SendTasks):
                self.waiting.extend((action.client, task) for task in action.tasks)
            elif isinstance(action, Record):
                self.last = action.seq
            elif isinstance(action, LoadMore):
                found = [task for task in self.stored.get(action.group, []) if not task.execution]
                now, self.stored[action.group] = found[: action.limit], found[action.limit :]
                self.answers.append(TasksLoaded(action.group, now, not self.stored[action.group]))
        return took

    def feed(self) -> None:
        for start in range(0, len(self.tasks), BATCH):
            batch = self.tasks[start : start + BATCH]
            for task in batch:
                self.stored.setdefault(task.group, []).append(task)
            self.tell(TasksSubmitted(batch))
        self.tell(FeedEnded())

    def run(self) -> Cost:
        for number in range(1, self.clients + 1):
            self.tell(ClientJoined(number, ClientInfo(str(number), "host", number, 1, "0", "linux")))
        self.feed()
        results, spent = 0, 0.0
        while self.waiting or self.answers:
            while self.answers:
                self.tell(self.answers.popleft())
            if self.waiting:
                client, task = self.waiting.popleft()
                result = Result(task.id, task.execution, 0, 0.0, self.seconds)
                spent += self.tell(ResultsReceived(client, [result]))
                results += 1
            if results % 1000 == 0:
                self.tell(Durable(self.last))
        self.tell(Durable(self.last))
        if not self.scheduler.finished or self.scheduler.counts.succeeded != len(self.tasks):
            raise SystemExit(f"the run did not end as it must: {self.scheduler.counts}")
        return Cost(self.events, len(self.tasks), self.spent, results, spent)


def measure(clients: int, tasks: int, seconds: float, per_group: int | None = None) -> tuple[float, float, float]:
    """Median microseconds per event with one result, its spread, and microseconds per task for all events."""
    per_event, per_task = [], []
    for _ in range(ROUNDS):
        load = Load(clients, tasks, seconds, per_group)
        gc.collect()
        gc.disable()
        cost = load.run()
        gc.enable()
        per_event.append(cost.result_seconds / cost.result_events * 1e6)
        per_task.append(cost.seconds / cost.tasks * 1e6)
    return statistics.median(per_event), max(per_event) - min(per_event), statistics.median(per_task)


def main() -> int:
    each = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    rows = []
    medians = []
    for clients in (10, 100, 1_000, 10_000):
        tasks = max(LEAST_TASKS, clients * each)
        event, spread, task = measure(clients, tasks, 60.0)
        medians.append(event)
        rows.append(row(f"long tasks, {clients} clients", tasks, event, spread, task))
    event, spread, task = measure(100, LEAST_TASKS, 0.001)
    rows.append(row("short tasks in bundles, 100 clients", LEAST_TASKS, event, spread, task))
    event, spread, task = measure(100, LEAST_TASKS, 60.0, per_group=10)
    rows.append(row("ten tasks per group, 100 clients", LEAST_TASKS, event, spread, task))
    ratio = round(max(medians) / min(medians), 2)
    rows.append(
        {"what": "flatness: dearest / cheapest size", "tasks": "", "measured": ratio, "unit": "ratio", "spread": "",
         "per task": "", "bar": FLAT_BAR, "goal": FLAT_GOAL}
    )  # fmt: skip
    report("core_rate", rows)
    return 0


def row(what: str, tasks: int, event: float, spread: float, task: float) -> dict[str, object]:
    return {"what": what, "tasks": tasks, "measured": round(event, 2), "unit": "us/event",
            "spread": round(spread, 2), "per task": round(task, 2), "bar": BAR, "goal": GOAL}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
