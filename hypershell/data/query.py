"""Reading tasks: filters and fields to SQL for every dialect, and long results in short pieces.

Every statement is a read transaction of its own that has ended before its rows are handed on, and looks at so few
rows that it takes some 20 ms: a server that writes meanwhile never waits for a reader, and the first rows are there
at once however large the database is. Tasks that are added after the first statement are not seen; one that changes
is shown as it was when its piece was read.

Owns the SQL; the words of conditions are those of ``where``. Called by the commands that select tasks.
"""

from __future__ import annotations

import itertools
import operator
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Double,
    Select,
    Text,
    and_,
    bindparam,
    case,
    cast,
    create_engine,
    func,
    literal,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.functions import FunctionElement

from hypershell.address import Address
from hypershell.data.engine import explain
from hypershell.data.places import Where
from hypershell.data.schema import task as _task
from hypershell.data.where import FIELDS, Condition, Filter, Kind, Order, TagCondition
from hypershell.errors import StoreError
from hypershell.tags import Scalar

__all__ = ["Row", "clause", "count", "pages", "reading", "rows", "tag_keys", "tag_values"]

Row = Sequence[Any]

#: Seconds that one statement should take.
_PIECE = 0.02
#: Rows that the first statement looks at: the first line of output must not wait.
_FIRST = 256
#: Rows that one statement looks at when it returns rows, and when it only counts.
_MOST_READ = 10_000
_MOST_COUNTED = 500_000

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class utc_text(FunctionElement[str]):
    """SQL: a time as fixed-width UTC text, ``YYYY-MM-DD HH:MM:SS.ffffff``."""

    type = Text()
    inherit_cache = True
    name = "utc_text"


@compiles(utc_text, "sqlite")
def _utc_text_sqlite(element: utc_text, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.clauses, **kw))


@compiles(utc_text, "postgresql")
def _utc_text_postgresql(element: utc_text, compiler: Any, **kw: Any) -> str:
    inner = compiler.process(element.clauses, **kw)
    return f"to_char({inner} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"


@contextmanager
def reading(raw: Any, where: Where) -> Iterator[Connection]:
    """A connection for the functions below, over one of ``places.open_readonly``, which is closed at the end.

    Raises:
        StoreError: for what the driver raises while it is in use.
    """
    server = isinstance(where, Address)
    # With a transaction around all of them a server would keep what others have deleted since.
    kind, how = ("postgresql+psycopg://", {"isolation_level": "AUTOCOMMIT"}) if server else ("sqlite://", {})
    engine = create_engine(kind, creator=lambda: raw, poolclass=NullPool, **how)
    try:
        with engine.connect() as connection:
            yield connection
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise _explained(error, where) from error


def _explained(error: Exception, where: Where) -> StoreError:
    if isinstance(where, Address):
        from hypershell.data.postgres import Postgres

        return Postgres(where).explain(error)
    return explain(getattr(error, "orig", None) or error, where)


def pages(
    connection: Connection,
    chosen: Filter,
    fields: Sequence[str],
    order: Order | None = None,
    limit: int | None = None,
) -> Iterator[list[Row]]:
    """The values of `fields` for the tasks of a filter, in pieces; a piece may be empty.

    Times are UTC text, the tag is a dict, a flag is a bool. Without an order they come by id, that is as they were
    submitted. Ordering by another field reads all tasks first, and keeps what it needs in a temporary file.

    Raises:
        StoreError: no room for that file.
    """
    order = order or Order()
    if order.field != "id":
        return _sorted_pages(connection, chosen, fields, order, limit)
    return _pages_by_id(connection, chosen, fields, order.descending, limit)


def rows(
    connection: Connection,
    chosen: Filter,
    fields: Sequence[str],
    order: Order | None = None,
    limit: int | None = None,
) -> Iterator[Row]:
    """As `pages`, row by row."""
    return itertools.chain.from_iterable(pages(connection, chosen, fields, order, limit))


def count(connection: Connection, chosen: Filter) -> int:
    """How many tasks a filter has."""
    statement = select(func.count()).select_from(_task)
    return sum(page[0][0] for page in _in_pieces(connection, statement, chosen, most=_MOST_COUNTED))


def tag_keys(connection: Connection, chosen: Filter) -> list[str]:
    """The keys of tags of the tasks of a filter, sorted."""
    return sorted({key for tags in _tags(connection, chosen) for key in tags})


def tag_values(connection: Connection, chosen: Filter, key: str) -> list[Scalar]:
    """The values that a tag has among the tasks of a filter, each once: null, false, true, numbers, texts."""
    found: dict[str, Scalar] = {}
    for tags in _tags(connection, chosen):
        if key in tags:
            found[repr(tags[key])] = tags[key]
    return sorted(found.values(), key=_rank)


def clause(chosen: Filter, dialect: str) -> ColumnElement[bool] | None:
    """The filter in SQL for a dialect (``sqlite``, ``postgresql``), with all values bound; None for all tasks."""
    parts = [_condition(condition, dialect) for condition in chosen.conditions]
    parts += [_tag_clause(tag, dialect) for tag in chosen.tags]
    if chosen.states:
        parts.append(_task.c.state.in_(chosen.states))
    return and_(*parts) if parts else None


# -- pieces ------------------------------------------------------------------------------------------


def _in_pieces(
    connection: Connection,
    statement: Select[Any],
    chosen: Filter,
    *,
    descending: bool = False,
    most: int = _MOST_READ,
) -> Iterator[list[Row]]:
    """Execute a statement for the tasks of a filter, range of ids after range of ids.

    The time that one range took is the measure for the next, so that a costly filter, a cold disk or wide rows make
    it smaller. Ids grow with time: what is added meanwhile lies behind the end.
    """
    end = connection.execute(select(func.max(_task.c.id))).scalar_one()
    if end is None:
        return
    statement = statement.where(_task.c.id > bindparam("low"), _task.c.id <= bindparam("high"))
    where = clause(chosen, connection.dialect.name)
    if where is not None:
        statement = statement.where(where)
    next_cut = _cut(descending)
    low, high, size = "", end, _FIRST
    while True:
        begin = time.monotonic()
        # From below the cut is the last id of the range, from above the first one below it.
        skip = size if descending else size - 1
        cut = connection.execute(next_cut, {"low": low, "high": high, "skip": skip}).scalar()
        if cut is None:
            yield connection.execute(statement, {"low": low, "high": high}).fetchall()  # type: ignore[misc]
            return
        piece = {"low": cut, "high": high} if descending else {"low": low, "high": cut}
        found = connection.execute(statement, piece).fetchall()
        spent = time.monotonic() - begin
        yield found  # type: ignore[misc]  # a Row of SQLAlchemy is a sequence
        low, high = (low, cut) if descending else (cut, high)
        size = min(size * 2, most) if spent < _PIECE / 2 else max(size // 2, 16) if spent > _PIECE else size


def _cut(descending: bool) -> Select[Any]:
    column = _task.c.id
    among = select(column).where(column > bindparam("low"), column <= bindparam("high"))
    among = among.order_by(column.desc() if descending else column)
    return among.limit(1).offset(bindparam("skip", type_=BigInteger()))


def _pages_by_id(
    connection: Connection, chosen: Filter, fields: Sequence[str], descending: bool, limit: int | None
) -> Iterator[list[Row]]:
    column = _task.c.id
    statement = select(*(_shown(field) for field in fields)).order_by(column.desc() if descending else column)
    statement = statement if limit is None else statement.limit(limit)
    left = limit
    for page in _in_pieces(connection, statement, chosen, descending=descending):
        if left is None:
            yield page
            continue
        yield page[:left]
        left -= min(left, len(page))
        if left == 0:
            return


def _sorted_pages(
    connection: Connection, chosen: Filter, fields: Sequence[str], order: Order, limit: int | None
) -> Iterator[list[Row]]:
    """Gather sort key, id and values piece by piece in a file of our own, then read that in order.

    No index serves an arbitrary field, and one statement that sorts the table would hold a read transaction for as
    long as that takes. With a limit only the best of each piece can be among the best.
    """
    key = _sort_key(order.field, connection.dialect.name)
    direction = "DESC" if order.descending else "ASC"
    ordering = (key.desc().nulls_last(), _task.c.id.desc()) if order.descending else (key.nulls_first(), _task.c.id)
    statement = select(key, _task.c.id, *(_shown(field) for field in fields)).order_by(*ordering)
    statement = statement if limit is None else statement.limit(limit)
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        try:
            scratch.execute("PRAGMA journal_mode=OFF")
            scratch.execute("CREATE TABLE found (key, id, line)")
            for page in _in_pieces(connection, statement, chosen):
                lines = [(row[0], row[1], msgspec.msgpack.encode(tuple(row[2:]))) for row in page]
                scratch.execute("BEGIN")
                scratch.executemany("INSERT INTO found VALUES (?, ?, ?)", lines)
                scratch.execute("COMMIT")
            most = -1 if limit is None else limit
            query = f"SELECT line FROM found ORDER BY key {direction}, id {direction} LIMIT ?"
            cursor = scratch.execute(query, (most,))
            while batch := cursor.fetchmany(1000):
                yield [msgspec.msgpack.decode(line) for (line,) in batch]
        except sqlite3.Error as error:
            raise StoreError(
                f"tasks cannot be ordered by {order.field}: temporary file: {error}; set SQLITE_TMPDIR to a place "
                "with room, or use --limit"
            ) from error


def _tags(connection: Connection, chosen: Filter) -> Iterator[dict[str, Scalar]]:
    """The tags of the tasks of a filter; equal ones once for each piece."""
    as_text = type_coerce(_task.c.tag, Text) if connection.dialect.name == "sqlite" else cast(_task.c.tag, Text)
    for page in _in_pieces(connection, select(as_text).distinct(), chosen):
        for (text,) in page:
            yield msgspec.json.decode(text)


def _rank(value: Scalar) -> tuple[int, float, str]:
    if value is None or isinstance(value, bool):
        return (0, -1 if value is None else int(value), "")
    return (2, 0, value) if isinstance(value, str) else (1, value, "")


# -- expressions -------------------------------------------------------------------------------------


def _shown(field: str) -> ColumnElement[Any]:
    """The column of a field; times as text."""
    column = _task.c[field]
    return utc_text(column).label(field) if FIELDS[field] is Kind.TIME else column


def _as_text(field: str) -> ColumnElement[Any]:
    """What a pattern is matched with."""
    column, kind = _task.c[field], FIELDS[field]
    if kind is Kind.TEXT:
        return column
    if kind is Kind.TIME:
        return utc_text(column)
    if kind is Kind.FLAG:
        return case((column.is_(None), None), (column, "true"), else_="false")
    return cast(column, Text)


def _sort_key(field: str, dialect: str) -> ColumnElement[Any]:
    """What orders by a field; text by its code points, as in SQLite, whatever language a server speaks."""
    kind = FIELDS[field]
    if kind is Kind.TIME:
        return utc_text(_task.c[field])
    if kind is Kind.TAGS:
        return type_coerce(_task.c[field], Text) if dialect == "sqlite" else cast(_task.c[field], Text).collate("C")
    if kind is Kind.TEXT and dialect == "postgresql":
        return _task.c[field].collate("C")
    return _task.c[field]


def _condition(condition: Condition, dialect: str) -> ColumnElement[bool]:
    column, value = _task.c[condition.field], condition.value
    if condition.operator == "~":
        return _as_text(condition.field).regexp_match(value)
    if value is None:
        return column.is_(None) if condition.operator == "==" else column.is_not(None)
    if FIELDS[condition.field] is Kind.TIME:
        left: ColumnElement[Any] = type_coerce(column, Text) if dialect == "sqlite" else column
        return _COMPARE[condition.operator](left, _moment(str(value), dialect))  # type: ignore[no-any-return]
    return _COMPARE[condition.operator](column, _bound(value))  # type: ignore[no-any-return]


def _moment(text: str, dialect: str) -> ColumnElement[Any]:
    if dialect == "sqlite":
        return literal(text, Text())
    from sqlalchemy import TIMESTAMP

    return cast(literal(text + "+00", Text()), TIMESTAMP(timezone=True))


def _bound(value: Scalar) -> ColumnElement[Any]:
    """The value with its own type: that of the column might round it."""
    if isinstance(value, bool):
        return literal(value, Boolean())
    if isinstance(value, int):
        return literal(value, BigInteger())
    return literal(value, Double() if isinstance(value, float) else Text())


def _tag_clause(tag: TagCondition, dialect: str) -> ColumnElement[bool]:
    if dialect == "sqlite":
        # A key is made of letters, digits and _ . + - (hypershell.tags): it needs no escape in a path.
        path = literal(f'$."{tag.key}"', Text())
        kind = func.json_type(_task.c.tag, path, type_=Text())
        value = func.json_extract(_task.c.tag, path)
    else:
        value = func.jsonb_extract_path(_task.c.tag, literal(tag.key, Text()))
        kind = func.jsonb_typeof(value, type_=Text())
    if tag.any_value:
        return kind != "null"
    if tag.value is None:
        return or_(kind.is_(None), kind == "null")
    if dialect != "sqlite":
        return value == func.to_jsonb(_bound(tag.value))
    if isinstance(tag.value, bool):
        return kind == ("true" if tag.value else "false")
    if isinstance(tag.value, str):
        return and_(kind == "text", value == _bound(tag.value))
    return and_(kind.in_(("integer", "real")), value == _bound(tag.value))
