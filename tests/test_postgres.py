"""A database on a server: what is refused, and in which words; changes of others, lost connections, races."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from hypershell.address import Address
from hypershell.core.actions import ClientChange, Dispatch, Finish, Finished, Record
from hypershell.core.model import ClientInfo, Result, Submission, Task
from hypershell.core.states import SUCCEEDED
from hypershell.data import places
from hypershell.data.engine import SCHEMA_VERSION
from hypershell.data.postgres import Postgres
from hypershell.data.sql import SqlStore
from hypershell.data.store import Fenced, Transient, describe_run
from hypershell.errors import StoreError
from hypershell.ids import IdSource
from tests.testbed.postgres import PORT, Server

NOW = 1_795_345_284.25
IDS = IdSource()
CLIENT = ClientInfo("client", "node", 1, 1, "1", "linux")
WAIT = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def refused(address: Address, *words: str) -> None:
    for step in (places.preflight, places.create):
        with pytest.raises(StoreError) as caught:
            step(address)
        text = str(caught.value)
        assert "\n" not in text and "hidden" not in text
        for word in words:
            assert word in text


class Run:
    """A run with a store of its own."""

    def __init__(self, address: Address) -> None:
        self.store = SqlStore(Postgres(address))
        self.store.open()
        words: dict[str, Any] = {"transport": "loopback", "job": None, "command": "hs", "cwd": "/"}
        self.run = describe_run(IDS.task(), ranks=1, slots=1, start_time=NOW, **words)
        self.store.begin_run(self.run)
        self.seq = 0

    def submit(self) -> Submission:
        one = Submission(IDS.submission(), "file", f"/in/{IDS.task()}", "{}", "{}", "/", "me", "here", NOW)
        self.store.add_submission(one)
        self.apply(clients=[ClientChange(1, CLIENT, NOW)])
        return one

    def apply(self, **changes: Any) -> None:
        self.seq += 1
        self.store.apply([Record(self.seq, **changes)])

    def put(self, submission: Submission, count: int, **fields: Any) -> list[Task]:
        tasks = [Task(IDS.task(), f"echo {n}", submission.id, submit_time=NOW, **fields) for n in range(count)]
        self.apply(inserted=tasks)
        return tasks

    @property
    def pid(self) -> int:
        """Of the process of the server that serves us."""
        link = self.store._link
        assert link is not None
        return int(link.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]

    def break_connection(self, server: Server) -> None:
        assert server.query("SELECT pg_terminate_backend(%s, 10000)", self.pid) == [(True,)]


def done(task: Task, execution: int = 1) -> Finished:
    return Finished(1, SUCCEEDED, NOW, Result(task.id, execution, 0, NOW, NOW + 1), None, task)


def states(server: Server, address: Address) -> dict[str, int]:
    return dict(server.query("SELECT state, count(*) FROM task GROUP BY state", schema=address.schema))


# -- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address(host="h", port=1, user="u", password="hidden", database="d"), "postgresql://u@h:1/d"),
        (Address(database="d", schema="s"), "postgresql:///d (schema s)"),
        (Address(url="postgresql+psycopg://u:hidden@h:1/d?password=hidden"), "postgresql://u@h:1/d"),
        (Address(url="postgres://u:hid?den/hidden@hidden@h/d"), "postgresql://u@h/d"),
        (Address(url="postgres://h/d?sslmode=require"), "postgresql://h/d"),
        (Address(url="postgres://h/d?password=hidden@x"), "postgresql://h@x"),
    ],
)
def test_an_address_is_shown_without_its_password(address: Address, text: str) -> None:
    assert str(address) == text
    assert "hidden" not in repr(address)


def test_what_libpq_is_told() -> None:
    said = Postgres(Address(url="postgresql+psycopg://u:p%40@h:5/d?connect_timeout=3", port=6))._parameters()
    assert {name: said[name] for name in ("host", "port", "user", "password", "dbname", "connect_timeout")} == {
        "host": "h", "port": 6, "user": "u", "password": "p@", "dbname": "d", "connect_timeout": "3",
    }  # fmt: skip


def test_a_bad_url_is_not_quoted() -> None:
    with pytest.raises(StoreError, match=r"no valid URL: write special characters") as caught:
        Postgres(Address(url="postgresql://u:hidden%zz@h/d"))._parameters()
    assert "hidden" not in str(caught.value)


# -- opening -------------------------------------------------------------------------------------------------


def test_nobody_listens(tmp_path: Path) -> None:
    refused(Address(host=str(tmp_path), database="d"), "postgresql://", "Is the server running")


def test_unknown_database(postgres: Server) -> None:
    refused(postgres.address(database="nowhere"), 'database "nowhere" does not exist')


def test_password(postgres: Server) -> None:
    postgres.role("with_password", "right one")
    refused(
        postgres.address(user="with_password", password="hidden", schema=None), "password authentication failed"
    )
    refused(
        postgres.address(user="with_password", password="right one", schema=None), "may not make tables", "GRANT"
    )
    refused(postgres.address(user="with_password", password="right one"), "may not make schema", "GRANT CREATE")
    url = f"postgresql://with_password:right%20one@/postgres?host={postgres.folder}&port={PORT}"
    schema = postgres.new_schema()
    postgres.query(f"CREATE SCHEMA {schema} AUTHORIZATION with_password")
    assert places.create(Address(url=url, schema=schema))


def test_make_is_idempotent_and_leaves_other_tables_alone(postgres: Server) -> None:
    address = postgres.address(schema='odd "name"')
    assert places.open_readonly(address) is None
    assert places.create(address)
    assert not places.create(address)
    places.preflight(address)
    schema = postgres.new_schema()
    postgres.query(f"CREATE SCHEMA {schema}")
    postgres.query("CREATE TABLE songs (name text)", schema=schema)
    assert places.create(postgres.address(schema=schema))
    assert places.open_readonly(postgres.address(schema=schema)) is None
    with pytest.raises(StoreError, match="run 'hs initdb'"):
        SqlStore(Postgres(postgres.address())).open(create=False)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TABLE task (name text)", ("tables of another program (task)", "database.schema")),
        ("CREATE TABLE meta (key text, value text)", ("tables of another program (meta)",)),
        ("CREATE VIEW run AS SELECT 1", ("tables of another program (run)",)),
        (
            "CREATE TABLE task (id uuid, args text, schedule_time timestamptz, exit_status int, attempt int)",
            ("is HyperShell's", "database.schema"),
        ),
    ],
)
def test_tables_of_others_are_refused_and_not_touched(
    postgres: Server, statement: str, words: tuple[str, ...]
) -> None:
    address = postgres.address()
    postgres.query(f"CREATE SCHEMA {address.schema}")
    postgres.query(statement, schema=address.schema)
    before = postgres.query("SELECT relname FROM pg_class ORDER BY 1")
    refused(address, *words)
    with pytest.raises(StoreError):
        places.open_readonly(address)
    assert postgres.query("SELECT relname FROM pg_class ORDER BY 1") == before


@pytest.mark.parametrize(("version", "word"), [(SCHEMA_VERSION + 1, "a newer version"), ("x", "another version")])
def test_another_version(postgres: Server, version: object, word: str) -> None:
    address = postgres.address()
    places.create(address)
    postgres.query("UPDATE meta SET value = %s WHERE key = 'schema'", str(version), schema=address.schema)
    refused(address, word, "update hypershell")


def test_several_that_begin_at_once(postgres: Server) -> None:
    address = postgres.address()
    errors: list[BaseException] = []
    gate = threading.Barrier(6)

    def begin() -> None:
        try:
            gate.wait(30)
            Run(address).store.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert postgres.query("SELECT count(*) FROM run", schema=address.schema) == [(6,)]


def test_without_psycopg_the_way_out_is_named(tmp_path: Path) -> None:
    """And nothing of it is loaded where the database is a file."""
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError('No module named psycopg')\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from hypershell.address import Address\n"
        "from hypershell.data import places\n"
        "places.preflight(Path(sys.argv[1]) / 'x.db')\n"
        "assert not {'sqlalchemy', 'psycopg', 'hypershell.data.postgres'} & set(sys.modules)\n"
        "try: places.preflight(Address(database='d'))\n"
        "except Exception as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "pip install 'hypershell-mpi[postgres]'" in said.stdout and said.stdout.count("\n") == 1, said.stderr


# -- the session -----------------------------------------------------------------------------------------------


def test_the_session_keeps_its_promises(postgres: Server) -> None:
    postgres.role("careless", words="SUPERUSER")
    for setting in ("synchronous_commit = off", "default_transaction_isolation = 'serializable'"):
        postgres.query(f"ALTER ROLE careless SET {setting}")
    address = postgres.address(user="careless")
    run = Run(address)
    link = run.store._link
    assert link is not None
    for name, expected in (
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("lock_timeout", "30s"),
        ("search_path", f'"{address.schema}"'),
    ):
        assert link.exec_driver_sql(f"SHOW {name}").scalar() == expected, name
    link.rollback()
    run.store.close()


def test_sizes_have_64_bits(postgres: Server) -> None:
    address = postgres.address()
    run = Run(address)
    (task,) = run.put(run.submit(), 1, memory=1 << 40)
    run.apply(finished=[Finished(1, SUCCEEDED, NOW, Result(task.id, 0, 0, NOW, NOW, maxrss=2.0**41), None, task)])
    assert postgres.query("SELECT memory, max_rss FROM task", schema=address.schema) == [(1 << 40, 2.0**41)]
    types = dict(
        postgres.query(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND "
            "table_name = 'task'",
            address.schema,
        )
    )
    assert (types["memory"], types["submission"], types["tag"]) == ("bigint", "bigint", "jsonb")
    assert types["submit_time"] == "timestamp with time zone"
    run.store.close()


def test_text_that_the_server_cannot_hold_is_written_otherwise(postgres: Server) -> None:
    address = postgres.address()
    run = Run(address)
    tasks = run.put(run.submit(), 2)
    result = Result(tasks[0].id, 0, 1, NOW, NOW, command="a\0b", error="c\0d")
    run.apply(finished=[Finished(1, SUCCEEDED, NOW, result, None, tasks[0]), done(tasks[1], 0)])
    query = "SELECT command, error FROM task WHERE error IS NOT NULL"
    assert postgres.query(query, schema=address.schema) == [("a\ufffdb", "c\ufffdd")]
    assert states(postgres, address) == {"succeeded": 2}
    run.store.close()


def test_partial_indexes_serve_the_hot_questions(postgres: Server) -> None:
    address = postgres.address()
    run = Run(address)
    submission = run.submit()
    for _ in range(4):
        run.put(submission, 1000)
    found = dict(postgres.query("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %s", address.schema))
    assert "WHERE (state = 'pending'::text)" in found["task_pending"]
    assert "WHERE ((state = 'failed'::text) AND (next_id IS NULL))" in found["task_failed"]
    assert "WHERE (NOT complete)" in found["submission_incomplete"]
    postgres.query("ANALYZE task", schema=address.schema)
    link = run.store._link
    assert link is not None
    statements: list[tuple[str, Any]] = []
    event.listen(link, "before_cursor_execute", lambda _l, _c, text, given, *_: statements.append((text, given)))
    tasks, _ = run.store.load(0, 10)
    assert len(tasks) == 10
    (text, given) = next(one for one in statements if "json_agg" in one[0])
    plan = "\n".join(row[0] for row in link.exec_driver_sql(f"EXPLAIN {text}", given))
    assert "task_pending" in plan and "Sort" not in plan, plan
    link.rollback()
    run.store.close()


# -- hearing of others -----------------------------------------------------------------------------------------


def heard(run: Run) -> bool:
    """Whether an announcement arrives; that is a moment after the commit that made it."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if run.store.changed():
            return True
    return False


def test_what_others_do_is_heard_and_what_we_do_is_not(postgres: Server) -> None:
    address = postgres.address()
    one, two = Run(address), Run(address)
    assert one.store.changed() and not one.store.changed()
    mine = one.submit()
    one.put(mine, 3)
    one.store.beat()
    assert not one.store.changed()
    two.store.beat()
    assert not one.store.changed()  # a sign of life is no news
    theirs = two.submit()
    assert heard(one) and not one.store.changed()
    tasks = two.put(theirs, 2)
    assert heard(one)
    two.apply(dispatched=[Dispatch(tasks[0].id, 1, 1, NOW)])
    two.apply(finished=[done(tasks[0])])
    assert not one.store.changed()
    two.store.end_run(Finish(1, 0, 0, 1, "drained"))
    assert heard(one)
    postgres.query("UPDATE submission SET owner = NULL", schema=address.schema)
    assert heard(one)
    one.put(mine, 1)  # what arrives beside an answer counts too
    postgres.query("UPDATE submission SET owner = 'x'", schema=address.schema)
    one.put(mine, 1)
    assert heard(one)
    for run in (one, two):
        run.store.close()


def test_schemas_do_not_hear_each_other(postgres: Server) -> None:
    one, two = Run(postgres.address()), Run(postgres.address())
    one.store.changed()
    two.submit()
    assert not one.store.changed()
    for run in (one, two):
        run.store.close()


def test_after_a_lost_connection_everything_may_have_changed(postgres: Server) -> None:
    run = Run(postgres.address())
    run.store.changed()
    run.break_connection(postgres)
    while not until_it_works(run.store.changed):
        pass  # the end of the connection may arrive a moment later
    assert not run.store.changed()
    run.store.close()


# -- lost connections ------------------------------------------------------------------------------------------


def until_it_works(step: Any) -> Any:
    """As the writer does: again and again, while the failure may pass."""
    for _ in range(5):
        try:
            return step()
        except Transient as error:
            assert "\n" not in str(error)
    return step()


def test_every_step_survives_a_lost_connection(postgres: Server) -> None:
    address = postgres.address()
    run = Run(address)
    submission = run.submit()
    tasks = run.put(submission, 3)
    fresh = [Task(IDS.task(), "true", submission.id, submit_time=NOW)]
    steps = [
        lambda: run.apply(dispatched=[Dispatch(tasks[0].id, 1, 1, NOW)]),
        lambda: run.apply(inserted=fresh, finished=[done(tasks[0])]),
        lambda: run.store.load(0, 10),
        lambda: run.store.claims(None),
        run.store.beat,
        lambda: run.store.left_alone(lambda _: True),
        lambda: run.store.end_run(Finish(1, 0, 0, 3, "drained")),
    ]
    for step in steps:
        run.break_connection(postgres)
        with pytest.raises(Transient, match="postgresql://"):
            step()
        until_it_works(step)
    assert states(postgres, address) == {"succeeded": 1, "pending": 3}
    run.break_connection(postgres)
    run.store.close()


def test_a_commit_that_was_not_acknowledged_is_repeated_without_harm(postgres: Server) -> None:
    """The connection dies between COMMIT and its answer: the record is applied once more."""
    address = postgres.address()
    run = Run(address)
    submission = run.submit()
    tasks = run.put(submission, 3)
    fresh = [Task(IDS.task(), "true", submission.id, submit_time=NOW) for _ in range(3)]
    record = Record(
        99, inserted=fresh, dispatched=[Dispatch(tasks[1].id, 1, 1, NOW)], finished=[done(tasks[0]), done(fresh[0])]
    )
    run.store.apply([record])
    before = sorted(postgres.query("SELECT task::text FROM task", schema=address.schema))
    run.store.apply([record])
    assert sorted(postgres.query("SELECT task::text FROM task", schema=address.schema)) == before
    run.store.close()


def test_a_takeover_that_was_not_acknowledged_is_done_again(postgres: Server) -> None:
    """Ours by the database, unknown to the run: the next look at what is free finds it."""
    address = postgres.address()
    old, new = Run(address), Run(address)
    old.put(old.submit(), 2)
    claims = new.store.claims(None)
    new.store.take(claims)
    new.store._owned.clear()  # the answer never came
    (claim,) = new.store.claims(None)
    assert (claim.submission, claim.owner) == (claims[0].submission, None)
    assert [one.id for one in new.store.take([claim]).submissions] == [claim.submission]
    assert new.store.claims(None) == []
    with pytest.raises(Fenced):
        old.store.beat()
    for run in (old, new):
        run.store.close()


# -- races -----------------------------------------------------------------------------------------------------


def while_open(server: Server, first: Run, inside: Any, second: Any) -> list[BaseException | None]:
    """Do `second` in a thread while a transaction of `first` is open, which commits once `second` waits for it."""
    failed: list[BaseException | None] = [None]

    def work() -> None:
        try:
            second()
        except BaseException as error:
            failed[0] = error

    thread = threading.Thread(target=work)
    with first.store._transaction() as link:
        inside(link)
        thread.start()
        while server.query(WAIT) == [(0,)]:
            assert thread.is_alive(), failed
    thread.join(60)
    assert not thread.is_alive()
    return failed


def test_a_takeover_waits_for_a_write_and_then_finds_a_living_owner(postgres: Server) -> None:
    address = postgres.address()
    old, new = Run(address), Run(address)
    tasks = old.put(old.submit(), 2)
    claims = new.store.claims(None)
    taken: list[Any] = []
    assert while_open(postgres, old, lambda _: None, lambda: taken.append(new.store.take(claims))) == [None]
    assert taken[0].submissions == []
    old.apply(finished=[done(tasks[0])])
    for run in (old, new):
        run.store.close()


def test_a_write_waits_for_a_takeover_and_is_fenced(postgres: Server) -> None:
    from hypershell.data import ownership

    address = postgres.address()
    old, new = Run(address), Run(address)
    tasks = old.put(old.submit(), 2)
    (claim,) = new.store.claims(None)
    (error,) = while_open(
        postgres,
        new,
        lambda link: ownership.take(link, new.run.id, claim),
        lambda: old.apply(finished=[done(tasks[0])]),
    )
    assert isinstance(error, Fenced)
    assert states(postgres, address) == {"pending": 2}
    for run in (old, new):
        run.store.close()


def test_two_takers_at_once(postgres: Server) -> None:
    from hypershell.data import ownership

    address = postgres.address()
    old, one, two = Run(address), Run(address), Run(address)
    old.put(old.submit(), 2)
    claims = two.store.claims(None)
    taken: list[Any] = []
    assert while_open(
        postgres,
        one,
        lambda link: ownership.take(link, one.run.id, claims[0]),
        lambda: taken.append(two.store.take(claims)),
    ) == [None]
    assert taken[0].submissions == []
    for run in (old, one, two):
        run.store.close()


def test_two_runs_that_take_each_other_do_not_wait_for_ever(postgres: Server) -> None:
    """The server breaks the circle; who was broken tries again and finds out who won."""
    from hypershell.data import ownership

    address = postgres.address()
    one, two = Run(address), Run(address)
    for run in (one, two):
        run.put(run.submit(), 1)
    of_two, of_one = one.store.claims(None), two.store.claims(None)
    outcomes: list[str] = []
    gate = threading.Barrier(2)

    def take(run: Run, claims: Any) -> None:
        try:
            with run.store._transaction() as link:
                gate.wait(30)
                ownership.take(link, run.run.id, claims[0])
            outcomes.append("done")
        except Transient as error:
            assert "deadlock" in str(error)
            outcomes.append("again")

    threads = [threading.Thread(target=take, args=pair) for pair in ((one, of_two), (two, of_one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["again", "done"]
    for run in (one, two):
        run.store.close()
