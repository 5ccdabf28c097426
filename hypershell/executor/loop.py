"""The client in a loop: messages from the server to the machine, its actions to processes and back to the server.

``Executor`` is a part of the reactor: alone on a worker rank (``executor.client``), or beside the server in one
process. It installs a handler for SIGCHLD; the other signals belong to whoever owns the process.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hypershell.core.model import ClientInfo
from hypershell.errors import HyperShellError, LaunchError
from hypershell.executor.affinity import Node, settle
from hypershell.executor.env import Environment
from hypershell.executor.guard import Guard
from hypershell.executor.jobs import Ended, Jobs
from hypershell.executor.machine import Machine
from hypershell.executor.output import Output
from hypershell.executor.spawn import open_standard_descriptors, seal_descriptors
from hypershell.executor.system import IS_WINDOWS, make_reaper, own_environ
from hypershell.executor.unseen import LOOKS, Lookout
from hypershell.executor.vocabulary import (
    Action,
    CancelOrdered,
    Dismissed,
    DrainOrdered,
    End,
    Event,
    Exited,
    Expand,
    Greet,
    Interrupted,
    KeptDurable,
    RecallOrdered,
    Report,
    ResultsKept,
    Say,
    ServerAway,
    ServerBack,
    ServerLost,
    ServerReached,
    SignalCame,
    SignalTask,
    Start,
    TimePassed,
    Warn,
    WorkArrived,
)
from hypershell.proto import messages
from hypershell.reactor import Poller
from hypershell.signal_names import signal_number
from hypershell.transport import SERVER, Again, Cut, Endpoint, Lost

__all__ = ["Executor"]

_log = logging.getLogger("hypershell.client")

_TIME_PASSED = TimePassed()


class Executor:
    """One client.

    :param info: what the server is told; `info.slots` is only a wish, the settings of Welcome decide.
    :param guard: ends everything of this client when it dies; closed when the client ends.
    :param welcomed: called with the settings before the first task.
    :param environ: the environment that tasks inherit, the process's own by default.
    :param alone: no other thread of this process has anything to do.
    :param reconnect: seconds for which the work goes on without the server, where the endpoint tells ``Cut`` and
        ``Again`` (`info.outlives`); None: the client ends with its server.
    :param node: tells who else has slots on this node; None: nobody.
    :param startup: what the first Hello tells of the time before.
    :param soft_limit: of descriptors, for tasks (``limits.raise_descriptors``); None: as this process has.
    """

    def __init__(
        self,
        poller: Poller,
        endpoint: Endpoint,
        info: ClientInfo,
        *,
        guard: Guard | None = None,
        welcomed: Callable[[messages.ClientSettings], None] | None = None,
        environ: dict[bytes, bytes] | None = None,
        alone: bool = False,
        reconnect: float | None = None,
        node: Callable[[messages.ClientSettings], Node] | None = None,
        startup: messages.Startup | None = None,
        soft_limit: int | None = None,
    ) -> None:
        self.finished = False
        self.lost: str | None = None
        """Why the server is gone, where it is."""
        self.reason: str | None = None
        """Why the client ended."""
        open_standard_descriptors()
        seal_descriptors()
        self._poller = poller
        self._endpoint = endpoint
        self._info = info
        self._guard = guard
        self._welcomed = welcomed
        self._environ = environ
        self._alone = alone
        self._reconnect = reconnect
        self._node = node
        self._startup = startup
        self._soft_limit = soft_limit
        self._give_up_at: float | None = None
        """When this client ends unless there is a first welcome."""
        self._reaper = make_reaper(poller)
        self._output = Output(poller, self._send_output, pipes=self._reaper.pipes)
        self._machine: Machine | None = None
        self._jobs: Jobs | None = None
        self._todo: deque[Action] = deque()
        self._doing = False
        self._now = 0.0
        self._lookout = Lookout()
        self._said_hello = False
        self._greeted = False
        """Whether the next welcome answers a hello after ``Again``."""
        self._environment: Environment | None = None
        self._ordered: deque[Event] = deque()
        self._soon = True
        self._info_on = self._debug_on = False

    # The reactor's part

    def turn(self, now: float) -> bool:
        """Do what can be done without waiting."""
        self._now = now
        endpoint = self._endpoint
        if not self._said_hello:
            self._said_hello = True
            hello = messages.Hello(messages.PROTOCOL_VERSION, self._info, [], self._startup)
            endpoint.send(SERVER, hello)
        for delivery in endpoint.poll():
            self._hear(delivery.message)
        machine, jobs = self._machine, self._jobs
        if machine is not None and jobs is not None and self.reason is None:
            unseen = self._lookout.look(now)
            while self._ordered:
                self._tell(self._ordered.popleft())
            if self._reaper.pending:
                self._reaper.pending = False
                if unseen is None:  # it may have been stopped since the turn began
                    unseen = self._lookout.look(time.monotonic())
                jobs.collect(now, unseen)
            jobs.tend(now)
            due = machine.deadline()
            if due is not None and due <= now:
                self._tell(_TIME_PASSED if unseen is None else TimePassed(unseen))
            self._lookout.looked(now, now)
            soon = machine.expectant or self._output.full
            if soon != self._soon:
                self._soon = soon
                endpoint.expect(soon)
        elif self._give_up_at is not None and now >= self._give_up_at and self.reason is None:
            self.lost = f"the server did not come back within {self._reconnect:g} s"
            self._end(self.lost)
        elif self._ordered and self.reason is None:
            endpoint.send(SERVER, messages.Leave("stopped before the first task"))
            self._end("stopped before the first task")
        if self._output.waiting:
            self._output.flush()
        if endpoint.flush() and self.reason is not None:
            self.finished = True
        return False

    def deadline(self, now: float) -> float | None:
        """When the next turn is due even if nothing wakes us."""
        hint = self._endpoint.wait_hint(now)
        due = None if hint is None else now + hint
        if self.reason is not None:  # children that end now are nobody's concern
            return due
        if self._reaper.pending or self._ordered or not self._said_hello:
            return now
        if self._machine is not None and self._jobs is not None:
            next_look = now + LOOKS if self._jobs.running else None
            for when in (self._machine.deadline(), self._jobs.deadline(), next_look):
                if when is not None and (due is None or when < due):
                    due = when
            self._lookout.looked(now, due)
        elif self._give_up_at is not None:
            due = self._give_up_at if due is None else min(due, self._give_up_at)
        return due

    def close(self) -> None:
        """Give back the handler of SIGCHLD; ends the client first where the loop was left by an exception.

        Not part of the end itself: the wake-up descriptor may serve the signals of whoever shares the process.
        """
        self._end("closed")
        self._reaper.close()

    def heard(self, number: int) -> None:
        """This process got signal `number`, whatever it then does about it. For signal handlers."""
        self._ordered.append(SignalCame(number))

    def drain(self) -> None:
        """Start nothing more, hand back what is queued, end when what runs has ended. For signal handlers too."""
        self._ordered.append(DrainOrdered(leave=True))

    def interrupt(self, grace: float | None = None, *, hurry: bool = False) -> None:
        """Stop all tasks and end. For signal handlers too.

        :param grace: seconds between INT, TERM and KILL; None takes the server's setting.
        :param hurry: TERM, then KILL within 0.1 s.
        """
        if grace is None:
            grace = self._machine.settings.signalwait if self._machine is not None else 0.0
        self._ordered.append(Interrupted(grace, leave=True, hurry=hurry))

    # Messages

    def _hear(self, message: Any) -> None:
        """Take in what the server said; what nobody foresaw in it ends the connection, and nothing else."""
        try:
            self._receive(message)
        except (HyperShellError, MemoryError):
            raise
        except Exception as error:
            _log.exception("Unexpected error with a message of the server (%s)", type(message).__name__)
            self._endpoint.drop(SERVER, f"unexpected {type(error).__name__} with its {type(message).__name__}")

    def _receive(self, message: Any) -> None:
        kind = type(message)
        if kind is messages.Work:
            if self._debug_on:
                _log.debug("Received %d tasks", len(message.tasks))
            self._tell(WorkArrived(message.tasks, message.contexts))
        elif kind is messages.OutputTaken:
            self._output.taken(message.size)
        elif kind is messages.Welcome:
            self._welcome(message.settings)
        elif kind is messages.Drain:
            self._tell(DrainOrdered())
        elif kind is messages.Interrupt:
            self._tell(Interrupted(message.grace))
        elif kind is messages.Cancel:
            self._cancel(message)
        elif kind is messages.KeptTaken:
            self._tell(KeptDurable(message.size))
        elif kind is messages.Bye:
            self._tell(Dismissed())
        elif kind is messages.Acknowledged:
            self._tell(ResultsKept(message.count))
        elif kind is messages.Recall:
            self._tell(RecallOrdered(message.tasks))
        elif kind is Cut:
            self._server_away(message.reason)
        elif kind is Again:
            self._server_reached()
        elif kind is Lost:
            self.lost = message.reason
            self._tell(ServerLost(message.reason))
        else:
            _log.warning("Rejected a message of the server: %s is not for clients", kind.__name__)

    def _cancel(self, message: messages.Cancel) -> None:
        number = None if message.signal is None else signal_number(message.signal)
        if number is None and message.signal is not None:
            _log.warning("This system has no signal %s: tasks get INT", message.signal[:20])
        self._tell(CancelOrdered(message.tasks, number))

    def _server_away(self, reason: str) -> None:
        """Without a first welcome there is nothing that goes on, but a server to wait for."""
        if self._machine is not None:
            self._tell(ServerAway(reason))
        elif self._reconnect is not None and self._give_up_at is None:
            self._give_up_at = self._now + self._reconnect

    def _server_reached(self) -> None:
        self._greeted = True
        if self._machine is not None:
            self._tell(ServerReached())
        else:
            self._endpoint.send(SERVER, messages.Hello(messages.PROTOCOL_VERSION, self._info))

    def _welcome(self, settings: messages.ClientSettings) -> None:
        if self._machine is not None and self._greeted and self._environment is not None:
            self._greeted = False
            self._environment.of_server(settings)
            _log.info("The server is back (%s)", settings.server_host)
            self._tell(ServerBack(settings))
            return
        if self._machine is not None or settings.slots < 1:
            _log.warning("Rejected a message of the server: Welcome with %d slots", settings.slots)
            return
        if self._welcomed is not None:
            self._welcomed(settings)
        self._info_on = _log.isEnabledFor(logging.INFO)
        self._debug_on = _log.isEnabledFor(logging.DEBUG)
        environ = own_environ() if self._environ is None else self._environ
        self._greeted = False
        self._environment = environment = Environment(environ, settings, self._info)
        cores = self._bind(settings)
        self._jobs = Jobs(
            settings,
            environment,
            self._output,
            self._tell,
            not self._alone,
            self._child_ended,
            cores,
            self._reaper.exited,
            self._soft_limit,
        )
        epoch = time.time() - self._now
        self._machine = Machine(settings, epoch, self._now, self._reconnect, IS_WINDOWS)

    def _bind(self, settings: messages.ClientSettings) -> tuple[frozenset[int], ...]:
        """Keep to our cores; those of each slot, where each has its own."""
        node = Node(0, 1, settings.slots, settings.slots) if self._node is None else self._node(settings)
        settled = settle(settings.task_bind, node)
        if settled is None:
            return ()
        if settled.warning is not None:
            _log.warning("%s: %s", self._info.host, settled.warning)
        return settled.slots

    def _child_ended(self, pid: int) -> None:
        """A child that is no task: where it is the guard, another one takes its place."""
        guard = self._guard
        if guard is None or pid != guard.pid or self.reason is not None:
            return
        _log.warning("The guard process (%d) was killed: starting another one", pid)
        try:
            guard.revive()
        except LaunchError as error:
            _log.error("%s; tasks may stay behind if this process is killed", error)

    # The machine and its actions

    def _tell(self, event: Event | Ended) -> None:
        """Give the machine a fact and do what it answers.

        Doing can bring new facts (a task that does not start); they wait in line, so that no recursion grows.
        """
        machine = self._machine
        if machine is None:
            if isinstance(event, (Dismissed, ServerLost)):
                self._end(getattr(event, "reason", "dismissed"))
            return
        if self._debug_on and type(event) is Exited:
            _log.debug("Completed task (%s)", event.id)
        actions = machine.handle(event, self._now)
        if self._doing:
            self._todo.extend(actions)
            return
        self._doing = True
        try:
            for action in actions:
                self._do(action)
            while self._todo:
                self._do(self._todo.popleft())
        finally:
            self._doing = False

    def _do(self, action: Action) -> None:
        jobs = self._jobs
        if jobs is None:
            return
        if type(action) is Start:
            if self._info_on:
                self._log_start(action)
            jobs.start(action.task, action.command, action.context, self._now, action.slot)
        elif isinstance(action, Report):
            self._output.flush()
            self._endpoint.send(
                SERVER, messages.Results(action.results, action.returned, action.leaving, action.room)
            )
        elif isinstance(action, Greet):
            self._endpoint.send(SERVER, messages.Hello(messages.PROTOCOL_VERSION, self._info, action.holds))
        elif isinstance(action, SignalTask):
            jobs.signal(action.id, action.signal)
        elif isinstance(action, Expand):
            jobs.expand(action.id, action.commands, action.context, action.slot)
        elif isinstance(action, Warn):
            _log.warning(action.text)
        elif isinstance(action, Say):
            self._output.flush()
            self._endpoint.send(SERVER, action.message)
        elif isinstance(action, End):
            if action.lost:
                self.lost = action.reason
            self._end(action.reason)

    def _log_start(self, action: Start) -> None:
        task = action.task
        _log.info("Running task (%s)", task.id)
        if self._debug_on:
            _log.debug("Running task (%s: %s)", task.id, action.command or task.args)

    def _send_output(self, out: bytes, err: bytes) -> None:
        self._endpoint.send(SERVER, messages.Output(out, err))

    def _end(self, reason: str) -> None:
        """Release everything; the loop goes on until the last message has left."""
        if self.reason is not None:
            return
        self.reason = reason
        if self._jobs is not None:
            self._jobs.close()
        self._output.flush()
        if self._guard is not None:
            self._guard.close()
