"""Databases of many tasks, without running one: SQLite makes the rows itself, some 200,000 a second.

Half of the tasks, the later ones, are pending; of those that ended every hundredth has failed. Used by ``large``.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from hypershell.data.migrate import create

__all__ = ["SUBMISSION", "fill", "task_id"]

SUBMISSION = 9
_RUN = "01900000-0000-7000-8000-ffffffffff01"
_CLIENT = "01900000-0000-7000-8000-ffffffffff02"
_NOW = "2026-11-22 11:01:24.250001"

#: Rows of one transaction; the journal is off, so that it only bounds what is held in memory.
_PIECE = 1_000_000

_ENDED = """
INSERT INTO task (id, args, submit_id, submit_time, submit_host, server_id, server_host, schedule_time, client_id,
    client_host, command, start_time, completion_time, exit_status, waited, duration, state, execution, submission,
    user_time, system_time, max_rss)
WITH RECURSIVE number(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :end)
SELECT printf(:id, n), printf('./simulate --seed %d', n), :run, :now, 'login-1', :run, 'login-1', :now, :client,
    printf('node-%d', n % 300), printf('./simulate --seed %d', n), :now, :now, n % 100 = 99, n / 3.0, n / 7.0,
    iif(n % 100 = 99, 'failed', 'succeeded'), 1, :submission, n / 11.0, 0.5, 2048.0 + n % 4096
FROM number
"""
_WAITING = """
INSERT INTO task (id, args, submit_id, submit_time, submit_host, state, submission)
WITH RECURSIVE number(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :end)
SELECT printf(:id, n), printf('./simulate --seed %d', n), :run, :now, 'login-1', 'pending', :submission FROM number
"""


def task_id(number: int) -> str:
    """The id of a task, counted from 0."""
    return f"01900000-0000-7000-8000-{number:012x}"


def fill(path: Path, rows: int) -> None:
    """Make the database `path` with `rows` tasks of one submission, whose server has ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    create(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as link:
        link.execute("PRAGMA journal_mode=OFF").fetchall()
        link.execute("PRAGMA synchronous=OFF")
        link.execute("PRAGMA cache_size=-200000")
        link.execute(
            "INSERT INTO run (id, host, boot_id, pid, pid_start, transport, ranks, slots, command, cwd, "
            "start_time, end_time, outcome) VALUES (?, 'login-1', 'boot', 7, 8, 'mpi', 3, 2, 'hs mpi tasks.in', "
            "'/home/me', ?, ?, 'drained')",
            (_RUN, _NOW, _NOW),
        )
        link.execute(
            "INSERT INTO submission (id, source, path, template, options, cwd, submit_id, submit_host, "
            "submit_time, offset, lines, complete) VALUES (?, 'file', '/home/me/tasks.in', '{}', '{}', "
            "'/home/me', ?, 'login-1', ?, 5, ?, 1)",
            (SUBMISSION, _RUN, _NOW, rows),
        )
        link.execute(
            "INSERT INTO client (id, host, server_id, server_host, connected_at) "
            "VALUES (?, 'node-1', ?, 'login-1', ?)",
            (_CLIENT, _RUN, _NOW),
        )
        for statement, begin, end in ((_ENDED, 0, rows // 2), (_WAITING, rows // 2, rows)):
            for first in range(begin, end, _PIECE):
                words = {"id": f"{_RUN[:24]}%012x", "run": _RUN, "client": _CLIENT, "now": _NOW}
                piece = {"first": first, "end": min(first + _PIECE, end), "submission": SUBMISSION}
                link.execute("BEGIN")
                link.execute(statement, {**words, **piece})
                link.execute("COMMIT")
        link.execute("PRAGMA journal_mode=WAL").fetchall()
