"""The commands with their tasks on a real PostgreSQL server: run, restart, kill, lost connections, list, initdb."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hypershell.data import places
from tests.integration.rounds import kill_rounds
from tests.testbed.cli import Hs
from tests.testbed.postgres import PORT, PostgresHs, Server

_PATIENCE = 60.0


def read_lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().strip() for _ in range(count)]


def ours(pg: PostgresHs) -> set[int]:
    """The processes of the server that serve ``hs``; tests follow each other, so it is that of this one."""
    found = pg.server.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'hypershell'")
    return {row[0] for row in found}


def test_a_file_from_beginning_to_end(pg: PostgresHs) -> None:
    pg.file([f"echo {n}  # HYPERSHELL: n:{n}" for n in range(200)] + ["exit 3"])
    done = pg.run("cluster", "tasks.in", "-N2", "-r1")
    assert done.status == 7 and sorted(done.out.split(), key=int) == [str(n) for n in range(200)]
    assert "hs list -F" in done.err and "--db" not in done.err
    assert pg.states() == {"succeeded": 200, "failed": 2}
    assert pg.rows("SELECT exit_status, attempt, retried FROM task WHERE state = 'failed' ORDER BY id") == [
        (3, 1, True), (3, 2, False),
    ]  # fmt: skip
    assert not pg.db.exists() and not pg.db.parent.exists()
    assert pg.rows("SELECT outcome, succeeded, failed, unfinished FROM run") == [("complete", 200, 1, 0)]


def test_mpi_has_its_tasks_there_too(pg: PostgresHs) -> None:
    pg.file(["echo one", "echo two"])
    done = pg.run("mpi", "tasks.in")
    assert (done.status, sorted(done.out.split())) == (0, ["one", "two"]), done.err
    assert pg.rows("SELECT transport FROM run") == [("mpi",)] and pg.states() == {"succeeded": 2}


def test_list(pg: PostgresHs) -> None:
    assert pg.run("list").out == ""
    assert pg.run("list", "-c").out == "0\n"
    pg.file([f"echo {n}  # HYPERSHELL: n:{n} site:{'ab'[n % 2]}" for n in range(20)] + ["exit 3"])
    pg.run("cluster", "tasks.in")
    assert pg.run("list", "-c").out == "21\n"
    assert pg.run("list", "-F", "args", "exit_status").out == "exit 3\t3\n"
    assert pg.run("list", "args", "-t", "site:a", "-w", "args ~ 1", "-s", "args", "--desc", "-l2").out == (
        "echo 18\necho 16\n"
    )
    assert pg.run("list", "--tag-values", "site").out == "a\nb\n"
    (row,) = json.loads(pg.run("list", "--json", "-t", "n:7").out)
    assert (row["args"], row["tag"]["n"], row["state"]) == ("echo 7", 7, "succeeded")
    assert row["submit_time"].endswith(("Z", "+00:00")) or row["submit_time"].startswith("20")
    assert pg.run("list", "-w", "args ~ (?<=x)(?P<y>1)").status == 5  # a pattern that only Python has


def test_initdb(pg: PostgresHs) -> None:
    assert "initialized" in pg.run("initdb", "--yes").err
    assert "up to date" in pg.run("initdb", "--yes").err
    assert pg.rows("SELECT key, value FROM meta ORDER BY 1")[0] == ("application", "hypershell-mpi")
    done = pg.run("initdb", "--upgrade", "--yes")
    assert done.status == 2 and "--upgrade" in done.err and "SQLite" in done.err


@pytest.mark.parametrize("command", [["cluster", "tasks.in"], ["list"], ["initdb", "--yes"]])
def test_a_server_that_is_not_there_is_one_line(hs: Hs, command: list[str]) -> None:
    hs.file(["echo never"])
    url = f"postgresql://me:hidden@/d?host={hs.folder}"
    done = hs.run(*command, env={"HYPERSHELL_DATABASE_URL": url})
    assert (done.status, done.out) == (5, "") and len(done.err.splitlines()) == 1
    assert "postgresql://me@/d" in done.err and "hidden" not in done.err


def test_configuration_by_file_with_the_password_from_a_command(hs: Hs, postgres: Server) -> None:
    postgres.role("with_password", "p@ss:/?")
    schema = postgres.new_schema()
    postgres.query(f"CREATE SCHEMA {schema} AUTHORIZATION with_password")
    hs.site.mkdir()
    (hs.folder / "password").write_text("p@ss:/?\n")
    (hs.site / "config.toml").write_text(
        f'[database]\nprovider = "postgresql"\nhost = "{postgres.folder}"\nport = {PORT}\n'
        f'user = "with_password"\npassword_eval = "cat password"\ndatabase = "postgres"\nschema = "{schema}"\n'
    )
    hs.file(["echo $(env | grep -c 'p[@]ss:')"])
    done = hs.run("cluster", "tasks.in")
    assert (done.status, done.out) == (0, "0\n"), done.err
    assert postgres.query("SELECT state FROM task", schema=schema) == [("succeeded",)]
    assert hs.run("list", "state").out == "succeeded\n"
    assert hs.run("list", "state", env={"HYPERSHELL_DATABASE_PASSWORD": "wrong"}).status == 5
    done = hs.run("cluster", "tasks.in", "--db", "own.db")
    assert done.status == 0 and (hs.folder / "own.db").exists()
    assert postgres.query("SELECT count(*) FROM task", schema=schema) == [(1,)]


def test_restart_is_idempotent_and_two_servers_do_not_mix(pg: PostgresHs) -> None:
    for name in "ab":
        pg.file([f"echo {name}{n}" for n in range(100)], f"{name}.in")
    servers = [pg.start("cluster", f"{name}.in", "-N2", "--restart") for name in "ab"]
    for name, process in zip("ab", servers, strict=True):
        out, err = process.communicate(timeout=_PATIENCE)
        assert process.returncode == 0, err
        assert sorted(out.split()) == sorted(f"{name}{n}".encode() for n in range(100))
    assert pg.states() == {"succeeded": 200}
    assert pg.rows("SELECT count(DISTINCT server_id) FROM task GROUP BY submission") == [(1,), (1,)]
    again = pg.run("cluster", "a.in", "--restart")
    assert (again.status, again.out) == (0, "")
    assert pg.rows("SELECT count(*) FROM submission") == [(2,)]


def test_a_second_restart_is_refused_and_a_fenced_server_ends(pg: PostgresHs) -> None:
    os.mkfifo(pg.folder / "gate")
    pg.file(["echo up; read x < gate"])
    first = pg.start("cluster", "tasks.in", "--restart", "-S", "1")
    read_lines(first, 1)
    second = pg.run("cluster", "tasks.in", "--restart")
    assert second.status == 5 and str(first.pid) in second.err and second.out == ""
    pg.rows("UPDATE run SET fenced = true")
    Path(pg.folder, "gate").write_text("go\n")
    _, err = first.communicate(timeout=_PATIENCE)
    assert first.returncode == 5 and b"took over" in err


def test_a_forever_server_takes_what_others_leave(pg: PostgresHs) -> None:
    """A server that was killed leaves a task behind; the one that listens runs it."""
    left = pg.start("cluster", "-b1", stdin=subprocess.PIPE)
    assert left.stdin is not None
    left.stdin.write(b"test -e again && echo second || { touch again; echo first; exec sleep 1000; }\necho other\n")
    left.stdin.flush()
    assert read_lines(left, 1) == ["first"]
    forever = pg.start("cluster", "--forever")
    try:
        while not pg.rows("SELECT 1 FROM run WHERE end_time IS NULL OFFSET 1"):
            assert forever.poll() is None
            time.sleep(0.02)
        left.kill()
        left.communicate()
        assert sorted(read_lines(forever, 2)) == ["other", "second"]
        forever.send_signal(signal.SIGTERM)
        forever.communicate(timeout=_PATIENCE)
    finally:
        forever.kill()
    assert pg.states() == {"succeeded": 2}


def test_a_listening_server_hears_at_once(pg: PostgresHs) -> None:
    """Tasks of nobody, put in by any program: the database wakes the server, which asks for nothing meanwhile."""
    places.create(pg.address)
    process = pg.start("cluster", "--forever")
    try:
        while not pg.rows("SELECT 1 FROM run"):
            assert process.poll() is None
            time.sleep(0.02)
        pg.server.query(
            "WITH one AS (INSERT INTO submission (id, source, template, options, cwd, submit_id, submit_host, "
            "submit_time, complete) VALUES (7, 'command', '{}', '{}', '/', 'x', 'y', now(), true)) "
            "INSERT INTO task (id, args, submit_id, submit_time, submission) VALUES "
            "('00000000-0000-7000-8000-000000000001', 'echo heard', 'x', now(), 7)",
            schema=pg.address.schema,
        )
        assert read_lines(process, 1) == ["heard"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_PATIENCE)
    finally:
        process.kill()
    assert pg.states() == {"succeeded": 1}


def test_connections_that_are_ended_again_and_again(pg: PostgresHs) -> None:
    """Nothing is lost and nothing runs twice: the server process goes on with the same run."""
    count = 3000
    pg.file(["echo up", *(f"echo {n} >> ran" for n in range(count))])
    process = pg.start("cluster", "tasks.in", "-N2")
    # A database that cannot be reached at the very start is an error at once.
    assert sorted(read_lines(process, 1)) == ["up"]
    broken: set[int] = set()
    while process.poll() is None and len(broken) < 8:
        for pid in ours(pg) - broken:
            if pg.server.query("SELECT pg_terminate_backend(%s, 60000)", pid) == [(True,)]:
                broken.add(pid)
        time.sleep(0.1)
    _, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0 and len(broken) > 2, (broken, err)
    assert sorted(map(int, Path(pg.folder, "ran").read_text().split())) == list(range(count))
    assert pg.states() == {"succeeded": count + 1}
    assert pg.rows("SELECT count(DISTINCT args), max(attempt), max(execution) FROM task") == [(count + 1, 1, 1)]
    assert pg.rows("SELECT outcome, succeeded FROM run") == [("complete", count + 1)]


def test_the_server_is_restarted_in_the_middle(tmp_path: Path, postgres: Server) -> None:
    """With a server of its own: the others must not suffer. It is away for longer than until the warning."""
    server = Server()
    try:
        server.start()
        pg = PostgresHs(tmp_path, server)
        os.mkfifo(pg.folder / "gate")
        pg.file([f"echo {n}" for n in range(20)] + ["read x < gate; echo last"])
        process = pg.start("cluster", "tasks.in", "-N2")
        assert sorted(read_lines(process, 20), key=int) == [str(n) for n in range(20)]
        server.stop()
        Path(pg.folder, "gate").write_text("go\n")
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        assert "trying again for up to 300 s" in said
        server.start()
        out, err = process.communicate(timeout=_PATIENCE)
        assert (process.returncode, out) == (0, b"last\n"), err
        assert pg.states() == {"succeeded": 21}
        assert pg.rows("SELECT outcome, succeeded FROM run") == [("complete", 21)]
    finally:
        server.close()


def test_kill_rounds(pg: PostgresHs) -> None:
    """kill -9 of the process at random moments, restart each time: every task has one final state."""
    kill_rounds(pg, "postgres")
