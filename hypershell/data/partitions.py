"""A database together with its rotated partitions, read as one.

Rotation (``rotate``) moves tasks that ended into files beside the database. Each file is read by a connection of
its own and their results are joined by id: any number of partitions, every file with its own indexes, and no path
ever becomes part of a statement. Table ``meta`` of the database holds the numbers of its partitions; they change in
the transaction that takes the tasks out of it, so that a reader who finds them unchanged after a look has missed
nothing, and the file of an interrupted rotation is not looked at: its tasks are still where they came from.

Called by the commands that select tasks, with the words of ``query``.
"""

from __future__ import annotations

import itertools
import operator
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Select
from sqlalchemy.exc import SQLAlchemyError

from hypershell.address import Address, Where
from hypershell.data import query
from hypershell.data.reading import open_partition, partition_path, rotated
from hypershell.data.walk import Row, Walk
from hypershell.data.where import Filter, Order
from hypershell.errors import StoreError
from hypershell.tags import Scalar

__all__ = ["Tasks", "reading"]

T = TypeVar("T")

#: Partitions that are open at the same time: each takes a file descriptor.
_MOST = 500


@contextmanager
def reading(raw: Any, where: Where, ignore: bool = False) -> Iterator[Tasks]:
    """The tasks of a database, over a connection of ``places.open_readonly``, and unless `ignore` its partitions.

    Raises:
        StoreError: for what the driver raises while it is in use, and for a partition that cannot be read.
    """
    with ExitStack() as stack:
        main = _Part(0, where, stack.enter_context(query.reading(raw, where)))
        yield Tasks(main, stack, ignore or isinstance(where, Address))


@dataclass(frozen=True, slots=True)
class _Part:
    """One file; the database itself has number 0."""

    number: int
    path: Where
    connection: Connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of the driver name this file."""
        try:
            yield
        except (sqlite3.Error, SQLAlchemyError) as error:
            raise query.explained(error, self.path) from error


class Tasks:
    """What ``query`` does for one file, for all of them."""

    def __init__(self, main: _Part, stack: ExitStack, ignore: bool) -> None:
        self.main = main
        self._stack = stack
        self._ignore = ignore
        self._numbers: tuple[int, ...] = ()
        self.parts: dict[int, _Part] = {}

    def pages(
        self,
        chosen: Filter,
        fields: Sequence[str],
        order: Order | None = None,
        limit: int | None = None,
    ) -> Iterator[list[Row]]:
        """As ``query.pages``."""
        order = order or Order()
        if order.field == "id":
            return self._pages_by_id(chosen, fields, order.descending, limit)
        statement = query.by_key(self.main.connection.dialect.name, fields, order, limit)

        def gather() -> Iterator[list[Row]]:
            self.refresh()
            for part in self._all():
                with part.explained():
                    yield from query.walk(part.connection, statement, chosen).pages()

        return query.sorted_pages(gather, order, limit, self.is_current)

    def count(self, chosen: Filter) -> int:
        """As ``query.count``."""
        return self._steady(lambda part: query.count(part.connection, chosen), sum)

    def tag_keys(self, chosen: Filter) -> list[str]:
        """As ``query.tag_keys``."""
        return self._steady(lambda part: _tag_sets(part, chosen), lambda sets: query.keys_among(_chained(sets)))

    def tag_values(self, chosen: Filter, key: str) -> list[Scalar]:
        """As ``query.tag_values``."""
        return self._steady(
            lambda part: _tag_sets(part, chosen), lambda sets: query.values_among(_chained(sets), key)
        )

    # -- which files ---------------------------------------------------------------------------------

    def _all(self) -> list[_Part]:
        return [*self.parts.values(), self.main]

    def _rotated(self) -> tuple[int, ...]:
        if self._ignore:
            return ()
        with self.main.explained():
            raw: Any = self.main.connection.connection.dbapi_connection
            return rotated(raw)

    def is_current(self) -> bool:
        """Whether no task was moved into a partition since `refresh`."""
        return self._rotated() == self._numbers

    def refresh(self) -> list[_Part]:
        """Open the partitions that there are by now; the new ones. A file that was moved elsewhere is left out."""
        self._numbers = self._rotated()
        base = self.main.path
        paths = [] if isinstance(base, Address) else [(one, partition_path(base, one)) for one in self._numbers]
        there = [(number, path) for number, path in paths if path.exists()]
        if len(there) > _MOST:
            raise StoreError(
                f"database {self.main.path} has {len(there)} partitions, {_MOST} can be read at once: move the "
                "oldest elsewhere, where --db reads them, or leave them out with -i/--ignore-partitions"
            )
        new = []
        for number, path in there:
            if number not in self.parts:
                raw = open_partition(path, number)
                part = _Part(number, path, self._stack.enter_context(query.reading(raw, path)))
                self.parts[number] = part
                new.append(part)
        return new

    def _steady(self, one: Callable[[_Part], Any], join: Callable[[Iterator[Any]], T]) -> T:
        """Join what is found in each file, while no rotation goes on."""

        def each() -> Iterator[Any]:
            for part in self._all():
                with part.explained():
                    yield one(part)

        while True:
            self.refresh()
            result = join(each())
            if self.is_current():
                return result

    # -- in the order of ids -------------------------------------------------------------------------

    def _pages_by_id(
        self, chosen: Filter, fields: Sequence[str], descending: bool, limit: int | None
    ) -> Iterator[list[Row]]:
        statement = query.by_id(fields, descending, limit)
        left = limit
        for page in _Joined(self, statement, chosen, descending).pages():
            yield [row[1:] for row in page[:left]]
            if left is not None:
                left -= min(left, len(page))
                if left == 0:
                    return


class _Joined:
    """Walks over all files at once; what all of them have passed can be handed on, in order.

    It is always the one that is least far which goes on, so that little has to be kept.
    """

    def __init__(self, tasks: Tasks, statement: Select[Any], chosen: Filter, descending: bool) -> None:
        self._tasks = tasks
        self._statement = statement
        self._chosen = chosen
        self._descending = descending
        self._walks: list[tuple[_Part, Walk]] = []
        self._waiting: list[Row] = []
        self._last: str | None = None

    def pages(self) -> Iterator[list[Row]]:
        tasks = self._tasks
        while True:
            tasks.refresh()
            main = self._walk(tasks.main)
            if tasks.is_current():
                break
        self._walks = [(tasks.main, main), *((part, self._walk(part)) for part in tasks.parts.values())]
        while self._walks:
            part, walk = self._behind()
            with part.explained():
                rest = (walk.low, walk.high)
                found = [] if walk.done else walk.read()
            if part is tasks.main and not tasks.is_current():
                self._follow(rest)
                continue
            is_alone = len(self._walks) == 1 and not self._waiting
            self._waiting += found
            self._walks = [one for one in self._walks if not one[1].done]
            yield self._ready(is_sorted=is_alone)

    def _walk(self, part: _Part, span: tuple[str, str] | None = None) -> Walk:
        with part.explained():
            return query.walk(
                part.connection,
                self._statement,
                self._chosen,
                descending=self._descending,
                span=span,
            )

    def _follow(self, rest: tuple[str, str]) -> None:
        """Tasks were moved into a new partition meanwhile: look for the rest in both."""
        tasks = self._tasks
        new = tasks.refresh()
        self._walks = [one for one in self._walks if one[0] is not tasks.main]
        self._walks += [(part, self._walk(part, rest)) for part in (tasks.main, *new)]

    def _behind(self) -> tuple[_Part, Walk]:
        if self._descending:
            return max(self._walks, key=lambda one: one[1].high)
        return min(self._walks, key=lambda one: one[1].low)

    def _ready(self, is_sorted: bool) -> list[Row]:
        """What comes before all that is still to be read, each task once."""
        rows = self._waiting
        if is_sorted:
            # One file has each task once: only the first may be the last of another one.
            self._waiting = []
            if rows and rows[0][0] == self._last:
                rows = rows[1:]
            self._last = rows[-1][0] if rows else self._last
            return rows
        rows = sorted(rows, key=_id_of, reverse=self._descending)
        if not self._walks:
            cut = len(rows)
        elif self._descending:
            edge = max(walk.high for _, walk in self._walks)
            cut = sum(row[0] > edge for row in rows)
        else:
            edge = min(walk.low for _, walk in self._walks)
            cut = sum(row[0] <= edge for row in rows)
        rows, self._waiting = rows[:cut], rows[cut:]
        return self._once(rows)

    def _once(self, rows: list[Row]) -> list[Row]:
        """Rows in their order, without a task that is there twice: a copy of an old file may be in use."""
        before = [self._last, *map(_id_of, rows)]
        self._last = before[-1]
        return [row for row, last in zip(rows, before, strict=False) if row[0] != last]


_id_of = operator.itemgetter(0)


def _tag_sets(part: _Part, chosen: Filter) -> Iterator[dict[str, Scalar]]:
    with part.explained():
        yield from query.tag_sets(part.connection, chosen)


_chained = itertools.chain.from_iterable
