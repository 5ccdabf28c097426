"""``hs export`` and ``hs import`` from outside: every row back as it was, every format, what is refused and why."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hypershell.data.columns import NO_NUMBER, STATES, TABLES
from hypershell.executor.capture import capture_paths
from tests.test_query import fill
from tests.testbed.cli import Hs
from tests.testbed.mpi import ROOT
from tests.testbed.tables import assert_same_rows, many_tasks

ROWS = 20_000


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Hs:
    """A site in which tasks ran: a retry, tags, captured output, a line that is not UTF-8."""
    hs = Hs(tmp_path_factory.mktemp("export"))
    lines = [
        b"echo one  # HYPERSHELL: site:west n:1 a.b:x flag",
        b"exit 3  # HYPERSHELL: site:east",
        b"printf '\xff\xfe' # HYPERSHELL: site",
        "echo 'é'; echo two >&2".encode(),
    ]
    assert hs.run("cluster", hs.file(b"\n".join(lines) + b"\n"), "-N2", "-r", "1", "--capture").status == 7
    return hs


@pytest.fixture(scope="module")
def exported(ran: Hs) -> Path:
    done = ran.run("export", "tasks.h5", "--outputs")
    assert done.status == 0, done.err
    assert "Exported 5 tasks (tasks.h5)" in done.err and "WARNING" not in done.err
    return ran.folder / "tasks.h5"


def test_an_import_restores_every_row(ran: Hs, exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    done = ran.run("import", str(exported), "--db", str(copy))
    assert done.status == 0 and "Restored 5 tasks, 1 clients, 1 runs, 1 submissions" in done.err
    assert assert_same_rows(ran.db, copy) == 5
    assert ran.rows("SELECT count(*) FROM task WHERE args_raw IS NOT NULL", db=copy) == [(1,)]
    again = ran.run("import", str(exported), "--db", str(copy))
    assert again.status == 5 and f"database {copy} is not empty (table task)" in again.err


def test_states_of_every_kind_come_back(tmp_path: Path) -> None:
    hs = Hs(tmp_path)
    fill(tmp_path / "a.db")
    assert hs.run("export", "a.h5", "--db", "a.db").status == 0
    assert hs.run("import", "a.h5", "--db", "b.db").status == 0
    assert assert_same_rows(tmp_path / "a.db", tmp_path / "b.db") == 6


def test_many_rows_come_back(tmp_path: Path) -> None:
    hs = Hs(tmp_path)
    many_tasks(tmp_path / "a.db", ROWS)
    assert hs.run("export", "a.h5", "--db", "a.db").status == 0
    assert hs.run("import", "a.h5", "--db", "b.db").status == 0
    assert assert_same_rows(tmp_path / "a.db", tmp_path / "b.db") == ROWS


def test_the_file_is_as_documented(ran: Hs, exported: Path) -> None:
    with h5py.File(exported) as file:
        assert {name: file.attrs[name] for name in ("format", "schema", "query", "moved")} == {
            "format": "hypershell export", "schema": 1, "query": "", "moved": 0,
        }  # fmt: skip
        assert {name: file.attrs[name] for name in TABLES} == {
            "tasks": 5, "clients": 1, "runs": 1, "submissions": 1,
        }  # fmt: skip
        tasks = file["tasks"]
        for data in (tasks[column.name] for column in TABLES["tasks"].columns):
            assert data.shape == (5,) and data.maxshape == (None,) and data.chunks is not None
            assert data.compression == "gzip"
        assert tasks["id"].dtype == "S36" and tasks["submit_time"].attrs["units"] == "ns since 1970-01-01 UTC"
        assert h5py.check_enum_dtype(tasks["state"].dtype) == STATES
        rows = ran.rows("SELECT id, submit_time, client_host, exit_status, tag, error FROM task ORDER BY id")
        hosts = file["hosts"].asstr()[:]
        stamps = tasks["submit_time"][:].view("datetime64[ns]").astype("datetime64[us]")
        for n, (id_, stamp, host, status, tag, error) in enumerate(rows):
            assert (tasks["id"][n].decode(), tasks["exit_status"][n]) == (id_, status)
            assert stamps[n] == np.datetime64(stamp) and hosts[tasks["client_host"][n]] == host
            assert json.loads(tasks["tag"][n]) == json.loads(tag)
            assert bool(tasks["missing/error"][n]) is (error is None)
        assert (tasks["cores"][:] == NO_NUMBER).all() and np.isnan(tasks["timeout"][:]).all()
        assert tasks["memory"].attrs["units"] == "bytes" and tasks["duration"].attrs["units"] == "s"
        assert set(tasks["tags"]) == {"site", "n", "a%2Eb", "flag"}
        by_args = {args: n for n, args in enumerate(tasks["args"].asstr()[:])}
        first, last = by_args["echo one"], next(n for args, n in by_args.items() if "two" in args)
        assert tasks["tags/site"].asstr()[first] == "west" and tasks["tags/n"].asstr()[first] == "1"
        assert tasks["tags/flag"].asstr()[first] == tasks["tags/flag"].asstr()[last] == ""
        assert list(tasks["missing/tags/flag"][[first, last]]) == [0, 1]
        assert output(file, "stdout", first) == b"one\n" and output(file, "stderr", last) == b"two\n"
        raw = next(n for n, value in enumerate(tasks["args_raw"][:]) if len(value))
        assert b"\xff\xfe" in bytes(tasks["args_raw"][raw]) and output(file, "stdout", raw) == b"\xff\xfe"


def output(file: Any, stream: str, row: int) -> bytes:
    begin, length = (int(file[f"outputs/{stream}_{name}"][row]) for name in ("offset", "length"))
    return bytes(file[f"outputs/{stream}"][begin : begin + length])


def test_filters_choose_and_are_told(ran: Hs, tmp_path: Path) -> None:
    path = tmp_path / "part.h5"
    assert ran.run("export", "-t", "site:east", str(path), "-F", "-l", "1").status == 0
    with h5py.File(path) as file:
        assert file.attrs["tasks"] == 1 and file.attrs["query"] == "-t site:east -l 1 --failed"
    done = ran.run("import", str(path), "--db", str(tmp_path / "part.db"))
    assert done.status == 0 and "only the tasks of: -t site:east -l 1 --failed" in done.err


def test_more_keys_than_datasets(tmp_path: Path) -> None:
    hs = Hs(tmp_path)
    many_tasks(tmp_path / "a.db", 70)
    with sqlite3.connect(tmp_path / "a.db") as link:
        link.executemany("UPDATE task SET tag = ? WHERE rowid = ?", [(f'{{"k{n}":{n}}}', n) for n in range(1, 71)])
    done = hs.run("export", "a.h5", "--db", "a.db")
    assert done.status == 0 and "6 keys of tags have no dataset of their own" in done.err
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file["tasks/tags"]) == 64 and file["tasks/tags"].attrs["left_out"] == 6


def test_csv_and_json_lines(ran: Hs) -> None:
    assert ran.run("export", "tasks.csv").status == ran.run("export", "tasks.ndjson").status == 0
    assert (ran.folder / "tasks.csv").read_bytes().decode() == ran.run("list", "--csv").out
    with open(ran.folder / "tasks.csv", newline="", encoding="utf-8") as source:
        assert len(list(csv.DictReader(source))) == 5
    lines = (ran.folder / "tasks.ndjson").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == json.loads(ran.run("list", "--json").out)
    assert ran.run("export", "--format", "jsonl").out.splitlines() == lines
    assert ran.run("export", "-", "--format=csv", "-F").out == ran.run("list", "--csv", "-F").out


def test_parquet(ran: Hs) -> None:
    from pyarrow import parquet

    assert ran.run("export", "tasks.parquet").status == 0
    rows = parquet.read_table(ran.folder / "tasks.parquet").to_pylist()
    told = ran.rows(
        "SELECT id, args, state, exit_status, client_host, submit_time, tag, args_raw FROM task ORDER BY id"
    )
    for row, (id_, args, state, status, host, stamp, tag, raw) in zip(rows, told, strict=True):
        assert (row["id"], row["args"], row["state"], row["exit_status"]) == (id_, args, state, status)
        assert (row["client_host"], row["tag"], row["args_raw"], row["cores"]) == (host, tag, raw, None)
        assert row["submit_time"].isoformat(" ", "microseconds") == f"{stamp}+00:00"


def test_parquet_without_pyarrow_says_how_to_get_it(ran: Hs) -> None:
    (ran.folder / "none" / "pyarrow").mkdir(parents=True)
    (ran.folder / "none" / "pyarrow" / "__init__.py").write_text("raise ImportError('no')\n")
    path = os.pathsep.join([str(ran.folder / "none"), str(ROOT)])
    done = ran.run("export", "x.parquet", env={"PYTHONPATH": path})
    assert done.status == 5 and "pip install 'hypershell-mpi[parquet]'" in done.err
    assert not (ran.folder / "x.parquet").exists()


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        ((), 2, "required: FILE"),
        (("tasks.txt",), 2, "its ending names no format (.h5 .hdf5 .csv .jsonl .ndjson .parquet)"),
        (("-",), 2, "its ending names no format"),
        (("-", "--format", "hdf5"), 2, "Using --format=hdf5 with stdout is invalid"),
        (("x.csv", "--outputs"), 2, "Using --outputs with --format=csv is invalid"),
        (("x.csv", "-w", "nothing == 1"), 2, "Invalid field name"),
        (("no/such/x.h5",), 5, "there is no folder no/such"),
        (("x.h5", "--db", "none.db"), 5, "none.db does not exist"),
        (("site", "--format=csv", "--force"), 5, "site is not a regular file"),
    ],
)
def test_what_is_refused_by_name(ran: Hs, args: tuple[str, ...], status: int, text: str) -> None:
    done = ran.run("export", *args)
    assert (done.status, done.out) == (status, "") and text in done.err and done.err.count("\n") == 1
    assert not list(ran.folder.glob("x.*")) + list(ran.folder.glob(".*"))


def test_an_existing_file_is_kept_or_replaced(ran: Hs) -> None:
    path = ran.folder / "kept.csv"
    path.write_text("mine")
    done = ran.run("export", "kept.csv")
    assert done.status == 5 and "kept.csv exists" in done.err and "--force" in done.err
    assert path.read_text() == "mine"
    assert ran.run("export", "kept.csv", "--force").status == 0
    assert path.read_text().startswith("id,")


@pytest.mark.parametrize("name", ["big.h5", "big.csv", "big.jsonl"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, name: str) -> None:
    hs = Hs(tmp_path)
    many_tasks(tmp_path / "a.db", ROWS)
    command = [sys.executable, "-m", "hypershell", "export", name, "--db", "a.db"]
    # A limit on the size of files fails as a full disk does.
    limited = "import os, resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, (200000,) * 2); "
    limited += "os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", limited, *command],
        cwd=tmp_path,
        env=hs.environ(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 5 and f"cannot write {name}" in done.stderr, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if "big" in path.name) == []


@pytest.mark.parametrize("name", ["big.h5", "big.csv"])
def test_an_interrupt_leaves_nothing(tmp_path: Path, name: str) -> None:
    hs = Hs(tmp_path)
    many_tasks(tmp_path / "a.db", 300_000 if name.endswith("csv") else 100_000)
    process = hs.start("export", name, "--db", "a.db")
    until = time.monotonic() + 60
    while not list(tmp_path.glob(f".{name}.*")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    left = [path.name for path in tmp_path.iterdir() if "big" in path.name]
    # On a machine that is very slow to look, the export may have ended before the signal.
    assert (process.returncode, left) in [(4, []), (0, [name])], said


def test_progress_on_a_terminal_only(tmp_path: Path) -> None:
    hs = Hs(tmp_path)
    many_tasks(tmp_path / "a.db", 3_000)
    master, slave = pty.openpty()
    code = (
        "import sys; from hypershell.apps import export, progress; progress._FIRST = progress._PERIOD = 0.0; "
        "sys.exit(export.main(['a.csv', '--db', 'a.db']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=slave, cwd=tmp_path, env=hs.environ({"TERM": "xterm"})
    )
    os.close(slave)
    said = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        said += piece
    os.close(master)
    assert process.wait(60) == 0 and re.search(rb"exporting \[#+ *\] +\d+%  \d+ tasks", said)
    assert "\r" not in hs.run("export", "b.csv", "--db", "a.db").err


def test_a_database_without_tasks(tmp_path: Path) -> None:
    hs = Hs(tmp_path)
    assert hs.run("export", "a.h5").status == 0
    assert hs.run("import", "a.h5", "--db", "b.db").status == 0
    many_tasks(tmp_path / "c.db", 1)
    with sqlite3.connect(tmp_path / "c.db") as link:
        link.execute("DELETE FROM task")
    assert hs.run("export", "c.h5", "--db", "c.db").status == 0
    assert hs.run("import", "c.h5", "--db", "d.db").status == 0
    assert assert_same_rows(tmp_path / "c.db", tmp_path / "d.db") == 0
    assert hs.rows("SELECT count(*) FROM submission", db=tmp_path / "d.db") == [(1,)]


def test_output_that_is_gone_is_counted(tmp_path: Path) -> None:
    hs = Hs(tmp_path)
    many_tasks(tmp_path / "a.db", 3)
    with sqlite3.connect(tmp_path / "a.db") as link:
        ids = [key for (key,) in link.execute("SELECT id FROM task ORDER BY id")]
        gone, fifo, out = (Path(capture_paths(str(tmp_path / "task"), key)[0]) for key in ids)
        for key, path in zip(ids, (gone, fifo, out), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            link.execute("UPDATE task SET outpath = ? WHERE id = ?", (str(path), key))
    os.mkfifo(fifo)
    out.write_bytes(b"text")
    done = hs.run("export", "a.h5", "--outputs", "--db", "a.db")
    assert done.status == 0 and "1 files of output are not readable here" in done.err
    assert f"1 files of output were refused; the first: {fifo} is not opened: it is no regular file" in done.err
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["outputs/stdout_length"]) == [-1, -1, 4] and output(file, "stdout", 2) == b"text"


def test_a_value_that_fits_nowhere_is_named(tmp_path: Path) -> None:
    hs = Hs(tmp_path)
    many_tasks(tmp_path / "a.db", 3)
    with sqlite3.connect(tmp_path / "a.db") as link:
        link.execute("UPDATE task SET start_time = 'yesterday' WHERE rowid = 2")
    done = hs.run("export", "a.h5", "--db", "a.db")
    assert done.status == 5 and "row 01900000-0000-7000-8000-000000000001 has in column start_time" in done.err
    assert not (tmp_path / "a.h5").exists()


#: Values that a hand wrote into the database, and what an HDF5 export says of them.
ODD_VALUES = {
    "host with a NUL": ("client_host = x'ff0080'", "has in column client_host what no export can hold"),
    "id of bytes": ("id = x'ff0080'", "a row holds what no export can hold: "),
    "infinite": ("retried = 9e999", "a row holds what no export can hold: "),
}


@pytest.mark.parametrize("name", ODD_VALUES)
@pytest.mark.parametrize("target", ["a.h5", "a.parquet"])
def test_odd_values_are_told_in_one_line(tmp_path: Path, name: str, target: str) -> None:
    """A row that cannot be exported is no error of ours: nothing is written, and no traceback is left."""
    hs = Hs(tmp_path)
    change, text = ODD_VALUES[name]
    many_tasks(tmp_path / "a.db", 3)
    with closing(sqlite3.connect(tmp_path / "a.db")) as link, link:
        link.execute(f"UPDATE task SET {change} WHERE rowid = 2")
    done = hs.run("export", target, "--db", "a.db")
    assert done.status == 5 and done.err.count("\n") == 1, done.err
    assert (text if target == "a.h5" else "what no export can hold") in done.err and "traceback" not in done.err
    assert not (tmp_path / target).exists()


# -- files of others -----------------------------------------------------------------------------------------


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def _replace(name: str, data: Any) -> Callable[[Path], None]:
    def change(file: Any) -> None:
        del file[name]
        file.create_dataset(name, data=data, chunks=True, maxshape=(None,))

    return _edit(change)


def _link(file: Any) -> None:
    del file["tasks"]
    file["tasks"] = h5py.ExternalLink("/etc/passwd", "/")


def _set(name: str, row: int, value: Any) -> Callable[[Path], None]:
    def change(file: Any) -> None:
        file[name][row] = value

    return _edit(change)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no hdf5": (lambda path: path.write_text("hello") and None, "it is no HDF5 file"),
    "truncated": (_truncate, "it is no HDF5 file, or damaged"),
    "foreign": (_edit(lambda file: file.attrs.__delitem__("format")), "is no export of hypershell"),
    "newer": (_edit(lambda file: file.attrs.__setitem__("schema", 99)), "has schema 99, here it is 1"),
    "no counts": (_edit(lambda file: file.attrs.__delitem__("tasks")), "is no export of hypershell, or damaged"),
    "no column": (_edit(lambda file: file["tasks"].__delitem__("args")), "there is no /tasks/args"),
    "other length": (_edit(lambda file: file["tasks/id"].resize((2,))), "/tasks/id has shape (2,), not (5,)"),
    "other type": (_replace("tasks/exit_status", np.zeros(5)), "/tasks/exit_status has type float64"),
    "other file": (_edit(_link), "there is no /tasks"),
    "huge count": (_edit(lambda file: file.attrs.__setitem__("tasks", 2**60)), "has shape (5,)"),
    "same id": (lambda path: _edit(lambda f: f["tasks/id"].__setitem__(1, f["tasks/id"][0]))(path), "UNIQUE"),
    "unknown state": (_set("tasks/state", 0, 77), "is damaged: tasks: 77"),
    "unknown host": (_set("tasks/client_host", 0, 999), "is damaged: tasks: list index"),
    "bad id": (_set("tasks/id", 0, b"\xff" * 36), "is damaged: tasks"),
    "no time": (_set("tasks/submit_time", 0, NO_NUMBER), "NOT NULL"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_file_that_is_no_whole_export_is_named(ran: Hs, exported: Path, tmp_path: Path, name: str) -> None:
    damage, text = DAMAGES[name]
    path = tmp_path / "bad.h5"
    shutil.copy(exported, path)
    damage(path)
    done = ran.run("import", str(path), "--db", str(tmp_path / "copy.db"))
    assert done.status == 5 and str(path) in done.err and text in done.err and done.err.count("\n") == 1, done.err
    if (tmp_path / "copy.db").exists():
        with closing(sqlite3.connect(tmp_path / "copy.db")) as link:
            assert link.execute("SELECT count(*) FROM task").fetchone() == (0,)
        assert ran.run("import", str(exported), "--db", str(tmp_path / "copy.db")).status == 0


def test_import_needs_a_file_that_is_there(tmp_path: Path) -> None:
    hs = Hs(tmp_path)
    assert "required: FILE" in hs.run("import").err
    done = hs.run("import", "none.h5")
    assert done.status == 5 and "cannot read none.h5: there is no such file" in done.err


def test_the_snippet_of_the_page_works(ran: Hs, exported: Path) -> None:
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    snippet = re.findall(r"(?ms)^### Python: h5py\n\n```python\n(.*?)^```$", page)
    assert len(snippet) == 1
    done = subprocess.run([sys.executable, "-c", snippet[0]], cwd=exported.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("5 tasks by version ") and len(lines) == 3
    assert all(line.endswith(" exit 3") for line in lines[1:])
