"""The rules of a run, checked from what goes in and out; shares no code with the scheduler or the disk.

It sees what was read, what clients really ran, what the scheduler said (records, messages, the end) and what was
committed, and keeps its own books of all that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypershell.core.actions import Dispatch, Finish, Finished, Record, Return
from hypershell.core.events import WorkFound
from hypershell.core.model import Result, Task
from hypershell.core.scheduler import Policy
from tests.sim.disk import Disk
from tests.sim.plan import Plan

__all__ = ["Checker"]

_KEPT = ("args", "submission", "group", "raw", "timeout", "tag", "submit_time", "cores", "memory")
_OVER = ("succeeded", "failed", "cancelled")


@dataclass(slots=True)
class _Book:
    """A task as committed."""

    line: int
    group: int
    attempt: int
    previous: str | None
    state: str = "pending"
    execution: int = 0
    status: int | None = None
    next: str | None = None
    settled: bool = False
    """Cancelled by a user while it was pending."""


@dataclass(slots=True)
class _Life:
    """What one server must have in mind."""

    policy: Policy
    group_of: dict[str, int] = field(default_factory=dict)
    attempt_of: dict[str, int] = field(default_factory=dict)
    execution_of: dict[str, int] = field(default_factory=dict)
    seen: dict[str, Task] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    unfinished: Counter[int] = field(default_factory=Counter)
    since: dict[int, int] = field(default_factory=dict)
    """Group -> the reading with which its present work began."""
    readings: int = 0
    bad_since: dict[int, int] = field(default_factory=dict)
    """Group -> the reading of its first bad line."""
    failed: Counter[int] = field(default_factory=Counter)
    current: int | None = None
    feed_open: bool = True
    holder: dict[str, int] = field(default_factory=dict)
    holding: Counter[int] = field(default_factory=Counter)
    sent: set[tuple[str, int]] = field(default_factory=set)
    freed: set[tuple[int, str, int]] = field(default_factory=set)
    slots: dict[int, int] = field(default_factory=dict)
    seen_clients: set[int] = field(default_factory=set)
    answered: bool = False
    stops: list[str] = field(default_factory=list)
    seq: int = 0
    durable: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    told: dict[str, bool] = field(default_factory=dict)
    """Tasks that the server knows to be cancelled; whether the store has the last word."""
    version: dict[str, int] = field(default_factory=dict)
    """The oldest version of each task that may still be given out."""
    withdrawn: set[str] = field(default_factory=set)
    """Those of them that it need not say anything about any more."""


class Checker:
    """Broken rules are collected in `wrong`, in words."""

    def __init__(self, plan: Plan) -> None:
        self.wrong: list[str] = []
        self._plan = plan
        self._books: dict[str, _Book] = {}
        self._life = _Life(plan.policy)
        self._ran: dict[tuple[int, str, int], int | None] = {}
        self._asked: set[str] = set()
        """Tasks that a user ever cancelled."""
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
        self._life = life = _Life(policy, version=dict(self._versions))
        for key, book in self._books.items():
            if key in self._asked and book.state not in _OVER:
                book.state, book.status = "cancelled", -100
            if book.state == "dispatched":
                book.state = "pending"
                book.execution += 1
            if book.state == "pending":
                life.group_of[key] = book.group
                life.attempt_of[key] = book.attempt
                life.execution_of[key] = book.execution
                life.unfinished[book.group] += 1
            elif book.state == "failed" and book.next is None:
                life.failed[book.group] += 1

    def found(self, event: WorkFound) -> None:
        life = self._life
        self._must(+Counter(event.pending) == +life.unfinished, f"found {event.pending}, left {life.unfinished}")
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

    def feed_ended(self) -> None:
        self._life.feed_open = False

    def stop(self, reason: str) -> None:
        self._life.stops.append(reason)

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

    def client_joined(self, client: int, slots: int) -> None:
        self._life.slots[client] = slots
        self._life.seen_clients.add(client)

    def client_gone(self, client: int) -> None:
        self._life.slots.pop(client, None)
        self._life.seen_clients.add(client)

    def results(self, client: int, results: list[Result], returned: list[tuple[str, int]]) -> None:
        self._life.freed.update((client, key, execution) for key, execution in returned)
        if client in self._life.slots and results:
            self._life.answered = True

    # -- what clients do ----------------------------------------------------------------------------------

    def started(self, client: int, key: str, execution: int) -> None:
        self._must((client, key, execution) not in self._ran, f"client {client} runs {key} ({execution}) twice")
        self._ran[client, key, execution] = None

    def ended(self, client: int, key: str, execution: int, status: int) -> None:
        self._ran[client, key, execution] = status

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
        truth = self._ran.get((client, key, result.execution))
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

    def _ended_cancelled(self, ended: Finished, group: int) -> None:
        """Only what a user wanted so; its status is that of its process, or that of none."""
        life, result = self._life, ended.result
        key, client = result.id, ended.client
        self._must(key in life.told, f"{key} is cancelled, nobody wanted that")
        self._must(ended.next_id is None, f"{key} is cancelled and tried again")
        right = (-100, self._ran.get((client, key, result.execution)))
        self._must(result.exit_status in right, f"{key} is cancelled with {result.exit_status}, not {right}")
        if client < 0:
            self._must(key not in life.holder, f"{key} is dropped while {life.holder.get(key)} has it")
        else:
            self._release(client, key, result.execution, "a cancel")
        if key not in life.withdrawn:
            life.unfinished[group] -= 1
        life.counts["cancelled"] += 1
        del life.group_of[key]

    def _returned(self, back: Return) -> None:
        life = self._life
        client = life.holder.get(back.id)
        if client is None:
            self.fault(f"{back.id} is returned, nobody has it")
            return
        never_sent = (back.id, back.execution) not in life.sent
        given_back = (client, back.id, back.execution) in life.freed
        gone = client not in life.slots
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
        self._must(key not in life.holder, f"{key} is dispatched to {client} while {life.holder.get(key)} has it")
        newer = life.execution_of[key] + 1
        self._must(dispatch.execution == newer, f"{key} is dispatched as {dispatch.execution}, not {newer}")
        self._must(client in life.slots, f"{key} is dispatched to {client}, which is not here")
        self._must(not life.stops, f"{key} is dispatched after {life.stops}")
        life.execution_of[key] = dispatch.execution
        life.holder[key] = client
        life.holding[client] += 1
        most = self._most(life.slots.get(client, 0))
        held = life.holding[client]
        self._must(held <= most, f"client {client} has {held} tasks, {most} allowed")
        self._barrier(group)

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
            left = life.unfinished[life.current]
            done = not left or late(life.since.get(life.current, 0))
            self._must(done, f"group {group} starts, {life.current} has {left} to do")
        for lower in sorted(life.unfinished.keys() | life.failed.keys()):
            if lower < group:
                done = not life.unfinished[lower] or late(life.since.get(lower, 0))
                self._must(done, f"group {group} starts before {lower}, which has work")
                good = not life.failed[lower] or late(life.bad_since.get(lower, 0))
                self._must(good, f"group {group} starts though {lower} failed")
        early = life.policy.barrier_at_end and life.feed_open and group > 0
        self._must(not early, f"group {group} starts before the end of the file")
        life.current = group

    def sent(self, client: int, tasks: list[Task]) -> None:
        life = self._life
        self._must(not life.stops, f"tasks are sent after {life.stops}")
        for task in tasks:
            self._must(life.holder.get(task.id) == client, f"{task.id} is sent to {client}, which was not given it")
            self._must(life.execution_of.get(task.id) == task.execution, f"{task.id} is sent as {task.execution}")
            self._must((task.id, task.execution) not in life.sent, f"{task.id} ({task.execution}) is sent twice")
            life.sent.add((task.id, task.execution))
            least, most = life.version.get(task.id, 0), self._versions.get(task.id, 0)
            self._must(least <= _version(task) <= most, f"{task.id} is sent as it was before it was changed")
            if life.policy.durable_dispatch:
                book = self._books.get(task.id)
                durable = book is not None and (
                    book.settled or (book.state, book.execution) == ("dispatched", task.execution)
                )
                self._must(durable, f"{task.id} ({task.execution}) is sent before that is durable")

    # -- what is durable ----------------------------------------------------------------------------------

    def committed(self, records: list[Record]) -> None:
        for record in records:
            self._life.durable = record.seq
            for task in record.inserted:
                self._must(task.id not in self._books, f"{task.id} is committed twice")
                self._books[task.id] = _Book(int(task.args), task.group, task.attempt, task.previous_id)
            for ended in record.finished:
                book = self._books[ended.result.id]
                if book.settled:
                    continue
                self._must(book.state not in _OVER, f"{ended.result.id} ends a second time")
                book.state, book.status, book.next = ended.state, ended.result.exit_status, ended.next_id
            for back in record.returned:
                if not self._books[back.id].settled:
                    self._books[back.id].state = "pending"
            for dispatch in record.dispatched:
                book = self._books[dispatch.id]
                if book.settled:
                    continue
                self._must(book.state == "pending", f"{dispatch.id} is dispatched, it is {book.state}")
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
            none = not life.slots and len(life.seen_clients) == self._plan.clients
            self._must(life.policy.closed and none, f"{reason} with clients {list(life.slots)}")
        else:
            self._must(reason in life.stops, f"over because of {reason}, asked was {life.stops}")

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
        for key, book in self._books.items():
            if book.state not in _OVER:
                held = any(group < book.group for group in failed)
                self._must(book.state == "pending" and held, f"{key} is left {book.state}")
            elif book.previous is None:
                self._chain(key, book)

    def _chain(self, key: str, book: _Book) -> None:
        """A first attempt and its retries: counted up, linked, as many as the line needs."""
        attempts = self._plan.policy.attempts
        touched = key in self._asked
        while book.next is not None:
            after = self._books.get(book.next)
            if after is None:
                self.fault(f"{key} has no row for its retry {book.next}")
                return
            linked = after.previous == key and after.attempt == book.attempt + 1 and after.line == book.line
            self._must(linked and book.state == "failed", f"{key} and its retry {book.next} do not fit")
            key, book = book.next, after
            touched = touched or key in self._asked
        self._must(book.attempt <= attempts, f"{key} has attempt {book.attempt} of {attempts}")
        line = self._plan.lines[book.line]
        if line.rejected or line.overdue():
            self._must(book.state != "succeeded", f"line {line.number} can not have succeeded")
        elif not touched and not self._plan.faults.no_start and book.state in _OVER:
            needed = min(line.failures + 1, attempts)
            self._must(book.attempt == needed, f"line {line.number} took {book.attempt} attempts, not {needed}")


def _version(task: Task) -> int:
    return int((task.tag or {}).get("version") or 0)
