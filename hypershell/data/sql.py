"""The store in a database: SQLAlchemy Core for schema, queries and dialects, bulk statements for the hot path.

One connection, used by one thread (the writer's). What differs between database systems is in ``engine``.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal,
    null,
    or_,
    select,
    text,
    tuple_,
    type_coerce,
)

from hypershell.core.actions import Dispatch, Finish, Finished, Record, Return
from hypershell.core.events import CancelRequested, TasksChanged
from hypershell.core.model import FeedMark, Special, Submission, Task
from hypershell.core.poison import deaths_in
from hypershell.core.states import DISPATCHED, PENDING
from hypershell.data import again, lines, outliving, ownership, printed, requests, rows, schema, unfit
from hypershell.data.batch import Batch
from hypershell.data.bulk import Bulk, JsonBulk, bulk_insert, bulk_update, incoming, insert_once
from hypershell.data.connected import RENEW, Connected, Database
from hypershell.data.lease import Owner
from hypershell.data.schema import micros
from hypershell.data.store import Claim, Earlier, Fenced, RunInfo, Taken, Transient
from hypershell.data.submitted import row_of
from hypershell.errors import StoreError

__all__ = ["SqlStore"]

_task, _run, _submission, _client = schema.task, schema.run, schema.submission, schema.client
#: Unfinished tasks of others are counted up to here.
_MOST_COUNTED = 100_000
_LIVE = _task.c.state.in_([PENDING, DISPATCHED])


class _BadPage(Exception):
    """Rows of submission `number` that cannot be read together."""

    def __init__(self, number: int, error: Exception) -> None:
        super().__init__(" ".join(str(error).split())[:300])
        self.number = number


class SqlStore(Connected):
    """See ``store.Store``."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._run: RunInfo | None = None
        self._owned: dict[int, Submission] = {}
        self._cursors: dict[tuple[int, int], str] = {}
        self._exhausted: set[tuple[int, int]] = set()
        self._rows: Any = None
        self._bulk: dict[str, Bulk | JsonBulk] = {}
        self._paging: Any = None
        self._looked: tuple[int, int] | None = None
        """The version of the database, and the last request, when requests were read."""
        self._asked: set[str] = set()
        """Tasks with a request that may not have been met."""
        self._again: dict[int, again.Ranges] = {}
        """Per submission that was taken over: ids of tasks that were given again after they had failed."""
        self._retried: set[int] = set()
        """Submissions whose last range of these is of this run."""
        self._unfit: list[tuple[Task, str]] = []
        """Rows that could not be run, and have ended."""
        self._outliving: set[str] = set()
        """Clients that go on without us."""
        self.refused = 0

    # -- life ------------------------------------------------------------------------------------

    def open(self, create: bool = True) -> None:
        self.connect(create)

    def begin_run(self, run: RunInfo) -> None:
        with self._transaction(guarded=False) as link:
            link.execute(insert_once(link.dialect, _run).values(**msgspec.structs.asdict(run)))
        self._run = run
        self._rows = rows.RowMaker(run.id, run.host, link.dialect.name == "postgresql")
        self._bulk = _compile(link, run)
        self._paging = _page_query(link.dialect.name)

    def forget_run(self) -> None:
        mine = _submission.c.owner == self._me.id
        with self._transaction() as link:
            link.execute(delete(_submission).where(mine, _submission.c.submit_id == self._me.id))
            link.execute(_submission.update().where(mine).values(owner=None))
            link.execute(delete(_run).where(_run.c.id == self._me.id))
        self._owned.clear()

    def end_run(self, finish: Finish) -> None:
        with self._transaction() as link:
            requests.drop(link, self._asked, self._heard)
            values = {
                "end_time": time.time(),
                "outcome": finish.reason,
                "succeeded": finish.succeeded,
                "failed": finish.failed,
                "unfinished": finish.unfinished + finish.held,
            }
            link.execute(_run.update().where(_run.c.id == self._me.id).values(**values))
            here = (_client.c.server_id == self._me.id) & _client.c.disconnected_at.is_(None)
            link.execute(_client.update().where(here).values(disconnected_at=values["end_time"]))
            if self._outliving:
                outliving.clear(link, self._outliving, self._owned)

    def beat(self) -> None:
        with self._transaction():
            pass

    def changed(self) -> bool:
        with self.reading() as link:
            return self._database.changed(link)

    def requests(self) -> CancelRequested | TasksChanged | None:
        with self.reading() as link:
            version = self._database.version(link)
            last = 0
            if self._looked is not None:
                before, last = self._looked
                if before == version:
                    return None
            page = requests.read(link, last, self._owned)
        more = page.last > last
        # With a full page there may be more in the same version.
        self._looked = (-1 if more else version, page.last)
        self._asked.update(page.ids)
        return page.event

    @property
    def _heard(self) -> int:
        """The last request that was read."""
        return 0 if self._looked is None else self._looked[1]

    def drop_requests(self) -> None:
        if self._asked:
            with self._transaction() as link:
                self._asked = requests.drop(link, self._asked, self._heard)

    # -- writing -----------------------------------------------------------------------------------

    def add_submission(self, submission: Submission) -> None:
        with self._transaction() as link:
            values = row_of(submission)
            link.execute(insert_once(link.dialect, _submission).values(**values, owner=self._me.id, epoch=1))
        self._owned[submission.id] = submission

    def apply(self, records: Sequence[Record]) -> None:
        batch = Batch(records)
        with self._transaction() as link:
            self._write_clients(link, batch)
            missed = self._write_tasks(link, batch)
            for mark in batch.marks.values():
                link.execute(_mark_statement(mark))
        self.refused += batch.refused + missed

    def _write_tasks(self, link: Connection, batch: Batch) -> int:
        """Send all rows of the batch; how many updates hit nothing."""
        maker, changes = self._rows, batch.changes
        fresh: list[Task] = []
        whole: list[Any] = []
        kept_whole: list[Any] = []
        take = changes.pop if changes else None
        for task in batch.inserted.values():
            change = take(task.id, None) if take is not None else None
            if change is None:
                fresh.append(task)
            else:
                maker.whole(whole, task, change, self._owned)
                if type(change) is Finished:
                    printed.row(kept_whole, change)
        if self._exhausted:
            self._exhausted.difference_update({(task.submission, task.group) for task in batch.inserted.values()})
        new: list[Any] = []
        maker.new(new, fresh, self._owned)
        finished: list[Any] = []
        moved: list[Any] = []
        died: list[Any] = []
        kept: list[Any] = []
        for change in changes.values():
            if type(change) is Finished:
                maker.finished(finished, change)
                printed.row(kept, change)
            elif isinstance(change, Dispatch | Return):
                if change.deaths is None:
                    maker.moved(moved, change)
                else:
                    maker.died(died, change)
        bulk = self._bulk
        missed = 0
        # Before the rows that they belong to, of which they ask the same.
        for name, flat in (("printed", kept), ("printed_whole", kept_whole)):
            if flat:
                bulk[name].run(link, flat)
        writes = (("new", new), ("whole", whole), ("moved", moved), ("died", died), ("finished", finished))
        for name, flat in writes:
            if flat:
                statement = bulk[name]
                missed += len(flat) // statement.width - statement.run(link, flat)
        return missed

    def _write_clients(self, link: Connection, batch: Batch) -> None:
        joined: list[Any] = []
        left: list[Any] = []
        for one, other in batch.clients.values():
            for change in (one, other):
                if change is not None:
                    self._rows.join(change)
            row = self._rows.client(one, other)
            (joined if one is not None else left).extend(row)
        if joined:
            # A client that comes back under its id has its row replaced.
            ids = joined[:: len(rows.CLIENT)]
            for start in range(0, len(ids), 500):
                link.execute(delete(_client).where(_client.c.id.in_(ids[start : start + 500])))
            self._bulk["joined"].run(link, joined)
            changes = (one for one, _ in batch.clients.values() if one is not None)
            self._outliving.update(outliving.add(link, self._me.id, changes))
        if left:
            self._bulk["left"].run(link, left)

    # -- reading -----------------------------------------------------------------------------------

    def load(self, group: int, limit: int, again: bool = False) -> tuple[list[Task], bool]:
        if again:
            for number in self._owned:
                self._cursors.pop((number, group), None)
                self._exhausted.discard((number, group))
        while True:
            try:
                return self._load(group, limit)
            except _BadPage as bad:
                self._settle(bad, group, limit)

    def unfit(self) -> list[tuple[Task, str]]:
        ended, self._unfit = self._unfit, []
        return ended

    def _settle(self, bad: _BadPage, group: int, limit: int) -> None:
        """End the rows of a page that cannot be run; raises ``StoreError`` where these are not what is wrong."""
        asked = {"number": bad.number, "grp": group, "after": self._cursors.get((bad.number, group), "")}
        with self._transaction() as link:
            dialect = link.dialect.name
            t = _task.c
            chosen = unfit.rows_of(dialect).where(text("state = 'pending'"), *_behind_cursor(dialect == "sqlite"))
            page = chosen.order_by(t.submission, t.group, t.id).limit(limit).params(**asked)
            ended = unfit.settle(link, page)
        if not ended:
            raise StoreError(f"tasks of submission {bad.number} cannot be read: {bad}") from bad
        self._unfit += ended

    def _load(self, group: int, limit: int) -> tuple[list[Task], bool]:
        tasks: list[Task] = []
        cursors: dict[tuple[int, int], str] = {}
        exhausted: set[tuple[int, int]] = set()
        with self.reading() as link:
            for number in sorted(self._owned):
                key = (number, group)
                wanted = limit - len(tasks)
                if key in self._exhausted or wanted <= 0:
                    continue
                try:
                    found = self._page(link, number, group, wanted)
                except self._database.errors as error:
                    if isinstance(self._database.explain(error), Transient):
                        raise
                    raise _BadPage(number, error) from error
                except unfit.READ_ERRORS as error:
                    raise _BadPage(number, error) from error
                tasks += found
                if found:
                    cursors[key] = found[-1].id
                if len(found) < wanted:
                    exhausted.add(key)
        # Only now: a page that failed must be asked for again from where it began.
        self._cursors.update(cursors)
        self._exhausted |= exhausted
        return tasks, all((number, group) in self._exhausted for number in self._owned)

    def _page(self, link: Connection, number: int, group: int, limit: int) -> list[Task]:
        """The next pending tasks of a submission and group, one row of JSON for all: a fetch per row would give up
        the interpreter lock for each of them."""
        after = self._cursors.get((number, group), "")
        asked = {"number": number, "grp": group, "after": after, "most": limit}
        found_json, raws, errors = link.execute(self._paging, asked).one()
        found = _decode(found_json)
        if not found:
            return found
        if "\\u0000" in found_json:
            raise ValueError("a NUL byte")
        for task in found:
            task.submit_time /= 1_000_000
            task.tag = task.tag or None
        found.sort(key=_by_id)
        if raws or errors:
            self._add_rest(link, found)
        if ranges := self._again.get(number):
            again.forget_attempts(link, found, ranges)
        return found

    # -- taking over -------------------------------------------------------------------------------------

    def claims(self, like: Submission | None, failed: bool = False) -> list[Claim]:
        with self.reading() as link:
            return ownership.claims(link, self._me.id, like, self._owned, failed)

    def earlier(self, like: Submission, same_work: bool) -> Earlier | None:
        with self.reading() as link:
            return ownership.earlier(link, like, same_work, _MOST_COUNTED)

    def take(self, claims: Sequence[Claim], given: Mapping[str, Any] | None = None) -> Taken:
        with self._transaction() as link:
            done = [one for one in claims if ownership.take(link, self._me.id, one, given)]
        died = any(one.owner is not None and not one.owner.ended for one in done)
        return msgspec.structs.replace(self.survey([one.submission for one in done]), died=died)

    def survey(self, numbers: Sequence[int]) -> Taken:
        with self.reading() as link:
            taken, repairs = ownership.describe(link, numbers)
        if repairs:
            with self._transaction() as link:
                told = [repair(link) for repair in repairs]
            with self.reading() as link:
                taken = msgspec.structs.replace(ownership.describe(link, numbers)[0], told=told)
        with self.reading() as link:
            for one in taken.submissions:
                self._again[one.id] = ranges = again.ranges_in(one.options)
                if ranges:
                    again.forget_attempts(link, _all_of(taken.withheld, one.id), ranges)
        self._owned.update((one.id, one) for one in taken.submissions)
        return taken

    def retry_failed(self, number: int, new_id: Callable[[], str], most: int) -> int:
        with self._transaction() as link:
            tasks = again.next_attempts(link, number, new_id, most)
            if not tasks:
                return 0
            new: list[Any] = []
            self._rows.new(new, tasks, self._owned)
            self._bulk["new"].run(link, new)
            again.relink(link.dialect).run(link, [word for one in tasks for word in (one.previous_id, one.id)])
            options = again.note(link, number, tasks, number in self._retried)
        self._retried.add(number)
        self._again[number] = again.ranges_in(options)
        return len(tasks)

    def failures(self, number: int) -> Iterator[list[Task]]:
        yield from again.failures(self.reading, number)

    def lines(self, number: int) -> Iterator[list[Task]]:
        yield from lines.pages(self.reading, [number])
        if self._database.file is not None:
            yield from lines.in_partitions(self._database.file, [number])

    def left_alone(self, dead: Callable[[Owner], bool]) -> int:
        with self.reading() as link:
            found = ownership.claims(link, self._me.id, None, self._owned)
            free = [claim.submission for claim in found if not claim.owner or dead(claim.owner)]
            return ownership.count_unfinished(link, free, _MOST_COUNTED, runnable=True)

    def _add_rest(self, link: Connection, tasks: list[Task]) -> None:
        """Fetch what few tasks have: bytes that are not UTF-8, which JSON cannot carry, and clients that died."""
        by_id = {task.id: task for task in tasks}
        ids = list(by_id)
        for start in range(0, len(ids), 500):
            wanted = _task.c.id.in_(ids[start : start + 500])
            some = or_(_task.c.args_raw.is_not(None), _task.c.error.is_not(None))
            query = select(_task.c.id, _task.c.args_raw, _task.c.error).where(wanted, some)
            for key, raw, error in link.execute(query):
                by_id[key].raw = None if raw is None else bytes(raw)
                by_id[key].deaths = deaths_in(error)

    # -- connection ------------------------------------------------------------------------------

    @property
    def _me(self) -> RunInfo:
        if self._run is None:
            raise StoreError("no run has begun in this store: call begin_run first")
        return self._run

    @contextmanager
    def _transaction(self, guarded: bool = True) -> Iterator[Connection]:
        """One write transaction; it begins by renewing our lease, which fails once we are fenced."""
        link = self.unbegun()
        if guarded:
            self._database.check_place()
        with self.explained(), link.begin():
            if guarded and not link.execute(RENEW, {"me": self._me.id}).rowcount:
                raise Fenced(f"another server took over the tasks of this one (run {self._me.id}): it ends")
            yield link


def _all_of(withheld: Mapping[str, list[Task]], number: int) -> list[Task]:
    return [task for tasks in withheld.values() for task in tasks if task.submission == number]


_by_id = operator.attrgetter("id")
_decode = msgspec.json.Decoder(list[Task]).decode


def _page_query(dialect: str) -> Any:
    """The next pending tasks of one submission and group as one JSON array of arrays in the order of ``Task``."""
    t = _task.c
    sqlite = dialect == "sqlite"
    inner = (
        select(_task)
        .where(text("state = 'pending'"), *_behind_cursor(sqlite))
        .order_by(t.submission, t.group, t.id)
        .limit(bindparam("most"))
        .subquery("page")
        .c
    )
    array = func.json_array if sqlite else func.json_build_array
    gather = func.json_group_array if sqlite else func.json_agg
    tag = func.json(type_coerce(inner.tag, Text)) if sqlite else inner.tag
    fields = {
        "group": inner.group,
        "raw": null(),
        "tag": tag,
        "submit_time": micros(inner.submit_time),
        "schedule_time": literal(0, literal_execute=True),
        "deaths": literal(0, literal_execute=True),
        "tried": literal(0, literal_execute=True),
    }
    row = array(*(fields.get(name, inner.get(name)) for name in Task.__struct_fields__))
    found = gather(row) if sqlite else cast(gather(row), Text)
    return select(func.coalesce(found, "[]"), func.count(inner.args_raw), func.count(inner.error))


def _behind_cursor(sqlite: bool) -> Sequence[Any]:
    """The tasks of submission ``:number`` and group ``:grp`` with ids above ``:after``.

    PostgreSQL is asked for a range of the partial index: given constants it may prefer to walk along the primary
    key, over all that is final already.
    """
    t = _task.c
    names = (("number", BigInteger()), ("grp", Integer()), ("after", Text()))
    number, group, after = (cast(bindparam(name, type_=kind), kind) for name, kind in names)
    if sqlite:
        return (t.submission == bindparam("number"), t.group == bindparam("grp"), t.id > bindparam("after"))
    here = (number, group)
    return (
        tuple_(t.submission, t.group, t.id) > tuple_(*here, after),
        tuple_(t.submission, t.group) <= tuple_(*here),
    )


def _mark_statement(mark: FeedMark) -> Any:
    values = {"offset": mark.offset, "lines": mark.lines, "digest": mark.digest, "complete": mark.complete}
    return _submission.update().where(_submission.c.id == mark.submission).values(values)


def _compile(link: Connection, run: RunInfo) -> dict[str, Bulk | JsonBulk]:
    """The hot statements."""
    dialect = link.dialect
    statements: dict[str, Bulk | JsonBulk] = {
        "new": bulk_insert(dialect, _task, rows.NEW),
        "whole": bulk_insert(dialect, _task, rows.WHOLE),
        "joined": bulk_insert(dialect, _client, rows.CLIENT),
        **printed.statements(dialect),
    }
    for name, names in (("finished", rows.FINISHED), ("moved", rows.MOVED), ("died", rows.DIED)):
        given = [_task.c[column] for column in names]
        v = incoming(given).c
        values = {column: v[column] for column in names if column != "id"}
        if name == "finished":
            command = func.coalesce(v.command, _task.c.args)
            values["command"] = case((v.exit_status == Special.TEMPLATE_FAILED, v.command), else_=command)
            values["retried"] = v.next_id.is_not(None)
            values["server_id"], values["server_host"] = literal(run.id), literal(run.host)
        guards = (_task.c.id == v.id, _task.c.execution <= v.execution, _LIVE)
        statements[name] = bulk_update(dialect, _task, given, values, guards)
    given = [_client.c[column] for column in rows.CLIENT]
    v = incoming(given).c
    values = {column: v[column] for column in ("disconnected_at", "evicted", "reason")}
    statements["left"] = bulk_update(dialect, _client, given, values, (_client.c.id == v.id,))
    return statements
