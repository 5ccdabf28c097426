"""Counts by index are the counts of rows, and the statements that must be fast at any size use an index."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite

from hypershell.core.states import CANCELLED, DISPATCHED, FAILED, PENDING, SUCCEEDED
from hypershell.data import counting, query
from hypershell.data.reading import open_readonly
from hypershell.data.where import Filter, Order, parse_condition
from tests.testbed.tables import many_tasks

STATES = (PENDING, DISPATCHED, SUCCEEDED, FAILED, CANCELLED)
COUNT = 200


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks in every state, also failed ones that were tried again."""
    made = tmp_path_factory.mktemp("counting") / "main.db"
    many_tasks(made, COUNT)
    with closing(sqlite3.connect(made, isolation_level=None)) as raw:
        for number, state in enumerate(STATES):
            raw.execute("UPDATE task SET state = ? WHERE rowid % 7 >= ?", (state, number))
        raw.execute("UPDATE task SET next_id = 'next' || rowid WHERE state = 'failed' AND rowid % 2")
    return made


@pytest.fixture
def link(path: Path) -> Iterator[Connection]:
    raw = open_readonly(path)
    assert raw is not None
    with query.reading(raw, path) as connection:
        yield connection


CHOICES = [states for size in range(6) for states in itertools.combinations(STATES, size)]


@pytest.mark.parametrize("states", CHOICES, ids=",".join)
def test_counts_are_those_of_rows(link: Connection, states: tuple[str, ...]) -> None:
    counts = dict(link.exec_driver_sql("SELECT state, count(*) FROM task GROUP BY state").fetchall())
    assert all(counts[state] > 0 for state in STATES)
    expected = sum(counts[state] for state in states) if states else COUNT
    assert query.count(link, Filter(states=states)) == expected
    is_known = not {SUCCEEDED, CANCELLED} & set(states)
    assert (counting.count_by_index(link, states) is not None) is is_known


@pytest.mark.parametrize("states", [(), (PENDING,), (PENDING, FAILED)], ids=",".join)
def test_pieces_count_where_a_writer_would_wait(path: Path, tmp_path: Path, states: tuple[str, ...]) -> None:
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as raw, closing(sqlite3.connect(copy)) as other:
        raw.backup(other)
        assert other.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    raw_copy, raw_path = open_readonly(copy), open_readonly(path)
    assert raw_copy is not None and raw_path is not None
    with query.reading(raw_copy, copy) as slow, query.reading(raw_path, path) as fast:
        assert counting.count_by_index(slow, states) is None
        expected = counting.count_by_index(fast, states)
        assert expected and query.count(slow, Filter(states=states)) == expected


def test_other_conditions_are_not_forgotten(link: Connection) -> None:
    chosen = Filter(states=(FAILED,), conditions=(parse_condition("exit_status == 77"),))
    assert query.count(link, chosen) == 0 < query.count(link, Filter(states=(FAILED,)))


def plan(link: Connection, statement: str) -> list[str]:
    return [row[3] for row in link.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]


def test_counts_scan_no_table(link: Connection) -> None:
    all_tasks = str(counting.statement(()).compile(dialect=sqlite.dialect()))
    assert [step for step in plan(link, all_tasks) if "USING COVERING INDEX" not in step] == []
    every = str(counting.statement((PENDING, DISPATCHED, FAILED)).compile(dialect=sqlite.dialect()))
    steps = [step for step in plan(link, every) if " task" in step]
    assert len(steps) == 4
    for index in ("task_pending", "task_dispatched", "task_failed", "task_next_id"):
        assert any(f"USING INDEX {index}" in step for step in steps), index


def statements(path: Path, chosen: Filter, order: Order) -> tuple[int, list[str]]:
    """How many rows there are, and what was asked of the table for it."""
    asked: list[str] = []
    raw = open_readonly(path)
    assert raw is not None
    with query.reading(raw, path) as link:
        raw.set_trace_callback(asked.append)
        found = sum(1 for _ in query.rows(link, chosen, ("id", "args"), order))
        raw.set_trace_callback(None)
    return found, [one for one in asked if "FROM task" in one]


def test_one_task_is_found_without_a_walk_over_all(tmp_path: Path) -> None:
    place = tmp_path / "main.db"
    many_tasks(place, 5_000)
    ids = tuple(f"01900000-0000-7000-8000-{number:012x}" for number in (2_500, 2_502))
    alike = [parse_condition(f"id {operator} {id_}") for operator, id_ in zip((">=", "<="), ids, strict=True)]
    same = parse_condition(f"id == {ids[0]}")
    for order in (Order(), Order(descending=True)):
        for chosen, expected in (
            (Filter(ids=ids), 2),
            (Filter((same,)), 1),
            (Filter(tuple(alike)), 3),
            (Filter((parse_condition(f"id > {ids[0]}"), parse_condition(f"id < {ids[1]}"))), 1),
            (Filter((same, parse_condition("id > 0")), ids=ids), 1),
        ):
            found, few = statements(place, chosen, order)
            assert found == expected and len(few) <= 4, chosen
        found, none = statements(place, Filter(ids=("0",)), order)
        assert found == 0 and len(none) <= 4
        found, many = statements(place, Filter(), order)
        assert found == 5_000 and len(many) > len(few)


@pytest.mark.parametrize("descending", [False, True])
def test_pages_are_searched_by_id(path: Path, link: Connection, descending: bool) -> None:
    found, asked = statements(path, Filter(), Order(descending=descending))
    assert found == COUNT and len(asked) >= 3
    for one in asked:
        steps = [step for step in plan(link, one) if "task" in step]
        assert steps and all(step.startswith("SEARCH task USING") for step in steps), (one, steps)
