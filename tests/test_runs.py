"""``hs runs``: what ran, how far it came, and how it ended, in every format."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import signal
import sqlite3
import termios
from contextlib import closing
from pathlib import Path

import pytest

from hypershell.core.actions import Finish
from hypershell.data import query, runs
from hypershell.data.lease import this_process
from hypershell.data.reading import open_runs
from hypershell.data.runs import Run
from hypershell.data.store import describe_run, sqlite_store
from hypershell.errors import UsageError
from tests.test_data_rotate import add, make
from tests.testbed.cli import Hs

NOW = 1_795_345_284.25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "runs.db"
    make(place)
    return place


def begin(place: Path, run: str, *, far: bool = False, dead: bool = False, job: str | None = None) -> None:
    """A run without an end: of this process, of one that is gone, or of another host."""
    store = sqlite_store(place)()
    store.open()
    store.begin_run(
        describe_run(run, transport="mpi", ranks=4, slots=2, job=job, command="hs mpi", cwd="/w", start_time=NOW)
    )
    store.close()
    with closing(sqlite3.connect(place)) as link:
        if far:
            link.execute("UPDATE run SET host = 'far' WHERE id = ?", (run,))
        if dead:
            link.execute("UPDATE run SET pid_start = pid_start - 1 WHERE id = ?", (run,))
        link.commit()


def all_of(place: Path, limit: int | None = None) -> list[Run]:
    raw = open_runs(place)
    assert raw is not None
    with query.reading(raw, place) as link:
        return [run for page in runs.newest(link, limit) for run in page]


def one(place: Path, prefix: str) -> Run:
    raw = open_runs(place)
    assert raw is not None
    with query.reading(raw, place) as link:
        return runs.find(link, prefix)


def test_ended_runs_have_what_they_recorded(path: Path) -> None:
    begin(path, "f-2", job="77")
    with closing(sqlite3.connect(path)) as link:
        link.execute(
            "UPDATE run SET end_time = '2026-11-22 11:02:24.750000', outcome = 'group failed', succeeded = 5, "
            "failed = 2, unfinished = 1 WHERE id = 'f-2'"
        )
        link.execute("INSERT INTO client (id, host, server_id, server_host) VALUES ('c', 'n', 'f-2', 'h')")
        link.execute("UPDATE submission SET owner = 'f-2'")
        link.commit()
    newest, oldest = all_of(path)
    assert newest.id == "f-2" and oldest.ended == "complete"
    assert (newest.succeeded, newest.failed, newest.unfinished, newest.ended) == (5, 2, 1, "group failed")
    assert (newest.transport, newest.ranks, newest.slots, newest.job, newest.clients) == ("mpi", 4, 2, "77", 1)
    assert (newest.start, newest.end) == ("2026-11-22 11:01:24.250000", "2026-11-22 11:02:24.750000")
    assert newest.duration == pytest.approx(60.5)
    assert newest.host == this_process().host and newest.source == oldest.source == "/tasks.in"


def test_runs_without_an_end_are_judged_by_their_lease(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_GLANCE", 0.0)
    monkeypatch.setattr(runs, "_STARE", 0.0)
    begin(path, "f-2")
    begin(path, "f-3", dead=True)
    begin(path, "f-4", far=True)
    begin(path, "f-5", far=True)
    with closing(sqlite3.connect(path)) as link:
        link.execute("UPDATE run SET fenced = 1 WHERE id = 'f-5'")
        link.commit()
    found = {run.id: run for run in all_of(path)}
    assert [found[f"f-{number}"].ended for number in (2, 3, 4, 5)] == ["running", "died", "unknown", "died"]
    assert found["f-2"].duration is not None and found["f-3"].duration is None
    assert one(path, "f-4").ended == "unknown"


def test_a_run_elsewhere_whose_lease_moves_is_running(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(path, "f-2", far=True)

    def pause(seconds: float) -> None:
        with closing(sqlite3.connect(path)) as link:
            link.execute("UPDATE run SET counter = counter + 1")
            link.commit()

    monkeypatch.setattr(runs.time, "sleep", pause)
    assert one(path, "f-2").ended == "running"
    assert all_of(path, 1)[0].ended == "running"


def test_tasks_of_a_run_without_an_end_are_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(path, "f-2", dead=True)
    with closing(sqlite3.connect(path)) as link:
        link.execute("UPDATE submission SET owner = 'f-2'")
        link.commit()
    first = f"{int(NOW * 1000):012x}"
    first = f"{first[:8]}-{first[8:]}"
    for number, (state, server) in enumerate(
        [("succeeded", "f-2"), ("succeeded", "f-2"), ("failed", "f-2"), ("failed", "f-1"), ("pending", None)]
    ):
        add(path, (f"{first}-{number}", state), server_id=server)
    for found in (all_of(path)[0], one(path, "f-2")):
        assert (found.succeeded, found.failed, found.unfinished) == (2, 1, 1)
    monkeypatch.setattr(runs, "_MOST_COUNTED", 4)
    found = all_of(path)[0]
    assert (found.succeeded, found.failed, found.unfinished) == (None, None, 1)
    assert one(path, "f-2").succeeded == 2


def test_a_prefix_must_name_one(path: Path) -> None:
    begin(path, "f-20")
    begin(path, "f-21")
    assert one(path, "f-21").id == "f-21"
    with pytest.raises(UsageError, match="more than one run has an id that begins with 'f-2': f-20 and f-21"):
        one(path, "f-2")
    for wrong in ("x", "%", "f_20", "f-2'"):
        with pytest.raises(UsageError, match="no run has an id that begins with"):
            one(path, wrong)


def test_many_runs_come_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_ROWS", 2)
    store = sqlite_store(path)()
    store.open()
    for number in range(7):
        store.begin_run(
            describe_run(
                f"f-{number}", transport="mpi", ranks=1, slots=1, job=None, command="", cwd="", start_time=NOW
            )
        )
        store.end_run(Finish(number, 0, 0, 0, "complete"))
    store.close()
    assert [run.id for run in all_of(path)][:7] == [f"f-{number}" for number in range(6, -1, -1)]
    assert [len(all_of(path, limit)) for limit in (0, 1, 3, 8, 20)] == [0, 1, 3, 8, 8]


# -- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def ran(hs: Hs) -> Hs:
    """A site of two runs: one of a FILE, with a failure, and one of stdin."""
    assert hs.run("cluster", hs.file(["true", "false"])).status == 7
    assert hs.run("cluster", "-N2", input="true\n").status == 0
    return hs


def test_formats(ran: Hs) -> None:
    lines = [line.split("\t") for line in ran.run("runs").out.splitlines()]
    assert [line[2:6] for line in lines] == [["loopback", "1", "1", "2"], ["loopback", "1", "1", "1"]]
    assert [line[7:11] for line in lines] == [
        ["stdin", "1", "0", "0"],
        [str(ran.folder / "tasks.in"), "1", "1", "0"],
    ]
    assert [line[-1] for line in lines] == ["complete", "complete"]
    records = json.loads(ran.run("runs", "--json").out)
    assert list(records[0]) == list(runs.FIELDS) and [record["id"] for record in records] == [
        line[0] for line in lines
    ]
    assert records[1]["command"] == "hs cluster tasks.in" and records[1]["cwd"] == str(ran.folder)
    rows = list(csv.DictReader(io.StringIO(ran.run("runs", "--csv", "-l", "1").out)))
    assert [row["id"] for row in rows] == [lines[0][0]]
    assert ran.run("runs", "-d", "|", "-l1").out.split("|")[2] == "loopback"
    table = ran.run("runs", "-f", "table").out.splitlines()
    assert table[0].split()[:3] == ["id", "start", "host"] and len(table) == 4
    assert table[2].startswith(lines[0][0][:13] + "  ")


def test_one_run_in_full(ran: Hs) -> None:
    run = ran.run("runs", "-l1").out.split("\t")[0]
    done = ran.run("runs", run[:30])
    assert [line.split(": ")[0].strip() for line in done.out.splitlines()] == list(runs.FIELDS)
    assert f"          id: {run}\n" in done.out and "       ended: complete\n" in done.out
    assert [record["id"] for record in json.loads(ran.run("runs", run, "--json").out)] == [run]
    assert ran.run("runs", "-f", "normal").out.count("---\n") == 2


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["xyz"], 2, "no run has an id that begins with 'xyz' (hs runs lists them)"),
        (["--json", "--csv"], 2, "Using --json with --csv is invalid"),
        (["-l", "-1"], 2, "must be at least 0"),
        (["-f", "xml"], 2, "expected one of"),
        (["--json", "-d", ","], 2, "Using -d/--delimiter with --format=json is invalid"),
        (["--db", "missing.db"], 5, "missing.db does not exist"),
    ],
)
def test_bad_input_is_one_line(ran: Hs, argv: list[str], status: int, message: str) -> None:
    done = ran.run("runs", *argv)
    assert (done.status, done.out) == (status, "") and done.err.count("\n") == 1 and message in done.err


def test_no_runs(hs: Hs) -> None:
    assert [hs.run("runs", *more).out for more in ([], ["-f", "table"], ["--json"])] == ["", "", "[]\n"]
    assert hs.run("runs", "a").status == 2
    assert not hs.site.exists()
    assert hs.run("initdb", "-y").status == 0
    assert hs.run("runs", "--json").out == "[]\n"


def test_a_living_and_a_killed_server(hs: Hs) -> None:
    process = hs.start("cluster", "-N1", "-t", "echo {}; exec sleep 1000", hs.file(["1", "2"]))
    assert process.stdout is not None and process.stdout.readline() == b"1\n"
    assert any("running" in hs.run("runs").out for _ in range(100))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (record,) = json.loads(hs.run("runs", "--json").out)
    assert (record["ended"], record["end"], record["pid"]) == ("died", None, process.pid)


def test_every_run_tells_its_sources(hs: Hs) -> None:
    """Those in the middle too, which have their submissions no longer."""
    hs.file(["exit 2"])
    hs.file(["exit 3"], "other.in")
    hs.run("cluster", "other.in", "--restart")
    for _ in range(2):
        hs.run("cluster", "tasks.in", "--restart")
    hs.run("update", "--revert", "-F", "-f")
    for _ in range(2):
        hs.run("cluster", "--restart")
        hs.run("update", "--revert", "-F", "-f")
    hs.run("cluster", "tasks.in", "--restart")
    found = [record["source"] for record in json.loads(hs.run("runs", "--json").out)]
    tasks, other = (str(hs.folder / name) for name in ("tasks.in", "other.in"))
    assert found == [tasks, f"{other} {tasks}", f"{other} {tasks}", tasks, tasks, other]


@pytest.mark.parametrize(("columns", "head"), [(80, "id source"), (150, "id start")])
def test_on_a_terminal_a_table_fits(ran: Hs, columns: int, head: str) -> None:
    with closing(sqlite3.connect(ran.db)) as link:
        link.execute("UPDATE submission SET path = '/a/long/path' || substr(hex(zeroblob(100)), 1) || '/x'")
        link.commit()
    master, side = pty.openpty()
    termios.tcsetwinsize(side, (24, columns))
    process = ran.start("runs", stdout=side, env={"COLUMNS": "", "LINES": ""})
    os.close(side)
    shown = b""
    while select.select([master], [], [], 20)[0]:
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the other side is closed
            break
        shown += data
    os.close(master)
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read()) == (0, b"")
    process.stderr.close()
    lines = shown.decode().replace("\r\n", "\n").splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= columns
    assert " ".join(lines[0].split()[:2]) == head
