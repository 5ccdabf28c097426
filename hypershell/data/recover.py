"""Which submissions a run takes over at its start and, with ``--forever``, later.

The rules of restart and ownership as steps over a store; the writer's thread calls them. Knows no SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from hypershell.core.events import WorkFound
from hypershell.core.model import Submission
from hypershell.core.poison import limit_in
from hypershell.data import known
from hypershell.data.lease import BEAT, SILENCE, Life, Owner, ProcessIdentity, Watch
from hypershell.data.notices import Added, Adopted, FailedBefore, Keeping, Notice, Opened, Plan, Told, Waiting
from hypershell.data.store import Claim, Owned, Refused, RunInfo, Store, Taken
from hypershell.errors import InputError

__all__ = ["Recovery"]

#: Seconds between two looks at the lease of another host.
_GLANCE = 0.5
#: Failures that are given again in one transaction, a second's work; each looks at all that are left.
_ROWS = 20_000

T = TypeVar("T")
Post = Callable[[Notice], None]
Pause = Callable[[float], bool]
Attempt = Callable[[Callable[[], Any]], Any]


class Recovery:
    """Takes over for one run. `clock` is monotonic seconds."""

    def __init__(self, store: Store, run: RunInfo, plan: Plan, clock: Callable[[], float]) -> None:
        self._store = store
        self._plan = plan
        self._clock = clock
        self._watch = Watch(ProcessIdentity(run.host, run.boot_id, run.pid, run.pid_start))
        #: Whether servers may hold tasks here that could die without a trace in the database.
        self._suspects = True
        self._judged = clock()

    def start(self, post: Post, pause: Pause, attempt: Attempt) -> None:
        """Make or take the submissions of the plan; posts ``WorkFound`` where there are tasks, then ``Opened``.

        `pause` waits so many seconds and says whether the run is to end; `attempt` repeats what may pass.

        Raises:
            Owned: a live server has the submission that was asked for.
        """
        plan, store = self._plan, self._store
        taken: Taken | None = Taken()
        if plan.restart:
            taken = self._restart(post, pause, attempt)
        elif plan.forever:
            taken = attempt(lambda: store.take(self._free(store.claims(None))))
        if taken is None:
            return
        _tell(taken, post)
        submissions = list(taken.submissions)
        resumed = None
        if plan.restart and plan.again is not None and submissions:
            taken = self._try_again(taken, plan.again, post, pause, attempt)
            if taken is None:
                return
            submissions = list(taken.submissions)
        if plan.submission is not None and submissions and plan.restart:
            taken = self._revise(taken, post, pause, attempt)
            if taken is None:
                return
            resumed = taken.marks[0]
        elif plan.submission is not None:
            fresh = plan.submission
            if told := attempt(lambda: self._known(fresh)):
                post(Told("warning", told))
            attempt(lambda: store.add_submission(fresh))
            submissions.append(fresh)
        left = attempt(lambda: store.left_alone(self._is_dead))
        if taken.pending or taken.failed or taken.withheld:
            post(_work_in(taken))
        post(Opened(left, resumed, submissions, taken.marks))

    def _try_again(
        self, taken: Taken, new_id: Callable[[], str], post: Post, pause: Pause, attempt: Attempt
    ) -> Taken | None:
        """Give the final failures of what was taken over again; None when the run is to end."""
        store, numbers = self._store, [one.id for one in taken.submissions]
        count = 0
        for number in numbers:
            while more := attempt(partial(store.retry_failed, number, new_id, _ROWS)):
                count += more
                if pause(0.0):
                    return None
            for page in store.failures(number):
                post(FailedBefore(page))
        post(Told("info", f"{count} failed task{'' if count == 1 else 's'} given again (--retry-failed)"))
        surveyed: Taken = attempt(lambda: store.survey(numbers))
        return replace(surveyed, died=taken.died)

    def _revise(self, taken: Taken, post: Post, pause: Pause, attempt: Attempt) -> Taken | None:
        """Bring the submission up to date with its FILE, where that is asked for; None when the run is to end."""
        revision, store = self._plan.revision, self._store
        if revision is None or not self._read(lambda: revision.has_changed(taken.marks[0])):
            return taken
        post(Told("info", f"comparing {taken.submissions[0].path} with what was submitted of it"))
        due = self._clock() + BEAT

        def breathe() -> bool:
            nonlocal due
            if self._clock() >= due:
                attempt(store.beat)
                due = self._clock() + BEAT
            return pause(0.0)

        added: Added | None = self._read(
            lambda: revision.add_lines(store, taken.submissions[0].id, Keeping(attempt, breathe))
        )
        if added is None:
            return None
        post(Told("warning", added.text))
        pending, failed = _sum(taken.pending, added.pending), _sum(taken.failed, added.failed)
        return Taken(taken.submissions, [added.mark], pending, failed, died=taken.died)

    def _read(self, step: Callable[[], T]) -> T:
        """What is wrong with a FILE ends the run as what is wrong with the database does."""
        try:
            return step()
        except InputError as error:
            raise Refused(str(error)) from error

    def look(self, post: Post) -> None:
        """Take what became free since the last look: somebody wrote, or a server may have died."""
        now = self._clock()
        changed = self._store.changed()
        if not changed and not (self._suspects and now - self._judged >= _GLANCE):
            return
        self._judged = now
        claims = self._store.claims(None)
        free = self._free(claims)
        self._suspects = len(free) < len(claims)
        taken = self._store.take(free) if free else Taken()
        _tell(taken, post)
        if taken.submissions:
            post(Adopted(taken.submissions, taken.marks))
            post(_work_in(taken))

    def _restart(self, post: Post, pause: Pause, attempt: Attempt) -> Taken | None:
        """Take what was asked for, once the life of every owner is known; None when the run is to end instead."""
        plan, store = self._plan, self._store
        waiting = False
        while True:
            claims: list[Claim] = attempt(lambda: store.claims(plan.submission, plan.again is not None))
            lives: list[tuple[Claim, Life]] = attempt(partial(self._lives, claims))
            if plan.submission is not None:
                for claim, life in lives:
                    if life is Life.ALIVE and claim.owner is not None:
                        raise Owned(_owned_text(plan.submission.path, claim.owner), claim.owner.run)
                lives = [(claim, life) for claim, life in lives if not self._is_other(claim)]
            unknown = [claim.owner for claim, life in lives if life is Life.UNKNOWN and claim.owner is not None]
            if not unknown:
                free = [claim for claim, life in lives if life is Life.DEAD]
                taken: Taken = attempt(partial(store.take, free, plan.given))
                if plan.submission is None or len(taken.submissions) == len(free):
                    return taken
            elif not waiting:
                waiting = True
                post(Waiting(_waiting_text(unknown)))
            if pause(_GLANCE):
                return None

    def _is_other(self, claim: Claim) -> bool:
        """Whether a FILE that has changed is to be a new submission."""
        revision = self._plan.revision
        if revision is None or not revision.repeats:
            return False
        return self._read(lambda: revision.has_changed(claim.mark))

    def _free(self, claims: Iterable[Claim]) -> list[Claim]:
        return [claim for claim in claims if self._life(claim.owner) is Life.DEAD]

    def _lives(self, claims: Iterable[Claim]) -> list[tuple[Claim, Life]]:
        return [(claim, self._life(claim.owner)) for claim in claims]

    def _known(self, fresh: Submission) -> str | None:
        """What somebody should know who runs this FILE from its beginning: that it was run before."""
        found = self._store.earlier(fresh, same_work=True)
        if found is None:
            # With another template or in another folder it is other work, which only --restart confounds.
            other = self._store.earlier(fresh, same_work=False) if self._plan.restart else None
            return None if other is None else known.begun_anew(fresh, other)
        if self._plan.restart:
            return known.changed(found)
        owner = found.owner
        alive = owner is not None and self._watch.life(owner, self._clock()) is Life.ALIVE
        return known.once_more(found, owner if alive else None)

    def _is_dead(self, owner: Owner) -> bool:
        return self._watch.life(owner, self._clock()) is Life.DEAD

    def _life(self, owner: Owner | None) -> Life:
        """What is known of an owner; one that cannot be seen counts as dead where the user says so."""
        if owner is None:
            return Life.DEAD
        life = self._watch.life(owner, self._clock())
        return Life.DEAD if life is Life.UNKNOWN and self._plan.take_over else life


def _tell(taken: Taken, post: Post) -> None:
    for line in taken.told:
        post(Told("error", line))


def _work_in(taken: Taken) -> WorkFound:
    limits = {one.id: limit for one in taken.submissions if (limit := limit_in(one.options)) is not None}
    return WorkFound(taken.pending, taken.failed, taken.withheld, limits, taken.died)


def _sum(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    return {group: one.get(group, 0) + other.get(group, 0) for group in one.keys() | other.keys()}


def _owned_text(path: str | None, owner: Owner) -> str:
    return (
        f"{path} is being worked on by {owner.describe()}: wait for its end, or end it and run again with --restart"
    )


def _waiting_text(owners: list[Owner]) -> str:
    more = f" and {len(owners) - 1} more" if len(owners) > 1 else ""
    return (
        f"waiting up to {SILENCE:.0f} s for a sign of life from {owners[0].describe()}{more}, which had these "
        "tasks (--take-over skips this)"
    )
