"""Rows that hold nonsense: SQLite keeps any value in any column, and a file may come from anywhere.

What cannot be run fails as a task, with the reason; everything else runs, and the commands that show tasks go on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import h5py
import pytest

from tests.testbed.cli import Hs

#: What stands in which column (SQL), and the end of what is said of it.
UNFIT = {
    "tag text": ("tag", "'no json'", "tag: JSON is malformed: invalid character (byte 4)"),
    "tag array": ("tag", "'[1]'", "tag: Expected `object | null`, got `array`"),
    "tag deep": ("tag", """'{"a": {"b": 1}}'""", "tag[]: Expected `bool | int | float | str | null`, got `object`"),
    "tag bytes": ("tag", "x'00ff'", "tag: Expected JSON, got `bytes`"),
    "tag number": ("tag", """'{"a": 99999999999999999999999}'""", "tag[]: Expected `int` <= 9223372036854775807"),
    "args NUL": ("args", "CAST(x'61006200' AS TEXT)", "args: a NUL byte"),
    "args bytes": ("args", "x'6162'", "args: Expected `str`, got `bytes`"),
    "args no UTF-8": ("args", "CAST(x'ff61' AS TEXT)", "args: bytes that are not UTF-8"),
    "execution": ("execution", "'abc'", "execution: Expected `int`, got `str`"),
    "execution large": ("execution", "1099511627776", "execution: Expected `int` <= 2147483647"),
    "attempt": ("attempt", "1.5", "attempt: Expected `int`, got `float`"),
    "timeout": ("timeout", "'abc'", "timeout: Expected `float | null`, got `str`"),
    "timeout inf": ("timeout", "9e999", "timeout: Expected `float` <= 1e+18"),
    "cores": ("cores", "-5", "cores: Expected `int` >= 0"),
    "memory": ("memory", "'lots'", "memory: Expected `int | null`, got `str`"),
    "time": ("submit_time", "'yesterday'", "submit_time: 'yesterday' is no time"),
    "previous": ("previous_id", "x'00'", "previous_id: Expected `str | null`, got `bytes`"),
    "raw": ("args_raw", "'text'", "args_raw: Expected `bytes`"),
    "raw NUL": ("args_raw", "x'6100'", "args: a NUL byte"),
    "error": ("error", "x'00'", "error: Expected `str`"),
    "group": ('"group"', "'abc'", "group: Expected `int` from 0 to 2147483647"),
    "group negative": ('"group"', "-3", "group: Expected `int` from 0 to 2147483647"),
    "id bytes": ("id", "x'00ff00'", "id: Expected `str`, got `bytes`"),
    "id NUL": ("id", "CAST(x'610062' AS TEXT)", "id: Expected `str` that is printable"),
    "id line": ("id", "'a'||char(10)||'b'", "id: Expected `str` that is printable"),
    "id long": ("id", f"'{'x' * 200}'", "id: Expected `str` of length <= 100"),
}
#: What nobody needs to run a task.
HARMLESS = {
    "duration": "'abc'", "max_rss": "'abc'", "cores_max": "'abc'", "retried": "'abc'", "waited": "'long'",
    "outpath": "5", "start_time": "x'00ff'", "client_host": "x'00ff'",
}  # fmt: skip


@pytest.fixture
def hs(tmp_path: Path) -> Hs:
    return Hs(tmp_path)


@contextmanager
def rows(db: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(db)) as link:
        yield link
        link.commit()


def submit(hs: Hs, count: int, *words: str) -> None:
    hs.file([f"echo {number}" for number in range(count)])
    assert hs.run("submit", "tasks.in", *words).status == 0


def shows(hs: Hs, *words: str) -> str:
    done = hs.run(*words)
    assert done.status == 0, f"{words}: {done.err}"
    return done.out


def test_a_row_that_cannot_be_run_fails_and_the_run_goes_on(hs: Hs) -> None:
    """The first row stays good, so that a page holds both."""
    bad = list(UNFIT.values())
    submit(hs, 1 + len(bad) + len(HARMLESS))
    with rows(hs.db) as link:
        numbers = [row[0] for row in link.execute("SELECT rowid FROM task ORDER BY id")][1:]
        changes = [(column, value) for column, value, _ in bad] + list(HARMLESS.items())
        for number, (column, value) in zip(numbers, changes, strict=True):
            link.execute(f"UPDATE task SET {column} = {value} WHERE rowid = ?", (number,))
    for words in (("list",), ("list", "--json"), ("list", "--tag-keys"), ("list", "-t", "a"), ("list", "--count")):
        shows(hs, *words)
    done = hs.run("cluster", "--restart", "-o", "out")
    assert done.status == 7 and "Traceback" not in done.err, done.err
    good = {0, *range(1 + len(bad), 1 + len(bad) + len(HARMLESS))}
    assert sorted(map(int, (hs.folder / "out").read_text().split())) == sorted(good)
    with rows(hs.db) as link:
        query = "SELECT error, exit_status, state FROM task WHERE rowid = ?"
        for number, (name, (_, _, reason)) in zip(numbers, UNFIT.items(), strict=False):
            found = link.execute(query, (number,)).fetchone()
            assert found == (f"this row cannot be run: {reason}", -103, "failed"), name
    assert hs.states() == {"failed": len(bad), "succeeded": len(good)}
    for words in (("list",), ("list", "-f", "csv"), ("list", "--tag-keys"), ("list", "--failed", "-f", "normal")):
        shows(hs, *words)
    assert "tag: JSON is malformed" in shows(hs, "info", hs.rows("SELECT id FROM task WHERE tag = 'no json'")[0][0])


#: What stands in which column of a submission (SQL), and what is said of it.
SUBMISSIONS = [
    ("options", "'[]'", "options: Expected `object`, got `array`"),
    ("options", """'{"exports": 3}'""", "options: Expected `object`, got `int` - at `exports`"),
    ("options", "x'00'", "options: Expected `str`, got `bytes`"),
    ("submit_id", "CAST(x'610062' AS TEXT)", "submit_id: Expected `str` that is printable"),
    ("cwd", "CAST(x'2fff' AS TEXT)", "cwd: bytes that are not UTF-8"),
    ("submit_time", "'now'", "submit_time: Expected `float`, got `null`"),
    ("offset", "'abc'", "offset: Expected `int`, got `str`"),
]


def test_the_tasks_of_a_submission_that_cannot_be_used_fail(hs: Hs) -> None:
    """Copies of one submission, each with a task; each is wrong in its own way, the last is not."""
    submit(hs, len(SUBMISSIONS) + 1)
    with rows(hs.db) as link:
        (last,) = link.execute("SELECT id FROM submission").fetchone()
        names = [row[1] for row in link.execute("PRAGMA table_info(submission)")][1:]
        columns = ", ".join(f'"{name}"' for name in names)
        for place, (column, value, _) in enumerate(SUBMISSIONS):
            number = last - 100 + place
            link.execute(f"INSERT INTO submission SELECT {number}, {columns} FROM submission WHERE id = {last}")
            link.execute(f'UPDATE submission SET "{column}" = {value} WHERE id = {number}')
            link.execute(f"UPDATE task SET submission = {number} WHERE args = 'echo {place}'")
    done = hs.run("cluster", "--restart")
    assert done.status == 7 and "Traceback" not in done.err, done.err
    for place, (_, _, reason) in enumerate(SUBMISSIONS):
        assert f"cannot be run: {reason}; its unfinished tasks (1) have failed" in done.err
        query = "SELECT state, error FROM task WHERE args = ?"
        assert hs.rows(query, f"echo {place}") == [("failed", f"this submission cannot be run: {reason}")]
    assert hs.states() == {"failed": len(SUBMISSIONS), "succeeded": 1}
    # They are no earlier submissions of the FILE any more.
    assert hs.run("submit", "tasks.in", "--update").status == 0
    assert hs.run("cluster", "tasks.in").status == 0


def test_restart_on_an_import_whose_rows_hold_nonsense(hs: Hs) -> None:
    """An HDF5 file may be anybody's; its columns have types, but their values may be anything."""
    submit(hs, 5)
    shows(hs, "export", "x.h5")
    with h5py.File(hs.folder / "x.h5", "r+") as file:
        tasks = file["tasks"]
        tasks["tag"][0] = "[1, 2"
        tasks["timeout"][1] = float("inf")
        tasks["group"][2] = -7
        tasks["memory"][3] = -5
    shows(hs, "import", "x.h5", "--db", "other.db")
    done = hs.run("cluster", "--restart", "--db", "other.db")
    assert done.status == 7 and "Traceback" not in done.err, done.err
    states = dict(hs.rows("SELECT state, count(*) FROM task GROUP BY state", db=hs.folder / "other.db"))
    assert states == {"failed": 4, "succeeded": 1}


#: Values of runs, clients and submissions that only a hand writes (SQL).
SHOWN = [
    ("client", "connected_at", "NULL"), ("client", "connected_at", "'yesterday'"), ("client", "rank", "'first'"),
    ("client", "rank", "x'ff00'"), ("run", "start_time", "'yesterday'"), ("run", "command", "x'ff00'"),
    ("submission", "path", "x'ff00'"),
]  # fmt: skip


def test_runs_and_clients_are_shown_whatever_they_hold(hs: Hs) -> None:
    hs.file(["true"])
    for table, column, value in SHOWN:
        shows(hs, "cluster", "tasks.in")
        with rows(hs.db) as link:  # of the last one alone, so that each has its own
            link.execute(f"UPDATE {table} SET {column} = {value} WHERE id = (SELECT max(id) FROM {table})")
    for command in ("runs", "clients"):
        for form in ("plain", "table", "normal", "json"):
            assert len(shows(hs, command, "-f", form).splitlines()) >= len(SHOWN)
