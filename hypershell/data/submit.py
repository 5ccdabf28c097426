"""Putting tasks into a database without running them: the writing side of ``hs submit``.

What is small goes in by one transaction and belongs to nobody: whoever looks for work takes it. A FILE that needs
several is owned by its submitter, with a lease as a server has one, until its last row is in; so no server runs
half of it, and where the submitter is killed, a server goes on with the FILE. Transactions are short, so that
servers and other submitters write in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, delete, select, text

from hypershell.core.model import FeedMark, Submission, Task
from hypershell.data import lines, rows, schema
from hypershell.data.bulk import Bulk, JsonBulk, bulk_insert, insert_once
from hypershell.data.connected import RENEW, Connected, Database
from hypershell.data.lease import Life, Owner, ProcessIdentity, Watch
from hypershell.data.patience import Patience
from hypershell.data.store import Fenced, RunInfo, Submitted
from hypershell.data.submitted import row_of, submission_of
from hypershell.data.unfit import wrong_submission
from hypershell.errors import StoreError
from hypershell.ostext import escaped

__all__ = ["TRANSPORT", "Servers", "Submitter", "servers"]

T = TypeVar("T")

#: What column ``transport`` of table ``run`` says of a process that only submits.
TRANSPORT = "submit"

#: Rows of one deletion: a fraction of a second.
_DELETED = 20_000
_PATIENCE = Patience()

_task, _run, _submission = schema.task, schema.run, schema.submission


class Servers(msgspec.Struct, frozen=True):
    """The servers of a database that may live: `seen` do, of `unseen` on other hosts nothing is known.

    `waiting` says whether one of them takes what nobody owns (``--forever``).
    """

    seen: list[Owner]
    unseen: list[Owner]
    waiting: bool


class Submitter(Connected):
    """One connection that adds tasks, used by one thread.

    `run` describes this process for its lease; `tell` gets a line when the database has to be waited for. Every
    method raises ``StoreError`` where the database cannot be written.
    """

    def __init__(self, database: Database, run: RunInfo, tell: Callable[[str], None]) -> None:
        super().__init__(database)
        self._me = run
        self._tell = tell
        self._maker: Any = None
        self._insert: Bulk | JsonBulk | None = None
        self._open: Submission | None = None

    def open(self) -> None:
        """Connect; make the tables where they are missing."""
        self._try(self._connect)

    def _connect(self) -> None:
        dialect = self.connect(create=True).dialect
        self._maker = rows.RowMaker(self._me.id, self._me.host, dialect.name == "postgresql")
        self._insert = bulk_insert(dialect, _task, rows.NEW)

    def add(self, submission: Submission, tasks: list[Task], mark: FeedMark) -> None:
        """Hand over a whole submission; servers see all of it or nothing."""

        def step() -> None:
            with self._transaction() as link:
                self._add_submission(link, submission, None, msgspec.structs.replace(mark, complete=True))
                self._add_tasks(link, submission, tasks)

        self._try(step)

    def begin(self, submission: Submission) -> None:
        """Begin a submission of several transactions, which is ours until `finish`."""

        def step() -> None:
            with self._transaction() as link:
                link.execute(insert_once(link.dialect, _run).values(**msgspec.structs.asdict(self._me)))
                self._add_submission(link, submission, self._me.id, FeedMark(submission.id, 0, 0, ""))

        self._try(step)
        self._open = submission

    def append(self, tasks: list[Task], mark: FeedMark) -> None:
        """Add the next tasks, read up to `mark`. Raises ``Fenced`` where a server took the submission over."""
        submission = self._current

        def step() -> None:
            with self._transaction() as link:
                self._renew(link)
                self._add_tasks(link, submission, tasks)
                link.execute(_submission.update().where(_submission.c.id == submission.id).values(**_read(mark)))

        self._try(step)

    def finish(self, tasks: list[Task], mark: FeedMark) -> None:
        """Add the last tasks and give the submission free."""
        submission = self._current

        def step() -> None:
            with self._transaction() as link:
                self._renew(link)
                self._add_tasks(link, submission, tasks)
                values = {**_read(mark), "complete": True, "owner": None}
                link.execute(_submission.update().where(_submission.c.id == submission.id).values(**values))
                link.execute(delete(_run).where(_run.c.id == self._me.id))

        self._try(step)
        self._open = None

    def discard(self) -> None:
        """Take back all of a submission that was begun and not finished, if there is one."""
        submission = self._open
        if submission is None:
            return
        mine = _task.c.submission == submission.id
        some = select(_task.c.id).where(_task.c.state == "pending", mine).limit(_DELETED)

        def step() -> int:
            with self._transaction() as link:
                self._renew(link)
                count = link.execute(delete(_task).where(_task.c.id.in_(some))).rowcount
                if count < _DELETED:
                    link.execute(delete(_submission).where(_submission.c.id == submission.id))
                    link.execute(delete(_run).where(_run.c.id == self._me.id))
                return count

        while self._try(step) == _DELETED:
            pass
        self._open = None

    def servers(self) -> Servers:
        """Who may work on this database."""

        def step() -> Servers:
            with self.reading() as link:
                return servers(link, self._me)

        return self._try(step)

    def is_half_submitted(self, path: str) -> bool:
        """Whether a submission of the FILE with this real path has not come to its end."""
        found = select(_submission).where(_submission.c.path == escaped(path), text("NOT complete"))

        def step() -> bool:
            with self.reading() as link:
                rows_of_file = link.execute(found).mappings().fetchall()
                return any(submission_of(row).path == path for row in rows_of_file if not wrong_submission(row))

        return self._try(step)

    def earlier(self, path: str) -> list[Submitted]:
        """What was submitted whole of the FILE with this real path, the newest first."""
        s = _submission.c
        whole = (s.path == escaped(path), s.source == "file", s.complete)
        query = select(_submission).where(*whole).order_by(s.id.desc())

        def step() -> list[Submitted]:
            with self.reading() as link:
                found = [(submission_of(row), row["digest"]) for row in link.execute(query).mappings()
                         if not wrong_submission(row)]  # fmt: skip
                return [
                    Submitted(one.id, one.options, one.cwd, one.submit_time, digest)
                    for one, digest in found
                    if one.path == path
                ]

        return self._try(step)

    def lines(self, numbers: Sequence[int]) -> Iterator[list[Task]]:
        """The tasks of these submissions, as they were submitted, in pieces. Raises as `lines.in_partitions`."""
        yield from lines.pages(self.reading, numbers)
        if self._database.file is not None:
            yield from lines.in_partitions(self._database.file, numbers)

    def remains(self, name: str) -> str:
        """What is there of the FILE `name` after a failure, for a message."""
        return f"a part of {name} is in the database, hs cluster --restart goes on with it"

    def has(self, number: int) -> bool:
        """Whether this submission is committed."""
        found = select(_submission.c.id).where(_submission.c.id == number)

        def step() -> bool:
            with self.reading() as link:
                return link.execute(found).first() is not None

        return self._try(step)

    # -- parts -------------------------------------------------------------------------------------------

    @property
    def _current(self) -> Submission:
        if self._open is None:
            raise StoreError("no submission has begun: call begin first")
        return self._open

    def _add_submission(self, link: Connection, submission: Submission, owner: str | None, mark: FeedMark) -> None:
        values = {**row_of(submission), **_read(mark), "complete": mark.complete}
        epoch = 0 if owner is None else 1
        link.execute(insert_once(link.dialect, _submission).values(**values, owner=owner, epoch=epoch))

    def _add_tasks(self, link: Connection, submission: Submission, tasks: list[Task]) -> None:
        if not tasks:
            return
        assert self._insert is not None
        flat: list[Any] = []
        self._maker.new(flat, tasks, {submission.id: submission})
        self._insert.run(link, flat)

    def _renew(self, link: Connection) -> None:
        if not link.execute(RENEW, {"me": self._me.id}).rowcount:
            raise Fenced("a server took this submission over while we stood still: it submits the rest")

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        link = self.link
        self._database.check_place()
        with self.explained(), link.begin():
            yield link

    def _try(self, step: Callable[[], T]) -> T:
        """Do `step` again while its failure may pass: a lock that another process holds, a full disk."""
        return _PATIENCE.persist(step, self._tell)[0]


def _read(mark: FeedMark) -> dict[str, Any]:
    return {"offset": mark.offset, "lines": mark.lines, "digest": mark.digest}


def servers(link: Connection, here: RunInfo) -> Servers:
    """The servers of a database that may live, as the process `here` sees them."""
    watch = Watch(ProcessIdentity(here.host, here.boot_id, here.pid, here.pid_start))
    unended = (_run.c.end_time.is_(None), _run.c.fenced.is_(False), _run.c.transport != TRANSPORT)
    found: dict[Life, list[Owner]] = {life: [] for life in Life}
    waiting = False
    for row in link.execute(select(_run).where(*unended)):
        owner = Owner(
            row.id, row.host, row.boot_id, row.pid, row.pid_start, row.job, row.counter, ended=False, fenced=False
        )
        life = watch.life(owner, 0.0)
        found[life].append(owner)
        waiting = waiting or (life is not Life.DEAD and _is_forever(row.command.split()))
    return Servers(found[Life.ALIVE], found[Life.UNKNOWN], waiting)


def _is_forever(words: Sequence[str]) -> bool:
    """Whether a command line has ``--forever``, perhaps shortened."""
    return any(len(word) > 3 and "--forever".startswith(word) for word in words)
