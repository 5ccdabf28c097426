"""One client: the real machine, over processes that only take virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hypershell.core.model import ClientInfo, Special, Task
from hypershell.executor.machine import Machine
from hypershell.executor.vocabulary import (
    CancelOrdered,
    Dismissed,
    DrainOrdered,
    End,
    Event,
    Exited,
    Greet,
    Interrupted,
    Lack,
    RecallOrdered,
    Report,
    ResultsKept,
    Say,
    ServerAway,
    ServerBack,
    ServerLost,
    ServerReached,
    SignalTask,
    Start,
    StartFailed,
    TimePassed,
    WorkArrived,
)
from hypershell.proto import messages as msg
from hypershell.proto.codec import decode_server, encode
from tests.sim.clock import Link
from tests.sim.plan import SICK, Sort

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["Worker"]


class Worker:
    """A client; `up` is its way to the server. What it runs is told to the checker as it happens.

    `who` it is stays the same; its `number` is that of its connection.
    """

    def __init__(self, world: World, number: int, slots: int, outlives: bool, kind: Sort) -> None:
        self.who = self.number = number
        self.outlives = outlives
        self.away = False
        host = (number - 1) // world.plan.per_host
        self.sick = world.plan.sick > 0 and world.random.random() < world.plan.sick
        if world.plan.per_host > 1:
            self.sick = Random(f"host {world.plan.seed} {host}").random() < world.plan.sick
        self.info = ClientInfo(
            f"client-{number}", f"host{host}", number, slots, "0", kind[0], number, outlives, kind[1]
        )
        self.up: Link
        self.straight: Callable[[bytes], None]
        """To the server beside the order of the link: what is sent so is a copy that comes late."""
        self.alive = True
        self._world = world
        self._clock = world.clock
        self._machine: Machine | None = None
        self._events: deque[Event] = deque()
        self._busy = False
        self._running: dict[str, tuple[int, Task, float]] = {}
        self._runs = 0
        self.capacity: int | None = None
        """How many tasks its machine has room for; None: for all."""
        self._due: float | None = None

    def hello(self) -> None:
        self.up.send(encode(msg.Hello(msg.PROTOCOL_VERSION, self.info)))

    def holds_running(self, key: str) -> bool:
        """Whether a task runs here."""
        return self.alive and key in self._running

    def crash(self) -> None:
        """The process is gone, and its tasks with it."""
        self.alive = False
        self._running.clear()

    def server_lost(self, number: int | None = None) -> None:
        """The connection (with this number) is seen to be gone."""
        if not self.alive or self.away or (number is not None and number != self.number):
            return
        if not self.outlives:
            self._tell(ServerLost("connection lost"))
            return
        self.away = True
        if self._machine is not None:
            self._tell(ServerAway("connection lost"))
        self._world.look_for_server(self)

    def reached(self) -> None:
        """There is a new connection."""
        self.away = False
        if self._machine is None:
            self.hello()
        else:
            self._tell(ServerReached())

    def retire(self) -> None:
        if self._machine is not None:
            self._tell(DrainOrdered(leave=True))

    def receive(self, number: int, data: bytes) -> None:
        if not self.alive or self.away or number != self.number:
            return
        message = decode_server(data)
        if isinstance(message, msg.Welcome) and self._machine is not None:
            self._tell(ServerBack(message.settings))
        elif isinstance(message, msg.Welcome):
            wait = self._world.plan.reconnect if self.outlives else None
            self._machine = Machine(message.settings, self._world.epoch, self._clock.now, wait)
            self._watch(self._machine)
        elif isinstance(message, msg.Acknowledged):
            self._tell(ResultsKept(message.count))
        elif isinstance(message, msg.Work):
            self._tell(WorkArrived(message.tasks, message.contexts))
        elif isinstance(message, msg.Drain):
            self._tell(DrainOrdered())
        elif isinstance(message, msg.Interrupt):
            self._tell(Interrupted(message.grace))
        elif isinstance(message, msg.Cancel):
            self._tell(CancelOrdered(message.tasks))
        elif isinstance(message, msg.Recall):
            self._tell(RecallOrdered(message.tasks))
        elif isinstance(message, msg.Bye):
            self._tell(Dismissed())

    def _tell(self, event: Event) -> None:
        machine = self._machine
        if not self.alive:
            return
        if machine is None:
            if isinstance(event, Dismissed | ServerLost):
                self.crash()
            return
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        while self._events:
            for action in machine.handle(self._events.popleft(), self._clock.now):
                self._do(action)
        self._busy = False
        self._watch(machine)

    def _watch(self, machine: Machine) -> None:
        """See to it that the machine is called when something is due."""
        due = machine.deadline()
        if self.alive and due is not None and (self._due is None or due < self._due):
            self._due = due
            self._clock.at(due, self._time_passed, due)

    def _time_passed(self, due: float) -> None:
        if self._due == due:
            self._due = None
            self._tell(TimePassed())

    def _do(self, action: object) -> None:
        if isinstance(action, Start):
            self._start(action.task)
        elif isinstance(action, Report):
            self._report(action)
        elif isinstance(action, Greet):
            self.up.send(encode(msg.Hello(msg.PROTOCOL_VERSION, self.info, action.holds)))
        elif isinstance(action, SignalTask):
            self._signal(action.id, action.signal)
        elif isinstance(action, Say):
            self.up.send(encode(action.message))
        elif isinstance(action, End):
            self.alive = False
            if self._running:
                self._world.checker.fault(f"client {self.number} ended while {len(self._running)} of its tasks ran")
            if action.lost:
                self.up.send(None)  # the new connection, if there is one just now
            self._world.gone(self)

    def _report(self, report: Report) -> None:
        world, message = self._world, msg.Results(report.results, report.returned, report.leaving, report.room)
        self.up.send(encode(message))
        if world.faults is not None and world.faults.replay and world.random.random() < world.faults.replay:
            copy = encode(replace(message, room=None))  # news that are old come by no way
            self._clock.after(10 * world.random.random(), self.straight, copy)

    def _start(self, task: Task) -> None:
        world, now = self._world, self._clock.now
        if world.faults is not None and self.capacity is not None and len(self._running) >= self.capacity:
            lack = Lack("no descriptors", shared=self.who % 3 == 0)
            self._events.append(StartFailed(task.id, "no descriptors for it", now, lack))
            return
        world.checker.started(self.who, task.id, task.execution)
        faults = world.faults
        if faults is not None and faults.no_start and world.random.random() < faults.no_start:
            world.checker.ended(self.who, task.id, task.execution, Special.NOT_STARTED)
            self._events.append(StartFailed(task.id, "no process", now))
            return
        line = world.plan.lines[int(task.args)]
        self._runs += 1
        self._running[task.id] = (self._runs, task, now)
        seconds, status = (0.001, SICK) if self.sick else (line.seconds, line.status(task.attempt))
        if line.deadly and not self.sick:
            self._clock.after(seconds / 2, self._die_of, task.id, self._runs)
        self._clock.after(seconds, self._exit, task.id, self._runs, status)

    def _die_of(self, key: str, run: int) -> None:
        entry = self._running.get(key)
        if self.alive and entry is not None and entry[0] == run:
            self._world.die(self)

    def _signal(self, key: str, number: int) -> None:
        if key in self._running:
            run, task, _ = self._running[key]
            if number == 9 or not self._world.plan.lines[int(task.args)].deaf:
                self._clock.after(0.001, self._exit, key, run, -number)

    def _exit(self, key: str, run: int, status: int) -> None:
        """A process ends, unless it did already."""
        entry = self._running.get(key)
        if not self.alive or entry is None or entry[0] != run:
            return
        _, task, start = self._running.pop(key)
        epoch = self._world.epoch
        self._world.checker.ended(self.who, key, task.execution, status)
        self._tell(Exited(key, status, epoch + start, epoch + self._clock.now))
