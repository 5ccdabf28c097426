"""Names that are not UTF-8, everywhere: folders, files, templates, variables, through every command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_net import ended, server
from tests.testbed.cli import Done, Hs
from tests.testbed.mpi import Mpi, each_mpi, launch
from tests.testbed.postgres import PostgresHs

#: Every byte that a name can have.
ALL = os.fsdecode(bytes(byte for byte in range(1, 256) if byte != ord("/")))
LATIN = os.fsdecode(b"caf\xe9")
SHOWN = r"caf\xe9"


def here(hs: Hs, name: str) -> Hs:
    """`hs` in a folder of this name, with its site in there."""
    hs.folder /= name
    hs.folder.mkdir()
    hs.site = hs.folder / "site"
    hs.db = hs.site / "lib" / "main.db"
    return hs


def listed(hs: Hs, *args: str) -> list[dict[str, Any]]:
    """The tasks as JSON that anybody can read."""
    done = hs.run("list", "--json", *args)
    assert (done.status, done.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.out.encode())  # fails where it is not UTF-8
    return found


def quiet(done: Done) -> Done:
    assert done.status == 0, done.err
    assert "report this" not in done.err and "traceback" not in done.err
    return done


def test_a_folder_of_all_bytes_from_the_run_to_the_restart_elsewhere(hs: Hs) -> None:
    hs = here(hs, ALL)
    name = hs.file(b"one \xff\ntwo\n", name=f"{LATIN}.in")
    run = ("cluster", name, "-t", f"pwd; echo {LATIN} $WORD {{}}", "--capture")
    exports = {"HYPERSHELL_EXPORT_WORD": LATIN}
    assert quiet(hs.run(*run, env=exports)) == Done(0, "", "")

    one, two = listed(hs)
    assert (one["args"], two["args"]) == (r"one \xff", "two")
    assert one["command"] == rf"pwd; echo {SHOWN} $WORD one \xff"
    assert hs.run("info", one["id"], "--stdout").out == f"{hs.folder}\n{LATIN} {LATIN} one \udcff\n"
    (row,) = hs.rows("SELECT path, template, cwd, options FROM submission")
    assert row[0].endswith(rf"\xfe\xff/{SHOWN}.in") and row[1] == rf"pwd; echo {SHOWN} $WORD {{}}"
    options = json.loads(row[3])
    assert bytes.fromhex(options["cwd_raw"]) == bytes(hs.folder)
    assert bytes.fromhex(options["path_raw"]) == bytes(hs.folder / name)

    # The same FILE is known again here, and in a database to which all of it was carried.
    assert quiet(hs.run(*run, "--restart", env=exports)).out == ""
    quiet(hs.run("export", f"{LATIN}.h5"))
    quiet(hs.run("import", f"{LATIN}.h5", "--db", f"{LATIN}.db"))
    elsewhere = quiet(hs.run(*run, "--restart", "--db", f"{LATIN}.db", env=exports))
    assert elsewhere.err.startswith(f"hs: all of {SHOWN}.in was done before")
    assert hs.states() == {"succeeded": 2}
    for query, count in (("SELECT count(*) FROM task", 2), ("SELECT count(*) FROM run", 3)):
        assert hs.rows(query, db=hs.folder / f"{LATIN}.db") == [(count,)]


def test_everything_that_is_written_may_have_such_a_name(hs: Hs) -> None:
    hs = here(hs, LATIN)
    written = {"-o": ".out", "-e": ".err", "-f": ".failed", "--status-file": ".status", "--db": ".db"}
    names = {option: f"{LATIN}{ending}" for option, ending in written.items()}
    words = [word for pair in names.items() for word in pair]
    done = hs.run("cluster", "-t", "echo {}; echo {} >&2; false", *words, input=b"a\n", env={"LC_ALL": "C"})
    assert done.status == 7 and rf"--db $'{hs.folder.parent}/{SHOWN}/{SHOWN}.db'" in done.err
    made = {option: (hs.folder / names[option]).read_bytes() for option in written}
    assert (made["-o"], made["-e"], made["-f"]) == (b"a\n", b"a\n", b"a\n")
    assert json.loads(made["--status-file"])["failed"] == 1
    assert len(listed(hs, "--db", names["--db"])) == 1
    for ending in ("csv", "jsonl", "parquet"):
        quiet(hs.run("export", f"{LATIN}.{ending}", "--db", names["--db"]))
        assert (hs.folder / f"{LATIN}.{ending}").stat().st_size > 0


def test_upkeep_of_a_database_with_such_a_name(hs: Hs) -> None:
    db = f"{LATIN}.db"
    quiet(hs.run("submit", "--db", db, "echo", LATIN))
    quiet(hs.run("submit", "--db", db, "-f", hs.file(["true"], name=f"{LATIN}.in"), "-t", "site:west"))
    quiet(hs.run("update", "--db", db, "-t", "site:west", f"args=printf {LATIN}", "--no-confirm"))
    (found,) = listed(hs, "--db", db, "-w", f"args == printf {LATIN}")
    assert found["args"] == f"printf {SHOWN}"
    assert len(listed(hs, "--db", db, "-w", f"args ~ (echo|printf) .*{LATIN}")) == 2
    done = quiet(hs.run("cluster", "--restart", "--db", db))
    assert sorted(done.out.replace("\n", "")) == sorted(LATIN * 2)
    quiet(hs.run("initdb", "--db", db, "--backup", f"{LATIN}.bak", "--yes"))
    quiet(hs.run("initdb", "--db", db, "--rotate", "--yes"))
    for path in (db, f"{LATIN}.bak", f"{LATIN}.1.db"):
        assert (hs.folder / path).exists()
    assert len(listed(hs, "--db", db)) == len(listed(hs, "--db", f"{LATIN}.bak")) == 2
    assert f"an id that begins with '{SHOWN}'" in hs.run("runs", LATIN, "--db", db).err


def test_an_encoding_of_the_locale_changes_no_byte(hs: Hs) -> None:
    hs = here(hs, LATIN)
    ascii_ = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = hs.run("cluster", "-t", f"printf 'é {LATIN} {{}}'", input="ü\n", env=ascii_)
    assert quiet(done).out == f"é {LATIN} ü"
    assert [one["command"] for one in listed(hs)] == [f"printf 'é {SHOWN} ü'"]
    done = hs.run("list", "args", "-w", "args == ü", env=ascii_)
    assert done.out == "ü\n"


def test_what_cannot_be_is_named_in_one_line(hs: Hs) -> None:
    for status, args in (
        (5, ["cluster", f"{LATIN}/no.in"]),
        (5, ["list", "--db", f"{LATIN}/no.db"]),
        (2, ["submit", "--tag", f"x:{LATIN}", "--", "true"]),
        (2, ["cluster", "-N", LATIN]),
    ):
        done = hs.run(*args)
        assert done.status == status, done.err
        assert SHOWN in done.err and done.err.count("\n") == 1 and "udce9" not in done.err


def test_a_server_its_client_and_a_submitter(hs: Hs) -> None:
    """The client's own folder is where its tasks run; a FILE and a template are the submitter's."""
    hs = here(hs, LATIN)
    hs.file(["pwd", "echo $TASK_CWD $TASK_OUTPATH"])
    exports = {"HYPERSHELL_EXPORT_WORD": LATIN}
    with server(hs, "--forever") as process:
        name = hs.file(b"echo $WORD; pwd\n", name=f"{LATIN}.in")
        quiet(hs.run("submit", "--connect", "c.json", "-f", name, "--template", f"echo {LATIN}; {{}}"))
        quiet(hs.run("submit", "--connect", "c.json", "-f", "tasks.in"))
        told = json.loads(hs.run("status", "--connect", "c.json", "--json").out.encode())
        assert told["database"].endswith(f"{SHOWN}/site/lib/main.db")
        worker = hs.start("client", "--connect", "c.json", "--capture", "--timeout", "1", env=exports)
        assert ended(worker).status == 0
        process.terminate()
        assert ended(process).status == 0
    first, second, third = listed(hs)
    assert first["command"] == f"echo {SHOWN}; echo $WORD; pwd"
    shown_paths = [hs.run("info", one["id"], "--stdout").out for one in (first, second, third)]
    outpath = third["outpath"].replace(SHOWN, LATIN)
    assert shown_paths == [f"{LATIN}\n{LATIN}\n{hs.folder}\n", f"{hs.folder}\n", f"{hs.folder} {outpath}\n"]
    paths = dict(hs.rows("SELECT path, source FROM submission"))
    assert [Path(path).name for path in paths] == [f"{SHOWN}.in", "tasks.in"]


@each_mpi()
def test_ranks_in_such_a_folder(hs: Hs, mpi: Mpi) -> None:
    hs = here(hs, LATIN)
    name = hs.file(["pwd", "echo $WORD $TASK_CWD"], name=f"{LATIN}.in")
    words = ["-m", "hypershell", "mpi", name, "-t", f"{{}} {LATIN}", "-o", f"{LATIN}.out"]
    env = {"HYPERSHELL_SITE": str(hs.site), "HYPERSHELL_EXPORT_WORD": LATIN}
    for told in ("", f"hs: all of {SHOWN}.in was done before"):
        done = launch(mpi, 2, [*words, "--restart"], env, cwd=hs.folder)
        assert done.status == 0 and done.stderr.partition(",")[0] == told
    assert hs.rows("SELECT command FROM task ORDER BY id") == [
        (f"pwd {SHOWN}",), (f"echo $WORD $TASK_CWD {SHOWN}",),
    ]  # fmt: skip
    assert hs.rows("SELECT succeeded FROM run ORDER BY id") == [(2,), (0,)]


def test_postgresql(pg: PostgresHs) -> None:
    folder = pg.folder / LATIN
    folder.mkdir()
    pg.folder = folder
    name = pg.file([f"echo '{SHOWN}'"], name=f"{LATIN}.in")
    run = ("cluster", name, "-t", f"{{}} {LATIN}")
    assert quiet(pg.run(*run)).out == f"{SHOWN} {LATIN}\n"
    again = quiet(pg.run(*run, "--restart"))
    assert again.out == "" and again.err.startswith(f"hs: all of {SHOWN}.in was done before")
    assert [one["command"] for one in listed(pg)] == [f"echo '{SHOWN}' {SHOWN}"]


@pytest.mark.parametrize("twin", [SHOWN, LATIN])
def test_captured_output_is_that_of_the_right_folder(hs: Hs, twin: str) -> None:
    """A folder whose name holds the text that shows the bytes of another one."""
    other = SHOWN if twin == LATIN else LATIN
    (hs.folder / other / "site" / "lib" / "task").mkdir(parents=True)
    env = {"HYPERSHELL_SITE": str(hs.folder / twin / "site")}
    quiet(hs.run("cluster", "--capture", "--db", "x.db", input="echo yes\n", env=env))
    (one,) = listed(hs, "--db", "x.db")
    assert SHOWN in one["outpath"]
    assert hs.run("info", one["id"], "--stdout", "--db", "x.db").out == "yes\n"
