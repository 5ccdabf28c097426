"""Large databases without running tasks, and comparing the rows of two."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from hypershell.data.migrate import create

TABLES = ("task", "client", "submission", "run")


def many_tasks(path: Path, rows: int) -> None:
    """A database with `rows` ended tasks of a run, as a server leaves them, and no two alike."""
    create(path)
    server, client = (f"01900000-0000-7000-8000-ffffffffff{n:02x}" for n in (1, 2))
    now = "2026-11-22 11:01:24.250001"
    with closing(sqlite3.connect(path)) as link:
        link.execute(
            "INSERT INTO run (id, host, boot_id, pid, pid_start, transport, ranks, slots, command, cwd, "
            "start_time) VALUES (?, 'login-1', 'boot', 7, 8, 'mpi', 3, 2, 'hs mpi tasks.in', '/home/me', ?)",
            (server, now),
        )
        link.execute(
            "INSERT INTO submission (id, source, path, template, options, cwd, submit_id, submit_host, "
            "submit_time, owner, offset, complete) "
            "VALUES (9, 'file', '/home/me/tasks.in', '{}', '{}', '/home/me', ?, 'login-1', ?, ?, 5, 1)",
            (server, now, server),
        )
        link.execute(
            "INSERT INTO client (id, host, server_id, server_host, connected_at) "
            "VALUES (?, 'node-1', ?, 'login-1', ?)",
            (client, server, now),
        )
        names = list(next(_tasks(1, server, client)))
        marks = ", ".join("?" * len(names))
        columns = ", ".join(f'"{name}"' for name in names)
        values = (tuple(task.values()) for task in _tasks(rows, server, client))
        link.executemany(f"INSERT INTO task ({columns}) VALUES ({marks})", values)
        link.commit()


def _tasks(rows: int, server: str, client: str) -> Iterator[dict[str, Any]]:
    for n in range(rows):
        stamp = f"2026-11-22 {n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.{n % 1_000_000:06}"
        args = f"./simulate --seed {n} --out results/{n}.dat"
        failed = n % 100 == 99
        yield {
            "id": f"01900000-0000-7000-8000-{n:012x}",
            "args": args,
            "submit_id": server,
            "submit_time": stamp,
            "submit_host": "login-1",
            "cores": None if n % 3 else n % 5,
            "timeout": n / 7 if n % 2 else None,
            "server_id": server,
            "server_host": "login-1",
            "schedule_time": stamp,
            "client_id": client,
            "client_host": f"node-{n % 300}",
            "command": args,
            "start_time": stamp,
            "completion_time": stamp,
            "exit_status": 1 if failed else 0,
            "waited": n / 3,
            "duration": n / 11,
            "tag": f'{{"site":"west","n":{n % 50}}}' if n % 4 == 0 else "{}",
            "state": "failed" if failed else "succeeded",
            "execution": 1,
            "submission": 9,
            "error": "stopped" if failed else None,
            "user_time": 0.25,
            "system_time": 0.5,
            "max_rss": 2048.0,
        }


def assert_same_rows(first: Path, second: Path) -> int:
    """Compare every row of every table; how many tasks there are."""
    with closing(sqlite3.connect(first)) as one, closing(sqlite3.connect(second)) as other:
        for table in TABLES:
            query = f"SELECT * FROM {table} ORDER BY id"
            pairs = itertools.zip_longest(one.execute(query), other.execute(query))
            for row, copy in pairs:
                assert row == copy, f"{table}: {row} became {copy}"
        return int(one.execute("SELECT count(*) FROM task").fetchone()[0])
