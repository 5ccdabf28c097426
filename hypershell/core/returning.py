"""Clients that come back, and the tasks that they have in hand: which are theirs again, which are others' by now.

A client that outlives its server says at its return which executions it holds. Those that were given to nobody else
are its own again, under the same execution: after a cut connection what was taken back and still waits, after a
restart what the earlier server had given it, which is withheld from others for ``Policy.reclaim`` seconds.
"""

from __future__ import annotations

from collections.abc import Collection

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.clients import Client
from hypershell.core.intake import NOBODY, Intake
from hypershell.core.model import Task

__all__ = ["Returning"]


class Returning(Intake):
    """The part of the scheduler that gives clients their tasks back."""

    def _work_found(self, event: ev.WorkFound, now: float) -> None:
        super()._work_found(event, now)
        for name, tasks in event.withheld.items():
            self._withhold(name, tasks)
        if not event.withheld:
            return
        self._reclaims.append((now + self.policy.reclaim, list(event.withheld)))
        count = sum(map(len, event.withheld.values()))
        text = f"{count} tasks are with clients of an earlier server: {self.policy.reclaim:g} s for them to return"
        self._out.append(act.Note("info", "server", text))

    def _withhold(self, name: str, tasks: list[Task]) -> None:
        self._withheld.setdefault(name, {}).update((task.id, task) for task in tasks)
        for task in tasks:
            group = self._groups.get(task.group)
            group.away += 1
            self._groups.early[group.number] = group
            self._groups.queue(group)
            self._known.add(task.id)

    def _reclaim(self, client: Client, holds: Collection[tuple[str, int]]) -> None:
        """Give `client`, which has just joined, all that it holds and nobody else has; it is to stop the rest."""
        wanted = set(holds)
        withheld = self._withheld.pop(client.info.id, {})
        mine = [task for task in withheld.values() if (task.id, task.execution) in wanted]
        for task in mine:
            self._groups.get(task.group).away -= 1
            del withheld[task.id]
        self._let_go(withheld.values())
        for group in self._groups.in_hand():
            mine += group.take_out(lambda task: (task.id, task.execution) in wanted)
        if mine:
            self._own_again(client, mine)
        others = wanted.difference((task.id, task.execution) for task in mine)
        if others:
            self._out.append(act.CancelTasks(client.number, sorted(others)))

    def _own_again(self, client: Client, tasks: list[Task]) -> None:
        """The same executions go on, nothing is sent."""
        record = self._changes()
        self._queued = True
        for task in tasks:
            client.holding[task.id] = task
            group = self._groups.get(task.group)
            group.inflight += 1
            self._groups.early[group.number] = group
            self._groups.queue(group)
            again = act.Dispatch(task.id, task.execution, client.number, task.schedule_time, task.deaths)
            record.dispatched.append(again)
        if record.returned:  # by the connection before, a moment ago
            record.returned = [back for back in record.returned if back.id not in client.holding]

    def _let_go(self, tasks: Collection[Task]) -> None:
        """What was withheld is ready for anybody."""
        if not tasks:
            return
        record = self._changes()
        for task in sorted(tasks, key=lambda task: task.id, reverse=True):
            group = self._groups.get(task.group)
            group.away -= 1
            group.add_front(task, first=True)
            record.returned.append(act.Return(task.id, task.execution, self._deaths(task)))

    def _reclaim_passed(self, now: float) -> None:
        """Clients that had time enough and did not come back lose their tasks to others."""
        while self._reclaims and self._reclaims[0][0] <= now:
            names = self._reclaims.popleft()[1]
            gone = [task for name in names for task in self._withheld.pop(name, {}).values()]
            if gone:
                text = f"{len(gone)} tasks of clients that did not come back go to others"
                self._out.append(act.Note("warning", "server", text))
                self._let_go(gone)

    def _cancel_withheld(self, wanted: set[str]) -> None:
        """Tasks of absent clients end here; a client that comes back with one is told to stop it."""
        for tasks in self._withheld.values():
            for key in sorted(wanted & tasks.keys()):
                task = tasks.pop(key)
                self._groups.get(task.group).away -= 1
                self._cancelled(NOBODY, task)
