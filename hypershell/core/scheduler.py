"""The brain: which task goes where and when, and what must be durable before it is told to anybody.

``handle(event, now)`` returns actions, ``deadline()`` the next time it wants to be called. It knows no clock,
socket, file, MPI or database; the same code runs under every transport and in the simulator. `now` is monotonic
seconds; ids and the wall clock are given at construction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.clients import Client
from hypershell.core.groups import Group
from hypershell.core.intake import NOBODY
from hypershell.core.model import CANCELLED_BY_USER, Result, Special, Task
from hypershell.core.poison import TRIAL
from hypershell.core.policy import Counts, Policy
from hypershell.core.quarantine import fails_at_once
from hypershell.core.shortage import NO_ROOM, Shortage
from hypershell.core.states import FAILED, SUCCEEDED
from hypershell.core.walltime import Walltime, format_seconds

__all__ = ["NOBODY", "Counts", "Policy", "Scheduler"]


class Scheduler(Shortage):
    """One run. Parameters: `policy`; `new_id` gives ascending task ids; `epoch` + now is the wall clock (UTC)."""

    def __init__(self, policy: Policy, new_id: Callable[[], str], epoch: float = 0.0) -> None:
        super().__init__(policy, new_id, epoch)
        self._handlers: dict[type, Callable[..., None]] = {
            ev.TasksSubmitted: self._tasks_submitted,
            ev.FeedOpened: self._feed_opened,
            ev.FeedEnded: self._feed_ended,
            ev.WorkFound: self._work_found,
            ev.LimitFound: self._limit_found,
            ev.TasksLoaded: self._tasks_loaded,
            ev.CancelRequested: self._cancel_requested,
            ev.TasksChanged: self._tasks_changed,
            ev.ClientJoined: self._client_joined,
            ev.ClientLeft: self._client_left,
            ev.ClientLost: self._client_lost,
            ev.ResultsReceived: self._results_received,
            ev.Durable: self._durable_reached,
            ev.StoreFailed: self._store_gone,
            ev.StoreStalled: self._store_stalled,
            ev.StoreResumed: self._store_resumed,
            ev.DrainRequested: self._drain_requested,
            ev.InterruptRequested: self._interrupt_requested,
            ev.AllocationEnds: self._allocation_ends,
            ev.TimePassed: self._time_passed,
        }

    # -- the whole surface -------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> list[act.Action]:
        """Take one fact and say what is to be done, in order."""
        if self._finished:
            return []
        self._wall = self.epoch + now
        self._handlers[type(event)](event, now)
        walltime = self._walltime
        if walltime is not None and walltime.pass_to(now):
            self._put_off_late(walltime)
        self._advance()
        if self._ramp.waiting:
            self._admit(now)
        self._release()
        self._recall(now)
        if walltime is not None:
            self._end_in_time(walltime)
        if self._stuck and self._waited_for_room(now):
            self._stop(NO_ROOM)
        current = self._groups.current
        if current is not None and not current.inflight and self._waits_in_vain(current):
            self._give_up_waiting(current, walltime)
        self._want_more()
        self._brake()
        self._emit_record()
        if self._outbox or self._urgent:
            self._urgent = False
            self._hurry()
        self._maybe_finish()
        out = self._out
        self._out = []
        return out

    def deadline(self) -> float | None:
        """Monotonic time at which ``TimePassed`` is wanted."""
        due = self._interrupt_at
        ramp = self._ramp.due
        if ramp is not None and (due is None or ramp < due):
            due = ramp
        if self._reclaims and (due is None or self._reclaims[0][0] < due):
            due = self._reclaims[0][0]
        if self._look_at is not None and (due is None or self._look_at < due):
            due = self._look_at
        gives_up = self._gives_up_at()
        if gives_up is not None and (due is None or gives_up < due):
            due = gives_up
        if self._walltime is not None and self._stopping is None:
            closing = self._walltime.close_at()
            if closing is not None and (due is None or closing < due):
                due = closing
        return due

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def stopping(self) -> str | None:
        """Why nothing more is released, or None."""
        return self._stopping

    @property
    def starving(self) -> bool:
        """Whether clients could soon be without work unless more is read."""
        group = self._groups.current
        enough = max(4 * self._clients.slots, self.policy.window // 4)  # half of it may be sent ahead
        return group is None or self._usable(group) < enough

    def unfinished(self) -> int:
        """Tasks of this run without a final state, as far as they have been read."""
        return self._groups.unfinished()

    def away(self) -> int:
        """Executions that clients of an earlier server have in hand, who may come back."""
        return sum(map(len, self._withheld.values()))

    def group(self) -> int | None:
        """The number of the group that runs, or ran last."""
        return None if self._groups.current is None else self._groups.current.number

    def release_plan(self) -> str:
        """How clients get their first work, for people."""
        return self._ramp.words()

    def allocation_end(self) -> float | None:
        """When the allocation ends, seconds since the epoch; None where that is not known."""
        return None if self._walltime is None else self.epoch + self._walltime.end

    def clients(self) -> list[Client]:
        """The clients that are here; to be read only."""
        return self._clients.all()

    def connected(self) -> int:
        """How many clients are here."""
        return len(self._clients)

    def client(self, number: int) -> Client | None:
        """The client with this number; to be read only."""
        return self._clients.get(number)

    # -- clients -----------------------------------------------------------------------------------------

    def _client_joined(self, event: ev.ClientJoined, now: float) -> None:
        before = self._clients.get(event.client) or self._clients.known_as(event.info.id)
        if before is not None:
            self._lose(before.number, "joined again")
        client = Client(event.client, event.info, self._wall)
        self._clients.add(client)
        if client.kind.aside:
            self._know_again(client)
        if not event.info.outlives:
            self._seen.add(event.client)
        self._changes().clients.append(act.ClientChange(client.number, client.info, self._wall))
        if self._stopping is not None:
            client.draining = True
        if event.info.outlives and not self._store_failed:
            self._rise(client)
            self._reclaim(client, event.holds)
            if client.draining and client.holding:
                self._out.append(act.DrainClients([client.number]))
                if self._interrupted:
                    self._out.append(act.InterruptClients([client.number], self._grace(now)))
        self._membership_changed(client.kind)  # after it took what it holds: the rest may go back to the store
        self._enter(client, now)

    def _client_left(self, event: ev.ClientLeft, now: float) -> None:
        self._lose(event.client, None)
        self._end_without_clients("idle")

    def _client_lost(self, event: ev.ClientLost, now: float) -> None:
        # One that dies while the run ends may have been ended with it.
        died = self._stopping is None
        if self._lose(event.client, event.reason, died) is None and not event.outside:
            self._seen.add(event.client)
        self._end_without_clients("no clients left")

    def _lose(self, number: int, reason: str | None, died: bool = False) -> Client | None:
        """Take back what the client held: no retry is spent, the next execution is a new one.

        `died`: one of its tasks may have been the reason.
        """
        client = self._clients.remove(number)
        if client is None:
            return None
        if not client.kind.clients:
            self._membership_changed(client.kind)
        self._judged_is_gone(client)
        self._unstick(client)
        left = "left" if reason is None else f"lost: {reason}"
        self._changes().clients.append(act.ClientChange(number, client.info, self._wall, left))
        if reason is not None:
            self.counts.lost += len(client.holding)
        self._risky.discard(number)
        if died:
            self._mourn(client)
        self._take_back(number, list(client.holding.values()))
        client.holding.clear()
        self._outbox = deque(entry for entry in self._outbox if entry[1].client != number)
        return client

    def _end_without_clients(self, reason: str) -> None:
        """Stop when nobody is left of the clients that can ever be; others are not waited for."""
        if self.policy.closed and len(self._seen) >= self.policy.expected and not len(self._clients):
            self._stop(reason)

    def _give_up_waiting(self, group: Group, walltime: Walltime | None) -> None:
        """Tasks are left that nobody here can take: go to a lower group, or end where nobody else can come."""
        if self._turn_back(group) or self._feeds or not self._all_have_come():
            return
        if walltime is not None and group.late():  # some they could have taken, with more time
            self._stop_in_time(walltime, group.late())
        else:
            self._stop("no clients left")

    # -- results -----------------------------------------------------------------------------------------

    def _results_received(self, event: ev.ResultsReceived, now: float) -> None:
        client = self._clients.get(event.client)
        if client is None:
            self.counts.stale += len(event.results) + len(event.returned)
            return
        spent = 0.0
        count = 0
        blameless: list[Task] = []
        for result in event.results:
            task = self._claim(client, result.id, result.execution)
            if task is None:
                continue
            if client.aside and fails_at_once(result):
                blameless.append(task)
                continue
            self._finish_task(client, task, result)
            spent += result.end - result.start
            self._durations.add(result.end - result.start)
            count += 1
            if client.aside and result.exit_status == 0:
                self._absolve_by(client)
            if not client.aside:
                self._judge(client, result)
        back = blameless + [task for key, n in event.returned if (task := self._claim(client, key, n)) is not None]
        if back:
            self._take_back(client.number, back)
        self._note_results(client)
        self._heard_from(client, len(back), now)
        if count:
            self._sizer.observe(spent, count)
            self._unstick(client)
            self._stuck_since = None
        if event.room is not None:
            self._has_room(client, event.room)
        if event.leaving:
            client.draining = True
        client.first = False
        self._clients.ask(client)
        if client.info.outlives:
            self._acknowledge(client)

    def _claim(self, client: Client, task_id: str, execution: int) -> Task | None:
        """The task, if this client holds just this execution of it."""
        task = client.holding.get(task_id)
        if task is None or task.execution != execution:
            self.counts.stale += 1
            return None
        del client.holding[task_id]
        return task

    def _finish_task(self, client: Client, task: Task, result: Result) -> None:
        group = self._groups.get(task.group)
        group.inflight -= 1
        sent_as = self._ran_as.get(task.id)
        if sent_as is not None and result.command is None and result.exit_status != Special.TEMPLATE_FAILED:
            result = replace(result, command=sent_as)
        settled = self._cancelling.pop(task.id, None)
        if settled or (settled is not None and result.error == CANCELLED_BY_USER):
            self._cancelled(client.number, task, result)
            return
        self._forget(task)
        self._acquitted += task.deaths >= TRIAL
        record = self._changes()
        next_id = None
        state = SUCCEEDED
        if result.exit_status == 0 and result.error is None:
            self.counts.succeeded += 1
        else:
            state = FAILED
            if task.attempt - task.tried < self.policy.attempts and settled is None:
                next_id = self._retry(task, group, record)
            else:
                self.counts.failed += 1
                self._groups.fail(group, task.id)
        record.finished.append(act.Finished(client.number, state, task.schedule_time, result, next_id, task))

    def _retry(self, task: Task, group: Group, record: act.Record) -> str:
        """A new row with every attribute of the old one."""
        again = replace(
            task, id=self._new_id(), attempt=task.attempt + 1, execution=0, previous_id=task.id, schedule_time=0.0,
            deaths=0,
        )  # fmt: skip
        record.inserted.append(again)
        self.counts.retried += 1
        current = group is self._groups.current
        if self.policy.eager and current:
            group.add_front(again)
            self._known.add(again.id)
        elif current and not group.stored:
            group.add(again)
            self._known.add(again.id)
        else:
            self._groups.store(group)
        return again.id

    # -- the end -----------------------------------------------------------------------------------------

    def _drain_requested(self, event: ev.DrainRequested, now: float) -> None:
        self._stop(event.reason)
        if event.limit is not None:
            self._interrupt_by(now + event.limit)

    def _interrupt_by(self, when: float) -> None:
        """At that time at the latest, running tasks are stopped."""
        if not self._interrupted:
            self._interrupt_at = when if self._interrupt_at is None else min(self._interrupt_at, when)

    def _interrupt_requested(self, event: ev.InterruptRequested, now: float) -> None:
        self._stop("drained")
        self._interrupt(now)

    def _time_passed(self, event: ev.TimePassed, now: float) -> None:
        if self._interrupt_at is not None and now >= self._interrupt_at:
            self._stop("walltime")  # which it is, where nothing has stopped the run before
            if self._walltime is not None and now >= self._walltime.stop_at():
                left = format_seconds(self._walltime.end - now)
                text = f"The allocation ends in {left}: stopping running tasks"
                self._out.append(act.Note("warning", "server", text))
            self._interrupt(now)
        self._reclaim_passed(now)

    def _allocation_ends(self, event: ev.AllocationEnds, now: float) -> None:
        policy = self.policy
        self._walltime = walltime = Walltime(
            event.at, now, policy.drain_time, policy.stopping, policy.task_limit, self._durations
        )
        self._interrupt_by(walltime.stop_at())

    def _put_off_late(self, walltime: Walltime) -> None:
        """Tasks without a time limit begin no more: find what still may."""
        group = self._groups.current
        if group is not None and self._stopping is None:
            for task in group.take_out(lambda task: walltime.is_late(self._limit(task))):
                group.put_off(task)

    def _end_in_time(self, walltime: Walltime) -> None:
        """Drain when nothing of what is here could end before the allocation does."""
        record = self._record
        if self._stopping is not None or (record is not None and record.dispatched):
            return  # what is being given out goes out; when that is durable we are asked again
        group = self._groups.current
        late = 0 if group is None else group.late()
        may_begin = 0 if group is None else group.in_memory() - late
        if not walltime.closed:
            if group is None or not late or group.inflight or may_begin:
                return
            in_store = (group.stored or group.again) and late < self.policy.window
            if in_store or self._loading or self._feeds or self.policy.forever:
                return
        elif may_begin or self._end_reason() is not None:
            return
        self._stop_in_time(walltime, late)

    def _stop_in_time(self, walltime: Walltime, late: int) -> None:
        self._stop("walltime")
        out = self.inflight()
        what = f"waiting for up to {out} that were given out" if out else f"{late} could not end before that"
        text = f"The allocation ends in {format_seconds(walltime.left)}: no new tasks, {what}"
        self._out.append(act.Note("warning", "server", text))

    def _stop(self, reason: str) -> None:
        """Release nothing from now on; the first reason stays."""
        if self._stopping is not None:
            return
        self._stopping = reason
        self._ramp.end()
        self._reclaims.clear()  # what is withheld stays with its clients, for the server that comes after us
        while self._outbox:
            self._unsend(self._outbox.popleft()[1])
        for client in self._clients.all():
            client.draining = True
        self._out.append(act.DrainClients(self._clients.numbers()))

    def _interrupt(self, now: float) -> None:
        self._interrupt_at = None
        if self._stopping == "drained" and self.inflight():
            self._stopping = "interrupted"  # what runs does not end by itself
        if not self._interrupted:
            self._interrupted = True
            self._out.append(act.InterruptClients(self._clients.numbers(), self._grace(now)))

    def _grace(self, now: float) -> float | None:
        """How long a task that is stopped may take between two signals; None: as the settings say."""
        return None if self._walltime is None else self._walltime.grace(now)

    def _maybe_finish(self) -> None:
        reason = self._end_reason()
        if reason is None:
            return
        if self._durable < self._seq and not self._store_failed:
            self._hurry()
            return
        self._finished = True
        self._interrupt_at = None
        self._reclaims.clear()
        unfinished = self._groups.unfinished()
        held = 0
        if reason == "group failed":
            held, unfinished = unfinished, 0
        self._out.append(act.DismissClients(self._clients.numbers()))
        done = self.counts
        self._out.append(
            act.Finish(done.succeeded, done.failed, held, unfinished, reason, done.failed_before, done.cancelled)
        )

    def _end_reason(self) -> str | None:
        """Why the run is over, or None while it is not."""
        if self._stopping is not None:
            return None if self.inflight() and len(self._clients) else self._stopping
        if self._feeds or self._loading or self.policy.forever:
            return None
        current = self._groups.current
        if current is not None and current.unfinished():
            return None
        if self._groups.out_of_turn():
            return None
        if self._blocked is not None and self._blocked.unfinished():
            return "group failed"
        return None if self._groups.waiting() is not None else "complete"

    def _store_stalled(self, event: ev.StoreStalled, now: float) -> None:
        """Release nothing: what runs now could not be recorded, and would run again."""
        self._stalled = True

    def _store_resumed(self, event: ev.StoreResumed, now: float) -> None:
        self._stalled = False

    def _store_gone(self, event: ev.StoreFailed, now: float) -> None:
        self._store_failed = True
        self._out.append(act.Note("critical", "server", event.reason))
        for client in self._clients.all():
            if client.info.outlives:  # they hold their work for the server that comes after us
                self._lose(client.number, event.reason)
        self._stop("store failed")
        self._stopping = "store failed"
        self._interrupt(now)
