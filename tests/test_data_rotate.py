"""Rotation: what moves and what stays, kills at every step, and the database with its partitions read as one."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hypershell.core.actions import Finish
from hypershell.core.model import Submission
from hypershell.data import rotate as rotation
from hypershell.data.lease import this_process
from hypershell.data.partitions import Tasks, reading
from hypershell.data.reading import open_readonly, partition_path, rotated
from hypershell.data.rotate import Rotated, rotate
from hypershell.data.store import describe_run, sqlite_store
from hypershell.data.where import Filter, Order
from hypershell.errors import StoreError
from hypershell.ids import IdSource
from tests.test_query import SUBMITTED
from tests.testbed.mpi import ROOT

NOW = 1_795_345_284.25

#: A name with what URIs, SQL and patterns would take for theirs.
ODD = "o'd\"d %41?#[a].*; é.db"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of one submission whose FILE was read to its end and whose run ended, without tasks."""
    place = tmp_path / ODD
    make(place)
    return place


def make(place: Path) -> str:
    """A database with the submission 1 of one run that ended; the run."""
    run = IdSource().task()
    store = sqlite_store(place)()
    store.open()
    store.begin_run(
        describe_run(run, transport="mpi", ranks=1, slots=1, job=None, command="hs", cwd="/", start_time=NOW)
    )
    store.add_submission(Submission(1, "file", "/tasks.in", "{}", "{}", "/", run, "login", NOW))
    store.end_run(Finish(0, 0, 0, 0, "complete"))
    store.close()
    with closing(sqlite3.connect(place)) as link:
        link.execute("UPDATE submission SET complete = 1")
        link.commit()
    return run


def add(place: Path, *tasks: tuple[str, str], **more: Any) -> None:
    """Tasks, each an id and a state; `more` are values of all of them."""
    with closing(sqlite3.connect(place)) as link:
        for key, state in tasks:
            row = {"id": key, "args": f"echo {key}", "submit_id": "", "submit_time": SUBMITTED, "submission": 1}
            row |= {"state": state, "exit_status": {"succeeded": 0, "failed": 1}.get(state), "tag": "{}"} | more
            names = ", ".join(f'"{name}"' for name in row)
            link.execute(f"INSERT INTO task ({names}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
        link.commit()


def chain(place: Path, *keys: str) -> None:
    """Make attempts of one task of these."""
    with closing(sqlite3.connect(place)) as link:
        for before, after in itertools.pairwise(keys):
            link.execute("UPDATE task SET next_id = ?, retried = 1 WHERE id = ?", (after, before))
            link.execute("UPDATE task SET previous_id = ?, attempt = 2 WHERE id = ?", (before, after))
        link.commit()


def ids(place: Path, query: str = "SELECT id FROM task ORDER BY id") -> list[str]:
    with closing(sqlite3.connect(place)) as link:
        return [row[0] for row in link.execute(query)]


def move(place: Path) -> Rotated | None:
    return rotate(place, pytest.fail)


@contextmanager
def whole(place: Path, ignore: bool = False) -> Iterator[Tasks]:
    raw = open_readonly(place, with_partitions=not ignore)
    assert raw is not None
    with reading(raw, place, ignore) as tasks:
        yield tasks


def listed(place: Path, *where: str, order: Order | None = None, limit: int | None = None) -> list[str]:
    chosen = Filter.build(where)
    with whole(place) as tasks:
        found = [row[0] for page in tasks.pages(chosen, ["id"], order, limit) for row in page]
        if limit is None:
            assert tasks.count(chosen) == len(found)
    return found


# -- what moves -----------------------------------------------------------------------------------------------


def test_whole_chains_that_ended_move_with_their_tag(path: Path) -> None:
    add(path, ("a", "succeeded"), ("b", "failed"), ("c", "succeeded"), ("h", "cancelled"))
    chain(path, "b", "c")
    done = move(path)
    target = partition_path(path, 1)
    assert done == Rotated(1, target, 4, True)
    assert ids(path) == [] and ids(target) == ["a", "b", "c", "h"]
    assert ids(target, "SELECT tag FROM task") == ['{"part":1}'] * 4
    assert ids(target, "SELECT id FROM submission") == [1] == ids(path, "SELECT id FROM submission")
    assert ids(target, "SELECT id FROM run") == ids(path, "SELECT id FROM run")
    assert sorted(entry.name for entry in path.parent.iterdir()) == sorted([path.name, target.name])


def test_attempts_before_one_that_did_not_end_stay(path: Path) -> None:
    add(path, ("a", "failed"), ("b", "failed"), ("c", "pending"), ("d", "failed"), ("e", "dispatched"))
    add(path, ("f", "succeeded"))
    chain(path, "a", "b", "c")
    chain(path, "d", "e")
    done = move(path)
    assert done is not None and done.tasks == 1
    assert ids(path) == ["a", "b", "c", "d", "e"] and ids(done.partition) == ["f"]
    assert listed(path) == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize("unfinished", ["pending", "complete = 0"])
def test_failures_of_a_submission_with_unfinished_work_stay(path: Path, unfinished: str) -> None:
    """They hold back its higher groups, and are part of the exit status of a restart."""
    add(path, ("a", "succeeded"), ("b", "failed"), ("c", "failed"))
    chain(path, "b", "c")
    add(path, ("other", "failed"), submission=2)
    if unfinished == "pending":
        add(path, ("d", "pending"), group=1)
    else:
        with closing(sqlite3.connect(path)) as link:
            link.execute("UPDATE submission SET complete = 0")
            link.commit()
    done = move(path)
    assert done is not None and ids(done.partition) == ["a", "other"]
    assert ids(path)[:2] == ["b", "c"]


def test_nothing_to_rotate_makes_nothing(path: Path) -> None:
    add(path, ("a", "pending"))
    assert move(path) is None
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_partitions_count_on_and_never_reuse_a_name(path: Path) -> None:
    partition_path(path, 3).write_bytes(b"somebody else's")
    for number, key in ((4, "a"), (5, "b")):
        add(path, (key, "succeeded"), tag='{"x":1.50,"y":"é"}')
        done = move(path)
        assert done is not None and done.number == number
    assert partition_path(path, 3).read_bytes() == b"somebody else's"
    with whole(path) as tasks:
        rows = [tuple(row) for page in tasks.pages(Filter(), ["id", "tag"]) for row in page]
    assert rows == [("a", {"x": 1.5, "y": "é", "part": 4}), ("b", {"x": 1.5, "y": "é", "part": 5})]


def test_a_partition_is_not_rotated_and_the_permissions_are_those_of_the_database(path: Path) -> None:
    os.chmod(path, 0o640)
    add(path, ("a", "succeeded"))
    done = move(path)
    assert done is not None and done.partition.stat().st_mode & 0o777 == 0o640
    with pytest.raises(StoreError, match="is a partition itself"):
        move(done.partition)


def test_of_a_link_the_partitions_are_beside_the_real_file(path: Path, tmp_path: Path) -> None:
    add(path, ("a", "succeeded"))
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(path)
    done = move(link)
    assert done is not None and done.partition == partition_path(path, 1)
    assert listed(link) == listed(path) == ["a"]


def test_a_full_disk_leaves_everything_where_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(path, ("a", "succeeded"))

    def full(*names: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rotation, "place", full)
    with pytest.raises(StoreError, match="cannot be rotated: No space left on device"):
        move(path)
    assert ids(path) == ["a"] and [entry.name for entry in path.parent.iterdir()] == [path.name]


# -- who lives ------------------------------------------------------------------------------------------------


def test_a_living_server_is_named_and_nothing_changes(path: Path) -> None:
    add(path, ("a", "succeeded"))
    store = sqlite_store(path)()
    store.open()
    run = describe_run("r2", transport="mpi", ranks=1, slots=1, job="77", command="hs", cwd="/", start_time=NOW)
    store.begin_run(run)
    with pytest.raises(StoreError, match=rf"in use by process {os.getpid()} on host .*, job 77 \(run r2\): wait"):
        move(path)
    assert ids(path) == ["a"]
    store.end_run(Finish(0, 0, 0, 0, "complete"))
    store.close()
    assert move(path) is not None


def test_a_silent_server_on_another_host_is_waited_for_and_fenced(path: Path) -> None:
    add(path, ("a", "succeeded"))
    with closing(sqlite3.connect(path)) as link:
        link.execute("UPDATE run SET end_time = NULL, outcome = NULL, host = 'far', pid = 5")
        link.commit()
    told: list[str] = []
    done = rotate(path, told.append, silence=0.0)
    assert done is not None and told == []
    assert ids(path, "SELECT fenced FROM run") == [1]


def test_a_server_that_died_here_is_no_obstacle(path: Path) -> None:
    add(path, ("a", "succeeded"))
    here = this_process()
    with closing(sqlite3.connect(path)) as link:
        link.execute(
            "UPDATE run SET end_time = NULL, outcome = NULL, host = ?, boot_id = ?, pid = ?, pid_start = ?",
            (here.host, here.boot_id, here.pid, here.pid_start - 1),
        )
        link.commit()
    assert move(path) is not None


# -- killed ---------------------------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from pathlib import Path
from hypershell.data import rotate, upkeep
kill = lambda *names, **more: os.kill(os.getpid(), signal.SIGKILL)
owner, name, when = {"rotate": rotate, "upkeep": upkeep}[sys.argv[2]], sys.argv[3], sys.argv[4]
real = getattr(owner, name)
def killed(*names, **more):
    if when == "after":
        real(*names, **more)
    kill()
setattr(owner, name, killed)
rotate.rotate(Path(sys.argv[1]), print)
"""
STEPS = [
    ("rotate", "_copy", "before"),
    ("rotate", "_copy", "after"),
    ("rotate", "place", "before"),
    ("upkeep", "sync", "before"),
    ("rotate", "place", "after"),
    ("rotate", "_keep", "after"),
    ("rotate", "_compacted", "before"),
]


@pytest.mark.parametrize(("module", "name", "when"), STEPS)
def test_killed_at_any_step_nothing_is_lost_or_doubled(path: Path, module: str, name: str, when: str) -> None:
    expected = [f"{number:03}" for number in range(300)]
    add(path, *((key, "pending" if key.endswith("9") else "succeeded") for key in expected))
    command = [sys.executable, "-c", _KILLED, str(path), module, name, when]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert listed(path) == expected
    assert listed(path, "state == succeeded", order=Order("args", True), limit=2) == ["298", "297"]
    add(path, ("zzz", "succeeded"))
    again = move(path)
    assert again is not None
    assert listed(path) == [*expected, "zzz"]
    assert ids(path) == [key for key in expected if key.endswith("9")]
    stored = [key for number in rotated_of(path) for key in ids(partition_path(path, number))]
    assert sorted(stored + ids(path)) == [*expected, "zzz"]
    left = [entry.name for entry in path.parent.iterdir() if not re.fullmatch(r"o'.* é(\.\d)?\.db", entry.name)]
    assert left == []


def rotated_of(place: Path) -> tuple[int, ...]:
    with closing(sqlite3.connect(place)) as link:
        return rotated(link)


def between(place: Path) -> Path:
    """What a rotation leaves that is killed after the partition has its name; that partition."""
    command = [sys.executable, "-c", _KILLED, str(place), "rotate", "place", "after"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False)
    target = partition_path(place, 1)
    assert target.exists() and rotated_of(place) == ()
    return target


def test_what_changed_after_an_interrupted_rotation_is_what_counts(path: Path) -> None:
    add(path, ("a", "succeeded"), ("b", "succeeded"))
    target = between(path)
    with closing(sqlite3.connect(path)) as link:
        link.execute("UPDATE task SET state = 'pending', exit_status = NULL WHERE id = 'a'")
        link.commit()
    assert listed(path, "state == succeeded") == ["b"] and listed(path) == ["a", "b"]
    done = move(path)
    assert done is not None and done.partition == target
    assert ids(path) == ["a"] and ids(target) == ["b"]


def test_a_partition_newer_than_the_database_keeps_what_only_it_has(path: Path) -> None:
    """Somebody restored a backup."""
    add(path, ("a", "succeeded"), ("b", "succeeded"))
    target = between(path)
    with closing(sqlite3.connect(path)) as link:
        link.execute("DELETE FROM task WHERE id = 'a'")
        link.commit()
    done = move(path)
    assert done is not None and done.number == 2 and ids(done.partition) == ["b"]
    assert ids(target) == ["a"] and listed(path) == ["a", "b"]


# -- read as one ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks 000 to 129, in turn in twelve partitions and the database: more than SQLite can attach."""
    place = tmp_path_factory.mktemp("parted") / ODD
    make(place)
    for part in range(13):
        keys = [f"{number:03}" for number in range(part, 130, 13)]
        for key in keys:
            add(place, (key, "succeeded"), duration=float(int(key) * 7 % 130), tag=f'{{"n":{part}}}')
        if part < 12:
            assert move(place) is not None
    return place


EVERY = [f"{number:03}" for number in range(130)]


@pytest.mark.parametrize("first", [1, 3, 256])
@pytest.mark.parametrize("limit", [None, 0, 1, 25, 129, 500])
def test_order_and_limit(parted: Path, first: int, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypershell.data.walk._FIRST", first)
    by_duration = sorted(EVERY, key=lambda key: int(key) * 7 % 130)
    assert listed(parted, limit=limit) == EVERY[:limit]
    assert listed(parted, limit=limit, order=Order(descending=True)) == EVERY[::-1][:limit]
    assert listed(parted, limit=limit, order=Order("duration")) == by_duration[:limit]
    assert listed(parted, limit=limit, order=Order("duration", True)) == by_duration[::-1][:limit]


def test_filters_counts_and_tags(parted: Path) -> None:
    assert listed(parted, "id ~ 5$") == [key for key in EVERY if key.endswith("5")]
    with whole(parted) as tasks:
        assert tasks.tag_keys(Filter()) == ["n", "part"]
        assert tasks.tag_values(Filter(), "part") == list(range(1, 13))
        assert tasks.tag_values(Filter.build(["duration < 3"]), "n") == sorted(
            {int(key) % 13 for key in EVERY if int(key) * 7 % 130 < 3}
        )
        assert [tasks.count(Filter.build(tags=[word])) for word in ("part", "part:0", "part:3", "part:99")] == [
            130,
            10,
            10,
            0,
        ]
    with whole(parted, ignore=True) as tasks:
        assert tasks.count(Filter()) == 10 and tasks.tag_keys(Filter()) == ["n"]


def test_every_file_is_read_by_its_own_index(parted: Path) -> None:
    with whole(parted) as tasks:
        next(tasks.pages(Filter(), ["id"]))
        for part in [tasks.main, *tasks.parts.values()]:
            raw: Any = part.connection.connection.dbapi_connection
            statements: list[str] = []
            raw.set_trace_callback(statements.append)
            [*tasks.pages(Filter.build(["duration > 5"], ["n:1"]), ["args"])]
            raw.set_trace_callback(None)
            plan = [
                row[3]
                for statement in statements
                if " task" in statement
                for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}")
            ]
            assert len(plan) == 4
            assert all(re.match("SEARCH task USING .*INDEX sqlite_autoindex_task_1", step) for step in plan)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("pages", [0, 1, 4])
def test_a_rotation_while_a_list_is_read_takes_nothing_out_of_it(
    path: Path, pages: int, descending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypershell.data.walk._FIRST", 16)
    keys = [f"{number:04}" for number in range(500)]
    add(path, *((key, "succeeded") for key in keys[::2]))
    assert move(path) is not None
    add(path, *((key, "succeeded") for key in keys[1::2]))
    with whole(path) as tasks:
        stream = tasks.pages(Filter(), ["id"], Order(descending=descending))
        seen = [row[0] for _ in range(pages) for row in next(stream)]
        done = move(path)
        assert done is not None and done.tasks == 250
        seen += [row[0] for page in stream for row in page]
        assert tasks.count(Filter()) == 500
        assert len(next(tasks.pages(Filter(), ["id"], Order("args")))) == 500
    assert seen == (keys[::-1] if descending else keys)


def test_a_partition_that_is_away_is_left_out_and_a_wrong_one_is_named(path: Path) -> None:
    for key in ("a", "b"):
        add(path, (key, "succeeded"))
        move(path)
    add(path, ("c", "pending"))
    first = partition_path(path, 1)
    kept = first.read_bytes()
    first.unlink()
    assert listed(path) == ["b", "c"]
    for data, message in (
        (b"x" * 1000, r"partition 1: database .* is no SQLite database; leave it out with -i"),
        (partition_path(path, 2).read_bytes(), "partition 1: database .* is not the one that was rotated"),
    ):
        first.write_bytes(data)
        with pytest.raises(StoreError, match=message):
            listed(path)
        with whole(path, ignore=True) as tasks:
            assert tasks.count(Filter()) == 1
    first.write_bytes(kept)
    assert listed(path) == ["a", "b", "c"]


def test_more_partitions_than_can_be_open_is_refused_by_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a", "b"):
        add(path, (key, "succeeded"))
        move(path)
    monkeypatch.setattr("hypershell.data.partitions._MOST", 1)
    with pytest.raises(StoreError, match=r"has 2 partitions, 1 can be read at once: .* -i/--ignore-partitions"):
        listed(path)
