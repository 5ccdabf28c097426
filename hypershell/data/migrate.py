"""Making a database, and bringing HyperShell's own to our schema.

An upgrade builds the new file beside the old one and renames it at the end, after a backup: whatever interrupts it,
the old file is whole. Called by ``hs initdb``; a server never alters another version.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from hypershell.core.model import Special
from hypershell.core.states import CANCELLED, FAILED, PENDING, SUCCEEDED
from hypershell.data.engine import Sqlite, check_schema, explain, is_hypershell, preflight
from hypershell.data.files import check_file
from hypershell.data.owner import Sharing
from hypershell.data.times import Stamper
from hypershell.data.upkeep import new_beside, sync
from hypershell.errors import StoreError

__all__ = ["Upgraded", "create", "upgrade"]

_ROWS = 5_000

#: HyperShell's exit statuses of tasks that never ran, which are also deaths by signal; ours are not.
_SPECIAL = {-1: Special.CANCELLED, -2: Special.TEMPLATE_FAILED, -3: Special.IMPOSSIBLE}


class Upgraded(Struct, frozen=True):
    """What an upgrade did. ``dropped`` counts values that had no meaning (``cores`` or ``timeout`` that are no
    number, broken tags or times)."""

    backup: Path
    tasks: int
    clients: int
    dropped: int


def create(path: Path, sharing: Sharing | None = None) -> bool:
    """Make the tables where the database has none; False where they were there. `sharing` as for ``preflight``.

    Raises:
        StoreError: the file cannot be used (see ``engine.preflight``).
    """
    preflight(path, sharing)
    made = _is_empty(path)
    database = Sqlite(path)
    engine = database.engine()
    try:
        with engine.connect() as link:
            with link.begin():
                database.create(link, create=True)
            link.exec_driver_sql("PRAGMA optimize")
    except database.errors as error:
        raise database.explain(error) from error
    finally:
        engine.dispose()
    return made


def _is_empty(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as link:
        return not check_schema(link, path)


def upgrade(path: Path) -> Upgraded | None:
    """Bring HyperShell's database at `path` to our schema; None where it is of our version or empty.

    The times of the old file have no zone: they are taken as local times of this machine. A symbolic link stays
    one: the file that it names is upgraded, and the backup lies beside that.

    Raises:
        StoreError: there is no such file, or it is another program's, in use, or the disk is full; the file is then
            as it was.
    """
    check_file(path, "name the file with --db PATH, or make a new one with 'hs initdb'")
    path = Path(os.path.realpath(path))
    try:
        with closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as old:
            old.text_factory = lambda data: data.decode("utf-8", "replace")
            if not is_hypershell(old):
                if not check_schema(old, path):
                    create(path)
                return None
            return _convert(old, path)
    except (sqlite3.Error, OSError) as error:
        raise _explained(error, path) from error


def _explained(error: Exception, path: Path) -> StoreError:
    if isinstance(error, OSError):
        return StoreError(f"database {path} cannot be upgraded: {error.strerror}; the old file is as it was")
    return explain(error, path)


def _convert(old: sqlite3.Connection, path: Path) -> Upgraded:
    """Back up, build the new file, put it in place; `old` keeps writers out all the time."""
    if old.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        # The log of the old file must not be taken for one of the new file.
        old.execute("PRAGMA journal_mode=DELETE")
    old.execute("BEGIN IMMEDIATE")
    mode = stat.S_IMODE(path.stat().st_mode)
    backup = _back_up(old, path, mode)
    fresh = new_beside(path, mode, alone=True)  # we have the write lock
    try:
        tasks, clients, dropped = _build(old, fresh)
        sync(fresh)
        if os.name == "nt":
            old.close()
        os.replace(fresh, path)
        sync(path.parent)
    finally:
        for rest in (fresh, fresh.with_name(fresh.name + "-journal")):
            rest.unlink(missing_ok=True)
    return Upgraded(backup, tasks, clients, dropped)


def _back_up(old: sqlite3.Connection, path: Path, mode: int) -> Path:
    """A copy beside the file, under its name only when it is complete."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = path.with_name(f"{path.stem}.backup-{stamp}.db")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.stem}.backup-{stamp}-{number}.db")
    partial = new_beside(path, mode, alone=True)  # we have the write lock
    try:
        with closing(sqlite3.connect(path, timeout=5.0)) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
        sync(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _build(old: sqlite3.Connection, fresh: Path) -> tuple[int, int, int]:
    """Fill a new database from the old one; how many tasks, clients and dropped values."""
    from hypershell.data.schema import client, submission, task

    database = Sqlite(fresh, journal="DELETE")
    engine = database.engine()
    converter = _Converter(old)
    try:
        with engine.connect() as link, link.begin():
            database.create(link, create=True)
            counts = []
            for target, made in (
                (submission, converter.submissions()),
                (task, converter.tasks()),
                (client, converter.clients()),
            ):
                names = [column.name for column in target.columns]
                text = str(target.insert().compile(dialect=link.dialect, column_keys=names))
                count = 0
                for rows in _chunks(made):
                    link.exec_driver_sql(text, [tuple(row.get(name) for name in names) for row in rows])
                    count += len(rows)
                counts.append(count)
            found = link.exec_driver_sql("SELECT count(*) FROM task").scalar_one()
        before = old.execute("SELECT count(*) FROM task").fetchone()[0]
        if found != before:
            raise StoreError(f"upgrade of {fresh.stem}: {before} tasks became {found}; the old file is as it was")
    except database.errors as error:
        raise database.explain(error) from error
    finally:
        engine.dispose()
    return counts[1], counts[2], converter.dropped


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class _Converter:
    """Rows of the old database as rows of ours."""

    def __init__(self, old: sqlite3.Connection) -> None:
        self._old = old
        self._stamp = Stamper().text
        self._submissions: dict[str, int] = {}
        self.dropped = 0

    def submissions(self) -> Iterator[dict[str, Any]]:
        """One for each process that submitted; nobody owns them, so ``--restart`` takes what is unfinished."""
        query = "SELECT submit_id, min(submit_time), max(submit_host) FROM task GROUP BY submit_id ORDER BY 2, 1"
        last = 0
        for submit_id, first, host in self._old.execute(query):
            seconds = self._seconds(first) or 0.0
            last = max(last + 1, int(seconds * 1000) << 21)
            self._submissions[submit_id] = last
            yield {
                "id": last,
                "source": "command",
                "template": "{}",
                "options": "{}",
                "cwd": os.getcwd(),
                "submit_id": submit_id,
                "submit_host": host or "",
                "submit_time": self._stamp(seconds),
                "epoch": 0,
                "offset": 0,
                "lines": 0,
                "digest": "",
                "complete": True,
            }

    def tasks(self) -> Iterator[dict[str, Any]]:
        for row in self._rows("task"):
            yield self._task(row)

    def clients(self) -> Iterator[dict[str, Any]]:
        for row in self._rows("client"):
            for name in ("connected_at", "disconnected_at"):
                row[name] = self._time(row.get(name))
            row["evicted"] = bool(row.get("evicted"))
            yield row

    def _rows(self, table: str) -> Iterator[dict[str, Any]]:
        cursor = self._old.execute(f"SELECT * FROM {table} ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        for values in cursor:
            yield dict(zip(names, values, strict=True))

    def _task(self, row: dict[str, Any]) -> dict[str, Any]:
        submitted, started, completed = (
            self._seconds(row.get(name)) for name in ("submit_time", "start_time", "completion_time")
        )
        row["state"], row["exit_status"] = _outcome(row)
        row["submission"] = self._submissions[row["submit_id"]]
        row["execution"] = 0
        for name in ("submit_time", "schedule_time", "start_time", "completion_time"):
            row[name] = self._time(row.get(name))
        row["submit_time"] = row["submit_time"] or self._stamp(0.0)
        if started is not None and submitted is not None:
            row["waited"] = started - submitted
        if started is not None and completed is not None:
            row["duration"] = completed - started
        for name, kind in (("cores", int), ("memory", int), ("timeout", float)):
            row[name] = self._number(row.get(name), kind)
        row["retried"] = bool(row.get("retried"))
        row["attempt"] = row.get("attempt") or 1
        row["group"] = row.get("group") or 0
        row["tag"] = self._tag(row.get("tag"))
        if row["state"] == PENDING:
            for name in ("schedule_time", "server_id", "server_host", "client_id", "client_host", "start_time"):
                row[name] = None
        return row

    def _seconds(self, text: Any) -> float | None:
        if text is None:
            return None
        try:
            return datetime.fromisoformat(str(text)).timestamp()
        except (ValueError, OverflowError, OSError):
            return None

    def _time(self, text: Any) -> str | None:
        seconds = self._seconds(text)
        stamp = None if seconds is None else self._stamp(seconds)
        self.dropped += text is not None and stamp is None
        return stamp

    def _number(self, value: Any, kind: type[int] | type[float]) -> float | None:
        try:
            return None if value is None else kind(value)
        except ValueError:
            self.dropped += 1
            return None

    def _tag(self, text: Any) -> str:
        try:
            tag = json.loads(text)
        except (TypeError, ValueError):
            tag = None
        if isinstance(tag, dict):
            return str(text)
        self.dropped += 1
        return "{}"


def _outcome(row: dict[str, Any]) -> tuple[str, int | None]:
    """State and exit status of an old row: the one place where a state is inferred."""
    status = row.get("exit_status")
    if status is None:
        return PENDING, None
    if status == 0:
        return SUCCEEDED, 0
    if status == -1 and row.get("start_time") is None:
        return CANCELLED, Special.CANCELLED
    if row.get("command") is None:
        return FAILED, _SPECIAL.get(status, status)
    return FAILED, status
