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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Select,
    Table,
    Text,
    and_,
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
from sqlalchemy.types import NullType

from hypershell.address import Address, Where
from hypershell.data.counting import count_by_index
from hypershell.data.engine import explain
from hypershell.data.schema import JsonObject, UtcTime, tags_in
from hypershell.data.schema import task as _task
from hypershell.data.walk import Row, Walk
from hypershell.data.where import FIELDS, Condition, Filter, Kind, Order, TagCondition
from hypershell.errors import StoreError
from hypershell.tags import Scalar

__all__ = [
    "LAST_ATTEMPT",
    "Row",
    "by_id",
    "by_key",
    "clause",
    "count",
    "explained",
    "keys_among",
    "limited",
    "pages",
    "raw_by_id",
    "raw_pages",
    "raw_rows",
    "reading",
    "rows",
    "sorted_pages",
    "tag_keys",
    "tag_sets",
    "tag_values",
    "values_among",
    "walk",
]

#: No newer attempt exists.
LAST_ATTEMPT = Condition("next_id", "==", None)

#: Rows that one statement returns of a table that is read whole, and that it looks at when it only counts.
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
        raise explained(error, where) from error


def explained(error: Exception, where: Where) -> StoreError:
    """An error of the driver or of SQLAlchemy as ours, which names the database."""
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


def raw_pages(connection: Connection, chosen: Filter, limit: int | None = None) -> Iterator[list[Row]]:
    """Every column of the table for the tasks of a filter, by id: times are UTC text, the tag is JSON text."""
    statement = raw_by_id(connection.dialect.name, limit)
    return limited(walk(connection, statement, chosen).pages(), limit)


def raw_by_id(dialect: str, limit: int | None) -> Select[Any]:
    """The statement for every column of tasks, the id first, in the order of ids."""
    statement = select(*(_raw(column, dialect) for column in _task.columns)).order_by(_task.c.id)
    return statement if limit is None else statement.limit(limit)


def raw_rows(connection: Connection, table: Table) -> Iterator[list[Row]]:
    """Every column of every row of another table, by id, in pieces; values as in `raw_pages`."""
    column = table.c.id
    statement = select(*(_raw(one, connection.dialect.name) for one in table.columns)).order_by(column)
    last: Any = None
    while True:
        after = statement if last is None else statement.where(column > last)
        page = connection.execute(after.limit(_MOST_READ)).fetchall()
        if not page:
            return
        last = page[-1][0]
        yield page  # type: ignore[misc]  # a Row of SQLAlchemy is a sequence


def count(connection: Connection, chosen: Filter) -> int:
    """How many tasks a filter has."""
    if chosen == Filter(states=chosen.states) and (known := count_by_index(connection, chosen.states)) is not None:
        return known
    statement = select(func.count()).select_from(_task)
    pages = walk(connection, statement, chosen, most=_MOST_COUNTED).pages()
    return sum(page[0][0] for page in pages)


def tag_keys(connection: Connection, chosen: Filter) -> list[str]:
    """The keys of tags of the tasks of a filter, sorted."""
    return keys_among(tag_sets(connection, chosen))


def tag_values(connection: Connection, chosen: Filter, key: str) -> list[Scalar]:
    """The values that a tag has among the tasks of a filter, each once: null, false, true, numbers, texts."""
    return values_among(tag_sets(connection, chosen), key)


def tag_sets(connection: Connection, chosen: Filter) -> Iterator[dict[str, Scalar]]:
    """The tags of the tasks of a filter; equal ones once for each piece."""
    as_text = type_coerce(_task.c.tag, Text) if connection.dialect.name == "sqlite" else cast(_task.c.tag, Text)
    for page in walk(connection, select(as_text).distinct(), chosen).pages():
        for (text,) in page:
            yield tags_in(text)


def keys_among(sets: Iterable[dict[str, Scalar]]) -> list[str]:
    """The keys of sets of tags, sorted."""
    return sorted({key for tags in sets for key in tags})


def values_among(sets: Iterable[dict[str, Scalar]], key: str) -> list[Scalar]:
    """The values of a key in sets of tags, as `tag_values` has them."""
    found: dict[str, Scalar] = {}
    for tags in sets:
        if key in tags:
            found[repr(tags[key])] = tags[key]
    return sorted(found.values(), key=_rank)


def clause(chosen: Filter, dialect: str) -> ColumnElement[bool] | None:
    """The filter in SQL for a dialect (``sqlite``, ``postgresql``), with all values bound; None for all tasks."""
    parts = [_condition(condition, dialect) for condition in chosen.conditions]
    parts += [_tag_clause(tag, dialect) for tag in chosen.tags]
    if chosen.states:
        parts.append(_task.c.state.in_(chosen.states))
    if chosen.ids:
        parts.append(_task.c.id.in_(chosen.ids))
    return and_(*parts) if parts else None


# -- pieces ------------------------------------------------------------------------------------------


def walk(connection: Connection, statement: Select[Any], chosen: Filter, **more: Any) -> Walk:
    """The walk of a statement over the tasks of a filter; `more` as for `Walk`."""
    if more.get("span") is None:
        more["span"] = chosen.span()
    return Walk(connection, statement, clause(chosen, connection.dialect.name), **more)


def by_id(fields: Sequence[str], descending: bool, limit: int | None) -> Select[Any]:
    """The statement for the id and `fields` of tasks, in the order of ids."""
    column = _task.c.id
    statement = select(column, *map(_shown, fields)).order_by(column.desc() if descending else column)
    return statement if limit is None else statement.limit(limit)


def _pages_by_id(
    connection: Connection, chosen: Filter, fields: Sequence[str], descending: bool, limit: int | None
) -> Iterator[list[Row]]:
    found = walk(connection, by_id(fields, descending, limit), chosen, descending=descending).pages()
    for page in limited(found, limit):
        yield [row[1:] for row in page]


def limited(found: Iterator[list[Row]], limit: int | None) -> Iterator[list[Row]]:
    """The first `limit` rows of pages."""
    left = limit
    for page in found:
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
    statement = by_key(connection.dialect.name, fields, order, limit)
    return sorted_pages(lambda: walk(connection, statement, chosen).pages(), order, limit)


def by_key(dialect: str, fields: Sequence[str], order: Order, limit: int | None) -> Select[Any]:
    """The statement for sort key, id and `fields` of tasks, in an order."""
    key = _sort_key(order.field, dialect)
    ordering = (key.desc().nulls_last(), _task.c.id.desc()) if order.descending else (key.nulls_first(), _task.c.id)
    statement = select(key, _task.c.id, *map(_shown, fields)).order_by(*ordering)
    return statement if limit is None else statement.limit(limit)


def sorted_pages(
    gather: Callable[[], Iterator[list[Row]]],
    order: Order,
    limit: int | None,
    is_whole: Callable[[], bool] = lambda: True,
) -> Iterator[list[Row]]:
    """Gather rows of `by_key` piece by piece in a file of our own, then read that in order.

    No index serves an arbitrary field, and one statement that sorts the table would hold a read transaction for as
    long as that takes. With a limit only the best of each piece can be among the best. It is gathered again as long
    as `is_whole` afterwards says no.
    """
    direction = "DESC" if order.descending else "ASC"
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        try:
            scratch.execute("PRAGMA journal_mode=OFF")
            scratch.execute("CREATE TABLE found (key, id, line)")
            while True:
                for page in gather():
                    lines = [(row[0], row[1], msgspec.msgpack.encode(tuple(row[2:]))) for row in page]
                    scratch.execute("BEGIN")
                    scratch.executemany("INSERT INTO found VALUES (?, ?, ?)", lines)
                    scratch.execute("COMMIT")
                if is_whole():
                    break
                scratch.execute("DELETE FROM found")
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


def _rank(value: Scalar) -> tuple[int, float, str]:
    if value is None or isinstance(value, bool):
        return (0, -1 if value is None else int(value), "")
    return (2, 0, value) if isinstance(value, str) else (1, value, "")


# -- expressions -------------------------------------------------------------------------------------


def _shown(field: str) -> ColumnElement[Any]:
    """The column of a field; times as text."""
    column = _task.c[field]
    return utc_text(column).label(field) if FIELDS[field] is Kind.TIME else column


def _raw(column: Column[Any], dialect: str) -> ColumnElement[Any]:
    """A column as the export takes it: times and tags as text, everything else without a conversion."""
    if isinstance(column.type, UtcTime):
        return utc_text(column)
    if isinstance(column.type, JsonObject):
        return type_coerce(column, Text()) if dialect == "sqlite" else cast(column, Text)
    return type_coerce(column, NullType()) if dialect == "sqlite" else column


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
        tags = case((func.json_valid(_task.c.tag), type_coerce(_task.c.tag, Text)), else_=literal("{}", Text()))
        kind = func.json_type(tags, path, type_=Text())
        value = func.json_extract(tags, path)
    else:
        value = func.jsonb_extract_path(_task.c.tag, literal(tag.key, Text()))
        kind = func.jsonb_typeof(value, type_=Text())
    if tag.any_value:
        return kind != "null"
    if tag.key == "part" and tag.value == 0:
        # The database itself, whose rows need not carry the tag.
        return or_(kind.is_(None), _has_value(tag.value, kind, value, dialect))
    if tag.value is None:
        return or_(kind.is_(None), kind == "null")
    return _has_value(tag.value, kind, value, dialect)


def _has_value(wanted: Scalar, kind: Any, value: Any, dialect: str) -> ColumnElement[bool]:
    if dialect != "sqlite":
        return value == func.to_jsonb(_bound(wanted))  # type: ignore[no-any-return]
    if isinstance(wanted, bool):
        return kind == ("true" if wanted else "false")  # type: ignore[no-any-return]
    if isinstance(wanted, str):
        return and_(kind == "text", value == _bound(wanted))
    return and_(kind.in_(("integer", "real")), value == _bound(wanted))
