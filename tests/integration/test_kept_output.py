"""``--keep-output`` with real runs: every byte up to the limit, on every way that output goes, after every end."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import h5py
import pytest

from hypershell.core.model import KEPT_MOST
from tests.integration.test_mpi import Job
from tests.testbed.cli import Hs
from tests.testbed.inside import run_inside
from tests.testbed.mpi import Mpi, each_mpi

#: Line of input, and what is kept of stdout and of stderr: the bytes, and how many were printed.
BYTES = "\\377\\000\\r\\n\\033[1m"
LINES: dict[str, tuple[bytes, int, bytes, int]] = {
    f"printf '{BYTES}'; printf 'no end' >&2": (b"\xff\0\r\n\x1b[1m", 8, b"no end", 6),
    "true": (b"", 0, b"", 0),
    f"head -c {KEPT_MOST} /dev/zero": (bytes(KEPT_MOST), KEPT_MOST, b"", 0),
    f"head -c {KEPT_MOST + 1} /dev/zero >&2": (b"", 0, bytes(KEPT_MOST), KEPT_MOST + 1),
    "echo before; kill -9 $$": (b"before\n", 7, b"", 0),
    "echo out; echo err >&2; exit 3": (b"out\n", 4, b"err\n", 4),
}
SLOW = "echo until then; exec sleep 1000"


def kept(hs: Hs) -> dict[str, list[tuple[bytes, int, bytes, int]]]:
    """What table ``output`` has, by the line of the task, in the order of attempts."""
    found: dict[str, list[tuple[bytes, int, bytes, int]]] = {}
    query = (
        "SELECT args, stdout, stdout_size, stderr, stderr_size FROM task JOIN output ON task_id = task.id "
        "ORDER BY task.id"
    )
    for args, *values in hs.rows(query):
        found.setdefault(args, []).append(tuple(values))  # type: ignore[arg-type]
    return found


def id_of(hs: Hs, args: str) -> str:
    return str(hs.rows("SELECT id FROM task WHERE args = ? ORDER BY id DESC LIMIT 1", args)[0][0])


@pytest.mark.parametrize("ways", [(), ("--capture",), ("-o", "out", "-e", "err")])
def test_what_tasks_print_is_kept_and_goes_where_it_always_goes(hs: Hs, ways: tuple[str, ...]) -> None:
    hs.file(list(LINES))
    runs = []
    for more in (("--keep-output", "--db", "kept.db"), ("--db", "not.db")):
        process = hs.start("cluster", "tasks.in", "-N2", *ways, *more)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 7, err
        files = [(hs.folder / name).read_bytes() if "-o" in ways else b"" for name in ("out", "err")]
        runs.append([*map(sorted, (out, *files)), err.count(b"no end"), err.count(b"\0")])
    assert runs[0] == runs[1]
    hs.db = hs.folder / "not.db"
    assert kept(hs) == {}
    hs.db = hs.folder / "kept.db"
    assert kept(hs) == {line: [value] for line, value in LINES.items()}


def test_a_task_that_was_stopped_at_its_time_limit_keeps_what_it_printed_until_then(hs: Hs) -> None:
    hs.file([f"{SLOW}  # HYPERSHELL: timeout:3"])
    assert hs.run("cluster", "tasks.in", "--keep-output", "-S0.1").status == 7
    assert kept(hs)[SLOW] == [(b"until then\n", 11, b"", 0)]
    assert hs.rows("SELECT error FROM task") == [("timeout",)]


def test_each_attempt_has_its_own(hs: Hs) -> None:
    line = "echo $TASK_ATTEMPT; test $TASK_ATTEMPT = 3"
    hs.file([line])
    assert hs.run("cluster", "tasks.in", "--keep-output", "-r2").status == 0
    assert [out for out, *_ in kept(hs)[line]] == [b"1\n", b"2\n", b"3\n"]


def test_what_was_submitted_with_the_wish_is_kept_by_whoever_runs_it(hs: Hs) -> None:
    hs.file(["echo one", "echo two"])
    run_inside(hs, "submit", "tasks.in", "--keep-output")
    run_inside(hs, "submit", "--keep-output", "echo three")
    run_inside(hs, "submit", "echo none")
    assert hs.run("cluster", "--restart").status == 0
    assert {args: out for args, [(out, *_)] in kept(hs).items()} == {
        "echo one": b"one\n",
        "echo two": b"two\n",
        "echo three": b"three\n",
    }


def test_after_kill_9_the_wish_still_holds(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo first", "echo started; cat gate", "echo last"])
    process = hs.start("cluster", "tasks.in", "--keep-output", "-b1")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"first\n", b"started\n"]
    process.kill()
    process.communicate()
    (hs.folder / "gate").unlink()
    (hs.folder / "gate").write_text("through\n")
    assert hs.run("cluster", "tasks.in", "--restart", "--keep-output").status == 0
    assert {args: [out for out, *_ in rows] for args, rows in kept(hs).items()} == {
        "echo first": [b"first\n"],
        "echo started; cat gate": [b"started\nthrough\n"],
        "echo last": [b"last\n"],
    }


def test_what_background_processes_print_later_is_not_part_of_it(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    first = "echo task; { cat gate; } & exit 0"
    hs.file([first, "echo through >gate; cat gate2 >/dev/null"])
    os.mkfifo(hs.folder / "gate2")
    process = hs.start("cluster", "tasks.in", "--keep-output")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"task\n", b"through\n"]
    (hs.folder / "gate2").write_text("")
    assert process.wait(60) == 0 and process.communicate()
    assert kept(hs)[first] == [(b"task\n", 5, b"", 0)]


def test_info_prints_what_was_kept_and_says_what_was_cut(hs: Hs) -> None:
    hs.file(list(LINES))
    assert hs.run("cluster", "tasks.in", "--keep-output", "-N2").status == 7
    for line, (out, _, err, err_size) in LINES.items():
        process = hs.start("info", id_of(hs, line), "--stdout")
        assert process.communicate(timeout=60) == (out, b"") and process.returncode == 0
        process = hs.start("info", id_of(hs, line), "--stderr")
        nothing, told = process.communicate(timeout=60)
        assert (nothing, told[: len(err)], process.returncode) == (b"", err, 0)
        rest = told[len(err) :].decode()
        if err_size > KEPT_MOST:
            assert "WARNING" in rest and "was cut: these are the first 1048576 of 1048577 bytes" in rest
        else:
            assert rest == ""


def test_the_captured_file_goes_before_where_it_can_be_read(hs: Hs) -> None:
    line = f"head -c {KEPT_MOST + 1} /dev/zero"
    hs.file([line])
    assert hs.run("cluster", "tasks.in", "--keep-output", "--capture").status == 0
    path = Path(run_inside(hs, "info", id_of(hs, line), "-x", "outpath").out.strip())
    done = run_inside(hs, "info", id_of(hs, line), "--stdout")
    assert (done.status, len(done.out), done.err) == (0, KEPT_MOST + 1, "")
    path.unlink()
    done = run_inside(hs, "info", id_of(hs, line), "--stdout")
    assert (done.status, len(done.out)) == (0, KEPT_MOST) and "was cut" in done.err


def test_a_captured_file_that_the_task_removed_is_kept_all_the_same(hs: Hs) -> None:
    line = "echo here; rm -f ../*/site/lib/task/*/*/*.out site/lib/task/*/*/*.out; echo more"
    hs.file([line])
    assert hs.run("cluster", "tasks.in", "--keep-output", "--capture").status == 0
    assert kept(hs)[line] == [(b"here\nmore\n", 10, b"", 0)]


def test_revert_and_delete_take_it_away(hs: Hs) -> None:
    for word in ("one", "two", "three"):
        run_inside(hs, "submit", "--keep-output", f"echo {word}")
    assert hs.run("cluster", "--restart").status == 0
    assert len(kept(hs)) == 3
    assert run_inside(hs, "update", "--revert", id_of(hs, "echo one"), "-f").status == 0
    assert run_inside(hs, "update", "--delete", id_of(hs, "echo two"), "-f").status == 0
    assert hs.rows("SELECT task_id FROM output") == [(id_of(hs, "echo three"),)]
    done = run_inside(hs, "info", id_of(hs, "echo one"), "--stdout")
    assert done.status == 5 and "was not kept: the task is pending" in done.err
    assert hs.run("cluster", "--restart").status == 0
    assert set(kept(hs)) == {"echo one", "echo three"}


def test_it_goes_with_rotation_and_backups_and_away_with_truncate(hs: Hs) -> None:
    run_inside(hs, "submit", "--keep-output", "echo moved")
    assert hs.run("cluster", "--restart").status == 0
    assert run_inside(hs, "initdb", "--backup", "copy.db", "-y").status == 0
    assert run_inside(hs, "initdb", "--rotate", "-y").status == 0
    assert hs.rows("SELECT count(*) FROM output") == [(0,)]
    task_id = hs.rows("SELECT id FROM task", db=hs.folder / "copy.db")[0][0]
    for db in (str(hs.db.with_name("main.1.db")), "copy.db"):
        assert run_inside(hs, "info", task_id, "--stdout", "--db", db).out == "moved\n"
    run_inside(hs, "submit", "--keep-output", "echo gone")
    assert hs.run("cluster", "--restart").status == 0
    assert run_inside(hs, "initdb", "--truncate", "-y").status == 0
    assert hs.rows("SELECT count(*) FROM output") == [(0,)]


@pytest.fixture
def old(hs: Hs) -> Hs:
    """A database of before there was table ``output``, with a task that ended."""
    run_inside(hs, "submit", "--keep-output", "echo old")
    assert hs.run("cluster", "--restart").status == 0
    with closing(sqlite3.connect(hs.db)) as link:
        link.execute("DROP TABLE output")
    return hs


def test_a_database_without_the_table_is_read(old: Hs) -> None:
    done = run_inside(old, "info", id_of(old, "echo old"), "--stdout")
    assert done.status == 5 and "was not kept: output is kept of tasks" in done.err
    assert run_inside(old, "export", "old.h5", "--outputs").status == 0


@pytest.mark.parametrize("words", [("initdb", "--rotate", "-y"), ("update", "--delete", "-C", "-f")])
def test_a_database_without_the_table_is_changed(old: Hs, words: tuple[str, ...]) -> None:
    assert run_inside(old, *words).status == 0
    assert old.rows("SELECT count(*) FROM task") == [(0,)]


@pytest.mark.parametrize("words", [("initdb", "-y"), ("submit", "echo new")])
def test_a_database_without_the_table_gets_it_when_it_is_written(old: Hs, words: tuple[str, ...]) -> None:
    assert run_inside(old, *words).status == 0
    assert old.rows("SELECT count(*) FROM output") == [(0,)]


def test_an_export_has_it_and_an_import_gives_it_back(hs: Hs) -> None:
    hs.file(list(LINES))
    assert hs.run("cluster", "tasks.in", "--keep-output", "-N2").status == 7
    big = f"head -c {KEPT_MOST + 7} /dev/zero"
    hs.file([big, "echo captured"], "captured.in")
    assert hs.run("cluster", "captured.in", "--capture").status == 0
    done = run_inside(hs, "export", "a.h5", "--outputs")
    assert done.status == 0 and "Exported the output of tasks: 16 streams" in done.err
    shutil.rmtree(hs.site / "lib" / "task")
    assert "2 outputs" not in run_inside(hs, "import", "a.h5", "--db", "b.db").err
    before = kept(hs)
    hs.db = hs.folder / "b.db"
    captured = {big: [(bytes(KEPT_MOST), KEPT_MOST + 7, b"", 0)], "echo captured": [(b"captured\n", 9, b"", 0)]}
    assert kept(hs) == {**before, **captured}
    assert run_inside(hs, "info", id_of(hs, "echo captured"), "--stdout", "--db", "b.db").out == "captured\n"
    assert "not empty" in run_inside(hs, "import", "a.h5", "--db", "b.db").err


@pytest.fixture
def exported(hs: Hs) -> Path:
    """An export of a single task that printed ``text``."""
    run_inside(hs, "submit", "--keep-output", "printf text")
    assert hs.run("cluster", "--restart").status == 0
    assert run_inside(hs, "export", "a.h5", "--outputs").status == 0
    return hs.folder / "a.h5"


def test_an_export_without_sizes_is_one_of_before(hs: Hs, exported: Path) -> None:
    with h5py.File(exported, "a") as file:
        for stream in ("stdout", "stderr"):
            del file[f"outputs/{stream}_size"]
    assert run_inside(hs, "import", "a.h5", "--db", "b.db").status == 0
    assert hs.rows("SELECT stdout, stdout_size FROM output", db=hs.folder / "b.db") == [(b"text", 4)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("stdout_length", 5), ("stdout_offset", -2), ("stdout_offset", 2**62), ("stdout_size", 3)],
)
def test_places_outside_of_the_file_are_damage(hs: Hs, exported: Path, name: str, value: int) -> None:
    with h5py.File(exported, "a") as file:
        file[f"outputs/{name}"][0] = value
    done = run_inside(hs, "import", "a.h5", "--db", "b.db")
    assert done.status == 5 and "a.h5 is damaged: outputs: " in done.err and "nothing was restored" in done.err
    assert hs.rows("SELECT count(*) FROM task", db=hs.folder / "b.db") == [(0,)]


def test_outputs_that_are_something_else_are_foreign(hs: Hs, exported: Path) -> None:
    with h5py.File(exported, "a") as file:
        del file["outputs/stdout"]
        file["outputs/stdout"] = [1.5, 2.5]
    done = run_inside(hs, "import", "a.h5", "--db", "b.db")
    assert done.status == 5 and "is no export of hypershell, or damaged" in done.err


def test_it_takes_a_database(hs: Hs) -> None:
    done = run_inside(hs, "cluster", "--keep-output", "--no-db")
    assert done.status == 2 and "Using --keep-output with --no-db is invalid" in done.err


@each_mpi()
def test_over_mpi(hs: Hs, mpi: Mpi) -> None:
    hs.file([*LINES, *([f"head -c {KEPT_MOST} /dev/zero"] * 8)])
    args = ["--keep-output", "-N2", "-o", "out", "-e", "err"]  # launchers pass on megabytes slowly
    assert Job(hs, mpi).run(3, "tasks.in", *args).status == 7
    found = kept(hs)
    assert {line: rows[0] for line, rows in found.items()} == LINES
    assert [len(rows) for rows in found.values()].count(9) == 1


def test_a_cancelled_task_keeps_what_it_printed_until_then(hs: Hs) -> None:
    hs.file([SLOW])
    process = hs.start("cluster", "tasks.in", "--keep-output", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"until then\n"
    while "Asked the server" not in run_inside(hs, "update", "--cancel", "-R", "-f").err:
        assert process.poll() is None  # its row is not committed yet
    process.communicate(timeout=60)
    assert kept(hs)[SLOW] == [(b"until then\n", 11, b"", 0)] and hs.states() == {"cancelled": 1}
