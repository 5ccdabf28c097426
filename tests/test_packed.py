"""Whole columns of SQLite have exactly the values that rows have, whatever is in them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from hypershell.data import packed
from hypershell.data.columns import ROWS, TABLES
from hypershell.data.packed import Column, Fixed, Reader, Same, ahead
from tests.testbed.tables import many_tasks

NAMES = list(TABLES["tasks"].columns.keys())
COUNT = 100


@pytest.fixture
def link(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    many_tasks(tmp_path / "a.db", COUNT)
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        yield connection


def plain(link: sqlite3.Connection) -> list[tuple[Any, ...]]:
    names = ", ".join(f'"{name}"' for name in NAMES)
    return link.execute(f"SELECT {names} FROM task ORDER BY id").fetchall()


def as_rows(blocks: list[list[Column]]) -> list[tuple[Any, ...]]:
    return list(chain.from_iterable(zip(*block, strict=True) for block in blocks))


def test_each_kind_of_column_comes_in_its_way(link: sqlite3.Connection) -> None:
    (block,) = Reader(link).blocks()
    columns = dict(zip(NAMES, block, strict=True))
    assert as_rows([block]) == plain(link)
    assert isinstance(columns["id"], Fixed) and isinstance(columns["start_time"], Fixed)
    assert isinstance(columns["server_id"], Same) and isinstance(columns["memory"], Same)
    assert isinstance(columns["args"], list) and columns["command"] is columns["args"]
    assert isinstance(columns["cores"], list) and isinstance(columns["waited"], tuple)


TEXTS = ["", "é" * 30, '"\\\t\x01\x7f\n', "\u2028 \U0001f600", "{}", "null", "1", "\x00in the middle\x00"]

#: What a database may also hold, and whether columns are still joined.
ODD: dict[str, tuple[list[str], bool]] = {
    "an id missing here and there": (["UPDATE task SET client_id = NULL WHERE rowid % 3 = 0"], True),
    "all ids missing": (["UPDATE task SET client_id = NULL, server_id = NULL"], True),
    "a time missing": (["UPDATE task SET start_time = NULL WHERE rowid < 50"], True),
    "another command": (["UPDATE task SET command = 'other' WHERE rowid = 7"], True),
    "no command": (["UPDATE task SET command = NULL WHERE rowid = 7"], True),
    "no command at first": (["UPDATE task SET command = NULL WHERE rowid = 1"], True),
    "a short id": (["UPDATE task SET client_id = 'short' WHERE rowid = 9"], False),
    "a long and a short id": (
        [
            "UPDATE task SET client_id = client_id || 'x' WHERE rowid = 9",
            "UPDATE task SET client_id = substr(client_id, 1, 35) WHERE rowid = 10",
        ],
        False,
    ),
    "a short time": (["UPDATE task SET start_time = 'yesterday' WHERE rowid = 9"], False),
    "an id that is not ASCII": (["UPDATE task SET client_id = 'é' || substr(client_id, 2) WHERE rowid = 9"], False),
    "bytes where text should be": (["UPDATE task SET error = x'ff00' WHERE rowid = 9"], False),
    "bytes": (["UPDATE task SET args_raw = x'ff00' WHERE rowid = 9"], True),
    "large numbers": (
        [
            "UPDATE task SET memory = 9223372036854775807 WHERE rowid = 1",
            "UPDATE task SET memory = -9223372036854775808 WHERE rowid = 2",
            "UPDATE task SET waited = 0.1 + 0.2, duration = 1e308, user_time = 5e-324 WHERE rowid = 3",
        ],
        True,
    ),
    "booleans": (["UPDATE task SET retried = 1 WHERE rowid = 3"], True),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_are_the_same_too(link: sqlite3.Connection, name: str) -> None:
    statements, is_joined = ODD[name]
    for statement in statements:
        link.execute(statement)
    blocks = list(Reader(link).blocks())
    assert as_rows(blocks) == plain(link)
    assert isinstance(blocks[0][0], Fixed) is is_joined


def test_texts_of_every_kind(link: sqlite3.Connection) -> None:
    for row, text in enumerate(TEXTS, 1):
        link.execute("UPDATE task SET args = ?, error = ?, command = ? WHERE rowid = ?", (text, text, text, row))
    assert as_rows(list(Reader(link).blocks())) == plain(link)


def test_blocks_fill_chunks_and_a_column_may_change_late(tmp_path: Path) -> None:
    count = 2 * ROWS + 5
    many_tasks(tmp_path / "a.db", count)
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as link:
        link.execute("UPDATE task SET memory = 7, server_id = NULL WHERE rowid > ?", (ROWS + 3,))
        blocks = list(Reader(link).blocks())
        assert as_rows(blocks) == plain(link)
        assert sum(len(block[0]) for block in blocks) == count
        memory = NAMES.index("memory")
        assert isinstance(blocks[0][memory], Same)
        for limit in (0, 1, ROWS, ROWS + 1, count, count + 1):
            assert sum(len(block[0]) for block in Reader(link).blocks(limit)) == min(limit, count)


def test_a_long_piece_makes_the_next_one_smaller(link: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_PIECE", -1.0)
    monkeypatch.setattr(packed, "ROWS", 64)
    blocks = list(Reader(link).blocks())
    assert [len(block[0]) for block in blocks] == [64, 32, 4] and as_rows(blocks) == plain(link)


def test_no_task_and_one_task(tmp_path: Path) -> None:
    many_tasks(tmp_path / "a.db", 1)
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as link:
        assert as_rows(list(Reader(link).blocks())) == plain(link)
        link.execute("DELETE FROM task")
        assert list(Reader(link).blocks()) == []


def test_rows_come_by_the_index_of_ids(link: sqlite3.Connection) -> None:
    asked: list[str] = []
    link.set_trace_callback(asked.append)
    assert len(list(Reader(link).blocks())) == 1
    link.set_trace_callback(None)
    asked = [statement for statement in asked if "id >" in statement]
    assert len(asked) >= 3
    for statement in asked:
        plan = " ".join(row[3] for row in link.execute(f"EXPLAIN QUERY PLAN {statement}"))
        assert "SEARCH task USING" in plan and "(id>? AND id<?)" in plan and "TEMP B-TREE" not in plan


# -- the other thread ----------------------------------------------------------------------------------------


def numbered(count: int, then: Callable[[], None]) -> Iterator[list[Column]]:
    for number in range(count):
        yield [[number]]
    then()


def fail() -> None:
    raise ValueError("in the middle")


def nothing() -> None:
    """All went well."""


def test_another_thread_reads_ahead_in_order() -> None:
    assert [block[0][0] for block in ahead(numbered(50, nothing))] == list(range(50))
    failing = ahead(numbered(3, fail))
    assert [next(failing)[0][0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="in the middle"):
        next(failing)


def test_closing_ends_the_other_thread() -> None:
    before = set(threading.enumerate())
    blocks = ahead(numbered(1_000_000, nothing))
    assert next(blocks) == [[0]]
    assert set(threading.enumerate()) - before
    blocks.close()  # type: ignore[attr-defined]  # a generator
    assert set(threading.enumerate()) == before
