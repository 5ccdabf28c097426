"""Which group runs, which client gets how much of it, and when more is wanted from the store."""

from __future__ import annotations

from hypershell.core import actions as act
from hypershell.core.clients import Client
from hypershell.core.groups import Group
from hypershell.core.ledger import Ledger

__all__ = ["Release"]


class Release(Ledger):
    """The part of the scheduler that gives work out."""

    def _may_start(self, number: int) -> bool:
        return not (self.policy.barrier_at_end and self._feeds and number > 0)

    def _start_group(self, group: Group) -> None:
        previous = self._groups.current
        self._groups.current = group
        self._blocked = None
        if previous is None:
            self._out.append(act.Note("info", "server", f"Starting with task group {group.number}"))
        elif previous is not group:
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
        self._out.append(act.Note("warning" if self.policy.forever else "critical", "server", text))

    def _release(self) -> None:
        """Give ready tasks to clients that have room, in the order in which they asked."""
        group = self._groups.current
        if group is None or self._stopping is not None or self._stalled:
            return
        clients, size = self._clients, self._sizer.size
        ready = group.in_memory()
        while ready:
            client = clients.next()
            if client is None:
                return
            count = size(client.slots, len(client.holding), ready + group.stored, clients.slots)
            if count > ready:
                count = ready
            if count > 0:
                self._dispatch(client, group, count)
                ready -= count
                clients.ask(client)

    def _dispatch(self, client: Client, group: Group, count: int) -> None:
        record = self._changes()
        dispatched, number, wall = record.dispatched, client.number, self._wall
        holding = client.holding
        tasks = []
        for _ in range(count):
            task = group.take()
            task.execution += 1
            task.schedule_time = wall
            holding[task.id] = task
            dispatched.append(act.Dispatch(task.id, task.execution, number, wall))
            tasks.append(task)
        group.inflight += count
        send = act.SendTasks(number, tasks)
        if self.policy.durable_dispatch or client.info.outlives:
            self._outbox.append((record.seq, send))
        else:
            self._out.append(send)

    def _want_more(self) -> None:
        """Ask the store for the next tasks of the current group before memory runs dry."""
        group = self._groups.current
        if group is None or self._loading or self._stopping is not None or not group.stored:
            return
        window = self.policy.window
        held = group.in_memory()
        if held <= window // 2:
            self._loading = True
            group.fresh = 0
            self._emit_record()
            self._out.append(act.LoadMore(group.number, max(1, min(window - held, 4096))))
