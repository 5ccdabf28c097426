"""Text from outside, in logs and on terminals: nobody forges a line, nothing in it is obeyed, data stays exact."""

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
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypershell.apps.status import to_lines
from hypershell.log import STYLES, LogSettings, setup
from hypershell.ostext import behind_margin, one_line, printable
from hypershell.proto.messages import Startup
from hypershell.proto.visits import ClientStatus, Status
from hypershell.server.report import Failures
from hypershell.server.startup import Rank, report
from tests.test_log import Captured, logger, stderr  # noqa: F401 - fixtures
from tests.test_query import fill
from tests.testbed.cli import Hs
from tests.testbed.hostile import FORGED, HOSTILE, OBEYED

#: With a byte that is not UTF-8, and half of a pair.
BYTES = HOSTILE + "\udc9b\ud800"


def test_a_part_of_a_line() -> None:
    assert one_line("a\nb\r\x1b[2J\x7f\x9b\u202eé'\"\\\t\udce9") == (
        "a\\nb\\r\\u001b[2J\\u007f\\u009b\\u202eé'\"\\\t\\xe9"
    )
    assert printable("a\r\nb\rc\n\x1b\udce9") == "a\r\nb\\rc\n\\u001b\\xe9"
    assert behind_margin(f"a\n{FORGED}") == f"  | a\n  | {FORGED}"


@settings(deadline=None)
@given(st.text(st.characters(codec=None, categories=None)))
def test_no_text_is_obeyed(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1 and not OBEYED.search(shown)
    shown.encode()
    assert one_line(shown) == shown
    assert not OBEYED.search(printable(text).replace("\r\n", ""))


@pytest.mark.parametrize("style", [*STYLES, "msg"])
def test_no_message_is_more_than_a_line(style: str, stderr: Captured, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "log"
    layout = "X %(msg)s %(message)s" if style == "msg" else None
    name = "default" if layout else style
    setup(LogSettings(style=name, format=layout, file=str(path), file_style=name, file_format=layout))
    log = logging.getLogger("hypershell.server")
    for number in range(3):
        log.warning("Client %s: %s", number, BYTES)
        log.warning(BYTES)
    log.error("%s", {"tag": BYTES})
    log.error("%s", ValueError(BYTES))
    for text in (stderr.getvalue(), path.read_text(encoding="utf-8")):
        lines = text.split("\n")
        assert len(lines) == 9 and lines[-1] == "" and len(text.splitlines()) == 8
        assert not OBEYED.search(text)
        assert not any(line.startswith("2026-01-01") for line in lines)


def test_a_traceback_stands_behind_a_margin(stderr: Captured) -> None:  # noqa: F811
    setup(LogSettings())
    try:
        raise ValueError(BYTES)
    except ValueError:
        logging.getLogger("hypershell").exception("failed")
    first, *rest, last = stderr.getvalue().split("\n")
    assert first == "   ERROR [hypershell] failed" and last == ""
    assert len(rest) > 3 and all(line.startswith("  | ") for line in rest)
    assert not OBEYED.search("".join(rest))


def status() -> Status:
    """One in which every text is hostile."""
    one = ClientStatus(HOSTILE, HOSTILE, -1, HOSTILE, HOSTILE, 1, 1, 0.0, None, HOSTILE, (HOSTILE,))
    return Status(
        run=HOSTILE, host=HOSTILE, pid=1, version=HOSTILE, transport=HOSTILE, started=0.0, now=1.0, state=HOSTILE,
        tasks={HOSTILE: 1}, complete=True, rate=0.0, eta=None, group=None, release=HOSTILE, database=HOSTILE,
        clients=[one], aside=[HOSTILE], lost=HOSTILE, late=0, ends=None,
    )  # fmt: skip


def test_a_status_has_the_lines_that_it_has() -> None:
    lines = to_lines(status())
    assert len(lines) == 13 and [line.split(":")[0] for line in lines[:3]] == ["server", "run", "database"]
    assert not any(OBEYED.search(line) or "\n" in line for line in lines)


def test_the_report_of_the_start_too() -> None:
    text = report([Rank(1, HOSTILE, Startup(0.0, 1.0, 2.0, 3.0))], 1)
    assert text.count("\n") == 4 and not OBEYED.search(text)


class Terminal:
    """A terminal whose whole text is `read` after its side was closed."""

    def __init__(self) -> None:
        self._master, self.side = pty.openpty()

    def read(self) -> str:
        os.close(self.side)
        shown = b""
        while select.select([self._master], [], [], 60)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: the other side is closed
                break
            shown += data
        os.close(self._master)
        return shown.decode()


def test_failures_on_a_terminal_and_in_a_file(tmp_path: Path) -> None:
    from hypershell.core.actions import Finished
    from hypershell.core.model import Result, Task

    terminal, path = Terminal(), tmp_path / "failed"
    task = Task("id", "a\x1b[2J\x9b", 1, 1)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for where in (terminal.side, fd):
        failures = Failures("failures")
        failures.begin(where)
        failures.add([Finished(1, "failed", 0.0, Result("id", 1, 1, 0.0, 1.0), task=task)])
    os.close(fd)
    assert terminal.read() == "a\\u001b[2J\\u009b\r\n"
    assert path.read_bytes() == b"a\x1b[2J\xc2\x9b\n"


@pytest.fixture
def hostile(hs: Hs) -> Hs:
    """A database in which each text that comes from outside is hostile."""
    hs.db.parent.mkdir(parents=True)
    fill(hs.db)
    with sqlite3.connect(hs.db) as link:
        for column in ("args", "command", "error", "submit_host", "server_host", "client_host", "outpath"):
            link.execute(f"UPDATE task SET {column} = ?", [HOSTILE])
        link.execute("UPDATE task SET tag = ?", [json.dumps({"a": HOSTILE})])
    link.close()
    return hs


def on_terminal(hs: Hs, *args: str) -> str:
    terminal = Terminal()
    process = hs.start(*args, stdout=terminal.side, env={"COLUMNS": "20000", "NO_COLOR": "1"})
    shown = terminal.read()
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read()) == (0, b"")
    process.stderr.close()
    return shown


def test_lists_and_tasks_on_a_terminal_and_in_a_pipe(hostile: Hs) -> None:
    fields = ["error", "submit_host", "client_host", "args", "tag"]
    for form in ("plain", "table", "csv", "json"):
        shown = on_terminal(hostile, "list", "-l1", "-f", form, *fields)
        assert not OBEYED.search(re.sub("\r+\n", "", shown)), form
        assert form == "csv" or not re.search("(?m)^2026-01-01", shown), form
        if form == "json":
            assert json.loads(shown.replace("\r\n", "\n"))[0]["error"] == HOSTILE, "its escapes are those of JSON"
    done = subprocess.run(hostile.command("list", "-l1", "--csv", *fields), capture_output=True,
                          env=hostile.environ(), cwd=hostile.folder, timeout=60)  # fmt: skip
    rows = list(csv.reader(io.StringIO(done.stdout.decode(), newline="")))
    assert rows[1][:4] == [HOSTILE] * 4, "exact where it is data"
    key = hostile.run("list", "id", "-l1").out.strip()
    assert on_terminal(hostile, "info", key, "-x", "error") == one_line(HOSTILE) + "\r\n"
    raw = subprocess.run(hostile.command("info", key, "-x", "error"), capture_output=True, env=hostile.environ(),
                         cwd=hostile.folder, timeout=60)  # fmt: skip
    assert raw.stdout.decode() == HOSTILE + "\n"
    assert not OBEYED.search(re.sub("\r+\n", "", on_terminal(hostile, "info", key)))


def test_help_keeps_its_colours(hs: Hs) -> None:
    terminal = Terminal()
    process = hs.start("list", "--help", stdout=terminal.side)
    shown = terminal.read()
    process.communicate()
    assert "\x1b[1m" in shown and "\\u001b" not in shown
