"""A job of many ranks in virtual time: real brains, real database, virtual processes and messages.

The real feed, scheduler, codec, writer and SQLite file are on rank 0, and the real client machine is on every rank.
Time on rank 0 passes by the processor time that the server and the database thread really took, one after the other
as if they shared a core, and `PER_MESSAGE` for each message.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hypershell import reactor
from hypershell.core.model import ClientInfo, Task
from hypershell.executor.machine import Machine
from hypershell.executor.vocabulary import (
    Dismissed,
    DrainOrdered,
    End,
    Event,
    Exited,
    RecallOrdered,
    Report,
    Start,
    TimePassed,
    WorkArrived,
)
from hypershell.mpi.backoff import Backoff
from hypershell.mpi.transport import MAX_PER_POLL
from hypershell.proto import messages as msg
from hypershell.proto.codec import decode_client, decode_server, encode
from hypershell.server.run import Place, Run
from hypershell.settings import RunSettings
from hypershell.transport import Delivery
from tests.sim.clock import Clock

__all__ = ["Fleet", "Shape", "simulate"]

#: Seconds of rank 0 for one message in or out, beside the codec: probe, receive, send, test.
PER_MESSAGE = 5e-6
#: Seconds on the way, between nodes.
LATENCY = 20e-6
#: Seconds that a rank needs to start a task and to reap it, one task at a time; they count as idle.
PER_START = 1e-3
#: Between which shares of the tasks having begun it is measured how busy the slots are.
FROM, TO = 0.25, 0.85


class Shape(NamedTuple):
    """Of a job."""

    ranks: int
    """Beside rank 0."""
    slots: int
    """Of each rank."""


class Rank:
    """One worker rank: the real machine, virtual processes."""

    __slots__ = ("backoff", "due", "fleet", "free_at", "inbox", "machine", "number", "soon")

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.fleet = fleet
        self.number = number
        self.backoff = Backoff()
        self.due: float | None = None
        self.machine: Machine | None = None
        self.inbox: deque[bytes] = deque()
        self.free_at = 0.0
        self.soon = True

    def hello(self) -> None:
        host = f"node-{self.number // 128}"
        info = ClientInfo(f"rank-{self.number}", host, self.number, 0, "0", "linux", self.number)
        self._say(msg.Hello(msg.PROTOCOL_VERSION, info))

    def arrive(self, data: bytes) -> None:
        """A message lies here until this rank looks: for a part of what it sleeps between two looks."""
        self.inbox.append(data)
        if len(self.inbox) == 1:
            clock = self.fleet.clock
            clock.after(self.fleet.random.random() * self.backoff.wait(clock.now), self._look)

    def _look(self) -> None:
        """Nothing is left where the end of a task made it look before its time."""
        self.backoff.near()
        while self.inbox:
            self._hear(decode_server(self.inbox.popleft()))

    def _hear(self, message: Any) -> None:
        if isinstance(message, msg.Welcome):
            self.machine = Machine(message.settings, 0.0, self.fleet.clock.now)
        elif isinstance(message, msg.Work):
            self._tell(WorkArrived(message.tasks, message.contexts))
        elif isinstance(message, msg.Drain):
            self._tell(DrainOrdered())
        elif isinstance(message, msg.Recall):
            self._tell(RecallOrdered(message.tasks))
        elif isinstance(message, msg.Bye):
            self._tell(Dismissed())
        elif not isinstance(message, msg.OutputTaken | msg.KeptTaken | msg.Acknowledged):
            raise SystemExit(f"fleet: a rank does not know {type(message).__name__}")

    def _say(self, message: Any) -> None:
        self.backoff.near()
        self.fleet.clock.after(LATENCY, self.fleet.arrive, self.number, encode(message))

    def _tell(self, event: Event) -> None:
        machine, clock = self.machine, self.fleet.clock
        if machine is None:
            return
        for action in machine.handle(event, clock.now):
            if isinstance(action, Start):
                self.free_at = max(self.free_at, clock.now) + PER_START  # one after the other
                clock.at(self.free_at, self._begin, action.task)
            elif isinstance(action, Report):
                self._say(msg.Results(action.results, action.returned, action.leaving, action.room))
            elif isinstance(action, End):
                self.machine = None
                return
        if machine.expectant != self.soon:
            self.soon = not self.soon
            self.backoff.expect(self.soon)
        due = machine.deadline()
        if due is not None and (self.due is None or due < self.due):
            self.due = due
            clock.at(due, self._time_passed, due)

    def _time_passed(self, due: float) -> None:
        if self.due == due:
            self.due = None
            self._tell(TimePassed())

    def _begin(self, task: Task) -> None:
        fleet = self.fleet
        fleet.begun()
        seconds = fleet.lengths[int(task.args.rpartition(" ")[2])]
        fleet.clock.after(seconds, self._end, task.id, fleet.clock.now)

    def _end(self, id: str, start: float) -> None:
        self.fleet.ended()
        self._look()
        self._tell(Exited(id, 0, start, self.fleet.clock.now))


class Fleet:
    """The endpoint of rank 0, whose peers are virtual ranks."""

    def __init__(self, shape: Shape, lengths: list[float]) -> None:
        self.clock = Clock()
        self.random = Random(shape.ranks)
        self.messages = 0
        self.running = self.started = 0
        self._area = self._since = 0.0
        self._marks: list[tuple[float, float]] = []
        self._limits = deque([int(len(lengths) * FROM), int(len(lengths) * TO)])
        self.lengths = lengths
        self._slots = shape.ranks * shape.slots
        self._inbox: deque[tuple[int, bytes]] = deque()
        self._outbox: list[tuple[int, bytes]] = []
        self._ranks = {number: Rank(self, number) for number in range(1, shape.ranks + 1)}
        for rank in self._ranks.values():
            rank.hello()

    @property
    def makespan(self) -> float:
        """Seconds from the first Hello to the end of the last task so far."""
        return self._since

    def begun(self) -> None:
        self._integrate()
        self.running += 1
        self.started += 1
        if self._limits and self.started >= self._limits[0]:
            self._limits.popleft()
            self._marks.append((self.clock.now, self._area))

    def ended(self) -> None:
        self._integrate()
        self.running -= 1

    def _integrate(self) -> None:
        self._area += self.running * (self.clock.now - self._since)
        self._since = self.clock.now

    def busy(self) -> float:
        """The share of the slots that ran a task, between the two marks."""
        (begin, before), (end, after) = self._marks
        return (after - before) / (self._slots * max(end - begin, 1e-9))

    # -- the endpoint ------------------------------------------------------------------------------------

    def arrive(self, peer: int, data: bytes) -> None:
        self._inbox.append((peer, data))

    @property
    def waiting(self) -> bool:
        return bool(self._inbox)

    def poll(self) -> list[Delivery]:
        taken = []
        while self._inbox and len(taken) < MAX_PER_POLL:
            peer, data = self._inbox.popleft()
            taken.append(Delivery(peer, decode_client(data)))
        self.messages += len(taken)
        return taken

    def send(self, peer: int, message: Any) -> None:
        self._outbox.append((peer, encode(message)))
        self.messages += 1

    def leave(self) -> None:
        """What was sent is on its way now."""
        for peer, data in self._outbox:
            self.clock.after(LATENCY, self._ranks[peer].arrive, data)
        self._outbox.clear()

    def flush(self) -> bool:
        return True

    def wait_hint(self, now: float) -> float | None:
        return 0.0 if self._inbox else None

    def expect(self, soon: bool) -> None: ...

    def silence(self, peer: int) -> float | None:
        return None

    def drop(self, peer: int, reason: str) -> None: ...

    def close(self) -> None: ...


class Meter:
    """Processor seconds: of this thread while it serves, and of the database thread at all times."""

    def __init__(self) -> None:
        self._other = time.process_time() - time.thread_time()

    def begin(self) -> None:
        self._main = time.thread_time()

    def took(self) -> float:
        main = time.thread_time()
        other = time.process_time() - main
        seconds = main - self._main + max(0.0, other - self._other)
        self._other = max(other, self._other)
        return seconds


def simulate(shape: Shape, tasks: int, length: Callable[[Random], float], bundlesize: int | None = None) -> Fleet:
    """Run `tasks` tasks, each of the seconds that `length` draws, to their end.

    There is no staggered start: it is the job at its full size that is looked at.
    """
    ranks, slots = shape
    with tempfile.TemporaryDirectory(prefix="hs-bench-") as folder:
        path = Path(folder) / "tasks.in"
        path.write_text("".join(f"./program --case {number}\n" for number in range(tasks)))
        db = str(Path(folder) / "main.db")
        settings = RunSettings(file=str(path), db=db, bundlesize=bundlesize, release_rate=0.0)
        poller = reactor.Poller()
        drawn = Random(tasks)
        fleet = Fleet(shape, [length(drawn) for _ in range(tasks)])
        run = Run(poller, fleet, settings, Place("mpi", ranks + 1, ranks, slots, "virtual"), ["mpi", str(path)])
        run.start()
        _serve(poller, run, fleet)
        status = run.close()
        poller.close()
    if status != 0 or fleet.started != tasks:
        raise SystemExit(f"fleet: exit status {status}, {fleet.started} of {tasks} tasks began")
    return fleet


def _serve(poller: reactor.Poller, run: Run, fleet: Fleet) -> None:
    """Let rank 0 take turns, each when its time has come."""
    server, clock, epoch = run.server, fleet.clock, time.monotonic()
    meter = Meter()
    while not server.finished:
        fleet.messages = 0
        meter.begin()
        again = server.turn(epoch + clock.now)
        poller.wait(0)
        _pass(clock, meter.took() + fleet.messages * PER_MESSAGE)
        fleet.leave()
        if again or fleet.waiting:
            continue
        due = server.deadline(epoch + clock.now)
        if _awaits_database(run):
            poller.wait(0.002)  # what the thread takes is counted by its own clock
            continue
        until = float("inf") if due is None else due - epoch
        while not fleet.waiting and (when := clock.next) is not None and when <= until:
            clock.step()
        if not fleet.waiting and until < float("inf"):
            _pass(clock, until - clock.now)


def _awaits_database(run: Run) -> bool:
    """Whether rank 0 cannot go on before the database thread has answered."""
    server, scheduler = run.server, run._scheduler
    return (
        server.finish is not None
        or not server.opened
        or scheduler._loading
        or (scheduler.starving and run.writer.full and not server.feed_complete)
    )


def _pass(clock: Clock, seconds: float) -> None:
    """Rank 0 is busy for `seconds`; the ranks live on meanwhile."""
    end = clock.now + seconds
    while (when := clock.next) is not None and when <= end:
        clock.step()
    clock.now = max(clock.now, end)
