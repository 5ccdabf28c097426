"""A FILE that may have changed since it was submitted, and its new lines on their way into the database.

The database thread calls this in the start of a run, before the scheduler hears of anything
(``data/recover.py``). What is new is found without an order, so that it can be done again from the start at any
time: while lines are added in several transactions, the mark of the submission is one that no FILE fits, and the
last of them brings the true one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from hypershell.core.actions import Finished, Record
from hypershell.core.model import UPDATING, FeedMark, Result, Special, Task
from hypershell.core.scheduler import NOBODY
from hypershell.core.states import FAILED
from hypershell.data.notices import Added, Keeping
from hypershell.data.store import Store
from hypershell.data.tally import Difference, Tally
from hypershell.errors import InputError
from hypershell.ids import IdSource
from hypershell.server.feed import Feed

__all__ = ["Revision", "described"]

log = logging.getLogger("hypershell.server")

#: Lines that are read at a time, and rows of a transaction.
_ROWS = 8192


class Revision:
    """What `descriptor` reads, which is `name`.

    `make_feed` makes a feed of a descriptor, a submission and what gives ids; with `repeats` a FILE that has
    changed is a new one.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        make_feed: Callable[[int, int, Callable[[], str]], Feed],
        *,
        repeats: bool = False,
    ) -> None:
        self.repeats = repeats
        self._descriptor = descriptor
        self._name = name
        self._make_feed = make_feed
        self._ids = IdSource()  # the scheduler uses its own in another thread

    def has_changed(self, mark: FeedMark) -> bool:
        """Whether what was read up to `mark` is not there any more, or more is there behind a mark of the end."""
        with self._reading(mark.submission) as feed:
            try:
                if mark.complete:
                    feed.verify(mark)
                else:
                    feed.resume(mark)
            except InputError:
                return True
            return False

    def add_lines(self, store: Store, number: int, keeping: Keeping) -> Added | None:
        """Add the lines that submission `number` does not have; None when the run is to end meanwhile.

        Raises:
            InputError: the FILE is no text, or changes meanwhile.
            StoreError: the database cannot be read or written.
        """
        tally = keeping.attempt(lambda: self._tally(store, number, keeping))
        if tally is None:
            return None
        with tally:
            with self._reading(number) as feed:
                for tasks, rejected in _lines(feed):
                    tally.want(tasks)
                    tally.want(task for task, _ in rejected)
                    if keeping.breathe():
                        return None
                mark = feed.mark(complete=True)
            difference = tally.settle()
            added = Added(mark, {}, {}, described(self._name, difference))
            if not difference.new:
                _commit(store, keeping, Record(0, mark=mark))
            elif not self._add(store, tally, keeping, added):
                return None
        return added

    def _tally(self, store: Store, number: int, keeping: Keeping) -> Tally | None:
        """What the submission has; None when the run is to end."""
        tally = Tally()
        with ExitStack() as stack:
            stack.enter_context(tally)
            for page in store.lines(number):
                tally.have(page)
                if keeping.breathe():
                    return None
            stack.pop_all()
        return tally

    def _add(self, store: Store, tally: Tally, keeping: Keeping, added: Added) -> bool:
        """Add what is new, the true mark with the last of it; whether it came to that."""
        mark, record = added.mark, Record(0)
        with self._reading(mark.submission) as feed:
            for tasks, rejected in _lines(feed):
                for task in filter(tally.take, tasks):
                    record.inserted.append(task)
                    _count(added.pending, task)
                for task, reason in rejected:
                    if tally.take(task):
                        self._reject(record, task, reason)
                        _count(added.failed, task)
                if len(record.inserted) >= _ROWS:
                    record.mark = FeedMark(mark.submission, 0, 0, UPDATING)
                    _commit(store, keeping, record)
                    record = Record(0)
                if keeping.breathe():
                    return False
            if feed.mark(complete=True) != mark:
                raise InputError(f"{self._name} was changed meanwhile: run again with --restart --update")
        record.mark = mark
        _commit(store, keeping, record)
        return True

    def _reject(self, record: Record, task: Task, reason: str) -> None:
        """A line that can never run is a failed task."""
        log.error("%s: %s; the line was not run: %s", self._name, reason, task.args[:100])
        now = time.time()
        record.inserted.append(task)
        result = Result(task.id, 0, Special.NOT_STARTED, now, now, error=reason)
        record.finished.append(Finished(NOBODY, FAILED, now, result, None, task))

    @contextmanager
    def _reading(self, number: int) -> Iterator[Feed]:
        """All of the FILE; the descriptor stands at its beginning before and afterwards."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        try:
            yield self._make_feed(self._descriptor, number, self._ids.task)
        finally:
            os.lseek(self._descriptor, 0, os.SEEK_SET)


def described(name: str, difference: Difference) -> str:
    """What an update of a FILE does, in one line."""
    words = [f"{_so_many(difference.new, 'new line')} of {name} added"]
    if difference.gone:
        words.append(
            f"{_so_many(difference.gone, 'task')} whose line is no longer there left alone (hs update --cancel "
            "ends what waits)"
        )
    if difference.reworded:
        words.append(
            f"{_so_many(difference.reworded, 'task')} whose line has other tags or resources now left alone "
            "(hs update changes them)"
        )
    return ", ".join(words)


def _lines(feed: Feed) -> Iterator[tuple[list[Task], list[tuple[Task, str]]]]:
    while not feed.ended:
        batch = feed.read(_ROWS)
        if batch is not None:
            yield batch.tasks, batch.rejected


def _commit(store: Store, keeping: Keeping, record: Record) -> None:
    keeping.attempt(lambda: store.apply([record]))


def _count(counts: dict[int, int], task: Task) -> None:
    counts[task.group] = counts.get(task.group, 0) + 1


def _so_many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
