"""The commands about tasks with the database on a real PostgreSQL server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.testbed.postgres import PostgresHs

_PATIENCE = 60.0
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def good(pg: PostgresHs, *args: str) -> str:
    done = pg.run(*args)
    assert done.status == 0, done.err
    return done.out


def said(pg: PostgresHs, *args: str) -> str:
    done = pg.run(*args)
    assert done.status == 0, done.err
    return done.err


def refused(pg: PostgresHs, status: int, *args: str) -> str:
    done = pg.run(*args)
    assert (done.status, done.out) == (status, ""), done
    return done.err


class Forever:
    """A server that waits for work; ends with the block."""

    def __init__(self, pg: PostgresHs) -> None:
        self.pg = pg

    def __enter__(self) -> subprocess.Popen[bytes]:
        self.process = self.pg.start("cluster", "--forever", "-N2")
        until = time.monotonic() + _PATIENCE
        while not self._is_up():
            assert self.process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        return self.process

    def _is_up(self) -> bool:
        try:
            return bool(self.pg.rows("SELECT 1 FROM run WHERE end_time IS NULL"))
        except Exception as error:
            assert "does not exist" in str(error)
            return False

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=_PATIENCE)
        finally:
            self.process.kill()


def line_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def test_submit_makes_the_tables_and_says_how_to_run_them(pg: PostgresHs) -> None:
    pg.file([f"echo {n}" for n in range(3)])
    err = said(pg, "submit", "tasks.in", "-g2", "--tag", "prod", "n:1")
    assert "Submitted 3 tasks" in err and "No server works on this database now" in err
    assert "hs cluster --restart)" in err and "--db" not in err
    assert pg.rows('SELECT args, "group", tag, owner FROM task, submission ORDER BY args')[0] == (
        "echo 0", 2, {"n": 1, "prod": ""}, None,
    )  # fmt: skip
    done = pg.run("cluster", "--restart")
    assert (done.status, sorted(done.out.split())) == (0, ["0", "1", "2"]), done.err


def test_a_waiting_server_is_woken_by_submit(pg: PostgresHs) -> None:
    with Forever(pg) as server:
        err = said(pg, "submit", "echo heard")
        assert line_of(server) == "heard" and "No server" not in err
        task_id = good(pg, "task", "submit", "--", "sh", "-c", "echo two; exit 3").strip()
        assert line_of(server) == "two"
        assert pg.run("wait", task_id, "--return").status == 3
        assert json.loads(good(pg, "info", task_id[:20], "--json"))["exit_status"] == 3
        assert good(pg, "info", task_id, "-x", "state") == "failed\n"


def test_a_file_of_several_transactions_is_whole_or_not_there(pg: PostgresHs) -> None:
    pg.file([f"echo {n}" for n in range(3000)] + ["echo bad  # HYPERSHELL: a:b:c/d"])
    assert "3001" in refused(pg, 5, "submit", "tasks.in", "-b", "100")
    assert pg.run("list", "-c").out == "0\n"
    pg.file([f"echo {n}" for n in range(3000)])
    said(pg, "submit", "tasks.in", "-b", "100")
    assert pg.run("list", "-c").out == "3000\n"
    assert pg.rows("SELECT owner, complete, lines FROM submission") == [(None, True, 3000)]
    assert pg.rows("SELECT count(*) FROM run") == [(0,)]


def test_update_changes_tags_and_fields(pg: PostgresHs) -> None:
    pg.file([f"echo {n}  # HYPERSHELL: n:{n} old:x" for n in range(10)])
    said(pg, "submit", "tasks.in")
    err = said(pg, "update", "-f", "args=echo changed", "site:b", "q:true", "cores=2", "--remove-tag", "old", "-w",
               "args ~ [0-4]$")  # fmt: skip
    assert "Updated 5 tasks" in err
    assert pg.rows("SELECT tag, cores FROM task WHERE args = 'echo changed' ORDER BY id")[1] == (
        {"n": 1, "site": "b", "q": True}, 2,
    )  # fmt: skip
    assert "Updated 2 tasks" in said(pg, "update", "-f", "--cancel", "-w", "args ~ [56]$")
    assert "Deleted 1 tasks" in said(pg, "update", "-f", "--delete", "-w", "args ~ 7$")
    assert pg.states() == {"pending": 7, "cancelled": 2}
    assert "Updated 1 tasks" in said(pg, "update", "-f", "--revert", "-w", "args ~ 5$")
    assert pg.states() == {"pending": 8, "cancelled": 1}
    (first,) = pg.rows("SELECT id FROM task WHERE state = 'cancelled'")
    err = refused(pg, 5, "update", "-f", "--cancel", first[0])
    assert "is cancelled" in err and "nothing was changed" in err
    missing = "01900000-0000-7000-8000-000000000000"
    assert "postgresql://" in refused(pg, 5, "update", "-f", "--cancel", missing)
    done = pg.run("cluster", "--restart")
    assert sorted(done.out.split()) == ["5", "8", "9", *["changed"] * 5]


def test_cancel_reaches_a_running_task(pg: PostgresHs) -> None:
    with Forever(pg) as server:
        said(pg, "submit", "echo up; exec sleep 1000")
        assert line_of(server) == "up"
        (row,) = pg.rows("SELECT id FROM task")
        assert "Asked the server of 1 running tasks" in said(
            pg, "update", "-f", "--cancel", "--signal", "USR1", row[0]
        )
        assert pg.run("wait", row[0], "-s").out == f"{-signal.SIGUSR1}\n"
        assert pg.states() == {"cancelled": 1}
        said(pg, "submit", "echo next")
        assert line_of(server) == "next"


def test_runs_are_listed(pg: PostgresHs) -> None:
    assert pg.run("runs").out == ""
    pg.file(["echo 1", "exit 2"])
    pg.run("cluster", "tasks.in")
    (run,) = json.loads(good(pg, "runs", "--json"))
    assert (run["succeeded"], run["failed"], run["ended"], run["clients"]) == (1, 1, "complete", 1)
    assert run["source"].endswith("tasks.in")
    assert run["id"] in good(pg, "runs", run["id"][:13])
    for _ in range(2):
        pg.run("cluster", "tasks.in", "--restart")
    sources = [run["source"] for run in json.loads(good(pg, "runs", "--json"))]
    assert len(sources) == 3 and set(sources) == {run["source"]}, "the one in the middle has it no longer"
    assert pg.rows("SELECT count(*) FROM meta WHERE key LIKE 'had %'") == [(1,)]
    good(pg, "initdb", "--truncate", "--yes")
    assert pg.rows("SELECT count(*) FROM meta WHERE key LIKE 'had %'") == [(0,)]


def test_export_and_import_between_a_server_and_a_file(pg: PostgresHs) -> None:
    pg.file([f"echo {n}  # HYPERSHELL: n:{n} site:{'ab'[n % 2]}" for n in range(50)] + ["exit 3", "printf \\\\303"])
    pg.run("cluster", "tasks.in", "-r1")
    assert "Exported 53 tasks" in said(pg, "export", "all.h5")
    assert len(good(pg, "export", "-", "--format", "jsonl").splitlines()) == 53
    copy = pg.folder / "copy.db"
    assert "Restored 53 tasks" in said(pg, "import", "all.h5", "--db", str(copy))
    wanted = pg.rows("SELECT id, args, state, exit_status, attempt, next_id FROM task ORDER BY id")
    found = [tuple(row) for row in _sqlite(copy, "SELECT id, args, state, exit_status, attempt, next_id FROM task")]
    assert sorted(found) == sorted(wanted)
    times = "SELECT start_time, completion_time FROM task ORDER BY id"
    assert [f"{one:%Y-%m-%d %H:%M:%S.%f}" for row in pg.rows(times) for one in row] == [
        one for row in _sqlite(copy, times) for one in row
    ]
    err = refused(pg, 5, "import", "all.h5")
    assert "not empty" in err and "postgresql://" in err
    assert "Removed 53 tasks and 1 runs" in said(pg, "initdb", "--truncate", "--yes")
    assert "Restored 53 tasks" in said(pg, "import", "all.h5")
    assert pg.rows("SELECT id, args, state, exit_status, attempt, next_id FROM task ORDER BY id") == wanted


def _sqlite(path: Path, query: str) -> list[tuple[object, ...]]:
    import sqlite3

    with sqlite3.connect(path) as link:
        return link.execute(query).fetchall()


def test_output_comes_back_through_the_server(pg: PostgresHs) -> None:
    with Forever(pg):
        process = pg.start("run", "--", "printf 'a\\000\\377\\n'; echo err >&2; exit 3")
        assert process.communicate(timeout=_PATIENCE) == (b"a\0\xff\n", b"err\n") and process.returncode == 3
        process = pg.start("run", "echo first; exec sleep 1000")
        while pg.rows("SELECT count(*) FROM task WHERE state = 'dispatched'") != [(1,)]:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=_PATIENCE)
        assert process.returncode == 4 and b"asked the server to stop task" in err
        while pg.rows("SELECT count(*) FROM task WHERE state = 'cancelled'") != [(1,)]:
            pass
    failed, cancelled = (row[0] for row in pg.rows("SELECT id FROM task ORDER BY id"))
    assert good(pg, "info", failed, "--stdout").encode("utf-8", "surrogateescape") == b"a\0\xff\n"
    said(pg, "export", "all.h5", "--outputs")
    copy = str(pg.folder / "copy.db")
    assert "2 outputs" in said(pg, "import", "all.h5", "--db", copy)
    assert good(pg, "info", failed, "--stderr", "--db", copy) == ""
    said(pg, "update", "--revert", failed, "-f")
    said(pg, "update", "--delete", cancelled, "-f")
    assert pg.rows("SELECT count(*) FROM output") == [(0,)]
    said(pg, "initdb", "--truncate", "--yes")
    assert "2 outputs" in said(pg, "import", "all.h5")
    assert sorted(pg.rows("SELECT task_id, stdout_size >= 0 FROM output")) == [(failed, True), (cancelled, True)]


def test_upkeep(pg: PostgresHs) -> None:
    assert "has no tables" in refused(pg, 5, "initdb", "--vacuum", "--yes")
    pg.file(["echo 1"])
    pg.run("cluster", "tasks.in")
    assert "Freed" in said(pg, "initdb", "--vacuum", "--yes")
    for option, word in (("--rotate", "hs export"), ("--upgrade", "this version")):
        assert word in refused(pg, 2, "initdb", option, "--yes")
    assert "pg_dump" in refused(pg, 2, "initdb", "--backup", "copy.db", "--yes")
    with Forever(pg):
        err = refused(pg, 5, "initdb", "--truncate", "--yes")
        assert "is in use by" in err and "nothing was changed" in err
    assert pg.states() == {"succeeded": 1}
    assert "Removed 1 tasks and 2 runs" in said(pg, "initdb", "--truncate", "--yes")
    assert pg.rows("SELECT count(*) FROM task") == [(0,)]
