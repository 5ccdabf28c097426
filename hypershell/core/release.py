"""Which group runs, which client gets how much of it, and when more is wanted from the store."""

from __future__ import annotations

from hypershell.core import actions as act
from hypershell.core.clients import Client, Kind
from hypershell.core.groups import LATE, Group
from hypershell.core.ledger import Ledger
from hypershell.core.model import Task
from hypershell.core.needs import Need, need_of, shown
from hypershell.core.poison import lane_for, need_behind

__all__ = ["Release"]


class Release(Ledger):
    """The part of the scheduler that gives work out."""

    def _may_start(self, number: int) -> bool:
        return not (self.policy.barrier_at_end and self._feeds and number > 0)

    def _is_free(self, number: int) -> bool:
        """Whether neither the input nor a failed group holds back the group `number`."""
        return self._may_start(number) and self._groups.holder(number) is None

    def _start_group(self, group: Group) -> None:
        previous = self._groups.current
        self._groups.current = group
        self._blocked = None
        if previous is None:
            self._out.append(act.Note("info", "server", f"Starting with task group {group.number}"))
        elif not previous.unfinished():
            text = f"Completed task group {previous.number} - starting task group {group.number}"
            self._out.append(act.Note("info", "server", text))
        self._clients.ask_all()

    def _advance(self) -> None:
        """Go to the next group when the current one is done and nothing holds the next back."""
        current = self._groups.current
        if self._stopping is not None or (current is not None and current.unfinished()):
            return
        waiting = self._groups.waiting()
        if waiting is None or self._blocked is waiting or not self._may_start(waiting.number):
            return
        holder = self._groups.holder(waiting.number)
        if holder is None:
            self._start_group(waiting)
            return
        self._blocked = waiting
        ids = ", ".join(holder.failures) or "failures of an earlier run"
        text = f"Failed task group {holder.number}: {holder.failed} failed ({ids}); later groups are held back"
        if not self.policy.brake:  # with a store that lasts
            text += " (--restart --retry-failed tries the failed tasks again)"
        self._out.append(act.Note("warning" if self.policy.forever else "critical", "server", text))

    def _turn_back(self, group: Group) -> bool:
        """Go on with a lower group, where one waits: nobody here can take what the current `group` has left."""
        lower = self._groups.waiting()
        if lower is None or lower.number > group.number or not self._is_free(lower.number):
            return False
        aside = group.take_out(lambda task: True)
        self._known.difference_update(task.id for task in aside)
        self._groups.store(group, len(aside))
        group.lanes.clear()
        group.again = True
        text = f"Task group {group.number} waits - going on with task group {lower.number}"
        self._out.append(act.Note("info", "server", text))
        self._start_group(lower)
        return True

    def _enter(self, client: Client, now: float) -> None:
        """`client` has joined: it stands in line for its first work, where the plan wants that, or may have it."""
        before = self._ramp.waiting
        if not self._ramp.join(client, self._clients.slots, now):
            self._clients.ask(client)
        elif not before:
            text = f"First work of clients by plan: {self._ramp.words()}"
            self._out.append(act.Note("info", "server", text))

    def _admit(self, now: float) -> None:
        """Let those get work to whom the release plan has come; each finds a task."""
        group, ramp = self._groups.current, self._ramp
        idle = group is None or self._stopping is not None or self._stalled
        ready: dict[Kind, int] = {}
        if group is not None and not idle:
            ready = {kind: group.for_kind(kind) + group.suspects_for(kind) for kind in ramp.kinds()}
        for client in reversed(ramp.turn(ready, self.policy.bundlesize or 0, now)):
            self._clients.ask(client, first=True)

    def _release(self) -> None:
        """Give ready tasks to clients that have room, in the order in which they asked."""
        group = self._groups.current
        if group is None or self._stopping is not None or self._stalled:
            return
        clients, size, found = self._clients, self._sizer.size, self._sizer.found
        if group.woken:
            for need in group.woken:
                clients.stir(need)
            group.woken.clear()
        line = clients.stirred
        while line:
            kind = line[0]
            ready = group.for_kind(kind)
            while ready:
                client = kind.next()
                if client is None:
                    break
                count = size(client.slots, len(client.holding), ready + group.stored, clients.slots)
                if count > ready:
                    count = ready
                if (client.first and self.policy.bundlesize is None) or client.stuck is not None:
                    count = min(count, client.slots - len(client.holding))
                if self._recalled and count > 0:  # what was taken back goes to where it starts at once
                    count = min(count, max(0, client.slots - len(client.holding)))
                    self._recalled = max(0, self._recalled - count)
                if count > 0:
                    if not client.first:
                        found(client.slots, len(client.holding))
                    self._dispatch(client, group, count)
                    ready -= count
                    client.asks = True  # in line again, as ``ask`` would put it
                    kind.queue.append(client)
                if len(line) > 1:
                    line.rotate(-1)
                    kind = line[0]
                    ready = group.for_kind(kind)
            kind.stirred = False
            line.popleft()

    def _dispatch(self, client: Client, group: Group, count: int) -> None:
        holding = client.holding
        tasks: list[Task] = []
        walltime = self._walltime
        for _ in range(count):
            task = group.take_for(client.kind) if group.lanes else group.take()
            rounds = (len(holding) + len(tasks)) // client.slots
            if walltime is not None and walltime.is_late(self._limit(task), rounds):
                group.put_off(task)
                continue
            tasks.append(task)
        if tasks:
            self._give(client, group, tasks)

    def _give(self, client: Client, group: Group, tasks: list[Task]) -> None:
        dispatched: list[act.Dispatch] = []
        number, wall = client.number, self._wall
        holding, deaths = client.holding, self._deaths
        for task in tasks:
            task.execution += 1
            task.schedule_time = wall
            holding[task.id] = task
            dispatched.append(act.Dispatch(task.id, task.execution, number, wall, deaths(task)))
        record = self._changes()
        record.dispatched += dispatched
        if self._ran_as:
            for task in tasks:
                self._ran_as.pop(task.id, None)
        group.inflight += len(tasks)
        if len(holding) > client.slots:
            self._queued = True
        send = act.SendTasks(number, tasks)
        # A task that kills us is to be known as one that was running.
        in_danger = self._cautious or tasks[0].deaths or (self.policy.careful and not self._durable)
        if in_danger or self.policy.durable_dispatch or client.info.outlives:
            self._outbox.append((record.seq, send))
        else:
            self._out.append(send)

    def _want_more(self) -> None:
        """Ask the store for the next tasks of the current group before memory runs dry."""
        group = self._groups.current
        if group is None or self._loading or self._stopping is not None or not (group.stored or group.again):
            return
        window = self.policy.window
        held = self._usable(group)
        if held <= window // 2 and group.late() < window:
            self._loading = True
            group.fresh = 0
            self._emit_record()
            again = group.again
            if again:
                group.again = False
                group.stored += sum(group.passed.values())
                group.passed.clear()
            self._out.append(act.LoadMore(group.number, max(1, min(window - held, 4096)), again))

    # -- tasks that nobody here can take -----------------------------------------------------------------

    def _is_wanted(self, task: Task) -> bool:
        """Whether a client that is here can take it."""
        return self._clients.take(need_of(task.tag, self.policy.family) if task.tag else None)

    def _usable(self, group: Group) -> int:
        """How many tasks of `group` in memory can be taken by clients that are here."""
        take = self._clients.take
        if not group.lanes:
            return len(group.ready) + len(group.front) if take(None) else 0
        return sum(lane.count() for need, lane in group.all_lanes() if take(need))

    def _room(self, group: Group) -> tuple[int, int]:
        """For how many more tasks of `group` there is room in memory: for wanted ones, and for others."""
        take = self._clients.take
        others = sum(lane.count() for place, lane in group.lanes.items() if not take(need_behind(place)[0]))
        others += 0 if take(None) else len(group.ready) + len(group.front)
        return self.policy.window - self._usable(group), self._spare() - others

    def _spare(self) -> int:
        """The most tasks that are held in memory although nobody here can take them."""
        return max(1, self.policy.window // 4)

    def _all_have_come(self) -> bool:
        """Whether no client can come that has not been here."""
        policy = self.policy
        return policy.closed and not policy.door and len(self._seen) >= policy.expected

    def _pass_over(self, group: Group, task: Task) -> None:
        """Leave a pending row in the store; what was read is forgotten until somebody can take it."""
        need = lane_for(task, self.policy.family)
        group.passed[need] = group.passed.get(need, 0) + 1

    def _look_again(self, number: int) -> None:
        """A row of this group that is not in memory was changed: somebody here may take it now."""
        group = self._groups.get(number)
        if group.passed:
            group.again = True

    def _membership_changed(self, kind: Kind) -> None:
        """Clients of a `kind` came, or the last of them left: some tasks are wanted now, or no longer."""
        group = self._groups.current
        if group is None:
            return
        take = self._clients.take
        if any(take(need) for need in group.passed):
            group.again = True
        spare = self._room(group)[1]
        for need, lane in reversed(group.all_lanes()):
            if spare >= 0:
                break
            if not take(need_behind(need)[0]):
                count = min(-spare, len(lane.ready))
                for _ in range(count):
                    self._known.discard(lane.ready.pop().id)
                spare += count
                group.again = group.again or count > 0
                self._groups.store(group, count)

    def _waits_in_vain(self, group: Group) -> bool:
        """Whether nothing is left of `group` but tasks that nobody here can take; says once what they need."""
        if self._loading or self._stopping is not None or not len(self._clients):
            return False
        if group.away or group.stored or group.again or self._usable(group):
            return False
        lanes = [*group.passed.items(), *((need, lane.count()) for need, lane in group.all_lanes() if need != LATE)]
        counts: dict[Need | None, int] = {}
        for place, count in lanes:
            need, suspect = need_behind(place)
            if count and suspect and self._clients.take(need):
                return False
            if count:
                counts[need] = counts.get(need, 0) + count
        for need, count in counts.items():
            words = shown(need, self.policy.family)
            if words not in self._told_needs:
                self._told_needs.add(words)
                text = f"{count} tasks wait for a client that takes {words}: none is here"
                self._out.append(act.Note("warning", "server", text))
        return bool(counts)
