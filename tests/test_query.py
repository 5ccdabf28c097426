"""Conditions, filters and reading: every operator, null, tags, order, pieces; SQL of both dialects."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql

from hypershell.core.actions import ClientChange, Dispatch, Finished, Record
from hypershell.core.model import ClientInfo, Result, Submission, Task
from hypershell.core.states import FAILED, SUCCEEDED
from hypershell.data import places, query, schema, walk
from hypershell.data.engine import SCHEMA_VERSION
from hypershell.data.places import Where, open_store
from hypershell.data.reading import open_readonly
from hypershell.data.store import describe_run, sqlite_store
from hypershell.data.where import (
    FIELDS,
    OPERATORS,
    OUTCOMES,
    Condition,
    Filter,
    Kind,
    Order,
    TagCondition,
    WhereError,
    check_field,
    parse_condition,
    parse_tag_filter,
)
from hypershell.errors import StoreError
from hypershell.ids import IdSource
from hypershell.tags import TagError, coerce
from tests.testbed.postgres import Server

NOW = 1_795_345_284.25
SUBMITTED = "2026-11-22 11:01:24.250000"

TAGS: list[dict[str, Any]] = [
    {"site": "west", "n": 1, "x": "", "ok": True, "none": None},
    {"site": "east", "n": 1.5, "ok": False},
    {"site": "007", "n": 0, "part.2-a": "v"},
    {"site": "7", "n": 7, "one": 1},
    {},
    {"site": 7},
]


def fill(where: Where) -> list[Task]:
    """Six tasks: succeeded, failed, its retry that failed too, dispatched, and two pending ones."""
    ids = IdSource()
    submission = Submission(ids.submission(), "stdin", None, "{}", "{}", "/work", "sub-id", "login-1", NOW)
    run = describe_run(
        ids.task(), transport="loopback", ranks=1, slots=2, job=None, command="hs x", cwd="/", start_time=NOW
    )
    tasks = [
        Task(
            ids.task(),
            f"./case_{number} --mode 'a b' # {number}",
            submission.id,
            group=number // 4,
            attempt=2 if number == 2 else 1,
            memory=number * 1024 if number else None,
            cores=2 if number == 3 else None,
            timeout=60.0 if number == 3 else None,
            tag=tags or None,
            submit_time=NOW + number,
        )
        for number, tags in enumerate(TAGS)
    ]
    client = ClientInfo(ids.task(), "node-1", 99, 2, "1", "linux", 3)
    store = open_store(where)()
    store.open()
    store.begin_run(run)
    store.add_submission(submission)
    ends = [(0, 0, SUCCEEDED, None), (1, 3, FAILED, tasks[2].id), (2, -9, FAILED, None)]
    finished = [
        Finished(
            1,
            state,
            NOW + 10,
            Result(tasks[number].id, 1, status, NOW + 11, NOW + 11.5 + number, utime=0.25, maxrss=2048.0),
            next_id,
            tasks[number],
        )
        for number, status, state, next_id in ends
    ]
    dispatched = Dispatch(tasks[3].id, 1, 1, NOW + 10)
    store.apply([Record(1, clients=[ClientChange(1, client, NOW)], inserted=tasks)])
    store.apply([Record(2, finished=finished, dispatched=[dispatched])])
    store.close()
    return tasks


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("query") / "with space?#%.db"
    fill(place)
    return place


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def link(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """Both databases hold the same and must answer the same."""
    where: Where
    if request.param == "sqlite":
        where = request.getfixturevalue("path")
    else:
        where = request.getfixturevalue("postgres").address()
        fill(where)
    raw = places.open_readonly(where)
    assert raw is not None
    with query.reading(raw, where) as connection:
        yield connection


def numbers(link: Connection, *where: str, tags: Sequence[str] = (), **more: Any) -> list[int]:
    """Which of the tasks a filter has, by their number."""
    chosen = Filter.build(where, tags, **more)
    found = [int(re.findall(r"_(\d)", row[0])[0]) for row in query.rows(link, chosen, ["args"])]
    assert query.count(link, chosen) == len(found)
    return found


def test_fields_are_the_columns_of_the_table() -> None:
    assert tuple(FIELDS) == tuple(column.name for column in schema.task.c if column.name != "args_raw")
    assert [name for name, kind in FIELDS.items() if kind is Kind.TIME] == [
        column.name for column in schema.task.c if isinstance(column.type, schema.UtcTime)
    ]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("exit_status == 0", [0]),
        ("exit_status==0", [0]),
        ("exit_status != 0", [1, 2]),  # null is never unequal
        ("exit_status > 0", [1]),
        ("exit_status >= 0", [0, 1]),
        ("exit_status <= 0", [0, 2]),
        ("exit_status < 0", [2]),
        ("exit_status >= 2.5", [1]),
        ("exit_status == 0.5", []),
        ("exit_status ~ ^-", [2]),
        ("exit_status == null", [3, 4, 5]),
        ("exit_status != None", [0, 1, 2]),
        ("exit_status < 99999999999999999999", [0, 1, 2]),
        ("exit_status < 9999999999999999999", [0, 1, 2]),
        ("exit_status >= -9223372036854775809", [0, 1, 2]),
        ("group < 3000000000", [0, 1, 2, 3, 4, 5]),
        ("group >= 1", [4, 5]),
        ("memory >= 4K", [4, 5]),
        ("memory == 1024", [1]),
        ("memory < 1e4", [1, 2, 3, 4, 5]),
        ("timeout == 1m", [3]),
        ("duration > 1.4", [1, 2]),
        ("duration <= 0:02", [0, 1]),
        ("retried == true", [1]),
        ("retried == FALSE", [0, 2, 3, 4, 5]),
        ("retried != 0", [1]),
        ("retried ~ ^t", [1]),
        ("state == pending", [4, 5]),
        ("state != pending", [0, 1, 2, 3]),
        ("state == null", []),
        ("state > failed", [0, 4, 5]),
        ("args ~ case_[12]", [1, 2]),
        ("args ~ 'a b' # 3$", [3]),
        ("args == ./case_4 --mode 'a b' # 4", [4]),
        ("args ==", []),
        ("client_host == node-1", [0, 1, 2, 3]),
        ("client_host == null", [4, 5]),
        ("client_host ~ x", []),
        ("error == none", [0, 1, 2, 3, 4, 5]),
        ("tag ~ east", [1]),
        ("tag != null", [0, 1, 2, 3, 4, 5]),
        ("submit_time > 2026-11-22 11:01:27", [3, 4, 5]),
        (f"submit_time == {SUBMITTED}", [0]),
        (f"submit_time <= {SUBMITTED.replace(' ', 'T')}Z", [0]),
        ("submit_time >= 2026", [0, 1, 2, 3, 4, 5]),
        ("submit_time >= 2026-11-23", []),
        ("submit_time ~ 11:01:25", [1]),
        ("start_time == null", [3, 4, 5]),
        ("completion_time < 2027-01", [0, 1, 2]),
        ("args ~ '; DROP TABLE task; --", []),
    ],
)
def test_condition(link: Connection, condition: str, expected: list[int]) -> None:
    assert numbers(link, condition) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("site", [0, 1, 2, 3, 5]),
        ("x", [0]),
        ("none", []),  # there, but null
        ("missing", []),
        ("site:west", [0]),
        ("site:007", [2]),
        ("site:7", [5]),  # the number; that of task 3 is text
        ("n:1", [0]),
        ("n:1.5", [1]),
        ("n:0", [2]),
        ("ok:true", [0]),
        ("ok:false", [1]),
        ("one:true", []),
        ("ok:1", []),
        ("x:", [0]),
        ("none:null", [0, 1, 2, 3, 4, 5]),
        ("n:null", [4, 5]),
        ("part.2-a:v", [2]),
        ("part:0", [0, 1, 2, 3, 4, 5]),
        ("cores:2", [3]),
        ("memory:1K", [1]),
        ("timeout:1m", [3]),
        ("group:1", [4, 5]),
    ],
)
def test_tag(link: Connection, tag: str, expected: list[int]) -> None:
    assert numbers(link, tags=[tag]) == expected


def test_number_as_text_is_another_value(link: Connection) -> None:
    assert Filter(tags=(TagCondition("site", "7"),)) != Filter.build(tags=["site:7"])
    found = list(query.rows(link, Filter(tags=(TagCondition("site", "7"),)), ["tag"]))
    assert [row[0]["n"] for row in found] == [7]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("failed", [1, 2]), ("succeeded", [0]), ("completed", [0, 1, 2]), ("cancelled", []), ("remaining", [3, 4, 5])],
)
def test_outcomes(link: Connection, outcome: str, expected: list[int]) -> None:
    assert numbers(link, states=OUTCOMES[outcome]) == expected


def test_everything_holds_together(link: Connection) -> None:
    assert numbers(link, "exit_status != 0", "duration > 1.6", tags=["site:007", "n"]) == [2]
    assert numbers(link, retries=True) == [2]
    assert numbers(link, group=1) == [4, 5]
    assert numbers(link, group=0, states=OUTCOMES["failed"]) == [1, 2]
    assert numbers(link, "exit_status == 0", "exit_status == 3") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exit_status = 0", "not understood"),
        ("exit_status", "not understood"),
        ("== 0", "not understood"),
        ("exit_status =~ 0", "not understood"),
        ("Exit == 0", "not understood"),
        ("", "not understood"),
        ("foo == 1", 'Invalid field name "foo"'),
        ("args_raw == 1", 'Invalid field name "args_raw"'),
        ("exit_status == abc", "exit_status takes a number"),
        ("exit_status == nan", "exit_status takes a number"),
        ("exit_status == inf", "exit_status takes a number"),
        ("exit_status == 1e999", "exit_status takes a number"),
        ("memory > 4X", "memory takes a size in bytes"),
        ("duration > soon", "duration takes a number of seconds"),
        ("retried == maybe", "retried takes true or false"),
        ("submit_time > 22.11.2026", "submit_time takes a time"),
        ("submit_time > 2026-02-30", "submit_time takes a time"),
        ("submit_time > ٢٠٢٦", "submit_time takes a time"),
        ("exit_status > null", "null is compared with == or != only"),
        ("args ~ (", "no regular expression"),
        ("tag == x", "-t KEY:VALUE"),
        ("state == foo", "state is one of pending, dispatched, succeeded, failed, cancelled; not 'foo'"),
        ("state != Failed", "state is one of pending, dispatched, succeeded, failed, cancelled; not 'Failed'"),
        ("state == ", "state is one of pending, dispatched, succeeded, failed, cancelled; not ''"),
    ],
)
def test_bad_condition_is_named(text: str, message: str) -> None:
    with pytest.raises(WhereError, match=re.escape(message)) as caught:
        parse_condition(text)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)


def test_bad_field_and_tag_are_named() -> None:
    with pytest.raises(WhereError, match=r'^Invalid field name "foo" \(the names: hs list --fields\)$'):
        check_field("foo")
    with pytest.raises(WhereError, match=r"a condition goes after -w"):
        check_field("exit_status == 0")
    with pytest.raises(TagError, match="bad tag"):
        parse_tag_filter("a/b")


@given(st.text() | st.tuples(st.sampled_from(list(FIELDS)), st.sampled_from(OPERATORS), st.text()).map("".join))
def test_parser_raises_its_own_error_or_nothing(text: str) -> None:
    try:
        condition = parse_condition(text)
    except WhereError as error:
        assert "\n" not in str(error)
        return
    assert condition.field in FIELDS and condition.operator in OPERATORS
    assert condition.value is not None or condition.operator in ("==", "!=")


@given(
    st.sampled_from([name for name, kind in FIELDS.items() if kind is Kind.TEXT and name != "state"]),
    st.sampled_from(OPERATORS[:6]),
)
def test_text_is_taken_as_it_is(field: str, operator: str) -> None:
    for value in ("a == b", "x  ", "1", ">= 2", "two\nlines"):
        assert parse_condition(f"{field}{operator} {value}") == Condition(field, operator, value)


# -- values, order, pieces -----------------------------------------------------------------------------------


def test_values_have_their_types(link: Connection) -> None:
    fields = ["submit_time", "exit_status", "retried", "tag", "outpath", "duration", "max_rss", "memory"]
    assert [*next(query.rows(link, Filter(), fields))] == [SUBMITTED, 0, False, TAGS[0], None, 0.5, 2048.0, None]
    assert next(query.rows(link, Filter.build(["retried == true"]), ["retried"]))[0] is True


def order_of(link: Connection, order: Order, limit: int | None = None) -> list[int]:
    rows = query.rows(link, Filter(), ["args"], order, limit)
    return [int(re.findall(r"_(\d)", row[0])[0]) for row in rows]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order(), [0, 1, 2, 3, 4, 5]),
        (Order("id"), [0, 1, 2, 3, 4, 5]),
        (Order(descending=True), [5, 4, 3, 2, 1, 0]),
        (Order("duration"), [3, 4, 5, 0, 1, 2]),
        (Order("duration", True), [2, 1, 0, 5, 4, 3]),
        (Order("memory"), [0, 1, 2, 3, 4, 5]),
        (Order("state"), [3, 1, 2, 4, 5, 0]),
        (Order("retried", True), [1, 5, 4, 3, 2, 0]),
        (Order("submit_time", True), [5, 4, 3, 2, 1, 0]),
    ],
)
@pytest.mark.parametrize("limit", [None, 0, 1, 4, 6, 100])
@pytest.mark.parametrize("first", [1, 2, 256])
def test_order_and_limit(
    link: Connection,
    order: Order,
    expected: list[int],
    limit: int | None,
    first: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walk, "_FIRST", first)
    monkeypatch.setattr(walk, "_MOST_READ", 2)
    assert order_of(link, order, limit) == expected[:limit]


def test_order_by_tag_is_that_of_its_text(link: Connection) -> None:
    """PostgreSQL keeps no text but the value, and writes short keys first."""
    expected = [2, 3, 1, 0, 5, 4] if link.dialect.name == "sqlite" else [2, 0, 1, 3, 5, 4]
    assert order_of(link, Order("tag")) == expected
    assert order_of(link, Order("tag"), 3) == expected[:3]


def test_order_keeps_values(link: Connection) -> None:
    fields = ["duration", "duration", "tag", "retried", "submit_time"]
    rows = [[*row] for row in query.rows(link, Filter(), fields, Order("duration", True), 2)]
    assert rows[0] == [2.5, 2.5, TAGS[2], False, "2026-11-22 11:01:26.250000"]
    assert rows[1] == [1.5, 1.5, TAGS[1], True, "2026-11-22 11:01:25.250000"]


def big(path: Path, count: int) -> None:
    fill(path)
    with sqlite3.connect(path) as raw:
        raw.execute("DELETE FROM task")
        raw.executemany(
            "INSERT INTO task (id, args, submit_id, submit_time, submission, attempt) VALUES (?, ?, '', ?, 1, ?)",
            ((f"{number:08}", f"a{number}", SUBMITTED, number % 50) for number in range(count)),
        )
    raw.close()


def test_a_long_list_comes_in_pieces_and_a_writer_never_waits(tmp_path: Path) -> None:
    place = tmp_path / "big.db"
    big(place, 30_000)
    raw = open_readonly(place)
    assert raw is not None
    writer = sqlite3.connect(place, timeout=0.0, isolation_level=None)
    with query.reading(raw, place) as link:
        sizes: list[int] = []
        seen: list[str] = []
        for page in query.pages(link, Filter(), ["id"]):
            # Only without any reader can the log be emptied: between two pages no transaction is open.
            assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
            writer.execute(
                "INSERT INTO task (id, args, submit_id, submit_time, submission) VALUES (?, '', '', '', 1)",
                (f"9{len(sizes)}",),
            )
            sizes.append(len(page))
            seen += [row[0] for row in page]
        assert seen == [f"{number:08}" for number in range(30_000)]
        assert sizes[0] == 256 and max(sizes) <= 10_000
        assert [
            row[0] for row in query.rows(link, Filter.build(["attempt == 7"]), ["id"], Order(descending=True))
        ] == [f"{number:08}" for number in range(30_000 - 43, 0, -50)]
        assert query.count(link, Filter()) == 30_000 + len(sizes)
        assert query.count(link, Filter.build(["attempt == 7"])) == 600
    writer.close()


def test_first_page_needs_little_reading(tmp_path: Path) -> None:
    place = tmp_path / "big.db"
    big(place, 5_000)
    raw = open_readonly(place)
    assert raw is not None
    with query.reading(raw, place) as link:
        for descending in (False, True):
            first = next(query.pages(link, Filter(), ["id"], Order(descending=descending)))
            assert len(first) == 256
        plan = []
        statements: list[str] = []
        raw.set_trace_callback(statements.append)
        next(query.pages(link, Filter.build(["attempt == 7"], ["a:1"]), ["args"]))
        raw.set_trace_callback(None)
        for statement in statements:
            plan += [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert len(plan) == 4 and all(
        re.match("SEARCH task USING .*INDEX sqlite_autoindex_task_1", step) for step in plan
    )


def test_tag_keys_and_values(link: Connection) -> None:
    assert query.tag_keys(link, Filter()) == ["n", "none", "ok", "one", "part.2-a", "site", "x"]
    assert query.tag_keys(link, Filter.build(["exit_status == 3"])) == ["n", "ok", "site"]
    assert query.tag_values(link, Filter(), "site") == [7, "007", "7", "east", "west"]
    assert query.tag_values(link, Filter(), "n") == [0, 1, 1.5, 7]
    assert query.tag_values(link, Filter(), "ok") == [False, True]
    assert query.tag_values(link, Filter(), "none") == [None]
    assert query.tag_values(link, Filter(), "missing") == []


# -- SQL -----------------------------------------------------------------------------------------------------


def postgres(*where: str, tags: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    clause = query.clause(Filter.build(where, tags), "postgresql")
    assert clause is not None
    compiled = clause.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    return str(compiled), dict(compiled.params)


def test_values_are_never_in_the_text() -> None:
    evil = "'; DROP TABLE task; --"
    for where in ([f"args == {evil}"], [f"args ~ {evil}"], [f"tag ~ {evil}"]):
        text, parameters = postgres(*where)
        assert "DROP" not in text and evil in parameters.values()
    text, parameters = postgres(tags=["key:drop"])
    assert "drop" not in text and "drop" in parameters.values()


def test_postgresql_has_its_own_words() -> None:
    assert " ~ " in postgres("exit_status ~ 1")[0] and "CAST" in postgres("exit_status ~ 1")[0]
    assert "TIMESTAMP WITH TIME ZONE" in postgres("submit_time > 2026")[0]
    assert "2026-01-01 00:00:00.000000+00" in postgres("submit_time > 2026")[1].values()
    assert "AT TIME ZONE 'UTC'" in postgres("submit_time ~ 2026")[0]
    assert "to_jsonb" in postgres(tags=["n:1"])[0] and "jsonb_typeof" in postgres(tags=["n"])[0]


# -- opening -------------------------------------------------------------------------------------------------


def test_reading_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    raw = open_readonly(path)
    assert raw is not None
    with pytest.raises(sqlite3.OperationalError, match=r"readonly|query_only"):
        raw.execute("DELETE FROM task")
    raw.close()
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match="cannot be written"), query.reading(raw_of(path), path) as connection:
        connection.exec_driver_sql("DELETE FROM task")


def test_reading_a_server_changes_nothing(postgres: Server) -> None:
    address = postgres.address()
    fill(address)
    raw = places.open_readonly(address)
    with pytest.raises(StoreError, match="read-only"), query.reading(raw, address) as connection:
        connection.exec_driver_sql("DELETE FROM task")


def test_a_server_is_left_alone_between_two_pages(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction stays open while rows are printed, and what is lost then is one line."""
    monkeypatch.setattr(walk, "_FIRST", 2)
    address = postgres.address()
    fill(address)
    raw = places.open_readonly(address)
    pid = raw.info.backend_pid
    with pytest.raises(StoreError, match="postgresql://") as caught, query.reading(raw, address) as connection:
        pages = query.pages(connection, Filter(), ["id"])
        assert len(next(pages)) == 2
        activity = "SELECT state FROM pg_stat_activity WHERE pid = %s"
        assert postgres.query(activity, pid) == [("idle",)]
        assert postgres.query("SELECT pg_terminate_backend(%s, 10000)", pid) == [(True,)]
        next(pages)
    assert "\n" not in str(caught.value)


def raw_of(path: Path) -> sqlite3.Connection:
    raw = open_readonly(path)
    assert raw is not None
    return raw


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    names = ("missing", "text", "other", "empty", "fifo", "link")
    missing, text, other, empty, fifo, link_to_nothing = (tmp_path / name for name in names)
    os.mkfifo(fifo)  # nobody ever writes into it: opening it would never end
    link_to_nothing.symlink_to("nothing")
    text.write_text("certainly no database, certainly no database\n" * 100)
    with sqlite3.connect(other) as link:
        link.execute("CREATE TABLE t (a)")
    link.close()
    empty.touch()
    for place, reason in (
        (missing, "does not exist"),
        (tmp_path, "is a directory"),
        (text, "is no SQLite database"),
        (other, "belongs to another program"),
        (text / "below", "Not a directory"),
        (fifo, "is not a regular file"),
        (Path("/dev/null"), "is not a regular file"),
        (link_to_nothing, "is a symbolic link to .*nothing, which does not exist"),
    ):
        with pytest.raises(StoreError, match=reason) as caught:
            open_readonly(place)
        assert str(place) in str(caught.value) and "--db PATH" in str(caught.value)
    assert open_readonly(empty) is None
    assert not missing.exists() and empty.stat().st_size == 0


def test_another_version_and_hypershell_itself_are_refused_by_name(tmp_path: Path) -> None:
    newer, older = tmp_path / "newer.db", tmp_path / "hypershell.db"
    fill(newer)
    with sqlite3.connect(newer) as link:
        link.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    link.close()
    with pytest.raises(StoreError, match="newer version"):
        open_readonly(newer)
    with sqlite3.connect(older) as link:
        link.execute("CREATE TABLE task (id TEXT, args TEXT, schedule_time, exit_status, attempt)")
        link.execute("CREATE TABLE client (id TEXT)")
    link.close()
    with pytest.raises(StoreError, match=r"made by HyperShell: run 'hs initdb --upgrade'"):
        open_readonly(older)


def test_database_without_tasks_is_nothing_to_read(tmp_path: Path) -> None:
    place = tmp_path / "empty.db"
    store = sqlite_store(place)()
    store.open()
    store.close()
    assert open_readonly(place) is None


@given(st.from_regex(r"[A-Za-z0-9_.+-]{1,20}", fullmatch=True))
def test_tag_values_are_typed_as_when_they_were_stored(value: str) -> None:
    assert parse_tag_filter(f"key:{value}") == TagCondition("key", coerce(value))


# A writer that dies in the middle: of a change that is in the log, or of one that must be taken back.
DYING = """
import os, sqlite3, sys
link = sqlite3.connect(sys.argv[1], isolation_level=None)
link.execute(f"PRAGMA journal_mode={sys.argv[2]}")
if sys.argv[2] == "WAL":
    link.execute("UPDATE task SET args = 'changed'")
else:
    link.execute("PRAGMA cache_size=1")
    link.execute("BEGIN IMMEDIATE")
    link.execute("UPDATE task SET args = hex(zeroblob(200000))")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    ("mode", "file", "expected"), [("WAL", "-wal", "changed"), ("DELETE", "-journal", "./case_0")]
)
def test_after_a_writer_was_killed(tmp_path: Path, mode: str, file: str, expected: str) -> None:
    place = tmp_path / "main.db"
    fill(place)
    subprocess.run([sys.executable, "-c", DYING, str(place), mode], timeout=60)
    assert Path(f"{place}{file}").stat().st_size > 512
    with query.reading(raw_of(place), place) as link:
        rows = list(query.rows(link, Filter(), ["args"]))
    assert len(rows) == len(TAGS) and rows[0][0].startswith(expected)


def test_a_database_of_somebody_else_in_a_folder_that_we_may_not_write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "main.db"
        fill(place)
        place.chmod(0o444)
        os.chmod(folder, 0o555)
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                if os.geteuid() == 0:
                    os.setuid(65534)
                status = 0 if raw_of(place).execute("SELECT count(*) FROM task").fetchone() == (len(TAGS),) else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [path.name for path in Path(folder).iterdir()] == ["main.db"]
        os.chmod(folder, 0o755)
