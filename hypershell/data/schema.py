"""The tables: names, columns, types and indexes for every dialect; the one place that defines them.

Knows SQLAlchemy Core and nothing of files, connections or threads. Used by ``sql`` (statements), ``migrate`` and
the commands that query. The meaning of each column is in ``docs/database.md``.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from hypershell.data.times import Stamper, seconds_of

__all__ = [
    "UtcTime",
    "client",
    "meta",
    "metadata",
    "micros",
    "outliving",
    "output",
    "request",
    "run",
    "submission",
    "tags_in",
    "task",
]


class UtcTime(TypeDecorator[float]):
    """Seconds since the epoch in Python; fixed-width UTC text in SQLite, ``timestamptz`` in PostgreSQL."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: float | None, dialect: Any) -> str | None:
        return None if value is None else Stamper(zone=dialect.name == "postgresql").text(value)

    def process_result_value(self, value: Any, dialect: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, str):
            try:
                return seconds_of(value)
            except ValueError:  # SQLite keeps any text
                return None
        return float(value.timestamp()) if hasattr(value, "timestamp") else None


class JsonObject(TypeDecorator[dict[str, Any]]):
    """A JSON object: text in SQLite, ``jsonb`` in PostgreSQL, whose dialect (50 ms) only its users import."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import JSONB

            return dialect.type_descriptor(JSONB())
        return dialect.type_descriptor(JSON())

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        """Of text that is no JSON object, which SQLite keeps as well, an empty one."""
        if dialect.name == "postgresql":
            return super().result_processor(dialect, coltype)
        return tags_in


def tags_in(value: Any) -> dict[str, Any]:
    """The tags in column ``tag`` of SQLite; none where it holds no JSON object."""
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class micros(FunctionElement[int]):
    """SQL: the microseconds since the epoch of a time column, as an exact integer."""

    type = BigInteger()
    inherit_cache = True
    name = "micros"


@compiles(micros, "sqlite")
def _micros_sqlite(element: micros, compiler: Any, **kw: Any) -> str:
    inner = compiler.process(element.clauses, **kw)
    return f"(strftime('%s', {inner}) * 1000000 + substr({inner}, 21, 6))"


@compiles(micros, "postgresql")
def _micros_postgresql(element: micros, compiler: Any, **kw: Any) -> str:
    inner = compiler.process(element.clauses, **kw)
    return f"CAST(EXTRACT(EPOCH FROM {inner}) * 1000000 AS BIGINT)"


#: PostgreSQL tells listening servers of the events that ``announce`` in the ``info`` of a table names; with SQLite
#: every write of others is seen.
metadata = MetaData()

#: Ids are compared byte by byte in every database, which is also the order of their time.
_Id = Text().with_variant(Text(collation="C"), "postgresql")

task = Table(
    "task",
    metadata,
    Column("id", _Id, primary_key=True, nullable=False),
    Column("group", Integer, nullable=False, server_default=text("0")),
    Column("args", Text, nullable=False),
    Column("submit_id", Text, nullable=False),
    Column("submit_time", UtcTime, nullable=False),
    Column("submit_host", Text),
    Column("cores", Integer),
    Column("memory", BigInteger),
    Column("cores_max", Double),
    Column("memory_max", Double),
    Column("timeout", Double),
    Column("server_id", Text),
    Column("server_host", Text),
    Column("schedule_time", UtcTime),
    Column("client_id", Text),
    Column("client_host", Text),
    Column("command", Text),
    Column("start_time", UtcTime),
    Column("completion_time", UtcTime),
    Column("exit_status", Integer),
    Column("outpath", Text),
    Column("errpath", Text),
    Column("csvpath", Text),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    Column("retried", Boolean, nullable=False, server_default=text("false")),
    Column("waited", Double),
    Column("duration", Double),
    Column("previous_id", Text),
    Column("next_id", Text),
    Column("tag", JsonObject, nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("execution", Integer, nullable=False, server_default=text("0")),
    Column("submission", BigInteger, nullable=False),
    Column("error", Text),
    Column("args_raw", LargeBinary),
    Column("user_time", Double),
    Column("system_time", Double),
    Column("max_rss", Double),
    info={"announce": "INSERT"},
)


def _partial(name: str, where: str, *columns: str, unique: bool = False) -> None:
    """An index over the rows of table ``task`` that satisfy `where`; others cost nothing.

    The condition for other systems than SQLite is taken from ``info``: naming their option here would load their
    dialect.
    """
    columns_of_task = (task.c[column] for column in columns)
    Index(name, *columns_of_task, unique=unique, sqlite_where=text(where), info={"where": where})


_partial("task_pending", "state = 'pending'", "submission", "group", "id")
_partial("task_dispatched", "state = 'dispatched'", "submission", "id")
_partial("task_failed", "state = 'failed' AND next_id IS NULL", "submission", "group")
_partial("task_previous_id", "previous_id IS NOT NULL", "previous_id", unique=True)
_partial("task_next_id", "next_id IS NOT NULL", "next_id", unique=True)

client = Table(
    "client",
    metadata,
    Column("id", _Id, primary_key=True, nullable=False),
    Column("host", Text, nullable=False),
    Column("server_id", Text, nullable=False),
    Column("server_host", Text, nullable=False),
    Column("connected_at", UtcTime),
    Column("disconnected_at", UtcTime),
    Column("evicted", Boolean, nullable=False, server_default=text("false")),
    Column("pid", Integer),
    Column("slots", Integer),
    Column("version", Text),
    Column("system", Text),
    Column("rank", Integer),
    Column("reason", Text),
)
Index("client_server", client.c.server_id)

submission = Table(
    "submission",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("path", Text),
    Column("template", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("cwd", Text, nullable=False),
    Column("submit_id", Text, nullable=False),
    Column("submit_host", Text, nullable=False),
    Column("submit_time", UtcTime, nullable=False),
    Column("owner", Text),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("offset", BigInteger, nullable=False, server_default=text("0")),
    Column("lines", BigInteger, nullable=False, server_default=text("0")),
    Column("digest", Text, nullable=False, server_default=text("''")),
    Column("complete", Boolean, nullable=False, server_default=text("false")),
    info={"announce": "INSERT OR UPDATE OF owner"},
)
Index("submission_path", submission.c.path, submission.c.id)
Index(
    "submission_incomplete",
    submission.c.id,
    sqlite_where=text("NOT complete"),
    info={"where": "NOT complete"},
)

run = Table(
    "run",
    metadata,
    Column("id", _Id, primary_key=True, nullable=False),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_start", BigInteger, nullable=False),
    Column("transport", Text, nullable=False),
    Column("ranks", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("job", Text),
    Column("command", Text, nullable=False),
    Column("cwd", Text, nullable=False),
    Column("start_time", UtcTime, nullable=False),
    Column("end_time", UtcTime),
    Column("outcome", Text),
    Column("succeeded", BigInteger),
    Column("failed", BigInteger),
    Column("unfinished", BigInteger),
    Column("counter", BigInteger, nullable=False, server_default=text("0")),
    Column("fenced", Boolean, nullable=False, server_default=text("false")),
    info={"announce": "UPDATE OF end_time, fenced"},
)

request = Table(
    "request",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task", Text, nullable=False),
    Column("submission", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("time", UtcTime, nullable=False),
    # A number is never given twice: servers remember how far they have read.
    sqlite_autoincrement=True,
    info={"announce": "INSERT"},
)
Index("request_task", request.c.task)

output = Table(
    "output",
    metadata,
    Column("task_id", Text, primary_key=True, nullable=False),
    Column("stdout", LargeBinary),
    Column("stderr", LargeBinary),
    Column("stdout_size", BigInteger),
    Column("stderr_size", BigInteger),
)

outliving = Table(
    "outliving",
    metadata,
    Column("id", _Id, primary_key=True, nullable=False),
    Column("server_id", Text, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True, nullable=False),
    Column("value", Text, nullable=False),
)
