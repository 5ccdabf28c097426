"""The client's brain: which task starts when, when one is stopped, and when results go back.

Pure: no clock, no input or output, no process. ``handle(event, now)`` gives the actions that the driver carries out
in their order, ``deadline()`` the next time at which something is due by itself. The driver is ``executor.loop``;
the simulator runs the same machine by the thousand.
"""

from __future__ import annotations

from collections import deque

from hypershell.core.model import CANCELLED_BY_USER, Result, Special, Task
from hypershell.executor.held import Run, Submission, reason, shown, text_of
from hypershell.executor.ladder import KILL, ladder
from hypershell.executor.reports import NEVER, Reports
from hypershell.executor.unseen import timed_out, verdict
from hypershell.executor.vocabulary import (
    Action,
    CancelOrdered,
    Dismissed,
    DrainOrdered,
    End,
    Event,
    Exited,
    Expand,
    Expanded,
    Interrupted,
    KeptDurable,
    Lack,
    LeaderEnded,
    RecallOrdered,
    Say,
    ServerLost,
    SignalCame,
    SignalTask,
    Start,
    StartFailed,
    TimePassed,
    Unseen,
    Warn,
    WorkArrived,
)
from hypershell.proto.messages import Leave
from hypershell.template import ExpansionError, Slot

__all__ = ["Machine"]

#: Statuses of tasks that died of a signal by which launchers end jobs: INT, USR1, USR2, TERM. Some (Slurm) send
#: it to every process of a step, tasks included: such a task was stopped, it did not fail.
LAUNCHER_DEATHS = frozenset({-2, -10, -12, -15})

#: Seconds for which such a death waits for the same signal to come to this process, and for which it counts then.
SUSPECT_TIME = 0.25
SIGNAL_TIME = 2.0

#: Seconds after which a task that was ordered to start, and did not fail to, runs.
PROOF = 0.1


class Machine(Reports):
    """The state of one client. Parameters: see ``Reports``."""

    @property
    def expectant(self) -> bool:
        """Whether the next word of the server is waited for: for more work, for room, or because nothing runs."""
        return self.hungry or self._full or not self._running

    @property
    def hungry(self) -> bool:
        """Whether more work could start at once."""
        free = len(self._running) < self._headroom.usable
        return not self._queue and free and not self._draining and not self._full

    def handle(self, event: Event, now: float) -> list[Action]:
        """What to do after `event`; `now` never decreases. Facts about tasks that are not here are ignored."""
        actions: list[Action] = []
        if self._ended:
            return actions
        kind = type(event)
        if kind is Exited:
            self._exited(event, now)  # type: ignore[arg-type]
        elif kind is WorkArrived:
            self._work_arrived(event, actions)  # type: ignore[arg-type]
        elif isinstance(event, TimePassed):
            self._climb(now, event.unseen, actions)
            self._announce = self._announce or (self._news is not None and now >= self._news)
        elif isinstance(event, LeaderEnded):
            self._leader_ended(event)
        elif isinstance(event, Expanded):
            self._expanded(event, now, actions)
        elif isinstance(event, StartFailed):
            self._start_failed(event, now)
        elif isinstance(event, DrainOrdered):
            self._drain(event.leave, "drained")
        elif isinstance(event, CancelOrdered):
            self._cancel(event, now, actions)
        elif isinstance(event, RecallOrdered):
            self._recall(event.tasks, now)
        elif isinstance(event, SignalCame):
            self._signal_came(-event.number, now)
        elif isinstance(event, Interrupted):
            self._hurried = self._hurried or event.leave
            self._drain(event.leave, "interrupted")
            self._stop_all(ladder(event.grace, event.hurry, now), now, actions)
        elif isinstance(event, KeptDurable):
            self._kept_away = max(0, self._kept_away - max(0, event.size))
        elif isinstance(event, Dismissed):
            self._end("dismissed", now, actions)
        elif isinstance(event, ServerLost):
            self._end(event.reason, now, actions)
        elif self._unconfirmed is not None:
            self._server_came_or_went(event, self._unconfirmed, now, actions)
        if self._headroom.is_short or self._headroom.in_vain:
            self._mind_room(now)
        if self._suspects and self._results and self._away is None and self._is_in_danger():
            self._pack(now, actions)  # before the next one can start
        if self._queue and len(self._running) < self._headroom.usable and not self._full:
            self._fill(now, actions)
        if (self._results or self._returned or self._announce) and self._away is None:
            self._pack(now, actions)
        if not self._running:
            self._rest(now, actions)
        return actions

    def deadline(self) -> float | None:
        """The time at which ``TimePassed`` is due; None: nothing is due by itself."""
        due = min(self._due.values()) if self._due else NEVER
        if self._away is not None:
            due = min(due, self._give_up_at)
        elif (self._results or self._returned) and self._oldest + self.settings.bundlewait < due:
            due = self._oldest + self.settings.bundlewait
        headroom, running = self._headroom, len(self._running)
        if self._start_at < due and self._queue and running < headroom.usable and not self._full:
            due = self._start_at
        if headroom.is_short and not self._draining:
            due = min(due, headroom.due(running))
        if headroom.in_vain and running:
            due = min(due, next(iter(self._running.values())).since + PROOF)
        if self._news is not None and self._away is None:
            due = min(due, self._news)
        if not self._held and self.settings.idle_timeout is not None and self._ending is None:
            due = min(due, self._idle_since + self.settings.idle_timeout)
        return None if due == NEVER else due

    # Work comes in

    def _work_arrived(self, event: WorkArrived, actions: list[Action]) -> None:
        for context in event.contexts:
            self._submissions[context.submission] = Submission(context, self._windows)
        held, queue, submissions = self._held, self._queue, self._submissions
        for task in event.tasks:
            id = task.id
            if id in held:
                actions.append(Warn(f"Rejected task ({id}): it is already here"))
                if task.execution != held[id]:
                    self._returned.append((id, task.execution))
            elif self._draining:
                self._returned.append((id, task.execution))
            elif task.submission not in submissions:
                actions.append(Warn(f"Returned task ({id}): its submission {task.submission} is unknown here"))
                self._returned.append((id, task.execution))
            else:
                held[id] = task.execution
                queue.append(task)
                if task.deaths:
                    self._suspects.add(id)

    def _fill(self, now: float, actions: list[Action]) -> None:
        """Take tasks from the queue while slots are free, and the rate allows it."""
        queue, running, rate = self._queue, self._running, self.settings.ratelimit
        while queue and len(running) < self._headroom.usable and now >= self._start_at:
            task = queue.popleft()
            self._again = 0
            submission = self._submissions[task.submission]
            template = submission.template
            if template is None:
                self._fail(task, Special.TEMPLATE_FAILED, f"template: {submission.error}", now)
                continue
            limit = self._limit(task)
            if limit is not None and not limit > 0:
                self._fail(task, Special.NOT_STARTED, f"timeout of {limit} s: it must be positive", now)
                continue
            run = Run(task, self._free_slots.take(), now)
            if not template.trivial:
                try:
                    commands = template.commands(text_of(task))
                    if not commands:
                        run.command = template.expand(text_of(task), slot=self._slot_of(run))
                except ExpansionError as error:
                    self._free_slots.give(run.slot)
                    self._fail(task, Special.TEMPLATE_FAILED, f"template: {error}", now)
                    continue
                if commands:
                    run.expanding = True
                    actions.append(Expand(task.id, commands, submission.context, run.slot))
            running[task.id] = run
            if rate is not None:
                self._start_at = now + 1.0 / rate
            if limit is not None:
                self._due[task.id] = now + limit
            if not run.expanding:
                actions.append(Start(task, run.command, submission.context, run.slot))

    def _slot_of(self, run: Run) -> Slot:
        """The slot of a task as templates see it."""
        return Slot(run.slot, self.settings.slots)

    def _limit(self, task: Task) -> float | None:
        """The smaller of the task's time limit and that of the client, or else of its submission; seconds."""
        own, general = task.timeout, self.settings.task_timeout
        if general is None:
            general = self._submissions[task.submission].context.timeout
        if own is None or general is None:
            return general if own is None else own
        return min(own, general)

    def _expanded(self, event: Expanded, now: float, actions: list[Action]) -> None:
        run = self._running.get(event.id)
        if run is None or not run.expanding:
            return
        task = run.task
        submission = self._submissions[task.submission]
        if run.steps is None and event.error is None and submission.template is not None:
            try:
                run.command = submission.template.expand(text_of(task), event.outputs, self._slot_of(run))
            except ExpansionError as error:
                self._close(run, now)
                self._fail(task, Special.TEMPLATE_FAILED, f"template: {error}", now)
                return
            run.expanding = False
            limit = self._limit(task)
            if limit is not None:
                self._due[task.id] = now + limit
            actions.append(Start(task, run.command, submission.context, run.slot))
            return
        self._close(run, now)
        if run.returning:
            self._give_back(task, now)
        elif run.error == CANCELLED_BY_USER:
            self._not_started(task, now)
        elif event.lack is not None and run.error is None:
            self._try_later(task, event.lack, now)
        else:
            error_text = run.error or event.error or "no output"
            self._fail(task, Special.TEMPLATE_FAILED, f"template: {error_text}", now)

    # Tasks end

    def _exited(self, event: Exited, now: float) -> None:
        run = self._running.get(event.id)
        if run is None or run.expanding or run.dead is not None:
            return
        self._headroom.in_vain = False
        if event.unseen is not None:
            self._judge(run, event.unseen)
        if event.status in LAUNCHER_DEATHS and run.steps is None and run.error is None:
            if now - self._signals.get(event.status, -SIGNAL_TIME) < SIGNAL_TIME:
                run.returning = True
            else:
                run.dead = event
                self._due[event.id] = now + SUSPECT_TIME
                return
        self._finish(run, event, now)

    def _leader_ended(self, event: LeaderEnded) -> None:
        """What still prints in the background is not under the limit of the task."""
        run = self._running.get(event.id)
        if run is None or run.expanding or run.steps is not None:
            return
        if event.unseen is not None:
            self._judge(run, event.unseen)
        self._due.pop(event.id, None)

    def _judge(self, run: Run, unseen: Unseen) -> None:
        """Whether a task that ended while nobody looked ended within its limit."""
        due = self._due.get(run.task.id)
        if due is not None and run.steps is None and run.error is None:
            run.error = verdict(due, unseen, self._epoch)

    def _signal_came(self, death: int, now: float) -> None:
        """Tasks that died of the same signal a moment ago were stopped with us: they go back."""
        self._signals[death] = now
        for run in [run for run in self._running.values() if run.dead is not None and run.dead.status == death]:
            run.returning = True
            self._finish(run, run.dead, now)

    def _finish(self, run: Run, event: Exited | None, now: float) -> None:
        """The slot is free; a result, or the task goes back."""
        self._close(run, now)
        if run.returning or event is None:
            self._give_back(run.task, now)
            return
        self._note_oldest(now)
        self._waited_for |= run.error == CANCELLED_BY_USER or self._is_waited_for(run.task)
        if event.kept is not None:
            self._kept_size += event.kept.size
        self._results.append(
            Result(
                event.id,
                run.task.execution,
                event.status,
                event.start,
                event.end,
                shown(run.command),
                reason(run.error),
                shown(event.outpath),
                shown(event.errpath),
                event.utime,
                event.stime,
                event.maxrss,
                event.kept,
            )
        )

    def _start_failed(self, event: StartFailed, now: float) -> None:
        run = self._running.get(event.id)
        if run is None or run.expanding:
            return
        self._close(run, now)
        if run.returning:
            self._give_back(run.task, now)
        elif run.error == CANCELLED_BY_USER:
            self._not_started(run.task, now)
        elif event.lack is not None:
            self._try_later(run.task, event.lack, now)
        else:
            self._fail(run.task, Special.NOT_STARTED, event.error, now, run.command)

    # The machine is short of something

    def _try_later(self, task: Task, lack: Lack, now: float) -> None:
        """The task is not to blame: it waits at the head of the queue, behind others that met the same just now."""
        self._headroom.falls(len(self._running), lack, now)
        self._news = now
        if self._draining:
            self._give_back(task, now)
            return
        self._held[task.id] = task.execution
        self._queue.insert(self._again, task)
        self._again += 1

    def _mind_room(self, now: float) -> None:
        """Try more where it is time to. What waits here while nothing can be started is for others."""
        headroom, running = self._headroom, len(self._running)
        if not self._draining and headroom.grows(running, now):
            self._news = now
        if headroom.in_vain and running and now >= next(iter(self._running.values())).since + PROOF:
            headroom.in_vain = False  # a failure to start it would be known by now
            self._news = now
        if headroom.usable == 0 and not running and self._queue:
            for task in self._queue:
                self._give_back(task, now)
            self._queue.clear()
            self._news = now

    def _close(self, run: Run, now: float) -> None:
        """The slot is free again."""
        id = run.task.id
        del self._running[id]
        self._free_slots.give(run.slot)
        self._held.pop(id, None)
        if self._due:
            self._due.pop(id, None)
        self._idle_since = now

    def _fail(self, task: Task, status: int, error: str, now: float, command: str | None = None) -> None:
        """A result for a task that never ran."""
        self._held.pop(task.id, None)
        self._waited_for |= self._is_waited_for(task)
        self._note_oldest(now)
        wall = now + self._epoch
        self._results.append(Result(task.id, task.execution, status, wall, wall, shown(command), reason(error)))

    def _not_started(self, task: Task, now: float) -> None:
        """A result for a task that was cancelled before it ran."""
        self._waited_for = True
        self._fail(task, Special.CANCELLED, CANCELLED_BY_USER, now)

    def _give_back(self, task: Task, now: float) -> None:
        self._held.pop(task.id, None)
        self._note_oldest(now)
        self._returned.append((task.id, task.execution))

    # Stopping

    def _give_up(self, now: float, actions: list[Action]) -> None:
        """The server did not come back in time."""
        reason = "" if self._away is None else self._away.reason
        self._give_up_at = NEVER
        self._lost = True
        lost = 0 if self._unconfirmed is None else len(self._unconfirmed) + len(self._results)
        more = f"; it did not get {lost} results, whose tasks run again" if lost else ""
        self._ending = None
        self._end(f"the server did not come back within {self._reconnect:g} s ({reason}){more}", now, actions)

    def _climb(self, now: float, unseen: Unseen | None, actions: list[Action]) -> None:
        """Send the signals that are due; a task that reached its time limit gets the first one."""
        if now >= self._give_up_at:
            self._give_up(now, actions)
        for id in [id for id, due in self._due.items() if due <= now]:
            run = self._running[id]
            if run.dead is not None:
                self._finish(run, run.dead, now)
                continue
            if run.steps is None:
                run.error = timed_out(self._due[id], unseen, self._epoch)
                actions.append(Warn(f"Task ({id}) reached its time limit: stopping it"))
                run.steps = ladder(0 if run.expanding else self.settings.signalwait, False, now)
            self._step(run, now, actions)

    def _step(self, run: Run, now: float, actions: list[Action]) -> None:
        """Send what is due of the ladder of one task, and note when the next step is."""
        id, steps = run.task.id, run.steps
        while steps and steps[-1][0] <= now:
            actions.append(SignalTask(id, steps.pop()[1]))
        if steps:
            self._due[id] = steps[-1][0]
        else:
            self._due.pop(id, None)

    def _drain(self, leave: bool, reason: str) -> None:
        self._draining = True
        if leave:
            self._announce = self._announce or (not self._leaving and bool(self._running))
            self._leaving = True
            self._ending = self._ending or reason
        while self._queue:
            task = self._queue.popleft()
            del self._held[task.id]
            self._returned.append((task.id, task.execution))

    def _stop_all(self, steps: list[tuple[float, int]], now: float, actions: list[Action]) -> None:
        """Stop what runs. A task past its time limit keeps its failure; the others are handed back."""
        for run in list(self._running.values()):
            if run.error is None:
                run.returning = True
            if run.dead is not None:
                self._finish(run, run.dead, now)
                continue
            if run.steps is None or (run.steps and steps[0][0] < run.steps[0][0]):
                run.steps = [(now, KILL)] if run.expanding else steps.copy()
            self._step(run, now, actions)

    def _cancel(self, order: CancelOrdered, now: float, actions: list[Action]) -> None:
        """Stop these tasks alone. One that has ended keeps its result, one that goes back is cancelled there."""
        wanted = {id for id, execution in order.tasks if self._held.get(id) == execution}
        for task in [task for task in self._queue if task.id in wanted]:
            self._not_started(task, now)
        self._queue = deque(task for task in self._queue if task.id not in wanted)
        for id, run in self._running.items():
            if id not in wanted or run.dead is not None or run.returning:
                continue
            run.error = CANCELLED_BY_USER
            if run.steps is None:
                run.steps = (
                    [(now, KILL)]
                    if run.expanding
                    else ladder(self.settings.signalwait, False, now, order.signal)
                )
            elif order.signal is not None and not run.expanding:
                # It is being stopped already: this one comes between, and KILL ends it.
                run.steps = [*(run.steps if order.signal != KILL else []), (now, order.signal)]
            self._step(run, now, actions)

    def _recall(self, tasks: list[tuple[str, int]], now: float) -> None:
        """Give these back where they wait in the queue; what has begun or ended stays."""
        wanted = {id for id, execution in tasks if self._held.get(id) == execution}
        back = [task for task in self._queue if task.id in wanted]
        if back:
            self._queue = deque(task for task in self._queue if task.id not in wanted)
        for task in back:
            self._give_back(task, now)

    def _end(self, reason: str, now: float, actions: list[Action]) -> None:
        self._drain(False, reason)
        self._ending = self._ending or reason
        self._leaving = False
        self._stop_all(ladder(0, True, now), now, actions)

    def _rest(self, now: float, actions: list[Action]) -> None:
        """Nothing runs: end if that was awaited, or leave after a long time without work."""
        if self._queue:
            return
        wait = self.settings.idle_timeout
        if self._ending is None and wait is not None and now >= self._idle_since + wait:
            self._ending = f"no work for {wait:g} s"
            self._leaving = True
        if self._ending is None:
            return
        if self._leaving:
            kept = self._unconfirmed
            if kept is not None and (len(kept) or self._results) and not self._hurried:
                return  # until the server has them for good
            actions.append(Say(Leave(self._ending)))
        actions.append(End(self._ending, self._lost))
        self._ended = True
