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
    is_known = bool(states) and not {SUCCEEDED, CANCELLED} & set(states)
    assert (counting.count_by_index(link, states) is not None) is is_known


def test_other_conditions_are_not_forgotten(link: Connection) -> None:
    chosen = Filter(states=(FAILED,), conditions=(parse_condition("exit_status == 77"),))
    assert query.count(link, chosen) == 0 < query.count(link, Filter(states=(FAILED,)))


def plan(link: Connection, statement: str) -> list[str]:
    return [row[3] for row in link.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]


def test_counts_scan_no_table(link: Connection) -> None:
    every = counting.statement((PENDING, DISPATCHED, FAILED))
    asked = str(every.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    steps = [step for step in plan(link, asked) if " task" in step]
    assert len(steps) == 4
    for index in ("task_pending", "task_dispatched", "task_failed", "task_next_id"):
        assert any(f"USING INDEX {index}" in step for step in steps), index


@pytest.mark.parametrize("descending", [False, True])
def test_pages_are_searched_by_id(path: Path, descending: bool) -> None:
    asked: list[str] = []
    raw = open_readonly(path)
    assert raw is not None
    raw.set_trace_callback(asked.append)
    with query.reading(raw, path) as link:
        order = Order(descending=descending)
        first = next(iter(query.pages(link, Filter(), ("id", "args"), order)))
        raw.set_trace_callback(None)
        assert len(first) > 0
        statements = [one for one in asked if "FROM task" in one]
        assert len(statements) >= 3
        for one in statements:
            steps = [step for step in plan(link, one) if "task" in step]
            assert steps and all(step.startswith("SEARCH task USING") for step in steps), (one, steps)
