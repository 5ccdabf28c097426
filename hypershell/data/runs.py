"""The runs that a database remembers: what each ran on, how far it came, how it ended.

A run that has no end in the database lives or died; the process table or its lease tells (``lease``). What such a
run did is counted in its tasks, in short pieces. Called by ``hs runs``, over a connection of ``query.reading``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct, structs
from sqlalchemy import Connection, and_, bindparam, case, func, or_, select

from hypershell.core.states import FAILED, SUCCEEDED
from hypershell.data import formerly, ownership
from hypershell.data.lease import BEAT, Life, Owner, Watch, this_process
from hypershell.data.schema import client as _client
from hypershell.data.schema import run as _run
from hypershell.data.schema import submission as _submission
from hypershell.data.schema import task as _task
from hypershell.data.times import Stamper
from hypershell.data.walk import Walk
from hypershell.errors import UsageError
from hypershell.masking import masked_line
from hypershell.ostext import escaped
from hypershell.units import shown

__all__ = ["FIELDS", "Run", "as_row", "find", "newest"]

#: Tasks that are looked at to count for all runs of a list that have not ended: 0.2 s.
_MOST_COUNTED = 200_000
#: Seconds that a list waits for the lease of another host to move, and seconds between two looks.
_GLANCE = 0.5
_LOOK = 0.1
#: Seconds that one run is watched: an idle server moves its lease every `BEAT`.
_STARE = BEAT + 1.0
#: Unfinished tasks are counted up to here, as when a server starts.
_MOST_UNFINISHED = 10_000_000
#: Runs that are read by one statement.
_ROWS = 500


class Run(Struct, frozen=True):
    """One run. Times are UTC text, `duration` seconds; None where it is not known.

    `source` is what it submitted or took over: FILEs, ``stdin``; None: nothing. `ended` is
    ``complete``, ``drained``, ``walltime``, ``interrupted``, ``group failed``, ``store failed`` or ``idle``; of a
    run without an end ``running``, ``died``, or ``unknown`` where that cannot be seen from here. Counts are of its
    own tasks; `unfinished` tasks of a run that died are those that nobody took over.
    """

    id: str
    host: str
    transport: str
    ranks: int
    clients: int
    slots: int
    job: str | None
    source: str | None
    succeeded: int | None
    failed: int | None
    unfinished: int | None
    start: str
    end: str | None
    duration: float | None
    ended: str
    command: str
    cwd: str
    pid: int


FIELDS = Run.__struct_fields__


def newest(connection: Connection, limit: int | None = None) -> Iterator[list[Run]]:
    """The runs, newest first, in pieces."""
    budget = _Budget(_MOST_COUNTED)
    judge = _Judge(connection, _GLANCE)
    before = "\U0010ffff"
    left = limit
    while left is None or left > 0:
        query = select(_run).where(_run.c.id < before).order_by(_run.c.id.desc())
        rows = connection.execute(query.limit(_ROWS if left is None else min(left, _ROWS))).mappings().all()
        if not rows:
            return
        judge.watch(rows)
        yield [_made(connection, row, judge.word(row), budget) for row in rows]
        before = rows[-1]["id"]
        left = None if left is None else left - len(rows)


def find(connection: Connection, prefix: str) -> Run:
    """The run whose id begins so; all of its tasks are counted.

    Raises:
        UsageError: there is none, or more than one.
    """
    query = select(_run).where(_run.c.id.startswith(escaped(prefix), autoescape=True)).order_by(_run.c.id).limit(2)
    rows = connection.execute(query).mappings().all()
    if not rows:
        raise UsageError(f"no run has an id that begins with {shown(prefix)} (hs runs lists them)")
    if len(rows) > 1:
        ids = " and ".join(row["id"] for row in rows)
        raise UsageError(f"more than one run has an id that begins with {shown(prefix)}: {ids}")
    judge = _Judge(connection, _STARE)
    judge.watch(rows)
    return _made(connection, rows[0], judge.word(rows[0]), _Budget(None))


class _Judge:
    """Says how runs ended. `patience` is how long, in seconds, it waits for signs of life from other hosts."""

    def __init__(
        self, connection: Connection, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._watch = Watch(this_process())
        self._clock = clock
        self._until = clock() + patience
        self._lives: dict[str, Life] = {}

    def watch(self, rows: Any) -> None:
        """Judge the runs of these rows that have no end; waits for those on other hosts."""
        self._look(rows)
        while self._clock() < self._until:
            unclear = [row["id"] for row in rows if self._lives.get(row["id"]) is Life.UNKNOWN]
            if not unclear:
                return
            time.sleep(_LOOK)
            self._look(self._connection.execute(select(_run).where(_run.c.id.in_(unclear))).mappings().all())

    def word(self, row: Any) -> str:
        """How the run ended, in a word or two."""
        if row["outcome"] is not None:
            return str(row["outcome"])
        life = self._lives[row["id"]]
        return {Life.ALIVE: "running", Life.DEAD: "died", Life.UNKNOWN: "unknown"}[life]

    def _look(self, rows: Any) -> None:
        now = self._clock()
        for row in rows:
            owner = Owner(
                row["id"],
                row["host"],
                row["boot_id"],
                row["pid"],
                row["pid_start"],
                row["job"],
                row["counter"],
                row["end_time"] is not None,
                row["fenced"],
            )
            self._lives[owner.run] = self._watch.life(owner, now)


class _Budget:
    """How many tasks may still be looked at; None: all."""

    def __init__(self, left: int | None) -> None:
        self._left = left

    def counts(self, connection: Connection, run: str) -> tuple[int | None, int | None]:
        """How many tasks of a run succeeded and finally failed, by looking at those since its oldest."""
        begin = _first_id(connection, run)
        if self._left is not None:
            among = select(_task.c.id).where(_task.c.id > begin).limit(self._left + 1).subquery()
            found = connection.execute(select(func.count()).select_from(among)).scalar_one()
            if found > self._left:
                return None, None
            self._left -= found
        mine = _task.c.server_id == run
        final = and_(_task.c.state == FAILED, _task.c.next_id.is_(None))
        statement: Any = select(
            func.count(case((_task.c.state == SUCCEEDED, 1))), func.count(case((final, 1)))
        ).select_from(_task)
        pages = list(Walk(connection, statement, mine, span=(begin, "\U0010ffff")).pages())
        return sum(page[0][0] for page in pages), sum(page[0][1] for page in pages)


def _first_id(connection: Connection, run: str) -> str:
    """What the ids of all tasks of a run are above: they begin with milliseconds (see `hypershell.ids`)."""
    columns = (_submission.c.source, _submission.c.submit_time)
    found = connection.execute(select(*columns).where(_of(connection, run))).all()
    # Tasks of HyperShell have ids without a time.
    if any(source == "command" for source, _ in found):
        return ""
    first = min((submitted for _, submitted in found), default=0.0)
    text = f"{max(int(first) - 1, 0) * 1000:012x}"
    return f"{text[:8]}-{text[8:]}"


def _of(connection: Connection, run: str) -> Any:
    """Submissions that a run made or took over."""
    had = formerly.of(connection, run)
    return or_(_submission.c.owner == run, _submission.c.submit_id == run, _submission.c.id.in_(had))


_CLIENTS = select(func.count()).select_from(_client).where(_client.c.server_id == bindparam("run"))
_OWNED = select(_submission.c.id).where(_submission.c.owner == bindparam("run"))


def _made(connection: Connection, row: Any, word: str, budget: _Budget) -> Run:
    run = row["id"]
    succeeded, failed, unfinished = row["succeeded"], row["failed"], row["unfinished"]
    if row["outcome"] is None:
        owned = connection.execute(_OWNED, {"run": run}).scalars().all()
        unfinished = ownership.count_unfinished(connection, owned, _MOST_UNFINISHED)
        succeeded, failed = budget.counts(connection, run)
    start, end = row["start_time"], row["end_time"]
    duration = None if end is None or start is None else max(end - start, 0.0)
    if word == "running" and start is not None:
        duration = max(time.time() - start, 0.0)
    stamp = Stamper().text
    return Run(
        id=run,
        host=row["host"],
        transport=row["transport"],
        ranks=row["ranks"],
        clients=connection.execute(_CLIENTS, {"run": run}).scalar_one(),
        slots=row["slots"],
        job=row["job"],
        source=_source(connection, run),
        succeeded=succeeded,
        failed=failed,
        unfinished=unfinished,
        start=(None if start is None else stamp(start)) or "",
        end=None if end is None else stamp(end),
        duration=duration,
        ended=word,
        command=masked_line(row["command"]),
        cwd=row["cwd"],
        pid=row["pid"],
    )


def _source(connection: Connection, run: str) -> str | None:
    query = select(_submission.c.source, _submission.c.path).where(_of(connection, run)).order_by(_submission.c.id)
    names = [str(path or source) for source, path in connection.execute(query)]
    return " ".join(dict.fromkeys(names)) or None


def as_row(run: Run) -> tuple[Any, ...]:
    """The values of a run in the order of `FIELDS`."""
    return structs.astuple(run)
