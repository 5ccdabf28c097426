"""How tasks come in: from a feed, from the store, as work that an earlier run left; and when the feed must wait."""

from __future__ import annotations

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.groups import Group
from hypershell.core.model import Result, Special, Task
from hypershell.core.states import FAILED
from hypershell.core.suspects import NOBODY, Suspects

__all__ = ["NOBODY", "Intake"]

#: Windows full of tasks that a feed whose store is in memory may read while nobody here takes them, but may come.
MOST_UNWANTED = 16


class Intake(Suspects):
    """The part of the scheduler that takes tasks in."""

    def _tasks_submitted(self, event: ev.TasksSubmitted, now: float) -> None:
        record = self._changes()
        record.inserted.extend(event.tasks)
        self._mark(event.mark)
        self.counts.submitted += len(event.tasks)
        if event.rejected:
            self._reject(event.rejected)
        groups, known = self._groups, self._known
        current = groups.current
        if current is None or not current.unfinished():
            current = self._first_group(event.tasks) or current
        room, spare = (0, 0) if current is None else self._room(current)
        usual = self._clients.take(None)
        if current is not None:
            current.woken[None] = None
        for task in event.tasks:
            group = groups.get(task.group)
            if group is current and not group.stored:
                if usual and not task.tag and room > 0:  # nearly all are like this
                    room -= 1
                    group.ready.append(task)
                    known.add(task.id)
                    continue
                wanted = self._is_wanted(task)
                if (room if wanted else spare) > 0:
                    room, spare = room - wanted, spare - (not wanted)
                    group.add(task)
                    known.add(task.id)
                    continue
            groups.store(group)

    def _first_group(self, tasks: list[Task]) -> Group | None:
        """Go to the lowest group of these, so that the first tasks need no question to the store."""
        if not tasks or self._stopping is not None:
            return None
        number = min(task.group for task in tasks)
        waiting = self._groups.waiting()
        lower = waiting is not None and waiting.number < number
        if lower or not self._is_free(number):
            return None
        group = self._groups.get(number)
        if group is not self._groups.current:
            self._start_group(group)
        return group

    def _reject(self, rejected: list[tuple[Task, str]]) -> None:
        """Record lines that can never run as final failures of their group."""
        self._changes().inserted.extend(task for task, _ in rejected)
        self._fail_unseen(rejected)
        self.counts.submitted += len(rejected)

    def _fail_unseen(self, failed: list[tuple[Task, str]]) -> None:
        """Final failures of tasks that no client gets to see."""
        record = self._changes()
        for task, reason in failed:
            result = Result(task.id, 0, Special.NOT_STARTED, self._wall, self._wall, error=reason)
            record.finished.append(act.Finished(NOBODY, FAILED, self._wall, result, None, task))
            self._groups.fail(self._groups.get(task.group), task.id)
        self.counts.failed += len(failed)

    def _feed_ended(self, event: ev.FeedEnded, now: float) -> None:
        self._feeds -= 1
        self._mark(event.mark)

    def _feed_opened(self, event: ev.FeedOpened, now: float) -> None:
        self._feeds += 1

    def _work_found(self, event: ev.WorkFound, now: float) -> None:
        self._fatal.update(event.poison)
        self._cautious = self._cautious or (event.died and self.policy.poison != 0)
        for number, count in event.pending.items():
            self._groups.store(self._groups.get(number), count)
        for number, count in event.failed.items():
            self._groups.failed_before(self._groups.get(number), count)
            self.counts.failed_before += count

    def _limit_found(self, event: ev.LimitFound, now: float) -> None:
        self._limits[event.submission] = event.limit

    def _tasks_loaded(self, event: ev.TasksLoaded, now: float) -> None:
        self._loading = False
        group = self._groups.get(event.group)
        known, settled = self._known, self._settled
        spare, suspects = self._room(group)[1], self._room_for_suspects(group)
        usual = self._clients.take(None)
        group.woken[None] = None
        for task in event.tasks:
            if task.id in known or task.id in settled:
                continue
            if group.stored:
                group.stored -= 1
            if task.deaths and self._is_over(task):
                continue
            if usual and not task.tag and not task.deaths:
                known.add(task.id)
                group.ready.append(task)
                continue
            if not self._is_wanted(task):
                spare -= 1
                over = spare < 0
            else:
                suspects -= task.deaths > 0
                over = task.deaths > 0 and suspects < 0
            if over:
                self._pass_over(group, task)
                continue
            known.add(task.id)
            group.add(task)
        if event.unfit:
            group.stored = max(0, group.stored - len(event.unfit))
            self._fail_unseen(event.unfit)
        if event.exhausted:
            group.stored = min(group.stored, group.fresh)
        settled.clear()

    def _brake(self) -> None:
        if not self.policy.brake:
            return
        group = self._groups.current
        waiting = self._usable(group) + group.stored if group else 0
        most = MOST_UNWANTED * self.policy.window
        if group and group.unfinished() - group.inflight >= most and not self._all_have_come():
            waiting = self.policy.window
        if not self._paused and waiting >= self.policy.window and self._feeds:
            self._paused = True
            self._out.append(act.PauseFeed())
        elif self._paused and waiting <= self.policy.window // 2:
            self._paused = False
            self._out.append(act.ResumeFeed())
