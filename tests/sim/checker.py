"""The rules of a run, checked from what goes in and out; shares no code with the scheduler or the disk.

It sees what was read, what clients really ran, what the scheduler said (records, messages, the end) and what was
committed, and keeps its own books of all that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set

from hypershell.core.actions import Dispatch, Finish, Finished, Record, Return
from hypershell.core.events import WorkFound
from hypershell.core.model import ClientInfo, Special, Task
from hypershell.core.scheduler import Policy
from hypershell.proto.messages import Results
from tests.sim.books import Book, Life
from tests.sim.clock import Clock
from tests.sim.disk import Disk
from tests.sim.plan import SICK, Line, Plan, Sort

__all__ = ["Checker"]

_KEPT = ("args", "submission", "group", "raw", "timeout", "tag", "submit_time", "cores", "memory")
_OVER = ("succeeded", "failed", "cancelled")


class Checker:
    """Broken rules are collected in `wrong`, in words."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self.wrong: list[str] = []
        self.recalls = 0
        """How often queued tasks were asked back."""
        self._plan = plan
        self._clock = clock
        self._who: dict[int, int] = {}
        """Number of a connection -> the client, which may have had others."""
        self._asked_in_vain: set[str] = set()
        """Tasks that failed at a client which was to blame for it, or went back from there."""
        self._kinds: dict[int, Sort] = {}
        self._outlives: set[int] = set()
        """Numbers of connections of clients that may come back."""
        self._books: dict[str, Book] = {}
        self._life = Life(plan.policy)
        self._ran: dict[tuple[int, str, int], int | None] = {}
        self._asked: set[str] = set()
        """Tasks that a user ever cancelled."""
        self._losses: Counter[str] = Counter()
        """How often each task was with a client that was lost, or with a server that was killed."""
        self._versions: dict[str, int] = {}
        """How often a user changed each task."""

    def fault(self, text: str) -> None:
        self.wrong.append(text)

    def _must(self, condition: bool, text: str) -> None:
        if not condition:
            self.wrong.append(text)

    # -- a server begins ----------------------------------------------------------------------------------

    def begin(self, policy: Policy) -> None:
        """A new server finds what was committed; what was in flight is pending, one execution on."""
        self._life = life = Life(policy, version=dict(self._versions))
        for key, book in self._books.items():
            if key in self._asked and book.state not in _OVER:
                book.state, book.status = "cancelled", -100
            if book.state == "dispatched" and book.who is not None:
                life.away[key] = book.who
                life.touched.add(key)
            elif book.state == "dispatched":
                self._losses[key] += 1
                book.state = "pending"
                book.execution += 1
            if book.state in ("pending", "dispatched"):
                life.group_of[key] = book.group
                life.line_of[key] = book.line
                life.attempt_of[key] = book.attempt
                life.execution_of[key] = book.execution
                life.unfinished[book.group] += 1
            elif book.state == "failed" and book.next is None:
                life.failed[book.group] += 1

    def found(self, event: WorkFound) -> None:
        life = self._life
        left = life.unfinished - Counter(life.group_of[key] for key in life.away)
        self._must(+Counter(event.pending) == left, f"found {event.pending}, left {left}")
        found = {task.id for tasks in event.withheld.values() for task in tasks}
        self._must(found == life.away.keys(), f"withheld {sorted(found)}, away {sorted(life.away)}")
        life.until = self._clock.now + life.policy.reclaim
        life.cautious = event.died and life.policy.poison != 0
        self._must(+Counter(event.failed) == +life.failed, f"found failed {event.failed}, left {life.failed}")

    # -- what goes in -------------------------------------------------------------------------------------

    def fed(self, tasks: list[Task], rejected: list[Task]) -> None:
        life = self._life
        life.readings += 1
        for task in tasks:
            self._know(task)
            if not life.unfinished[task.group]:
                life.since[task.group] = life.readings
            life.unfinished[task.group] += 1
        for task in rejected:
            self._know(task)
            life.rejected.add(task.id)
            life.bad_since.setdefault(task.group, life.readings)

    def _know(self, task: Task) -> None:
        life = self._life
        self._must(task.id not in life.group_of, f"task {task.id} enters twice")
        life.group_of[task.id] = task.group
        life.attempt_of[task.id] = task.attempt
        life.execution_of[task.id] = 0
        life.seen[task.id] = task
        life.line_of[task.id] = int(task.args)

    def feed_ended(self) -> None:
        self._life.feed_open = False

    def stop(self, reason: str) -> None:
        self._life.stops.append(reason)

    def allocated(self, end: float) -> None:
        """The server hears when its allocation ends."""
        self._life.allotted = end, end - self._clock.now

    def _fits_in(self, task: Task) -> bool:
        """Whether a task may begin as the allocation goes; how much sooner it may not, rests on what tasks took."""
        if self._life.allotted is None:
            return True
        (end, all_of_it), policy = self._life.allotted, self._life.policy
        drain = max(0.0, min(policy.drain_time, all_of_it / 2))
        left = end - self._clock.now
        if task.timeout is not None:
            return left >= task.timeout + min(policy.stopping, drain / 2)
        return left > drain

    def cancelled(self, keys: list[str], settled: list[str]) -> None:
        """A user's command has been committed."""
        self._asked.update(keys)
        for key in settled:
            book = self._books[key]
            self._must(book.state == "pending", f"{key} is settled while {book.state}")
            book.state, book.status, book.settled = "cancelled", -100, True

    def changed(self, key: str, version: int) -> None:
        """A user's change of a task has been committed."""
        self._must(self._books[key].state == "pending", f"{key} is changed while {self._books[key].state}")
        self._versions[key] = version

    def told_of_changes(self, tasks: list[Task]) -> None:
        """The server hears of it."""
        self._life.version.update((task.id, _version(task)) for task in tasks)

    def told(self, keys: list[str], settled: list[str]) -> None:
        """The server hears of it: what only the store has is no work of it any more."""
        life = self._life
        life.told.update((key, key in settled) for key in keys)
        for key in settled:
            if key in life.group_of and key not in life.withdrawn:
                life.withdrawn.add(key)
                life.unfinished[life.group_of[key]] -= 1

    def client_joined(self, client: int, info: ClientInfo, holds: list[tuple[str, int]]) -> None:
        life, who = self._life, info.pid
        self._who[client] = who
        before = life.lost_with.pop(who, [])
        # It did not die; but what others were given meanwhile has the count in its row.
        self._losses.subtract(key for key, execution in before if life.execution_of.get(key) == execution)
        for other in [other for other in life.slots if self._who[other] == who]:
            del life.slots[other]
        life.slots[client] = info.slots
        life.room.pop(client, None)
        self._kinds[client] = info.system, info.labels
        life.offers[client] = set(holds)
        life.back.add(who)
        if info.outlives:
            self._outlives.add(client)
        else:
            life.seen_clients.add(client)

    def came_back(self, client: int) -> None:
        """The server has dealt with its joining: what it has and nobody else was given is its own."""
        life = self._life
        if "store failed" in life.stops:
            return
        for key, execution in sorted(life.offers[client]):
            newest = key in life.group_of and life.execution_of[key] == execution
            if newest and key in life.touched and key not in life.told:
                right = life.holder.get(key) == client
                self._must(right, f"{key} ({execution}) is not left to {client}, which came back with it")

    def client_gone(self, client: int, outside: bool) -> None:
        self._life.slots.pop(client, None)
        held = [key for key, holder in self._life.holder.items() if holder == client]
        self._losses.update(held)
        if outside and held:
            self._life.lost_with[self._who[client]] = [(key, self._life.execution_of[key]) for key in held]
        if not outside:
            self._life.seen_clients.add(client)

    def results(self, client: int, message: Results) -> None:
        life = self._life
        life.freed.update((client, key, execution) for key, execution in message.returned)
        life.failed_there.update((client, one.id, one.execution) for one in message.results if one.exit_status)
        if message.leaving:
            life.leaving.add(client)
        if client in life.slots and message.results:
            life.answered = True
        # What others have by now, or what an earlier server gave out, does not show that anything can be started.
        if any(life.holder.get(one.id) == client for one in message.results):
            life.moved = self._clock.now
        if client in life.slots and message.room is not None:
            life.room[client] = message.room.slots

    def heard(self, client: int) -> None:
        """The server has dealt with a message with results; those that counted are in the last record with one."""
        if client in self._life.slots:
            self._life.heard.setdefault(client, []).append(self._life.applied.get(client, 0))

    def acknowledged(self, client: int, count: int) -> None:
        """The client may forget the results in its first `count` messages: are they durable?"""
        life = self._life
        heard = life.heard.get(client, [])
        self._must(0 < count <= len(heard) + 1, f"{count} messages of client {client} are acknowledged, not sent")
        seq = heard[count - 1] if count <= len(heard) else life.applied.get(client, 0)
        self._must(seq <= life.durable, f"record {seq} is told to client {client} as durable, {life.durable} is")

    # -- what clients do ----------------------------------------------------------------------------------

    def started(self, client: int, key: str, execution: int) -> None:
        self._must((client, key, execution) not in self._ran, f"client {client} runs {key} ({execution}) twice")
        self._ran[client, key, execution] = None

    def ended(self, client: int, key: str, execution: int, status: int) -> None:
        self._ran[client, key, execution] = status
        if status == SICK:
            self._asked_in_vain.add(key)

    # -- what the scheduler says --------------------------------------------------------------------------

    def recorded(self, record: Record) -> None:
        life = self._life
        self._must(record.seq == life.seq + 1, f"record {record.seq} follows {life.seq}")
        life.seq = record.seq
        retries = {ended.next_id: ended for ended in record.finished if ended.next_id is not None}
        for task in record.inserted:
            if task.id not in life.group_of:
                self._retried(task, retries.pop(task.id, None))
        self._must(not retries, f"retries {list(retries)} are not inserted with the end of their tasks")
        for ended in record.finished:
            self._ended(ended)
        for back in record.returned:
            self._returned(back)
        for dispatch in record.dispatched:
            self._dispatched(dispatch)

    def _retried(self, task: Task, ended: Finished | None) -> None:
        life = self._life
        if ended is None or ended.task is None:
            self.fault(f"task {task.id} is inserted out of nothing")
            return
        old = ended.task
        lost = [name for name in _KEPT if getattr(task, name) != getattr(old, name)]
        self._must(not lost, f"the retry of {old.id} differs in {lost}")
        self._must(task.previous_id == old.id, f"retry {task.id} is not linked to {old.id}")
        self._must(task.attempt == life.attempt_of[old.id] + 1, f"retry {task.id} has attempt {task.attempt}")
        self._must(task.attempt <= life.policy.attempts, f"{task.id} is attempt {task.attempt}, beyond the limit")
        self._know(task)
        life.version[task.id] = life.version.get(old.id, 0)
        self._versions[task.id] = max(_version(task), life.version[task.id])
        life.unfinished[task.group] += 1

    def _ended(self, ended: Finished) -> None:
        life, result = self._life, ended.result
        key, client = result.id, ended.client
        life.applied[client] = life.seq
        group = life.group_of.get(key)
        if group is None:
            self.fault(f"unknown or ended task {key} ends")
            return
        if key in life.rejected:
            self._must(client == -1 and ended.state == "failed", f"the bad line {key} ends as {ended}")
            life.counts["failed"] += 1
            life.failed[group] += 1
            del life.group_of[key]
            return
        if ended.state == "cancelled":
            self._ended_cancelled(ended, group)
            return
        self._must(not life.told.get(key), f"{key} is {ended.state}, the store says cancelled")
        if result.exit_status == Special.POISON:
            self._ended_of_deaths(ended, group)
            return
        truth = self._ran.get((self._who.get(client, -1), key, result.execution))
        self._must(truth == result.exit_status, f"{key} ended with {truth}, recorded is {result.exit_status}")
        line = self._plan.lines[int(ended.task.args)] if ended.task else None
        good = truth == 0 and line is not None and not line.overdue()
        right = "succeeded" if good else "failed"
        self._must(ended.state == right, f"{key} with status {truth} is {ended.state}")
        self._release(client, key, result.execution, "a result")
        life.unfinished[group] -= 1
        again = not good and life.attempt_of[key] < life.policy.attempts and key not in life.told
        told = f"{key}, attempt {life.attempt_of[key]}: next {ended.next_id}"
        self._must((ended.next_id is not None) == again, told)
        if good:
            life.counts["succeeded"] += 1
        elif not again:
            life.counts["failed"] += 1
            life.failed[group] += 1
        del life.group_of[key]

    def _ended_of_deaths(self, ended: Finished, group: int) -> None:
        """Only what was with enough clients that were lost; it is not tried again."""
        life, key = self._life, ended.result.id
        limit = 3 if life.policy.poison is None else life.policy.poison
        losses = self._losses[key]
        self._must(0 < limit <= losses, f"{key} fails for {limit} deaths, it saw {losses}")
        self._must(ended.state == "failed" and ended.next_id is None, f"{key} ends as {ended}")
        if ended.client >= 0:
            self._must(ended.client not in life.slots, f"{key} fails with client {ended.client}, which is here")
            self._release(ended.client, key, ended.result.execution, "the last death")
        self._must(key not in life.holder, f"{key} fails while {life.holder.get(key)} has it")
        life.unfinished[group] -= 1
        life.counts["failed"] += 1
        life.failed[group] += 1
        del life.group_of[key]

    def _ended_cancelled(self, ended: Finished, group: int) -> None:
        """Only what a user wanted so; its status is that of its process, or that of none."""
        life, result = self._life, ended.result
        key, client = result.id, ended.client
        self._must(key in life.told, f"{key} is cancelled, nobody wanted that")
        self._must(ended.next_id is None, f"{key} is cancelled and tried again")
        right = (-100, self._ran.get((self._who.get(client, -1), key, result.execution)))
        self._must(result.exit_status in right, f"{key} is cancelled with {result.exit_status}, not {right}")
        if client < 0:
            self._must(key not in life.holder, f"{key} is dropped while {life.holder.get(key)} has it")
            life.away.pop(key, None)
        else:
            self._release(client, key, result.execution, "a cancel")
        if key not in life.withdrawn:
            life.unfinished[group] -= 1
        life.counts["cancelled"] += 1
        del life.group_of[key]

    def _returned(self, back: Return) -> None:
        life = self._life
        client = life.holder.get(back.id)
        if back.id in life.away:
            over = self._clock.now >= life.until or life.away.pop(back.id) in life.back
            self._must(over, f"{back.id} is taken from a client that may come back until {life.until:g}")
            life.away.pop(back.id, None)
            return
        if client is None:  # the word that its client lives after all
            fewer = back.deaths is not None and back.deaths <= self._losses[back.id]
            right = fewer and back.execution == life.execution_of.get(back.id)
            self._must(right, f"{back.id} is returned, nobody has it")
            return
        never_sent = (back.id, back.execution) not in life.sent
        this = (client, back.id, back.execution)
        given_back = this in life.freed or this in life.failed_there
        if this in life.failed_there:
            life.taken_back.append(client)
        gone = client not in life.slots or (client in self._outlives and "store failed" in life.stops)
        self._must(never_sent or given_back or gone, f"{back.id} is taken from client {client}, which has it")
        self._release(client, back.id, back.execution, "a return")

    def _release(self, client: int, key: str, execution: int, what: str) -> None:
        life = self._life
        right = life.holder.get(key) == client and life.execution_of.get(key) == execution
        self._must(right, f"{what} of {key} ({execution}) from client {client}, it is with {life.holder.get(key)}")
        if life.holder.pop(key, None) is not None:
            life.holding[client] -= 1

    def _dispatched(self, dispatch: Dispatch) -> None:
        life, key, client = self._life, dispatch.id, dispatch.client
        group = life.group_of.get(key)
        if group is None:
            self.fault(f"{key} is dispatched, but unknown or ended")
            return
        self._must(key not in life.told, f"{key} is dispatched after it was cancelled")
        life.touched.add(key)
        if dispatch.execution == life.execution_of[key]:
            self._own_again(dispatch)
            return
        self._must(key not in life.away, f"{key} is dispatched to {client} while it is withheld")
        self._must(client not in life.leaving, f"{key} is dispatched to {client}, which is leaving")
        self._must(key not in life.holder, f"{key} is dispatched to {client} while {life.holder.get(key)} has it")
        newer = life.execution_of[key] + 1
        self._must(dispatch.execution == newer, f"{key} is dispatched as {dispatch.execution}, not {newer}")
        self._must(client in life.slots, f"{key} is dispatched to {client}, which is not here")
        self._must(not life.stops, f"{key} is dispatched after {life.stops}")
        self._must(life.room.get(client) != 0, f"{key} is dispatched to {client}, which has room for nothing")
        life.execution_of[key] = dispatch.execution
        life.holder[key] = client
        life.holding[client] += 1
        most = self._most(life.slots.get(client, 0))
        held = life.holding[client]
        self._must(held <= most, f"client {client} has {held} tasks, {most} allowed")
        self._barrier(group)

    def _own_again(self, dispatch: Dispatch) -> None:
        """The same execution goes on where it is."""
        life, key, client = self._life, dispatch.id, dispatch.client
        offered = (key, dispatch.execution) in life.offers.get(client, set())
        self._must(offered, f"{key} ({dispatch.execution}) is given to {client} again, which did not bring it")
        who = self._who[client]
        before = life.holder.pop(key, None)
        if before is not None:
            life.holding[before] -= 1
            self._must(self._who[before] == who, f"{key} is given to {client} while {before} has it")
        absent = life.away.pop(key, who)
        self._must(absent == who, f"{key} is given to {client}, it is withheld for another")
        life.holder[key] = client
        life.holding[client] += 1
        life.sent.add((key, dispatch.execution))

    def _most(self, slots: int) -> int:
        size = self._life.policy.bundlesize
        if size is not None:
            return (slots + size - 1) // size * size + size
        return slots + 512 if self._life.answered else slots

    def _barrier(self, group: int) -> None:
        """A task of `group` starts: may it?

        Where the input is not a FILE, work for other groups may come after the choice fell on this one.
        """
        life = self._life
        if group == life.current:
            return
        begun = life.since.get(group, 0)

        def late(reading: int) -> bool:
            return not life.policy.barrier_at_end and reading > begun

        if life.current is not None:
            left = self._left(life.current)
            # Work that came after it was done with what it had when it was chosen waits for its turn again.
            again = not life.policy.barrier_at_end and life.since.get(life.current, 0) != life.began
            vain = group < life.current and life.current in life.gave_way
            done = not left or late(life.since.get(life.current, 0)) or again or vain
            self._must(done, f"group {group} starts, {life.current} has {left} to do")
        for lower in sorted(life.unfinished.keys() | life.failed.keys()):
            if lower < group:
                done = not self._left(lower) or late(life.since.get(lower, 0))
                self._must(done, f"group {group} starts before {lower}, which has work")
                good = not life.failed[lower] or late(life.bad_since.get(lower, 0))
                self._must(good, f"group {group} starts though {lower} failed")
        early = life.policy.barrier_at_end and life.feed_open and group > 0
        self._must(not early, f"group {group} starts before the end of the file")
        life.current, life.began = group, begun
        life.gave_way.discard(group)

    def _left(self, group: int) -> int:
        """Tasks of a group that a server has to see to; of those a user cancelled it need not have heard."""
        life = self._life
        left = life.unfinished[group]
        if not left:
            return 0
        unheard = (key for key, number in life.group_of.items() if number == group and key not in life.told)
        return left - sum(self._books[key].settled for key in unheard if key in self._books)

    def sent(self, client: int, tasks: list[Task]) -> None:
        life = self._life
        self._must(not life.stops, f"tasks are sent after {life.stops}")
        for task in tasks:
            self._must(life.holder.get(task.id) == client, f"{task.id} is sent to {client}, which was not given it")
            self._must(life.execution_of.get(task.id) == task.execution, f"{task.id} is sent as {task.execution}")
            self._must((task.id, task.execution) not in life.sent, f"{task.id} ({task.execution}) is sent twice")
            life.sent.add((task.id, task.execution))
            early = life.policy.durable_dispatch or client in self._outlives or life.cautious or task.deaths > 0
            if not early:  # else it was given earlier
                self._must(self._fits_in(task), f"{task.id} ({task.timeout}) begins too late to end in time")
            least, most = life.version.get(task.id, 0), self._versions.get(task.id, 0)
            self._must(least <= _version(task) <= most, f"{task.id} is sent as it was before it was changed")
            self._suits(client, task)
            if early:
                book = self._books.get(task.id)
                durable = book is not None and (
                    book.settled or (book.state, book.execution) == ("dispatched", task.execution)
                )
                self._must(durable, f"{task.id} ({task.execution}) is sent before that is durable")

    def recalled(self, client: int, tasks: list[tuple[str, int]]) -> None:
        """Queued tasks are asked back: from whom has too many, for somebody who has too few."""
        life = self._life
        self._must(not life.stops, f"{tasks} are asked back after {life.stops}")
        here = client in life.slots and client not in life.leaving
        self._must(here, f"{tasks} are asked back from {client}, which is gone")
        for key, execution in tasks:
            right = life.holder.get(key) == client and life.execution_of.get(key) == execution
            self._must(right, f"{key} ({execution}) is asked back from {client}, it is with {life.holder.get(key)}")
            self._must(key not in life.told, f"{key} is asked back, it is cancelled")
            self._must((key, execution) in life.sent, f"{key} is asked back before it was sent")
        most = life.holding[client] - life.room.get(client, life.slots.get(client, 0))
        self._must(0 < len(tasks) <= most, f"{len(tasks)} tasks are asked back from {client}, {most} wait there")
        idle = any(life.holding[one] < life.room.get(one, slots) for one, slots in life.slots.items())
        self._must(idle, f"{tasks} are asked back from {client}, nobody could start them")
        self.recalls += 1

    def _suits(self, client: int, task: Task) -> None:
        line, kind = self._plan.lines[int(task.args)], self._kinds[client]
        self._must(self._fits(line, kind), f"{task.id}, which needs {line.needs}, is sent to {client}: {kind}")

    def _fits(self, line: Line, kind: Sort) -> bool:
        """Whether a client may get a task: its tags against what the client is. The server is a posix one."""
        needs, (system, labels) = dict(line.needs), kind
        names = {"any", "windows"} if system == "win32" else {"any", "posix", system}
        return needs.get("os", "posix") in names and needs.get("label") in (None, *labels)

    def noted(self, text: str) -> None:
        """A line for the log; such as that a client is set aside."""
        life = self._life
        if "gets no more tasks" in text:
            life.set_aside.update(who for who in self._who.values() if f"(client-{who})" in text)
            if text.startswith("Node host"):
                life.hosts_aside.add(int(text.split()[1].removeprefix("host")))
        if text.startswith("The allocation ends in"):
            self._must(life.allotted is not None, f"{text}: who said so?")
            life.stops.append("walltime")
        if " waits - going on with task group " in text:
            waits, lower = int(text.split()[2]), int(text.split()[-1])
            right = lower < waits and not life.policy.barrier_at_end and self._left(lower) > 0
            self._must(right and not self._fits_any(waits, life.slots.keys()), text)
            life.gave_way.add(waits)

    def stood_still(self, runs: Callable[[int, str], bool]) -> None:
        """The server gives up since nothing could be started: does nothing that it gave out run?"""
        life = self._life
        running = [key for key, client in life.holder.items() if runs(client, key)]
        self._must(not running, f"no room for anything, but {running} run")
        since = self._clock.now - life.moved
        waited = since >= life.policy.room_wait - 1e-6
        self._must(waited, f"no room for anything, {since:.1f} s after the last result")
        self._must(any(one in life.slots for one in life.room), "no room for anything: who said so?")
        life.stops.append("no room")

    def handled(self) -> None:
        """The server has dealt with an event: what it took back in spite of a result came from a sick client."""
        life = self._life
        for client in life.taken_back:
            who = self._who[client]
            aside = who in life.set_aside or (who - 1) // self._plan.per_host in life.hosts_aside
            self._must(aside, f"results of client {client} do not count, why?")
        life.taken_back.clear()

    # -- what is durable ----------------------------------------------------------------------------------

    def committed(self, records: list[Record]) -> None:
        for record in records:
            self._life.durable = record.seq
            for task in record.inserted:
                self._must(task.id not in self._books, f"{task.id} is committed twice")
                self._books[task.id] = Book(int(task.args), task.group, task.attempt, task.previous_id)
            for ended in record.finished:
                book = self._books[ended.result.id]
                if book.settled:
                    continue
                self._must(book.state not in _OVER, f"{ended.result.id} ends a second time")
                book.state, book.status, book.next = ended.state, ended.result.exit_status, ended.next_id
            for back in record.returned:
                if not self._books[back.id].settled:
                    self._books[back.id].state, self._books[back.id].who = "pending", None
            for dispatch in record.dispatched:
                book = self._books[dispatch.id]
                if book.settled:
                    continue
                again = book.state == "dispatched" and book.execution == dispatch.execution
                self._must(again or book.state == "pending", f"{dispatch.id} is dispatched, it is {book.state}")
                book.who = self._who[dispatch.client] if dispatch.client in self._outlives else None
                book.state, book.execution = "dispatched", dispatch.execution

    # -- the end ------------------------------------------------------------------------------------------

    def finished(self, finish: Finish) -> None:
        """The server says that it is done: is it?"""
        life, left = self._life, self._life.unfinished.total()
        reason = finish.reason
        failed_store = "store failed" in life.stops
        all_durable = life.durable == life.seq
        self._must(failed_store or all_durable, f"over at record {life.seq}, durable is {life.durable}")
        self._must(not failed_store or reason != "complete", "complete, but the store failed")
        self._must(reason != "complete" or not life.away, f"complete, away is {life.away}")
        self._must(not life.holder, f"over ({reason}) while {len(life.holder)} tasks are out")
        counts = (finish.succeeded, finish.failed)
        true = (life.counts["succeeded"], life.counts["failed"])
        self._must(counts == true, f"counts {counts}, true {true}")
        # How many of those that only the store has are cancelled, a server finds out when it reads on.
        more = finish.unfinished + finish.held - left
        # It may read on, and see that they are gone, before it hears that they are cancelled.
        known_here = life.group_of.keys() & self._books.keys() - life.withdrawn
        unheard = sum(self._books[key].settled for key in known_here)
        self._must(-unheard <= more <= len(life.withdrawn), f"unfinished {finish}, true {left}")
        known = life.counts["cancelled"] <= finish.cancelled <= len(life.told)
        self._must(known, f"{finish.cancelled} cancelled, {life.counts['cancelled']} said, {len(life.told)} asked")
        if reason == "complete":
            done = left <= unheard and not life.feed_open
            self._must(done, f"complete with {left} left, feed open: {life.feed_open}")
        elif reason == "group failed":
            # What only the store has it takes for waiting, cancelled or not.
            gone = max((life.group_of[key] for key in life.withdrawn & life.group_of.keys()), default=-1)
            lowest = min((group for group, count in life.unfinished.items() if count), default=gone)
            holds = any(count and group < lowest for group, count in life.failed.items())
            self._must(holds and not life.feed_open, f"group failed: {life.failed}, left {life.unfinished}")
        elif reason in ("idle", "no clients left"):
            here = life.slots.keys() - self._outlives  # others may come while the last record is written
            all_seen = len(life.seen_clients) >= life.policy.expected
            # What was left for nobody may be cancelled by now.
            unfit = reason == "no clients left" and self._nobody_fits()
            right = life.policy.closed and all_seen and (not here or unfit)
            self._must(right, f"{reason} with clients {list(life.slots)}")
        elif reason in ("drained", "interrupted"):  # which of them rests on what ran when the time was over
            asked = {"drained", "interrupted"} & set(life.stops)
            self._must(bool(asked), f"over because of {reason}, asked was {life.stops}")
        else:
            self._must(reason in life.stops, f"over because of {reason}, asked was {life.stops}")

    def _nobody_fits(self) -> bool:
        """Whether no counted client may get what is left of the lowest group; others may have come too late."""
        life = self._life
        lowest = min((group for group, count in life.unfinished.items() if count), default=None)
        return lowest is None or not self._fits_any(lowest, life.slots.keys() - self._outlives)

    def _fits_any(self, number: int, clients: Set[int]) -> bool:
        """Whether one of `clients` may get one of the tasks that group `number` has left."""
        life = self._life
        left = [key for key, group in life.group_of.items() if group == number and key not in life.told]
        kinds = {self._kinds[client] for client in clients}
        return any(self._fits(self._plan.lines[life.line_of[key]], kind) for key in left for kind in kinds)

    def final(self, disk: Disk) -> None:
        """After a life without faults: every line of the input is one chain of rows that came to its end."""
        self.wrong += disk.wrong
        stored = {key: (row.state, row.execution, row.status) for key, row in disk.rows.items()}
        books = {key: (book.state, book.execution, book.status) for key, book in self._books.items()}
        self._must(stored == books, "the disk is not what was committed")
        roots = Counter(book.line for book in self._books.values() if book.previous is None)
        twice = [line for line, count in roots.items() if count > 1]
        self._must(not twice, f"lines {twice[:5]} were taken twice")
        if self._plan.source == "file" and not self.wrong:
            missing = [line.number for line in self._plan.lines if line.number not in roots]
            self._must(not missing, f"lines {missing[:5]} are missing")
        failed = [b.group for b in self._books.values() if b.state == "failed" and b.next is None]
        # Those cancelled just while they were given out may have failed before their server heard of it.
        failed += [b.group for b in self._books.values() if b.settled]
        for key, book in self._books.items():
            if book.state not in _OVER:
                held = any(group < book.group for group in failed)
                self._must(book.state == "pending" and held, f"{key} is left {book.state}")
            elif book.previous is None:
                self._chain(key, book)

    def _chain(self, key: str, book: Book) -> None:
        """A first attempt and its retries: counted up, linked, as many as the line needs."""
        attempts = self._plan.policy.attempts
        blameless = self._asked | self._asked_in_vain
        touched = key in blameless
        while book.next is not None:
            after = self._books.get(book.next)
            if after is None:
                self.fault(f"{key} has no row for its retry {book.next}")
                return
            linked = after.previous == key and after.attempt == book.attempt + 1 and after.line == book.line
            self._must(linked and book.state == "failed", f"{key} and its retry {book.next} do not fit")
            key, book = book.next, after
            touched = touched or key in blameless
        self._must(book.attempt <= attempts, f"{key} has attempt {book.attempt} of {attempts}")
        line = self._plan.lines[book.line]
        if line.deadly and book.state == "succeeded":
            self.fault(f"line {line.number} kills whoever runs it, and succeeded")
        if line.deadly or book.status == Special.POISON:
            return
        if line.rejected or line.overdue():
            self._must(book.state != "succeeded", f"line {line.number} can not have succeeded")
        elif not touched and not self._plan.faults.no_start and book.state in _OVER:
            needed = min(line.failures + 1, attempts)
            self._must(book.attempt == needed, f"line {line.number} took {book.attempt} attempts, not {needed}")


def _version(task: Task) -> int:
    return int((task.tag or {}).get("version") or 0)
