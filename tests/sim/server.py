"""One life of a server: the real scheduler between a feed, the disk and the network."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.checks import check
from hypershell.core.model import FeedMark, Task
from hypershell.core.scheduler import Policy, Scheduler
from hypershell.proto import messages as msg
from hypershell.proto.codec import decode_client, encode
from tests.sim.clock import Link
from tests.sim.disk import Session
from tests.sim.plan import Faults

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["SUBMISSION", "Server"]

SUBMISSION = 77
_CONTEXT = msg.Context(SUBMISSION, b"{}", b"/", "me", "here")


class Server:
    """From taking over what the disk holds to ``Finish`` or to being killed; then `over` is true."""

    def __init__(
        self, world: World, make: type[Scheduler], policy: Policy, faults: Faults | None, random: Random
    ) -> None:
        self.over = False
        self.finish: act.Finish | None = None
        self.begun = False
        self.heard: set[int] = set()
        """Clients that said hello."""
        self.policy = policy
        self._world = world
        self._clock = world.clock
        self._random = random
        self._scheduler = make(policy, world.ids.task, world.epoch)
        disk, plan = world.disk, world.plan
        found = disk.take_over()
        self._work = found if found.pending or found.failed or found.withheld else None
        self._early: dict[int, msg.Hello] = {}
        self._session = Session(disk, world.clock, random, plan.commit, faults, self.tell, world.checker.committed)
        self._faults = faults
        self._down: dict[int, Link] = {}
        self._told: set[int] = set()
        self._due: float | None = None
        self._handled = 0
        self._paused = False
        self._reading = False
        self._ended = False
        self._next = disk.mark.offset if disk.mark is not None else 0

    def begin(self, first: bool) -> None:
        """Take over, and read the rest of the input where it can still be read."""
        if self.over:
            return
        self.begun = True
        mark = self._world.disk.mark
        if self._work is not None:
            self.tell(self._work)
        if (mark is not None and mark.complete) or (self._world.plan.source == "stdin" and not first):
            self._end_feed(None)
        else:
            self._read_later()
        self._session.open()
        for number, hello in list(self._early.items()):
            self._hello(number, hello)

    def connect(self, number: int, link: Link) -> None:
        self._down[number] = link

    def deafen(self, number: int) -> None:
        """Nothing arrives at this client any more."""
        self._down[number].broken = True

    def kill(self) -> None:
        """As kill -9: nothing more is written or said."""
        self.over = True
        self._session.dead = True
        for link in self._down.values():
            link.broken = True

    # -- facts in ----------------------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> None:
        if self.over:
            return
        now, world = self._clock.now, self._world
        world.note(event)
        if isinstance(event, ev.WorkFound):
            world.checker.found(event)
        elif isinstance(event, ev.StoreFailed):
            world.checker.stop("store failed")
        for action in self._scheduler.handle(event, now):
            world.note(action)
            self._do(action)
        world.checker.handled()
        self._handled += 1
        if self._handled % world.plan.check_every == 0:
            for line in check(self._scheduler, self.policy.attempts):
                world.checker.fault(f"core after {event}: {line}")
        due = self._scheduler.deadline()
        if due is not None and due != self._due:
            self._due = due
            self._clock.at(due, self.tell, ev.TimePassed())

    def receive(self, number: int, data: bytes | None) -> None:
        """What came from a client; None where it is gone."""
        if self.over:
            return
        checker = self._world.checker
        if data is None:
            outside = number in self._world.outside
            self._early.pop(number, None)
            checker.client_gone(number, outside)
            self.tell(ev.ClientLost(number, "silence", outside))
            return
        message = decode_client(data)
        if isinstance(message, msg.Hello):
            if message.holds and not self.begun:
                self._early[number] = message
            else:
                self._hello(number, message)
        elif isinstance(message, msg.Results):
            checker.results(number, message)
            self.tell(
                ev.ResultsReceived(number, message.results, message.returned, message.leaving, message.room)
            )
            checker.heard(number)
        elif isinstance(message, msg.Leave):
            checker.client_gone(number, number in self._world.outside)
            self.tell(ev.ClientLeft(number))

    def _hello(self, number: int, message: msg.Hello) -> None:
        checker = self._world.checker
        self.heard.add(number)
        checker.client_joined(number, message.info, message.holds)
        self._send(number, msg.Welcome(self._settings(message.info.slots)))
        self.tell(ev.ClientJoined(number, message.info, message.holds))
        checker.came_back(number)

    def drain(self, limit: float | None) -> None:
        if self.begun and not self.over:
            self._world.checker.stop("drained")
            self.tell(ev.DrainRequested("drained", limit))

    def interrupt(self) -> None:
        if self.begun and not self.over:
            self._world.checker.stop("interrupted")
            self.tell(ev.InterruptRequested())

    def allocate(self, end: float) -> None:
        """Hear when the allocation ends."""
        if not self.begun and not self.over:
            self._clock.after(0.1, self.allocate, end)
        elif not self.over:
            self._world.checker.allocated(end)
            self.tell(ev.AllocationEnds(end))

    def cancel(self, ids: list[str], settled: list[str]) -> None:
        if self.begun and not self.over:
            self._world.checker.told(ids, settled)
            self.tell(ev.CancelRequested(ids, settled))

    def change(self, ids: list[str]) -> None:
        """Hear that a user changed tasks, whose rows are read now."""
        if self.begun and not self.over:
            rows = self._world.disk.rows
            tasks = [replace(rows[key].task) for key in ids if rows[key].state in ("pending", "dispatched")]
            self._world.checker.told_of_changes(tasks)
            self.tell(ev.TasksChanged(tasks))

    def _settings(self, slots: int) -> msg.ClientSettings:
        idle = None if self._faults is None else self._faults.idle_out
        return msg.ClientSettings(
            slots=slots,
            bundlesize=self.policy.bundlesize,
            bundlewait=self._world.plan.bundlewait,
            signalwait=1.0,
            idle_timeout=idle,
            task_timeout=None,
            task_cwd=None,
            capture=False,
            capture_dir=b"",
            log_level="warning",
            log_style="default",
            server_id="s",
            server_host="here",
        )

    # -- the feed ----------------------------------------------------------------------------------------

    def _read_later(self) -> None:
        if not self._reading:
            self._reading = True
            self._clock.after(self._world.plan.pause * self._random.random(), self._read)

    def _read(self) -> None:
        self._reading = False
        plan, world = self._world.plan, self._world
        if self.over or self._paused or self._ended or self._scheduler.stopping is not None:
            return
        if self._next >= len(plan.lines):
            self._end_feed(FeedMark(SUBMISSION, self._next, self._next, "", True))
            return
        lines = plan.lines[self._next : self._next + self._random.randint(1, plan.batch)]
        self._next += len(lines)
        tasks: list[Task] = []
        rejected: list[tuple[Task, str]] = []
        for line in lines:
            task = Task(
                world.ids.task(), str(line.number), SUBMISSION, group=line.group, timeout=line.timeout,
                tag={"line": line.number} | dict(line.needs), submit_time=world.epoch + self._clock.now,
            )  # fmt: skip
            if line.rejected:
                rejected.append((task, "a NUL in line"))
            else:
                tasks.append(task)
        world.checker.fed(tasks, [task for task, _ in rejected])
        self.tell(ev.TasksSubmitted(tasks, FeedMark(SUBMISSION, self._next, self._next, ""), rejected))
        self._read_later()

    def _end_feed(self, mark: FeedMark | None) -> None:
        self._ended = True
        self._world.checker.feed_ended()
        self.tell(ev.FeedEnded(mark))

    # -- wishes out --------------------------------------------------------------------------------------

    def _do(self, action: act.Action) -> None:
        checker = self._world.checker
        if isinstance(action, act.Record):
            checker.recorded(action)
            self._session.put(action)
        elif isinstance(action, act.SendTasks):
            checker.sent(action.client, action.tasks)
            contexts = [] if action.client in self._told else [_CONTEXT]
            self._told.add(action.client)
            self._send(action.client, msg.Work(action.tasks, contexts))
        elif isinstance(action, act.Acknowledge):
            checker.acknowledged(action.client, action.count)
            self._send(action.client, msg.Acknowledged(action.count))
        elif isinstance(action, act.Note):
            checker.noted(action.text)
            if action.text.startswith("No task could be started for"):
                checker.stood_still(self._world.running_at)
        elif isinstance(action, act.LoadMore):
            self._session.put(action)
        elif isinstance(action, act.PauseFeed):
            self._paused = True
        elif isinstance(action, act.ResumeFeed):
            self._paused = False
            self._read_later()
        elif isinstance(action, act.CancelTasks):
            self._send(action.client, msg.Cancel(action.tasks))
        elif isinstance(action, act.RecallTasks):
            checker.recalled(action.client, action.tasks)
            self._send(action.client, msg.Recall(action.tasks))
        elif isinstance(action, act.DrainClients):
            self._broadcast(action.clients, msg.Drain())
        elif isinstance(action, act.InterruptClients):
            grace = 1.0 if action.grace is None else min(1.0, action.grace)
            self._broadcast(action.clients, msg.Interrupt(grace))
        elif isinstance(action, act.DismissClients):
            self._broadcast(action.clients, msg.Bye())
        elif isinstance(action, act.Finish):
            self.finish = action
            self.over = True
            self._session.dead = True
            checker.finished(action)
            self._world.hang_up()

    def _send(self, number: int, message: msg.ServerMessage) -> None:
        self._down[number].send(encode(message))

    def _broadcast(self, numbers: list[int], message: msg.ServerMessage) -> None:
        for number in numbers:
            self._send(number, message)


def last_policy(policy: Policy, more: int) -> Policy:
    """The policy of the life that meets no faults, to which so many `more` clients come: it ends by itself."""
    return replace(policy, forever=False, expected=policy.expected + more)
