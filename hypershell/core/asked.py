"""What users want of tasks that this server knows: to have them cancelled, or changed."""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.intake import NOBODY
from hypershell.core.model import Task
from hypershell.core.needs import need_of
from hypershell.core.quarantine import Quarantine

__all__ = ["Asked"]


class Asked(Quarantine):
    """The part of the scheduler that does what users ask for."""

    # -- cancelling --------------------------------------------------------------------------------------

    def _was_cancelled(self, key: str) -> bool:
        """Whether this task was cancelled here already: somebody asked a second time before that was recorded."""
        return self._cancelled_here.pop(key, False)

    def _cancel_requested(self, event: ev.CancelRequested, now: float) -> None:
        """Drop what is ready or not sent yet, and have the rest stopped by those who run it."""
        settled = set(event.settled)
        known = self._known
        wanted = {key for key in event.ids if key in known}
        # What only the store held is dealt with there.
        self.counts.cancelled += sum(key not in known and not self._was_cancelled(key) for key in event.settled)
        if not wanted:
            return
        for group in self._groups.in_hand():
            for task in group.take_out(lambda task: task.id in wanted):
                self._cancelled(NOBODY, task)
        self._cancel_withheld(wanted)
        self._cancel_unsent(wanted)
        for client in self._clients.all():
            tasks = [(key, task.execution) for key, task in client.holding.items() if key in wanted]
            if tasks:
                self._cancelling.update((key, key in settled) for key, _ in tasks)
                self._out.append(act.CancelTasks(client.number, tasks, event.signal))

    def _cancel_unsent(self, wanted: set[str]) -> None:
        """Take what waits for its dispatch to be durable out of the outbox."""
        outbox, self._outbox = self._outbox, deque()
        for seq, send in outbox:
            client = self._clients.get(send.client)
            for task in send.tasks:
                if task.id in wanted and client is not None:
                    del client.holding[task.id]
                    self._groups.get(task.group).inflight -= 1
                    self._cancelled(send.client, task)
                    self._clients.ask(client)
            tasks = [task for task in send.tasks if task.id not in wanted]
            if tasks:
                self._outbox.append((seq, act.SendTasks(send.client, tasks)))

    # -- changing ----------------------------------------------------------------------------------------

    def _tasks_changed(self, event: ev.TasksChanged, now: float) -> None:
        """Take over what the user changed; what a client has already keeps it for its next attempt."""
        told = {task.id: task for task in event.tasks if task.id in self._known}
        for task in event.tasks:
            if task.id not in told:
                self._look_again(task.group)
        if not told:
            return
        unsent = {task.id for _, send in self._outbox for task in send.tasks}

        def revised(old: Task, new: Task) -> Task:
            # A client that is cut off may come back with what was taken from it: as it was sent.
            if old.execution and old.id not in unsent and old.args != new.args:
                self._ran_as.setdefault(old.id, old.args)
            return _revised(old, new)

        for group in self._groups.in_hand():
            group.revise(told, revised)
        holders = [client.holding for client in self._clients.all()]
        for held in (*holders, *self._withheld.values()):
            for key in told.keys() & held.keys():
                held[key] = revised(held[key], told[key])
        if unsent & told.keys():
            self._revise_unsent()

    def _revise_unsent(self) -> None:
        """What waits for its dispatch to be durable goes out as it is now, and stays where it is not wanted now."""
        outbox, self._outbox = self._outbox, deque()
        for seq, send in outbox:
            client = self._clients.get(send.client)
            if client is None:
                continue
            tasks: list[Task] = []
            unfit: list[Task] = []
            for old in send.tasks:
                task = client.holding[old.id]
                fits = task is old or client.kind.meets(need_of(task.tag, self.policy.family))
                (tasks if fits else unfit).append(task)
            if tasks:
                self._outbox.append((seq, act.SendTasks(send.client, tasks)))
            if unfit:
                self._unsend(act.SendTasks(send.client, unfit))
                self._clients.ask(client)

    def _unsend(self, send: act.SendTasks) -> None:
        """Tasks whose dispatch was not yet durable go back without ever having been sent."""
        client = self._clients.get(send.client)
        if client is not None:
            for task in send.tasks:
                client.holding.pop(task.id, None)
            self._take_back(send.client, send.tasks)


def _revised(task: Task, told: Task) -> Task:
    """The task with what the user may change as it was told; a copy: the old one may be with a client."""
    return replace(
        task,
        args=told.args,
        raw=told.raw,
        timeout=told.timeout,
        tag=told.tag,
        cores=told.cores,
        memory=told.memory,
    )
