"""The queries of ownership: what is unfinished and whose it is, and the takeover of it.

Functions over a connection inside a transaction of ``sql``; the rules that decide are in ``recover``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, bindparam, func, or_, select, text, true, update

from hypershell.core.model import FeedMark, Submission, Task
from hypershell.core.options import wrong_options
from hypershell.core.poison import TRIAL, deaths_in, raised, words
from hypershell.core.states import DISPATCHED, PENDING
from hypershell.data import formerly, outliving, requests, unfit
from hypershell.data.how import is_plain, merged, work_in
from hypershell.data.lease import Owner
from hypershell.data.schema import run as _run
from hypershell.data.schema import submission as _submission
from hypershell.data.schema import task as _task
from hypershell.data.store import Claim, Earlier, Taken
from hypershell.data.submitted import row_of, submission_of

__all__ = ["claims", "count_unfinished", "describe", "earlier", "next_submission", "owner_of", "take"]

_s = _submission.c

#: Ends something that cannot be run, and says so.
Repair: TypeAlias = Callable[[Connection], str]

#: The condition of the partial index of final failures.
_FAILED = text("state = 'failed' AND next_id IS NULL")


def _in_state(state: str) -> ColumnElement[bool]:
    """The condition of a partial index, spelled as the index spells it: with a bound value none would be used."""
    return text(f"state = '{state}'")  # type: ignore[return-value]


def next_submission(state: str) -> Any:
    """The smallest submission above ``:after`` that has tasks in `state`: one seek in a partial index."""
    return _next_with(_in_state(state))


def _next_with(condition: Any) -> Any:
    return select(func.min(_task.c.submission)).where(condition, _task.c.submission > bindparam("after"))


_NEXT = {state: next_submission(state) for state in (PENDING, DISPATCHED)}
_NEXT_FAILED = _next_with(_FAILED)
_COUNT_FAILED = select(func.count()).select_from(
    select(_task.c.id).where(_FAILED, _task.c.submission == bindparam("number")).limit(bindparam("most")).subquery()
)
_OF_STATE = {
    state: select(_task.c.id)
    .where(_in_state(state), _task.c.submission == bindparam("number"))
    .limit(bindparam("most"))
    for state in (PENDING, DISPATCHED)
}
#: The lowest group with a final failure, from the partial index of failures.
_HOLDER = select(func.min(_task.c.group)).where(_FAILED, _task.c.submission == bindparam("number"))
_MARK = (_s.offset, _s.lines, _s.digest, _s.complete)
_INCOMPLETE = select(_s.id).where(text("NOT complete"), _s.source == "file")
_WITH_OWNER = (
    select(_s.id.label("number"), _s.owner, *_MARK, *(column.label(f"run_{column.name}") for column in _run.c))
    .select_from(_submission.outerjoin(_run, _s.owner == _run.c.id))
    .where(_s.id == bindparam("number"))
)
_PER_GROUP = {
    "pending": select(_task.c.group, func.count())
    .where(_in_state(PENDING), _task.c.submission == bindparam("number"))
    .group_by(_task.c.submission, _task.c.group),
    "failed": select(_task.c.group, func.count())
    .where(_FAILED, _task.c.submission == bindparam("number"))
    .group_by(_task.c.submission, _task.c.group),
}


def claims(
    link: Connection, me: str, like: Submission | None, owned: Container[int], failed: bool = False
) -> list[Claim]:
    """See ``store.Store.claims``; what run `me` owns itself is left out.

    `owned` is what it knows to own: a takeover whose commit was not acknowledged has to be done again.
    """
    numbers = _unfinished(link, failed) if like is None else _newest_like(link, like)
    found = []
    for number in numbers:
        row = link.execute(_WITH_OWNER, {"number": number}).mappings().first()
        mine = row is not None and row["owner"] == me
        if mine and number in owned:
            continue
        if row is None:  # rows of a task whose submission is gone
            found.append(Claim(number, None, None, True, FeedMark(number, 0, 0, "", complete=True)))
            continue
        holder, owner = (None, None) if mine else (row["owner"], _owner(row))
        unfinished = like is None or _has_work(link, number)
        found.append(Claim(number, holder, owner, unfinished, _mark(number, row)))
    return found


def owner_of(link: Connection, number: int) -> Owner | None:
    """Whose submission `number` is; None: nobody's."""
    row = link.execute(_WITH_OWNER, {"number": number}).mappings().first()
    return None if row is None else _owner(row)


def _unfinished(link: Connection, failed: bool) -> list[int]:
    """Submissions with tasks that are not final, or with a FILE that was not read to its end; ascending.

    `failed`: those with final failures too.
    """
    numbers = set(link.execute(_INCOMPLETE).scalars())
    for query in (*_NEXT.values(), *([_NEXT_FAILED] if failed else [])):
        number = link.execute(query, {"after": -1}).scalar()
        while isinstance(number, int):
            numbers.add(number)
            number = link.execute(query, {"after": number}).scalar()
    return sorted(numbers)


def _newest_like(link: Connection, like: Submission, same_work: bool = True) -> list[int]:
    """The newest submission of the same work (or, without that, of the same FILE), where there is one.

    How tasks are run is not asked for.
    """
    if like.path is None:
        return []
    alike = [_submission.c[name] == text for name, text in row_of(like).items() if name in _same_columns(same_work)]
    work, plain = work_in(like.options), is_plain(like.options)
    found = link.execute(select(_submission).where(*alike, _s.id != like.id).order_by(_s.id.desc())).mappings()
    try:
        for row in found:
            if unfit.wrong_submission(row) is not None:
                continue
            other = submission_of(row)
            # Text alone is not the same work: another path may look the same where its bytes are escaped.
            same = all(getattr(other, name) == getattr(like, name) for name in _same_columns(same_work))
            same = same and (not same_work or is_plain(other.options) == plain)
            if same and work_in(other.options) == work:
                return [other.id]
        return []
    finally:
        found.close()


def _same_columns(same_work: bool) -> tuple[str, ...]:
    """What submissions of one FILE have in common, and of the same work."""
    return ("path", "template", "cwd") if same_work else ("path",)


def earlier(link: Connection, like: Submission, same_work: bool, most: int) -> Earlier | None:
    """See ``store.Store``."""
    for number in _newest_like(link, like, same_work):
        failed = link.execute(_COUNT_FAILED, {"number": number, "most": most}).scalar_one()
        return Earlier(_submission_of(link, number), _has_work(link, number), failed, owner_of(link, number))
    return None


def _submission_of(link: Connection, number: int) -> Submission:
    return submission_of(link.execute(select(_submission).where(_s.id == number)).mappings().one())


def _has_work(link: Connection, number: int) -> bool:
    if not link.execute(select(_s.complete).where(_s.id == number)).scalar_one():
        return True
    return count_unfinished(link, [number], 1) > 0


def count_unfinished(link: Connection, numbers: Iterable[int], most: int, runnable: bool = False) -> int:
    """How many tasks of these submissions are not final, counted up to `most`.

    `runnable`: without those that a failure in a lower group holds back.
    """
    count = 0
    for number in numbers:
        holder = link.execute(_HOLDER, {"number": number}).scalar() if runnable else None
        for query in _OF_STATE.values():
            if holder is not None:
                query = query.where(_task.c.group <= holder)
            bounded = select(func.count()).select_from(query.subquery())
            count += link.execute(bounded, {"number": number, "most": most - count}).scalar_one()
            if count >= most:
                return most
    return count


def take(link: Connection, me: str, claim: Claim, given: Mapping[str, Any] | None = None) -> bool:
    """Make `claim` ours unless its owner has moved since it was read; its dispatched tasks become pending again,
    except those of clients that outlive their server. How its tasks are run is from now on as `given`.

    The run that had it is fenced, so that its next write fails; taking what is ours already succeeds.
    """
    number, old = claim.submission, claim.holder
    if claim.owner is not None:
        seen = or_(_run.c.counter == claim.owner.counter, _run.c.fenced.is_(true()))
        fence = update(_run).where(_run.c.id == old, seen).values(fenced=True)
        if not link.execute(fence).rowcount:
            return False
    same = or_(_s.owner.is_(None) if old is None else _s.owner == old, _s.owner == me)
    grab = update(_submission).where(_s.id == number, same).values(owner=me, epoch=_s.epoch + 1)
    if not link.execute(grab).rowcount:
        return False
    if old not in (None, me):
        formerly.note(link, old, number)
    _tell_how(link, number, given or {})
    requests.take_over(link, number)
    again = {
        "state": PENDING,
        "execution": _task.c.execution + 1,
        "schedule_time": None,
        "client_id": None,
        "client_host": None,
        "server_id": None,
        "server_host": None,
    }
    lost = or_(_task.c.client_id.is_(None), _task.c.client_id.not_in(outliving.ids()))
    theirs = (_in_state(DISPATCHED), _task.c.submission == number, lost)
    # Those whose client has died before are few, and say how often.
    said = Counter(link.execute(select(_task.c.error).where(*theirs, _task.c.error.is_not(None))).scalars())
    alone = sum(count for error, count in said.items() if deaths_in(error) >= TRIAL) == 1
    for error in (None, *said):
        same = _task.c.error.is_(None) if error is None else _task.c.error == error
        count = words(raised(deaths_in(error), alone))
        link.execute(update(_task).where(*theirs, same).values(again | {"error": count}))
    return True


def _tell_how(link: Connection, number: int, given: Mapping[str, Any]) -> None:
    before = link.execute(select(_s.options).where(_s.id == number)).scalar_one()
    if not isinstance(before, str) or wrong_options(before):
        return
    options = merged(before, given)
    if options != before:
        link.execute(update(_submission).where(_s.id == number).values(options=options))


def describe(link: Connection, numbers: Sequence[int]) -> tuple[Taken, list[Repair]]:
    """The submissions with these numbers, how far their FILEs were read, and their tasks per group; and what ends
    those of them that cannot be run, in a transaction that writes."""
    taken = Taken([], [], {}, {}, {})
    repairs: list[Repair] = []
    for number in numbers:
        row = link.execute(select(_submission).where(_s.id == number)).mappings().one()
        _count(link, number, "failed", taken.failed)
        if (wrong := unfit.wrong_submission(row)) is not None:
            repairs.append(partial(_end_submission, number=number, wrong=wrong))
            continue
        taken.submissions.append(submission_of(row))
        taken.marks.append(_mark(number, row))
        bad = _count(link, number, "pending", taken.pending)
        repairs += [partial(_end_group, number=number, group=group) for group in bad]
        found, unreadable = _dispatched(link, number)
        for task, client in found:
            taken.withheld.setdefault(client, []).append(task)
        if unreadable:
            repairs.append(partial(_end_dispatched, number=number))
    return taken, repairs


def _count(link: Connection, number: int, what: str, counts: dict[int, int]) -> list[object]:
    """Add the tasks of a submission per group; values of column ``group`` that are none. These count as group 0."""
    bad: list[object] = []
    for group, count in link.execute(_PER_GROUP[what], {"number": number}):
        if not unfit.is_group(group):
            bad.append(group)
            group = 0
        counts[group] = counts.get(group, 0) + count
    return bad


def _end_submission(link: Connection, number: int, wrong: str) -> str:
    count = unfit.end_submission(link, number, wrong)
    return f"submission {number} cannot be run: {wrong}; its unfinished tasks ({count}) have failed"


def _end_group(link: Connection, number: int, group: object) -> str:
    count = unfit.end_group(link, number, group)
    return f"{count} tasks of submission {number} cannot be run: their group is no number; they have failed"


def _end_dispatched(link: Connection, number: int) -> str:
    count = len(unfit.settle(link, _out(link).params(number=number)))
    return f"{count} tasks of submission {number} that clients have cannot be read; they have failed"


def _mark(number: int, row: Any) -> FeedMark:
    return FeedMark(number, row["offset"], row["lines"], row["digest"], row["complete"])


def _dispatched(link: Connection, number: int) -> tuple[list[tuple[Task, str]], bool]:
    """The tasks of a submission that was just taken which clients still have, and whose they are; and whether there
    are others that cannot be read."""
    found: list[tuple[Task, str]] = []
    unreadable = False
    for row in link.execute(_out(link), {"number": number}).mappings():
        task = unfit.task_of(row)
        if isinstance(task, str):
            unreadable = True
            continue
        task.raw = None if row["args_raw"] is None else bytes(row["args_raw"])
        task.deaths = deaths_in(row["error"])
        task.tag = task.tag or None
        found.append((task, row["client_id"]))
    return found, unreadable


def _out(link: Connection) -> Any:
    statement = unfit.rows_of(link.dialect.name).add_columns(_task.c.client_id)
    here = (_in_state(DISPATCHED), _task.c.submission == bindparam("number"))
    return statement.where(*here).order_by(_task.c.submission, _task.c.id)


def _owner(row: Any) -> Owner | None:
    if row["run_id"] is None:
        return None
    return Owner(
        row["run_id"],
        row["run_host"],
        row["run_boot_id"],
        row["run_pid"],
        row["run_pid_start"],
        row["run_job"],
        row["run_counter"],
        row["run_end_time"] is not None,
        row["run_fenced"],
    )
