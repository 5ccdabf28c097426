"""A FILE that ``hs submit`` handed over before: which submissions that were, and how it is read to compare.

A submission of all of a FILE may be followed by updates, which have its new lines only; together they are what the
database has of it. An update is a submission of its own, since a server may already have the others. Knows no SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from hypershell.core.model import FeedMark, Task
from hypershell.data.store import Submitted
from hypershell.errors import InputError
from hypershell.server.feed import Feed
from hypershell.server.terms import Terms

__all__ = ["other_work", "pieces", "same_work", "told"]

#: Lines that are read at a time.
_ROWS = 8192


def same_work(found: Iterable[Submitted], terms: Terms, cwd: str) -> list[Submitted]:
    """Of the submissions of a FILE, newest first, those of the same work: the updates, and behind them the one that
    had all of it. Work is template, tags, folder, and how lines are read; what tasks ask for may differ.
    """
    work = []
    for one in found:
        before, is_update = Terms.submitted(one.options)
        if before is None or one.cwd != cwd or _work(before) != _work(terms):
            continue
        work.append(one)
        if not is_update:
            break
    return work


def _work(terms: Terms) -> tuple[object, ...]:
    return terms.template, terms.tags, terms.plain


def told(name: str, before: Submitted) -> str:
    """What is said where a FILE is submitted once more without a word for that."""
    return (
        f"{name} was submitted before, at {_when(before)}; this submits all of it once more (--update: only its "
        "new lines; --repeat: all of it, without this line)"
    )


def other_work(name: str, found: Iterable[Submitted], terms: Terms, cwd: str) -> str | None:
    """What is said where ``--update`` finds only other work of the FILE; None where it finds none.

    :param found: the submissions of the FILE, newest first.
    """
    for one in found:
        before, _ = Terms.submitted(one.options)
        if before is None:
            continue
        differs = [
            what
            for what, is_other in (
                ("with another template", before.template != terms.template),
                ("with other tags", before.tags != terms.tags),
                (f"{'with' if before.plain else 'without'} --plain-lines", before.plain != terms.plain),
                (f"in the folder {one.cwd}", one.cwd != cwd),
            )
            if is_other
        ]
        return (
            f"{name} was submitted before, at {_when(one)}, {' and '.join(differs)}; that is other work, so this "
            "submits all of it"
        )
    return None


def _when(before: Submitted) -> str:
    return datetime.fromtimestamp(before.submit_time).astimezone().isoformat(" ", "seconds")


def pieces(feed: Feed, checked: FeedMark, way_out: str) -> Iterator[list[Task]]:
    """All lines of a FILE.

    Raises:
        InputError: it is no longer what it was up to `checked`.
    """
    while not feed.ended and feed.bad is None:
        batch = feed.read(_ROWS)
        if batch is not None:
            yield batch.tasks
    if feed.bad is not None or feed.mark().digest != checked.digest:
        raise InputError(f"{feed.name} was changed meanwhile; {way_out}")
