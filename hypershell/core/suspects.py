"""Tasks whose client died while it had them: they run last, one at a time for each client, and not for ever.

One death makes a suspect of all that the client had. Suspects get a slot when nothing else of their group is left
to give, one for each client, so that the next death tells more. Those in several deaths are on trial: they run one
at a time in the whole run, since where a job dies with one of its ranks all of them die, and more at a time as
trials end well. The last death is held against a task only where it was alone (``core.poison``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from hypershell.core import actions as act
from hypershell.core.clients import Client, Kind
from hypershell.core.groups import Group
from hypershell.core.model import Result, Special, Task
from hypershell.core.needs import Need
from hypershell.core.poison import DEFAULT, TRIAL, need_behind, raised, verdict
from hypershell.core.policy import Policy
from hypershell.core.release import Release
from hypershell.core.states import FAILED

__all__ = ["NOBODY", "Suspects"]

#: The client number of what no client ever saw.
NOBODY = -1

#: Lost clients that may come back, of which it is remembered what was held against their tasks.
MOST_MOURNED = 1000


class Suspects(Release):
    """The part of the scheduler that deals with tasks that may kill their clients."""

    def __init__(self, policy: Policy, new_id: Callable[[], str], epoch: float = 0.0) -> None:
        super().__init__(policy, new_id, epoch)
        self._fatal: dict[int, int] = {}
        """Deaths that fail a task, of submissions that say so."""
        self._risky: set[int] = set()
        """Clients that have a suspect in hand, and may die any time: what is known is to be durable."""
        self._trials: dict[str, Client] = {}
        """Tasks on trial, and to whom they were given."""
        self._acquitted = 0
        """How many trials ended with a result."""
        self._mourned: dict[str, list[Task]] = {}
        """Of lost clients that may come back: their tasks, in whose count the loss is."""

    # -- giving them out ---------------------------------------------------------------------------------

    def _release(self) -> None:
        super()._release()
        group = self._groups.current
        if group is None or not group.lanes or self._stopping is not None or self._stalled:
            return
        if group.stored or group.again or self._loading:
            return  # something else may come
        for kind in self._clients.kinds():
            if not group.for_kind(kind):
                self._release_suspects(group, kind)

    def _release_suspects(self, group: Group, kind: Kind) -> None:
        while (lane := group.suspect_for(kind)) is not None:
            if lane in kind.trials and len(self._on_trial()) >= max(1, self._acquitted // 2):
                return
            client = kind.next_willing()
            if client is None:
                return
            task = group.take_suspect(lane)
            if self._walltime is not None and self._walltime.is_late(self._limit(task)):
                group.put_off(task)
                self._clients.ask(client)
                continue
            client.suspect = task.id
            self._risky.add(client.number)
            if task.deaths >= TRIAL:
                self._trials[task.id] = client
            self._give(client, group, [task])

    def _on_trial(self) -> Mapping[str, Client]:
        self._trials = {key: client for key, client in self._trials.items() if key in client.holding}
        return self._trials

    def _note_results(self, client: Client) -> None:
        """Results of `client` came. While suspects run they are committed at once: the next death may be ours."""
        if self._risky:
            self._urgent = True
            if client.suspect not in client.holding:
                self._risky.discard(client.number)

    def _want_more(self) -> None:
        group = self._groups.current
        if group is not None and group.passed and not (group.stored or group.again or self._usable(group)):
            here = [need for need, lane in group.all_lanes() if lane.count()]
            group.again = self._has_suspects(group.passed) and not self._has_suspects(here)
        super()._want_more()

    def _room_for_suspects(self, group: Group) -> int:
        """How many more suspects that somebody here can take may be in memory."""
        here = [(need_behind(place), lane.count()) for place, lane in group.lanes.items()]
        return self._spare() - sum(count for (need, suspect), count in here if suspect and self._clients.take(need))

    def _has_suspects(self, lanes: Collection[Need | None]) -> bool:
        """Whether in one of these lanes are suspects that somebody here can take."""
        found = map(need_behind, lanes)
        return any(suspect and self._clients.take(need) for need, suspect in found)

    # -- deaths ------------------------------------------------------------------------------------------

    def _most_deaths(self, task: Task) -> int:
        """Deaths after which the task fails; 0: never."""
        limit = self.policy.poison
        return self._fatal.get(task.submission, DEFAULT) if limit is None else limit

    def _mourn(self, client: Client) -> None:
        """The client died: this is held against what it may have run; what was in too many deaths ends here."""
        unsent = {task.id for _, send in self._outbox if send.client == client.number for task in send.tasks}
        # Of the rest each may have run: ends of those before it may have been on their way.
        held = [task for key, task in client.holding.items()
                if key not in unsent and key not in self._cancelling and self._most_deaths(task)]  # fmt: skip
        alone = sum(task.deaths >= TRIAL for task in held) == 1
        for task in held:
            task.deaths = raised(task.deaths, alone)
            if task.deaths >= self._most_deaths(task):
                del client.holding[task.id]
                self._groups.get(task.group).inflight -= 1
                self._condemn(client.number, task)
        if client.info.outlives and held:
            self._mourned[client.info.id] = held
            if len(self._mourned) > MOST_MOURNED:
                del self._mourned[next(iter(self._mourned))]

    def _condemn(self, client: int, task: Task) -> None:
        """The task fails, and is not tried again."""
        self._forget(task)
        self.counts.failed += 1
        self._groups.fail(self._groups.get(task.group), task.id)
        wall, error = self._wall, verdict(task.deaths, self._most_deaths(task))
        result = Result(task.id, task.execution, Special.POISON, task.schedule_time or wall, wall, error=error)
        ended = act.Finished(client, FAILED, task.schedule_time or wall, result, None, task)
        self._changes().finished.append(ended)
        self._out.append(act.Note("warning", "server", f"Task ({task.id}) failed: {error}"))

    def _is_over(self, task: Task) -> bool:
        """Whether a task that was read of the store ends here, since it was in too many deaths."""
        limit = self._most_deaths(task)
        if not limit:
            task.deaths = 0
        elif task.deaths >= limit:
            self._condemn(NOBODY, task)
            return True
        return False

    def _rise(self, client: Client) -> None:
        """A client that was taken for dead is back: its loss was no death."""
        mourned = {task.id: task for task in self._mourned.pop(client.info.id, [])}
        if not mourned:
            return
        for group in self._groups.in_hand():
            for task in reversed(group.take_out(lambda task: task.id in mourned)):
                del mourned[task.id]
                task.deaths = max(0, task.deaths - 1)
                self._risen.add(task.id)
                group.add_front(task, first=True)
                self._changes().returned.append(act.Return(task.id, task.execution, task.deaths))
        for task in mourned.values():  # others may have them by now
            if task.id in self._known:
                task.deaths = max(0, task.deaths - 1)
