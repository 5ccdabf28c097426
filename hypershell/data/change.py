"""Changing tasks for ``hs update``: which ones, whether they may be, and the one transaction that does it.

Ids are gathered in short reads, as ``query`` does; then one transaction looks again at the state of each and
changes all that still may be. Owns the SQL; what is to be done comes from ``edits``, the rules of states from
``core.states``.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, cast, func, literal, select, type_coerce, update

from hypershell.address import Address, Where
from hypershell.core.model import Special
from hypershell.core.states import CANCELLED, DISPATCHED, PENDING
from hypershell.data import ownership, partitions, printed, query, requests
from hypershell.data.additions import ensure
from hypershell.data.chosen import Chosen, PostgresChosen, SqliteChosen
from hypershell.data.chosen import chosen as _chosen
from hypershell.data.edits import Edit
from hypershell.data.engine import check_schema
from hypershell.data.files import check_file
from hypershell.data.lease import Life, Owner, Watch, this_process
from hypershell.data.reading import open_readonly
from hypershell.data.schema import task as _task
from hypershell.data.where import Filter, Order
from hypershell.errors import StoreError

__all__ = ["Changer", "changing"]

#: Seconds that one statement waits for a lock: a server that commits much at once needs a while.
_BUSY = 30.0

#: Columns that tell how an execution ended; a task that is pending again has none of it.
_OF_A_RESULT = (
    *("schedule_time", "server_id", "server_host", "client_id", "client_host", "command", "start_time"),
    *("completion_time", "exit_status", "outpath", "errpath", "csvpath", "waited", "duration", "error"),
    *("user_time", "system_time", "max_rss", "cores_max", "memory_max"),
)

_IS_CHOSEN = _task.c.id.in_(select(_chosen.c.id))


@contextmanager
def changing(where: Where) -> Iterator[Changer]:
    """A `Changer` of a database, which must be there.

    Raises:
        StoreError: no such file, no database of ours, it cannot be written, another process has it locked.
    """
    if isinstance(where, Address):
        from hypershell.data.postgres import Postgres

        server, has_tables = Postgres(where).connect_checked()
        with query.reading(server, where) as connection:
            yield Changer(connection, PostgresChosen(server, connection), where, is_empty=not has_tables)
        return
    path = where
    check_file(path)
    raw = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY, isolation_level=None)
    with query.reading(raw, path) as connection:
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA temp_store=FILE")
        raw.execute("PRAGMA cache_size=-131072")  # KiB; a million changed rows touch most pages of every index
        yield Changer(connection, SqliteChosen(raw), path, is_empty=not check_schema(raw, path))


class Changer:
    """One command's change: first `choose`, then `apply`. `is_empty`: the database has no tables yet."""

    def __init__(self, connection: Connection, ids: Chosen, where: Where, is_empty: bool) -> None:
        self._link = connection
        self._chosen_ids = ids
        self._where = where
        self._is_empty = is_empty

    def choose(self, chosen: Filter, edit: Edit, order: Order | None = None, limit: int | None = None) -> int:
        """Find the tasks of a filter that may be changed so; how many they are.

        Raises:
            StoreError: an id names no task, or one that may not be changed so.
        """
        if self._is_empty and not edit.ids:
            return 0
        self._check_named(edit)
        self._chosen_ids.make()
        for page in self._ids(chosen, edit, order, limit):
            self._chosen_ids.add([row[0] for row in page])
        return self._count()

    def apply(self, edit: Edit) -> tuple[int, int]:
        """Change the chosen tasks, all in one transaction; how many were, and how many a server is asked to stop.

        What is no longer in a state that allows it stays as it is.

        Raises:
            StoreError: a living server has some of them, and this cannot be done under its hands; nothing was
                changed.
        """
        with self._chosen_ids.transaction():
            ensure(self._link)
            gone = select(_task.c.id).where(_task.c.id == _chosen.c.id, *self._allowed(edit))
            self._link.execute(_chosen.delete().where(~gone.exists()))
            asked = self._ask_owners(edit)
            if edit.action == "revert":
                printed.forget(self._link, select(_chosen.c.id))
                requests.forget(self._link, select(_chosen.c.id))
            changed = self._count()
            if edit.action == "delete":
                self._delete()
            else:
                self._link.execute(update(_task).where(_IS_CHOSEN).values(self._values(edit)))
        return changed, asked

    # -- which -------------------------------------------------------------------------------------------

    def elsewhere(self, chosen: Filter, edit: Edit) -> int:
        """How many tasks that `choose` would have found are in partitions, where nothing is changed."""
        if self._is_empty or not isinstance(self._where, Path):
            return 0
        states = _both(chosen.states, edit.states)
        if chosen.states and edit.states and not states:
            return 0
        last = (query.LAST_ATTEMPT,) if edit.action == "revert" else ()
        raw = open_readonly(self._where, with_partitions=True)
        if raw is None:
            return 0
        with partitions.reading(raw, self._where) as tasks:
            return tasks.rotated(Filter((*chosen.conditions, *last), chosen.tags, states, edit.ids))

    def _ids(self, chosen: Filter, edit: Edit, order: Order | None, limit: int | None) -> Iterator[Any]:
        allowed = Filter(chosen.conditions, chosen.tags, _both(chosen.states, edit.states), edit.ids)
        if chosen.states and edit.states and not allowed.states:
            return
        if edit.ids:
            where = query.clause(allowed, self._link.dialect.name)
            yield self._link.execute(select(_task.c.id).where(where, *self._allowed(edit))).fetchall()  # type: ignore[arg-type]
            return
        if edit.action == "revert":
            allowed = Filter((*allowed.conditions, query.LAST_ATTEMPT), allowed.tags, allowed.states)
        yield from query.pages(self._link, allowed, ("id",), order, limit)

    def _allowed(self, edit: Edit) -> list[ColumnElement[bool]]:
        """What must hold of a task that is changed so."""
        allowed: list[ColumnElement[bool]] = [_task.c.state.in_(edit.states)] if edit.states else []
        if edit.action == "revert":
            allowed.append(_task.c.next_id.is_(None))
        return allowed

    def _check_named(self, edit: Edit) -> None:
        """Tasks that are named one by one must be there and in the right state."""
        if not edit.ids:
            return
        columns = (_task.c.id, _task.c.state, _task.c.next_id)
        statement = select(*columns).where(_task.c.id.in_(edit.ids))
        found = {} if self._is_empty else {row[0]: row for row in self._link.execute(statement)}
        for key in edit.ids:
            if key not in found:
                if self.elsewhere(Filter(), Edit(ids=(key,))):
                    raise StoreError(
                        f"task {key} was rotated into a partition of database {self._where}, where nothing is "
                        "changed; nothing was changed here either"
                    )
                raise StoreError(
                    f"task {key} is not in database {self._where}: see hs list, or name another with --db"
                )
            _, state, next_id = found[key]
            if edit.states and state not in edit.states:
                raise StoreError(f"task {key} is {state}: {_REFUSALS[edit.action]}; nothing was changed")
            if edit.action == "revert" and next_id is not None:
                raise StoreError(f"task {key} was tried again as {next_id}: revert that one; nothing was changed")

    def _ask_owners(self, edit: Edit) -> int:
        """Tell living servers what changes of tasks that they have; how many of them they are asked to stop.

        Those stay as they are here: their server says how they ended.
        """
        states = [state for state in edit.states or _LIVE if (edit.action, state) not in _UNWATCHED]
        touched = select(_task.c.submission, func.min(_task.c.id)).where(_IS_CHOSEN, _task.c.state.in_(states))
        alive = []
        for number, key in self._link.execute(touched.group_by(_task.c.submission)).fetchall():
            owner = ownership.owner_of(self._link, number)
            if owner is not None and self._lives(owner):
                self._check_living(edit, number, key, owner)
                alive.append(number)
        asked = 0
        kind = requests.CHANGE if edit.assigns and not edit.action else requests.cancel_by(edit.signal)
        for number in alive:
            theirs = select(_task.c.id, _task.c.submission).where(_IS_CHOSEN, _task.c.submission == number)
            requests.leave(self._link, theirs.where(_task.c.state == PENDING), kind, settled=True)
            if kind != requests.CHANGE:
                flying = theirs.where(_task.c.state == DISPATCHED)
                asked += requests.leave(self._link, flying, kind, settled=False)
                self._link.execute(_chosen.delete().where(_chosen.c.id.in_(flying.with_only_columns(_task.c.id))))
        return asked

    def _check_living(self, edit: Edit, number: int, key: str, owner: Owner) -> None:
        """Raises ``StoreError`` for what cannot be done to tasks of submission `number`, `key` among them."""
        way_out = f"({owner.describe()}): wait for its end, end it, or leave its tasks out; nothing was changed"
        if edit.action == "revert":
            raise StoreError(f"task {key} is in the hands of a run that goes on {way_out}")
        if "group" in edit.fields:
            raise StoreError(f"task {key} cannot change its group in a run that goes on {way_out}")
        if edit.assigns:
            flying = select(func.min(_task.c.id)).where(_IS_CHOSEN, _task.c.submission == number)
            found = self._link.execute(flying.where(_task.c.state == DISPATCHED)).scalar()
            if found is not None:
                raise StoreError(f"task {found} was given out by a run that goes on {way_out}")

    def _lives(self, owner: Owner) -> bool:
        """One that cannot be seen from here counts as living."""
        return Watch(this_process()).life(owner, time.monotonic()) is not Life.DEAD

    def _count(self) -> int:
        return self._link.execute(select(func.count()).select_from(_chosen)).scalar_one()

    # -- what --------------------------------------------------------------------------------------------

    def _values(self, edit: Edit) -> dict[str, Any]:
        values: dict[str, Any] = dict(edit.fields)
        if edit.tags or edit.removed:
            values["tag"] = _tags(edit) if self._link.dialect.name == "sqlite" else _tags_on_server(edit)
        if edit.action == "cancel":
            values |= {"state": CANCELLED, "exit_status": Special.CANCELLED, "completion_time": time.time()}
        elif edit.action == "revert":
            values |= dict.fromkeys(_OF_A_RESULT)
            values |= {"state": PENDING, "execution": _task.c.execution + 1}
        return values

    def _delete(self) -> None:
        """Delete the chosen rows; no other row names one of them afterwards."""
        ids = select(_chosen.c.id)
        self._link.execute(update(_task).where(_task.c.previous_id.in_(ids)).values(previous_id=None))
        self._link.execute(update(_task).where(_task.c.next_id.in_(ids)).values(next_id=None, retried=False))
        printed.forget(self._link, ids)
        self._link.execute(_task.delete().where(_IS_CHOSEN))


#: Why a state does not allow an action.
_REFUSALS = {
    "cancel": "only a task that has not ended can be cancelled",
    "revert": "only a task that has ended can be reverted",
    "delete": "only a task that waits or has ended can be deleted (--cancel stops it)",
}

_LIVE = (PENDING, DISPATCHED)

#: Rows that no server looks at again.
_UNWATCHED = frozenset({("delete", "succeeded"), ("delete", "failed"), ("delete", "cancelled")})


def _both(asked: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The states that are asked for and allowed; empty stands for any."""
    if not asked or not allowed:
        return asked or allowed
    return tuple(state for state in asked if state in allowed)


def _tags(edit: Edit) -> ColumnElement[Any]:
    """The tags of a row after the change; other keys stay as they are. Keys need no escape (``tags``)."""
    value: Any = type_coerce(_task.c.tag, Text)
    if edit.removed:
        value = func.json_remove(value, *(f'$."{key}"' for key in edit.removed))
    if edit.tags:
        pairs: list[Any] = []
        for key, new in edit.tags.items():
            pairs += [f'$."{key}"', func.json(json.dumps(new, ensure_ascii=False))]
        value = func.json_set(value, *pairs)
    return value  # type: ignore[no-any-return]


def _tags_on_server(edit: Edit) -> ColumnElement[Any]:
    """The same for PostgreSQL."""
    from sqlalchemy.dialects.postgresql import JSONB

    value: Any = _task.c.tag
    for key in edit.removed:
        value = value.op("-")(literal(key, Text()))
    if edit.tags:
        value = value.op("||")(cast(literal(json.dumps(edit.tags, ensure_ascii=False), Text()), JSONB))
    return value  # type: ignore[no-any-return]
