"""Near the end: tasks that wait in the queue of one client are taken back while another has nothing to do.

It is looked for at intervals, and only while nothing is ready: an event costs no more than a glance, a look passes
over all clients once. Queues of short tasks are left alone, as they are empty before it pays to move them, unless a
client says nothing: then a long task holds up those behind it. What is to come back is named, so that a client that
has begun it meanwhile keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from hypershell.core import actions as act
from hypershell.core.asked import Asked
from hypershell.core.clients import Client, Kind
from hypershell.core.groups import Group
from hypershell.core.needs import need_of
from hypershell.core.policy import Policy

__all__ = ["Recalling"]

#: Seconds between two looks at least, and for each client that is looked at: so they cost a few percent at most.
PAUSE = 0.05
PAUSE_PER_CLIENT = 2e-5
#: Between looks that lead to nothing, while nothing else happens.
LONGEST_PAUSE = 1.0
#: Mean seconds of tasks that are worth to be moved one by one: a hundred times what moving one costs us.
LONG_TASK = 0.005
#: Seconds of work in a queue that are worth it.
LONG_QUEUE = 0.05
#: Seconds after which a client that says nothing is held up by a long task, however short they are in the mean.
SILENCE = 0.25
#: Seconds after which a client that did not answer may be asked again: what it was asked for had begun.
ASK_AGAIN = 1.0
#: Tasks that are asked for in one look.
MOST = 1024


class Recalling(Asked):
    """The part of the scheduler that takes queued tasks back."""

    def __init__(self, policy: Policy, new_id: Callable[[], str], epoch: float = 0.0) -> None:
        super().__init__(policy, new_id, epoch)
        self._look_at: float | None = None
        """When the next look is due; None: there is no reason for one."""
        self._look_pause = PAUSE

    def _heard_from(self, client: Client, returned: int, now: float) -> None:
        """A message with results came, and so many tasks with it that go to others."""
        client.spoke = self._wall
        if client.asked_back:
            client.asked_back = 0
            self._recalled += returned
        if self._look_at is not None:
            self._look_pause = self._shortest_pause()
            self._look_at = min(self._look_at, now + self._look_pause)

    def _shortest_pause(self) -> float:
        return max(PAUSE, PAUSE_PER_CLIENT * len(self._clients))

    def _recall(self, now: float) -> None:
        """Look whether somebody waits for nothing while others have more than they can run, if it is time to."""
        if not self._queued:
            return
        group = self._groups.current
        if group is None or self._stopping is not None or self._stalled:
            self._look_at = None
            return
        if self._look_at is not None and now < self._look_at:
            return
        if not self._is_last(group):
            self._look_at = None
            return
        if self._look_at is None:
            self._look_pause = self._shortest_pause()
            self._look_at = now + self._look_pause
        elif self._look(group):
            self._look_at = now + self._look_pause
        else:
            self._look_at = None

    def _is_last(self, group: Group) -> bool:
        """Whether nothing of `group` is there for clients of some kind, nor will be soon."""
        if group.stored or group.again or self._loading:
            return False
        walltime = self._walltime
        if walltime is not None and walltime.closed:
            return False
        if not group.ready and not group.front:
            return True
        kinds = self._clients.kinds()
        return len(kinds) > 1 and not all(group.for_kind(kind) for kind in kinds)

    def _look(self, group: Group) -> bool:
        """Ask for tasks where that helps; whether to look again although nothing happens meanwhile."""
        free: dict[Kind, int] = {}
        queues: list[tuple[int, Client]] = []
        on_their_way = 0
        unsent = {send.client for _, send in self._outbox}
        for client in self._clients.all():
            room = client.slots - len(client.holding)
            if client.draining or not room:
                continue
            if client.asked_back and self._wall - client.recalled < ASK_AGAIN:
                on_their_way += client.asked_back
            if room < 0:
                queues.append((-room, client))
            elif not client.aside and not client.waits:
                free[client.kind] = free.get(client.kind, 0) + room
        self._queued = bool(queues)
        free = {kind: room for kind, room in free.items() if not group.for_kind(kind)}
        if not queues or not free:
            return False
        long = [one for one in queues if one[1].number not in unsent and self._is_long(*one)]
        if long and self._ask_back(group, free, long, on_their_way):
            self._look_pause = self._shortest_pause()
        else:
            self._look_pause = min(2.0 * self._look_pause, max(LONGEST_PAUSE, self._look_pause))
        return True

    def _is_long(self, waiting: int, client: Client) -> bool:
        """Whether `waiting` tasks in the queue of `client` will be there so long that others should have them."""
        wall = self._wall
        if client.asked_back and wall - client.recalled < ASK_AGAIN:
            return False
        newest = next(reversed(client.holding.values())).schedule_time
        if wall - max(client.spoke, newest) >= SILENCE:
            return True
        mean = self._sizer.mean
        return mean is not None and mean >= LONG_TASK and waiting * mean >= LONG_QUEUE * client.slots

    def _ask_back(
        self, group: Group, free: dict[Kind, int], queues: list[tuple[int, Client]], on_their_way: int
    ) -> bool:
        """Ask for as much as keeps the `free` slots busy until the next look, of each queue its part.

        Whether anything was asked for, beside what was before and may be `on_their_way`.
        """
        mean = self._sizer.mean
        each = 1 if mean is None or mean >= PAUSE else round(PAUSE / max(mean, PAUSE / MOST))
        free = {kind: room * each for kind, room in free.items()}
        wanted = left = min(sum(free.values()) - on_their_way, MOST)
        queues.sort(key=lambda one: -one[0])
        total = sum(waiting for waiting, _ in queues)
        for waiting, client in queues:
            if left <= 0:
                break
            most = min(left, -(-waiting * wanted // total))
            tasks = self._newest(group, client, waiting, most, free)
            if tasks:
                client.asked_back, client.recalled = len(tasks), self._wall
                self._out.append(act.RecallTasks(client.number, tasks))
                left -= len(tasks)
        return left < wanted

    def _newest(
        self, group: Group, client: Client, waiting: int, most: int, free: dict[Kind, int]
    ) -> list[tuple[str, int]]:
        """Of the `waiting` tasks that were given to `client` last, those that go to `free` slots."""
        tasks: list[tuple[str, int]] = []
        for task in islice(reversed(client.holding.values()), min(waiting, 2 * most + 8)):
            if len(tasks) == most:
                break
            just_given = self._wall - task.schedule_time < PAUSE
            if just_given or task.deaths or task.group != group.number or task.id in self._cancelling:
                continue
            need = need_of(task.tag, self.policy.family) if task.tag else None
            taker = next((kind for kind, room in free.items() if room > 0 and kind.meets(need)), None)
            if taker is not None:
                free[taker] -= 1
                tasks.append((task.id, task.execution))
        return tasks
