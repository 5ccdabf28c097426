"""``hs list`` from outside, on databases that a real run and the data layer made; formats byte for byte."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.__main__ import main
from hypershell.apps.formats import BLOCK_FIELDS, Blocks, Csv, Json, Plain
from hypershell.apps.frame import parse_list
from hypershell.apps.table import Table, cut_front, cut_to, width_of
from hypershell.data.where import FIELDS, Kind
from hypershell.errors import UsageError
from hypershell.options import options_of
from hypershell.ostext import one_line
from tests.test_query import big, fill
from tests.testbed.cli import Done, Hs

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Hs:
    """A site in which four tasks ran."""
    hs = Hs(tmp_path_factory.mktemp("list"))
    lines = [
        "echo 'A \"B\"'  # HYPERSHELL: site:west n:1",
        "exit 3  # HYPERSHELL: site:east",
        "echo \\t 'é'  # HYPERSHELL: site:west group:0",
        "kill -9 $$",
    ]
    assert hs.run("cluster", hs.file(lines), "-N2").status == 7
    return hs


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Hs:
    """A site whose database holds the six tasks of test_query."""
    hs = Hs(tmp_path_factory.mktemp("filled"))
    hs.db.parent.mkdir(parents=True)
    fill(hs.db)
    return hs


def run(hs: Hs, *args: str, env: dict[str, str] | None = None) -> Done:
    """``hs list`` inside of this process, which saves the time to start one."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
    logger = logging.getLogger("hypershell")
    before, level = list(logger.handlers), logger.level
    logger.handlers.clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HYPERSHELL_SITE": str(hs.site), **(env or {})}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        patch.setattr(logger, "propagate", False)
        patch.chdir(hs.folder)
        status = main(["list", *args])
    for stream in streams:
        stream.flush()
    logger.handlers[:] = before
    logger.setLevel(level)
    out, err = (stream.buffer.getvalue().decode() for stream in streams)
    return Done(status, out, err)


def out(hs: Hs, *args: str, **more: Any) -> str:
    done = run(hs, *args, **more)
    assert (done.status, done.err) == (0, "")
    return done.out


# -- black box -----------------------------------------------------------------------------------------------


def test_a_process_of_its_own_does_the_same(ran: Hs) -> None:
    for argv in (["args", "exit_status", "tag"], ["--csv"], [], ["-c"], ["foo"], ["-w", "exit_status"]):
        assert ran.run("list", *argv) == run(ran, *argv)


def test_what_ran_is_listed(ran: Hs) -> None:
    assert out(ran, "args", "exit_status", "state", "tag") == (
        "echo 'A \"B\"'\t0\tsucceeded\t" + '{"site": "west", "n": 1}\n'
        'exit 3\t3\tfailed\t{"site": "east"}\n'
        "echo \\t 'é'\t0\tsucceeded\t" + '{"site": "west"}\n'
        "kill -9 $$\t-9\tfailed\t{}\n"
    )
    assert out(ran, "-c") == "4\n"
    assert out(ran, "-c", "-l3") == "3\n"
    assert out(ran, "-F", "args") == "exit 3\nkill -9 $$\n"
    assert out(ran, "args", "-S", "-w", "args ~ é") == "echo \\t 'é'\n"
    assert out(ran, "-R", "-c") == "0\n"
    assert out(ran, "exit_status", "-C", "--order-by", "exit_status", "--desc", "-l", "2") == "3\n0\n"
    assert out(ran, "--tag-keys") == "n\nsite\n"
    assert out(ran, "--tag-values", "site") == "east\nwest\n"
    assert out(ran, "--tag-values", "site", "-F") == "east\n"


def test_a_list_of_commands_can_run_again(ran: Hs) -> None:
    again = out(ran, "args", "-S")
    assert ran.run("cluster", "--no-db", input=again).out.splitlines() == ['A "B"', "t é"]


def test_alone_without_terminal_all_tasks_newest_first(ran: Hs) -> None:
    lines = [line.split("\t") for line in out(ran).splitlines()]
    assert [line[-1] for line in lines] == ["kill -9 $$", "echo \\t 'é'", "exit 3", "echo 'A \"B\"'"]
    assert all(ID.fullmatch(line[0]) for line in lines)
    assert [line[1:3] for line in lines[:2]] == [["failed", "-9"], ["succeeded", "0"]]


def test_normal_blocks(ran: Hs) -> None:
    text = out(ran, "-l", "1")
    assert out(ran, "-l", "1", "-f", "normal") == text
    lines = text.splitlines()
    assert lines[0] == "---"
    names = " ".join(line[:12].strip() for line in lines[1:])
    assert names == (
        "id group args command cores memory timeout state exit_status error submitted scheduled started "
        "completed user_time system_time max_rss submit_host server_host client_host submission execution "
        "attempt retried outpath errpath csvpath previous_id next_id tags"
    )
    assert all(line[12:14] == ": " for line in lines[1:])
    assert "        args: echo 'A \"B\"'" in lines
    assert "        tags: site:west n:1" in lines
    assert "     timeout: null" in lines and "       cores: null (used: null)" in lines
    assert re.search(r"(?m)^     started: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} \(waited: 0:00:0\d\)$", text)
    assert len(out(ran, "-C").splitlines()) == 4 * 31


def test_fields(ran: Hs) -> None:
    assert out(ran, "--fields").split(" ") == [*list(FIELDS)[:-1], "max_rss\n"]
    header, first = out(ran, "--csv", "-l1").split("\r\n")[:2]
    assert header == ",".join(FIELDS)
    assert len(next(csv.reader([first]))) == len(FIELDS)
    assert list(json.loads(out(ran, "--json", "-l1"))[0]) == list(FIELDS)
    assert len(out(ran, "-fplain", "-l1").split("\t")) == len(FIELDS)


def test_conditions_and_tags_accumulate(filled: Hs) -> None:
    where = ["-w", "exit_status != 0", "--where=duration > 1.6"]
    assert out(filled, "exit_status", *where) == "-9\n"
    assert out(filled, *where[:2], "exit_status", *where[2:], "state") == "-9\tfailed\n"
    for tags in (["-t", "site", "n:1.5"], ["-t", "site", "-t", "n:1.5"], ["--with-tag", "site", "--with=n:1.5"]):
        assert out(filled, *tags, "-c") == "1\n"
    assert out(filled, "-g", "1", "-c") == "2\n"
    assert out(filled, "--retries", "attempt", "retried") == "2\tfalse\n"


def test_tags_do_not_swallow_fields(filled: Hs) -> None:
    for argv in (
        ["-t", "site", "ok:false", "exit_status", "state"],
        ["exit_status", "-t", "site", "ok:false", "state"],
        ["-t", "site", "ok:false", "--", "exit_status", "state"],
        ["-Ft", "site", "ok:false", "exit_status", "state"],
    ):
        assert out(filled, *argv) == "3\tfailed\n", argv


def test_json_and_csv(filled: Hs) -> None:
    assert out(filled, "--json", "exit_status", "tag", "retried", "outpath", "-l2", "-F") == (
        "[\n"
        '    {\n        "exit_status": 3,\n        "tag": {\n            "site": "east",\n            "n": 1.5,\n'
        '            "ok": false\n        },\n        "retried": true,\n        "outpath": null\n    },\n'
        '    {\n        "exit_status": -9,\n        "tag": {\n            "site": "007",\n            "n": 0,\n'
        '            "part.2-a": "v"\n        },\n        "retried": false,\n        "outpath": null\n    }\n'
        "]\n"
    )
    assert out(filled, "--csv", "retried", "group", "tag", "submit_time", "outpath", "-l1", "-F") == (
        "retried,group,tag,submit_time,outpath\r\n"
        'true,0,"{""site"": ""east"", ""n"": 1.5, ""ok"": false}",2026-11-22 11:01:25.250000,null\r\n'
    )
    assert out(filled, "--csv", "-d;", "group", "args", "-l1").splitlines()[1] == "0;./case_0 --mode 'a b' # 0"
    assert out(filled, "-d", " | ", "group", "state", "-l1") == "0 | succeeded\n"


def test_table(filled: Hs) -> None:
    assert out(filled, "-f", "table", "exit_status", "state", "duration", "args", "-l4").splitlines() == [
        "exit_status  state       duration  args",
        "───────────  ──────────  ────────  ─────────────────────────",
        "          0  succeeded        0.5  ./case_0 --mode 'a b' # 0",
        "          3  failed           1.5  ./case_1 --mode 'a b' # 1",
        "         -9  failed           2.5  ./case_2 --mode 'a b' # 2",
        "       null  dispatched      null  ./case_3 --mode 'a b' # 3",
    ]


@pytest.mark.parametrize(
    "shown", [["--json"], ["--csv", "args"], ["-f", "table"], ["args"], [], ["-c"], ["--tag-keys"]]
)
def test_nothing_found(hs: Hs, filled: Hs, shown: list[str]) -> None:
    expected = {"--json": "[]\n", "--csv": "args\r\n", "-c": "0\n"}.get(shown[0] if shown else "", "")
    assert out(filled, *shown, "-w", "group == 99") == expected
    assert out(hs, *shown) == expected  # no database yet
    assert not hs.site.exists()
    hs.db.parent.mkdir(parents=True)
    hs.db.touch()
    assert out(hs, *shown) == expected


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["foo"], 2, 'Invalid field name "foo"'),
        (["-w", "foo == 1"], 2, 'Invalid field name "foo"'),
        (["-w", "exit_status"], 2, "Where clause not understood ('exit_status')"),
        (["-w", "group == 1", "exit_status == 1"], 2, "a condition goes after -w"),
        (["-w"], 2, "argument -w/--where: expected one argument"),
        (["-t"], 2, "argument -t/--with-tag: expected one argument"),
        (["-t", "a/b"], 2, "bad tag 'a/b'"),
        (["-t", "group"], 2, "bad tag 'group'"),
        (["-t", "a", "a/b"], 2, 'Invalid field name "a/b"'),
        (["-s", "foo"], 2, 'Invalid field name "foo"'),
        (["--desc"], 2, "Using --desc requires -s/--order-by"),
        (["-F", "-S"], 2, "Using -F/--failed with -S/--succeeded is invalid"),
        (["--all", "-l", "3"], 2, "Using --all with -l/--limit is invalid"),
        (["-C", "-R"], 2, "Using -C/--completed with -R/--remaining is invalid"),
        (["--json", "--csv"], 2, "Using --json with --csv is invalid"),
        (["-f", "xml"], 2, "expected one of normal, plain, table, csv, json, not 'xml'"),
        (["-f", "normal", "args"], 2, "Using --format=normal with FIELD is invalid"),
        (["--json", "-d,"], 2, "Using -d/--delimiter with --format=json is invalid"),
        (["-d,"], 2, "Using -d/--delimiter with --format=normal is invalid"),
        (["--csv", "-d", "ab"], 2, "csv takes one character"),
        (["--csv", "-d", '"'], 2, "csv takes one character"),
        (["-d", "x" * 101, "args"], 2, "at most 100 characters"),
        (["-l", "-1"], 2, "must be at least 0, not -1"),
        (["-g", "x"], 2, "invalid int value: 'x'"),
        (["-c", "--tag-keys"], 2, "Using -c/--count with --tag-keys is invalid"),
        (["--foo"], 2, "unrecognized arguments: --foo"),
        (["args", "--foo"], 2, "unrecognized arguments: --foo"),
        (["--db", "missing.db"], 5, "missing.db does not exist; name another file with --db PATH"),
        (["--db", "."], 5, "is a directory"),
    ],
)
def test_bad_input_is_one_line(ran: Hs, argv: list[str], status: int, message: str) -> None:
    done = run(ran, *argv)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("CRITICAL [hypershell] ") and done.err.count("\n") == 1
    assert message in done.err


def test_another_file(ran: Hs, filled: Hs) -> None:
    assert out(ran, "--db", str(filled.db), "-c") == "6\n"
    assert out(ran, "-c", env={"HYPERSHELL_DATABASE_FILE": str(filled.db)}) == "6\n"


def test_nothing_on_stderr_even_when_all_is_logged(ran: Hs) -> None:
    assert out(ran, "-c", env={"HYPERSHELL_LOGGING_LEVEL": "devel"}) == "4\n"


def test_a_reader_that_has_enough(hs: Hs) -> None:
    hs.db.parent.mkdir(parents=True)
    big(hs.db, 20_000)
    for argv in (["id", "args"], [], ["--json"], ["-s", "attempt", "id"]):
        process = hs.start("list", *argv)
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")
        process.stderr.close()


def on_terminal(hs: Hs, lines: int, columns: int, *args: str) -> list[str]:
    """What a terminal of this size shows."""
    master, side = pty.openpty()
    termios.tcsetwinsize(side, (lines, columns))
    process = hs.start("list", *args, stdout=side, env={"COLUMNS": "", "LINES": ""})
    os.close(side)
    shown = b""
    while select.select([master], [], [], 60)[0]:
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: the other side is closed
            break
        shown += data
    os.close(master)
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read()) == (0, b"")
    process.stderr.close()
    return shown.decode().replace("\r\n", "\n").splitlines()


def test_alone_on_a_terminal_the_newest_fit_in(hs: Hs, filled: Hs) -> None:
    lines = on_terminal(filled, 8, 80)
    assert len(lines) == 6 and max(map(len, lines)) <= 80
    assert lines[0].split() == ["id", "state", "exit_status", "args"]
    assert all(ID.match(line) for line in lines[2:])
    assert [line.split()[1] for line in lines[2:]] == ["pending", "pending", "dispatched", "failed"]
    assert lines[-1].endswith("…")
    wide = on_terminal(filled, 50, 150)
    assert len(wide) == 8 and wide[0].split()[3:5] == ["duration", "client_host"]
    assert wide[-1].endswith("./case_0 --mode 'a b' # 0")
    assert len(on_terminal(filled, 8, 80, "--all")) == 8, "two more than fit in"
    assert on_terminal(hs, 8, 80) == [f"no tasks in {hs.db}"]


def test_no_character_of_a_task_reaches_the_terminal_as_a_command(hs: Hs) -> None:
    hs.db.parent.mkdir(parents=True)
    fill(hs.db)
    with sqlite3.connect(hs.db) as link:
        link.execute(
            "UPDATE task SET args = 'a' || char(27) || '[2J' || char(10) || 'b' || char(9) || 'c' || char(155)"
        )
    link.close()
    expected = "a\\u001b[2J\\nb\tc\\u009b"
    assert out(hs, "args", "-l1") == expected + "\n"
    assert f"        args: {expected}\n" in out(hs, "-l1")
    assert out(hs, "group", "args", "-l1") == "0\t" + expected.replace("\t", "\\t") + "\n"
    assert out(hs, "-ftable", "args", "-l1").splitlines()[2] == expected.replace("\t", " ")
    assert json.loads(out(hs, "--json", "args", "-l1")) == [{"args": "a\x1b[2J\nb\tc\x9b"}]


def test_sqlalchemy_is_not_imported_without_tasks(hs: Hs, ran: Hs) -> None:
    def modules(where: Hs) -> str:
        command = where.command("list", "args")
        command.insert(1, "-Ximporttime")
        done = subprocess.run(command, env=where.environ(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        return done.stderr

    assert "sqlalchemy" not in modules(hs)
    assert "sqlalchemy" in modules(ran) and "| rich" not in modules(ran)


# -- formats -------------------------------------------------------------------------------------------------

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.dictionaries(st.from_regex(r"[a-z.-]{1,5}", fullmatch=True), st.booleans() | st.integers() | st.none())
)
PAGES = st.lists(st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=4), max_size=3)


def plain_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


@given(PAGES, st.sampled_from(",;\t|x"))
def test_csv_is_read_back(pages: list[list[list[Any]]], delimiter: str) -> None:
    form = Csv(["a", "b", "c"], delimiter)
    text = "".join(map(form.page, pages)) + form.end()
    read = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    assert read == [["a", "b", "c"], *([plain_text(value) for value in row] for page in pages for row in page)]


@given(PAGES)
def test_json_is_read_back(pages: list[list[list[Any]]]) -> None:
    form = Json(["a", "b", "c"])
    text = "".join(map(form.page, pages)) + form.end()
    rows = [dict(zip("abc", row, strict=True)) for page in pages for row in page]
    assert json.loads(text) == rows


@given(PAGES)
def test_plain_is_one_line_for_each_row_and_one_part_for_each_value(pages: list[list[list[Any]]]) -> None:
    form = Plain(None)
    text = "".join(map(form.page, pages)) + form.end()
    read = [line.split("\t") for line in text.split("\n")[:-1]]
    assert read == [
        [one_line(plain_text(value)).replace("\t", "\\t") for value in row] for page in pages for row in page
    ]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"])))
def test_plain_shows_text_as_it_is(text: str) -> None:
    assert Plain(None).page([[text]]) == text + "\n"
    assert one_line(text) == text


def test_json_has_the_layout_of_the_standard_library() -> None:
    row = ["é\n\x1b", 1, {"a": {}, "b": True, "c": -0.5}]
    form = Json(["a", "b", "c"])
    text = form.page([row]) + form.page([]) + form.page([row]) + form.end()
    expected = [dict(zip("abc", row, strict=True))] * 2
    assert text == json.dumps(expected, indent=4, ensure_ascii=False) + "\n"


def test_block_shows_all_that_is_known() -> None:
    known: dict[str, Any] = dict.fromkeys(BLOCK_FIELDS)
    known |= {"id": "an-id", "tag": {"a": "", "b": 1, "c": True, "d": None, "e": "x"}, "memory": 64 * 1024**2}
    known |= {"memory_max": 0.0, "cores": 4, "cores_max": 3.456, "start_time": "then", "waited": 3661.9}
    known |= {"max_rss": 3553297.0, "client_host": "n1", "client_id": "c1", "retried": False, "args": "a\nb"}
    lines = Blocks().page([[known[field] for field in BLOCK_FIELDS]]).splitlines()
    for line in (
        "          id: an-id",
        "        args: a\\nb",
        "       cores: 4 (used: 3.46)",
        "      memory: 64.0MB (used: 0.00B)",
        "     started: then (waited: 1:01:01)",
        "   completed: null (duration: null)",
        "     max_rss: 3.39MB",
        " client_host: n1 (c1)",
        " submit_host: null",
        "     retried: false",
        "        tags: a b:1 c:true d:null e:x",
    ):
        assert line in lines


@given(
    st.lists(st.tuples(st.text(), st.integers(-9, 10**9), st.text()), min_size=1, max_size=8), st.integers(40, 90)
)
def test_table_fits(rows: list[tuple[str, int, str]], width: int) -> None:
    table = Table(["args", "exit_status", "command"], width)
    lines = (table.page(rows) + table.end()).split("\n")[:-1]
    assert len(lines) == len(rows) + 2
    assert max(map(width_of, lines)) <= width


def test_table_goes_on_after_its_widths_are_known() -> None:
    table = Table(["args", "exit_status"], 30, ascii_only=True)
    first = table.page([["ab", 1]] * 200)
    assert first.startswith("args  exit_status\n----  -----------\nab              1\n")
    assert table.page([["long text", 12]]) == "lon~           12\n"
    assert table.end() == ""
    assert Table(["args"], None).end() == ""
    assert cut_to("日本語", 4, "…") == "日…"


def test_of_a_path_the_end_is_shown() -> None:
    assert cut_front("日本語", 4, "…") == "…語"
    table = Table(["source"], 10, kinds={"source": Kind.TEXT})
    assert (table.page([["/home/me/project/tasks.in"]]) + table.end()).splitlines()[-1] == "…/tasks.in"


# -- command line --------------------------------------------------------------------------------------------


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYPERSHELL_SITE", str(tmp_path))
    monkeypatch.setattr("hypershell.log.setup", lambda values: None)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("argv", "tags", "fields"),
    [
        (["-t", "a", "b:1", "id", "args"], ("a", "b:1"), ("id", "args")),
        (["-t", "id", "id"], ("id",), ("id",)),
        (["id", "-t", "a", "b", "-c", "args"], ("a", "b"), ("id", "args")),
        (["-ta", "b", "id"], ("a", "b"), ("id",)),
        (["--with-tag=a", "b", "id"], ("a", "b"), ("id",)),
        (["--wi", "a", "b", "id"], ("a", "b"), ("id",)),
        (["-t", "a", "--", "b"], ("a",), ("b",)),
        (["-Ft", "a", "b"], ("a", "b"), ()),
        (["-d", "-", "-t", "a"], ("a",), ()),
        (["-dt", "b"], (), ("b",)),
        (["-w", "x == t", "b"], (), ("b",)),
        (["-t", "a", "-t", "b", "c"], ("a", "b", "c"), ()),
    ],
)
def test_words_of_tags(argv: list[str], tags: tuple[str, ...], fields: tuple[str, ...]) -> None:
    settings, _ = parse_list(argv)
    assert (settings.tags, settings.fields) == (tags, fields)


@pytest.mark.usefixtures("quiet")
@given(
    st.lists(st.sampled_from(["-t", "--with-tag", "-w", "--", "-F", "-Ft", "a", "b:1", "id", "-d", "x y", "-", ""]))
)
def test_any_words_are_parsed_or_refused(argv: list[str]) -> None:
    try:
        settings, _ = parse_list(argv)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    flags = {flag for option in options_of("list") for flag in option.flags}
    before = argv[: argv.index("--")] if "--" in argv else argv
    assert not flags.intersection(settings.tags)
    assert len(settings.fields) + len(settings.tags) + len(settings.where) <= len(argv)
    assert bool(settings.tags) <= any("t" in word for word in before)
