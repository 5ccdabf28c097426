"""From a command, a FILE or a stream of lines to rows of the database that nobody owns yet.

A FILE goes in whole or not at all: it is read twice, first to check every line. A stream cannot be read twice: its
lines are committed while it is still written, each time as a submission of its own, so that a server may begin.
Memory holds one batch. Knows no SQL; called by ``hs submit``.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from hypershell.core.model import FeedMark, Submission, Task
from hypershell.data.store import Fenced, Submitted
from hypershell.data.tally import Tally
from hypershell.errors import InputError, StoreError
from hypershell.ids import IdSource
from hypershell.server.again import other_work, pieces, same_work, told
from hypershell.server.feed import Feed, task_of
from hypershell.server.revision import described
from hypershell.server.terms import Terms, Wishes
from hypershell.template import ExpansionError

__all__ = ["Handing", "Handover", "Shown"]

log = logging.getLogger("hypershell.submit")

#: Rows of a transaction where the user does not say: a tenth of a second, in which other writers wait.
_ROWS = 8192
#: Seconds after which what there is of a FILE is committed, which also renews the lease.
_AGE = 1.0
#: Seconds for which a line of a stream may wait for others where the user does not say.
_PAUSE = 0.2


class Handover(Protocol):
    """Where tasks go: a database (``data.submit.Submitter``), or a server that runs.

    Methods are those of ``Submitter``; `remains` says what of a FILE is there after a failure.
    """

    def open(self) -> None: ...
    def close(self) -> None: ...
    def add(self, submission: Submission, tasks: list[Task], mark: FeedMark) -> None: ...
    def begin(self, submission: Submission) -> None: ...
    def append(self, tasks: list[Task], mark: FeedMark) -> None: ...
    def finish(self, tasks: list[Task], mark: FeedMark) -> None: ...
    def discard(self) -> None: ...
    def has(self, number: int) -> bool: ...
    def is_half_submitted(self, path: str) -> bool: ...
    def earlier(self, path: str) -> list[Submitted]: ...
    def lines(self, numbers: Sequence[int]) -> Iterator[list[Task]]: ...
    def remains(self, name: str) -> str: ...


class Shown(Protocol):
    """What shows how far the reading is."""

    def update(self, done: int, count: int) -> None: ...
    def erase(self) -> None: ...


class Handing:
    """One act of handing over tasks. `bar` makes what shows progress from a label and a size in bytes.

    `rows` is the number of rows of a transaction, None adapts; `wait` the seconds for which lines of a stream may
    wait for so many.
    """

    def __init__(
        self,
        submitter: Handover,
        ids: IdSource,
        submit_id: str,
        host: str,
        cwd: str,
        terms: Terms,
        wishes: Wishes,
        *,
        rows: int | None,
        wait: float,
        bar: Callable[[str, int], Shown],
    ) -> None:
        self._submitter = submitter
        self._ids = ids
        self._submit_id = submit_id
        self._host = host
        self._cwd = cwd
        self._terms = terms
        self._wishes = wishes
        self._rows = rows
        self._wait = wait
        self._bar = bar
        self._expand = terms.expander(cwd)

    def command(self, line: str, task_id: str | None = None) -> str:
        """Hand over a single command; its id: a new one, or `task_id`.

        Raises:
            InputError: the template cannot take it.
        """
        try:
            args = line if self._expand is None else self._expand(line)
        except ExpansionError as error:
            raise InputError(f"{error}; nothing was submitted") from None
        submission = self._submission("command", None)
        key = task_id or self._ids.task()
        task = task_of(key, args, submission.id, self._terms.defaults, submission.submit_time)
        self._submitter.add(submission, [task], FeedMark(submission.id, 0, 0, ""))
        return task.id

    # -- a FILE ------------------------------------------------------------------------------------------

    def file(self, fd: int, name: str, *, update: bool = False, repeat: bool = False) -> int:
        """Hand over a FILE that can be read again; the number of tasks.

        With `update` it is only what was not handed over before; with `repeat` nothing is said of that.

        Raises:
            InputError: a bad line, or a FILE that changes meanwhile; nothing was submitted.
        """
        size = os.fstat(fd).st_size
        checked = self._check(fd, name, size)
        path = os.path.realpath(name)
        half = self._submitter.is_half_submitted(path)
        if half and update:
            raise StoreError(
                f"an earlier submission of {name} is unfinished, so its new lines cannot be told: a server goes on "
                "with it (hs cluster --restart); nothing was submitted"
            )
        earlier = [] if half else self._submitter.earlier(path)
        work = same_work(earlier, self._terms, self._cwd)
        if work and update:
            return self._new_lines(fd, name, path, checked, work)
        if half:
            log.warning(
                "an earlier submission of %s is unfinished, and a server goes on with it; "
                "this one submits all of it once more",
                name,
            )
        elif work and not repeat:
            log.warning("%s", told(name, work[0]))
        elif update and (line := other_work(name, earlier, self._terms, self._cwd)):
            log.warning("%s", line)
        os.lseek(fd, 0, os.SEEK_SET)
        submission = self._submission("file", path)
        feed = self._feed(fd, name, submission.id, self._expand)
        bar = self._bar("submitting", size)
        try:
            return self._file(feed, submission, checked, bar)
        except Fenced as error:
            raise StoreError(f"{name}: {error}") from None
        except StoreError as error:
            raise StoreError(f"{error}; {self._submitter.remains(name)}") from None
        except (InputError, KeyboardInterrupt):
            bar.erase()
            self._submitter.discard()
            raise
        finally:
            bar.erase()

    def _check(self, fd: int, name: str, size: int) -> FeedMark:
        """Read all of a FILE; how far that is. Commands of a template do not run for that."""
        expand = None if self._expand is not None and self._expand.runs_commands else self._expand
        feed = self._feed(fd, name, 0, expand, _no_id)
        bar = self._bar("checking", size)
        count = 0
        try:
            while not feed.ended and feed.bad is None:
                batch = feed.read(_ROWS)
                if batch is not None:
                    count += len(batch.tasks)
                    bar.update(batch.mark.offset, count)
        finally:
            bar.erase()
        _refuse(feed)
        return feed.mark()

    def _file(self, feed: Feed, submission: Submission, checked: FeedMark, bar: Shown) -> int:
        most, count, begun = self._rows or _ROWS, 0, False
        pending: list[Task] = []
        since = time.monotonic()
        while not feed.ended:
            batch = feed.read(most - len(pending))
            _refuse(feed)
            if batch is not None:
                pending += batch.tasks
                bar.update(batch.mark.offset, count + len(pending))
                if batch.mark.offset > checked.offset:
                    break
            if pending and (len(pending) >= most or time.monotonic() - since >= _AGE):
                if not begun:
                    self._submitter.begin(submission)
                    begun = True
                self._submitter.append(pending, feed.mark())
                count += len(pending)
                log.debug("Submitted %d tasks", len(pending))
                pending = []
                since = time.monotonic()
        mark = feed.mark(complete=True)
        if mark.digest != checked.digest:
            raise InputError(f"{feed.name} was changed meanwhile; nothing was submitted: submit it again")
        if begun:
            self._submitter.finish(pending, mark)
        elif pending:
            self._submitter.add(submission, pending, mark)
        if pending:
            log.debug("Submitted %d tasks", len(pending))
        return count + len(pending)

    def _new_lines(self, fd: int, name: str, path: str, checked: FeedMark, work: list[Submitted]) -> int:
        """Hand over the lines of a FILE that no submission of `work` has; how many they are.

        Each transaction is a submission of its own: what is committed of them counts at the next comparison. The
        last alone says what the FILE is, for only it is known to be the last.
        """
        if work[0].digest == checked.digest:
            log.info("%s is as it was when it was submitted: it has no new lines", name)
            return 0
        with Tally() as tally:
            for page in self._submitter.lines([one.number for one in work]):
                tally.have(page)
            for tasks in self._pieces(fd, name, checked, "nothing was submitted: submit it again"):
                tally.want(tasks)
            difference = tally.settle()
            log.info("%s", described(name, difference))
            count = 0
            pending: list[Task] = []
            for tasks in self._pieces(fd, name, checked, "submit it again with --update"):
                pending += filter(tally.take, tasks)
                while len(pending) > (most := self._rows or _ROWS):
                    count += self._add_update(path, pending[:most], FeedMark(0, 0, 0, ""))
                    del pending[:most]
            if count + len(pending) < difference.new:
                raise InputError(
                    f"{name}: only {count} of its new lines were submitted: the template makes another command "
                    "of a line each time: submit a file with the new lines"
                )
            return count + self._add_update(path, pending, checked)

    def _pieces(self, fd: int, name: str, checked: FeedMark, way_out: str) -> Iterator[list[Task]]:
        os.lseek(fd, 0, os.SEEK_SET)
        return pieces(self._feed(fd, name, 0, self._expand), checked, way_out)

    def _add_update(self, path: str, tasks: list[Task], mark: FeedMark) -> int:
        if tasks:
            self._add(self._submission("file", path, is_update=True), tasks, mark)
        return len(tasks)

    # -- a stream ----------------------------------------------------------------------------------------

    def stream(self, fd: int, name: str) -> int:
        """Hand over lines as they come; the number of tasks.

        Raises:
            InputError: a bad line; the lines before it were submitted, and it says so.
        """
        feed = self._feed(fd, name, 0, self._expand)
        count = 0
        submission: Submission | None = None
        tasks: list[Task] = []
        try:
            while not feed.ended and feed.bad is None:
                tasks, mark = self._gather(feed)
                if tasks:
                    submission = self._submission("stdin", None)
                    self._add(submission, tasks, mark)
                    count += len(tasks)
                    submission = None
        except StoreError as error:
            raise StoreError(f"{error}; the first {count} tasks were submitted") from None
        except KeyboardInterrupt:
            # It may have come just behind the commit.
            if submission is not None and self._submitter.has(submission.id):
                count += len(tasks)
            log.warning("The first %d tasks were submitted", count)
            raise
        if feed.bad is not None:
            raise InputError(f"{feed.bad}; the {count} tasks before it were submitted")
        return count

    def _gather(self, feed: Feed) -> tuple[list[Task], FeedMark]:
        """Lines for one transaction: as many as it takes, or those that came within the time."""
        most = self._rows or _ROWS
        patience = self._wait if self._rows else min(self._wait, _PAUSE)
        tasks: list[Task] = []
        due = 0.0
        while len(tasks) < most and not feed.ended and feed.bad is None:
            if not _is_there(feed, due - time.monotonic() if tasks else None):
                break
            batch = feed.read(most - len(tasks))
            if batch is not None and batch.tasks:
                if not tasks:
                    due = time.monotonic() + patience
                tasks += batch.tasks
            if tasks and time.monotonic() >= due:
                break
        return tasks, feed.mark()

    def _add(self, submission: Submission, tasks: list[Task], mark: FeedMark) -> None:
        for task in tasks:
            task.submission = submission.id
        self._submitter.add(submission, tasks, mark)
        log.debug("Submitted %d tasks", len(tasks))

    # -- parts -------------------------------------------------------------------------------------------

    def _feed(
        self,
        fd: int,
        name: str,
        submission: int,
        expand: Callable[[str], str] | None,
        new_id: Callable[[], str] | None = None,
    ) -> Feed:
        terms = self._terms
        ids = new_id or self._ids.task
        return Feed(
            fd, name, submission, ids, time.time, terms.defaults, expand, strict=True, plain=terms.plain
        )

    def _submission(self, source: str, path: str | None, is_update: bool = False) -> Submission:
        return Submission(
            self._ids.submission(),
            source,
            path,
            self._terms.template_of_clients,
            self._terms.to_options(self._wishes, is_update),
            self._cwd,
            self._submit_id,
            self._host,
            time.time(),
        )


def _no_id() -> str:
    return ""


def _refuse(feed: Feed) -> None:
    if feed.bad is not None:
        raise InputError(f"{feed.bad}; nothing was submitted")


def _is_there(feed: Feed, patience: float | None) -> bool:
    """Whether something can be read within `patience` seconds (None: however long that takes)."""
    if feed.buffered or not feed.waits or not hasattr(select, "poll"):  # Windows cannot ask a pipe: read and see
        return True
    probe = select.poll()
    probe.register(feed.fd, select.POLLIN)
    return bool(probe.poll(None if patience is None else max(0, int(patience * 1000))))
