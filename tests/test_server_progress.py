"""The progress line: where it stands, what it leaves of all else on the terminal, how often it is written."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import signal
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell import log as logs
from hypershell.core.scheduler import Policy, Scheduler
from hypershell.reactor import Poller
from hypershell.server.output import Sink
from hypershell.server.progress import Progress
from tests.testbed.cli import Hs

WIDTH = 80
LINE = "0/0 done  0 out  0 failed  0.0/s"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal of `WIDTH` columns that keeps all rows; it knows what `Progress` uses."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = [""]
        self.row = self.column = 0
        self.writes = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writes += 1
        for sign in re.findall(r"\x1b\[[0-9]*[A-Z]|.", text, re.DOTALL):
            self._take(sign)
        return len(text)

    def _take(self, sign: str) -> None:
        if sign == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.rows):
                self.rows.append("")
        elif sign == "\r":
            self.column = 0
        elif sign == "\x1b[2K":
            self.rows[self.row] = ""
        elif sign == "\x1b[A":
            self.row -= 1
        elif sign.startswith("\x1b"):
            assert sign.endswith("C")
            self.column += int(sign[2:-1])
        else:
            if self.column == WIDTH:
                self._take("\n")
            old = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = old[: self.column] + sign + old[self.column + 1 :]
            self.column += 1

    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n")


@pytest.fixture(autouse=True)
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def make() -> tuple[Progress, Screen, Clock, Scheduler]:
    screen, clock = Screen(), Clock()
    progress = Progress(screen, clock)
    scheduler = Scheduler(Policy(), lambda: "id")
    progress.turn(0.0, scheduler, False)
    return progress, screen, clock, scheduler


def put(progress: Progress, screen: Screen, text: str) -> None:
    """What a `Sink` does."""
    progress.clear()
    screen.write(text)
    progress.printed(text.encode())


def test_it_comes_after_a_second_and_is_brought_up_to_date() -> None:
    progress, screen, _, scheduler = make()
    assert screen.text() == "" and progress.deadline() == 1.0
    scheduler.counts.succeeded = 3
    progress.turn(2.0, scheduler, True)
    assert screen.text() == "3/3 done  0 out  0 failed  1.5/s  ETA 0:00:00" and progress.deadline() == 2.5
    progress.close()
    assert screen.text() == "" and progress.deadline() is None


def test_it_is_there_again_after_each_burst_of_output() -> None:
    progress, screen, clock, scheduler = make()
    progress.turn(1.0, scheduler, True)
    for number in range(3):
        clock.now = 1.0 + number / 10
        assert not progress.holds()
        put(progress, screen, f"{number}\n")
        progress.turn(clock.now, scheduler, True)
        assert screen.rows[-2:] == [str(number), LINE]
    progress.close()
    assert screen.text() == "0\n1\n2"


def test_output_in_quick_succession_waits_for_the_next_picture() -> None:
    progress, screen, clock, scheduler = make()
    put(progress, screen, "a\n")
    assert not progress.holds(), "there is no line yet"
    progress.turn(1.0, scheduler, True)
    clock.now = 1.0
    put(progress, screen, "b\n")
    assert not progress.holds(), "the second stream of a burst goes with it"
    progress.turn(1.0, scheduler, True)
    clock.now = 1.01
    assert progress.holds() and progress.deadline() == 1.0 + Progress.GAP
    clock.now = 1.0 + Progress.GAP
    assert not progress.holds() and progress.deadline() == 1.5
    progress.turn(1.5, scheduler, True)
    progress.close()
    assert not progress.holds(), "the end waits for nothing"


def test_writes_are_few_however_much_is_printed() -> None:
    """Ten thousand lines in a second: some twenty pictures."""
    progress, screen, clock, scheduler = make()
    progress.turn(1.0, scheduler, True)
    screen.writes = 0
    waiting = ""
    for step in range(10_000):
        clock.now = 1.0 + step / 10_000
        waiting += "x\n"
        if not progress.holds():
            put(progress, screen, waiting)
            waiting = ""
        progress.turn(clock.now, scheduler, True)
        assert screen.rows[-1] == LINE
    assert screen.writes <= 3 * (1 / Progress.GAP + 1) + 2


def test_output_without_an_end_of_line_goes_on_where_it_was() -> None:
    progress, screen, _, scheduler = make()
    put(progress, screen, "one")
    progress.turn(1.0, scheduler, True)
    assert screen.rows == ["one", LINE]
    put(progress, screen, ", two")
    progress.turn(1.2, scheduler, True)
    assert screen.rows == ["one, two", LINE]
    put(progress, screen, "\nthree\nfo")
    progress.turn(1.3, scheduler, True)
    progress.turn(1.6, scheduler, True)
    assert screen.rows == ["one, two", "three", "fo", LINE]
    progress.close()
    screen.write("ur\n")
    assert screen.text() == "one, two\nthree\nfour"


def test_output_goes_on_in_a_row_that_was_wrapped() -> None:
    progress, screen, _, scheduler = make()
    progress.turn(1.0, scheduler, True)
    put(progress, screen, "x" * (WIDTH + 2))
    progress.turn(1.1, scheduler, True)
    assert screen.rows == ["x" * WIDTH, "xx", LINE]
    put(progress, screen, "yy\n")
    assert screen.text() == "x" * WIDTH + "\nxxyy"


@pytest.mark.parametrize("text", ["é", "a\tb", "x" * WIDTH])
def test_where_the_cursor_cannot_be_brought_back_the_line_waits_and_destroys_nothing(text: str) -> None:
    progress, screen, _, scheduler = make()
    progress.turn(1.0, scheduler, True)
    put(progress, screen, text)
    progress.turn(1.1, scheduler, True)
    assert screen.rows == [text], "more of it may come"
    progress.turn(1.5, scheduler, True)
    assert screen.rows == [text, LINE]
    put(progress, screen, "next\n")
    assert screen.text() == f"{text}\nnext"


def test_log_lines_stand_alone_and_above_it() -> None:
    progress, screen, _, scheduler = make()
    progress.write("before\n")
    progress.turn(1.0, scheduler, True)
    progress.write("first\n")
    assert screen.rows == ["before", "first", LINE], "in one write"
    put(progress, screen, "out")
    progress.write("second\n")
    progress.turn(1.2, scheduler, True)
    progress.write("third\n")
    assert screen.rows == ["before", "first", "out", "second", "third", LINE]
    progress.close()
    progress.write("last\n")
    assert screen.text() == "before\nfirst\nout\nsecond\nthird\nlast"


STEPS = st.lists(
    st.sampled_from(["turn", "tick", "log"])
    | st.text("ab \n", min_size=1, max_size=6).map(lambda text: "=" + text),
    max_size=40,
)


@given(STEPS)
def test_nothing_that_is_printed_is_lost_or_moved(steps: list[str]) -> None:
    progress, screen, clock, scheduler = make()
    expected, column = "", 0
    for step in steps:
        if step == "turn":
            progress.turn(clock.now, scheduler, True)
        elif step == "tick":
            clock.now += 1.0
            progress.turn(clock.now, scheduler, True)
            assert screen.rows[-1].startswith("0/0 done")
        elif step == "log":
            expected += ("\n" if column else "") + "LOG\n"
            column = 0
            progress.write("LOG\n")
        elif column + len(step) < WIDTH:
            put(progress, screen, step[1:])
            expected += step[1:]
            column = len(expected.rpartition("\n")[2])
    progress.close()
    assert screen.text() == "\n".join(row.rstrip() for row in expected.split("\n")).rstrip("\n")


def test_cancelled_tasks_are_counted_apart() -> None:
    scheduler = Scheduler(Policy(), lambda: "id")
    scheduler.counts.succeeded, scheduler.counts.cancelled = 3, 2
    assert Progress.text(2.0, scheduler, False) == "5/5+ done  0 out  0 failed  2 cancelled  2.5/s"


def test_it_is_silent_in_a_pipe() -> None:
    pipe = io.StringIO()
    progress = Progress(pipe)
    progress.turn(0.0, Scheduler(Policy(), lambda: "id"), True)
    progress.turn(9.0, Scheduler(Policy(), lambda: "id"), True)
    progress.clear()
    assert (pipe.getvalue(), progress.deadline(), progress.holds()) == ("", None, False)


# -- on a real terminal --------------------------------------------------------------------------------------


class Terminal:
    """Both ends of a terminal, and what has come out of it."""

    def __init__(self, columns: int = 100) -> None:
        self.end, self.side = pty.openpty()
        termios.tcsetwinsize(self.side, (24, columns))
        self.got = ""

    def until(self, pattern: str) -> str:
        """Read until a pattern is found behind what was found before; all up to its end."""
        while (found := re.search(pattern, self.got, re.DOTALL)) is None:
            data = os.read(self.end, 65536)
            assert data
            self.got += data.decode()
        text, self.got = self.got[: found.end()], self.got[found.end() :]
        return text

    def rest(self) -> str:
        try:
            while data := os.read(self.end, 65536):
                self.got += data.decode()
        except OSError:  # EIO: the other side is closed
            pass
        return self.got


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    os.close(terminal.end)


def test_a_sink_waits_for_the_picture_and_for_its_end(terminal: Terminal) -> None:
    clock = Clock()
    with open(terminal.side, "w", closefd=False) as stream:
        progress = Progress(stream, clock)
        scheduler = Scheduler(Policy(), lambda: "id")
        progress.turn(0.0, scheduler, True)
        assert progress.is_shown_on(terminal.side) and not progress.is_shown_on(terminal.end)
        sink = Sink(terminal.side, "stdout", Poller(), lambda peer, size: None, progress)
        progress.turn(1.0, scheduler, True)
        clock.now = 1.0
        for text in (b"a\n", b"b\n", b"c\n"):
            sink.put(text, 1)
            sink.pump()
            progress.turn(1.0, scheduler, True)
        assert not sink.empty and progress.deadline() == 1.0 + Progress.GAP
        clock.now = 1.0 + Progress.GAP
        sink.pump()
        assert sink.empty
        progress.close()
    text = terminal.until("c\r\n")
    assert re.sub(r"\x1b\[2K", "|", text) == f"|{LINE}\r|a\r\n|{LINE}\r|b\r\nc\r\n"


def test_a_terminal_that_is_stopped_stops_nobody(terminal: Terminal) -> None:
    """Ctrl-S: neither the line nor output are written, nothing waits."""
    termios.tcflow(terminal.side, termios.TCOOFF)
    with open(terminal.side, "w", closefd=False) as stream:
        progress = Progress(stream, Clock())
        scheduler = Scheduler(Policy(), lambda: "id")
        progress.turn(0.0, scheduler, True)
        progress.turn(1.0, scheduler, True)
        termios.tcflow(terminal.side, termios.TCOON)
        progress.turn(2.0, scheduler, True)
    assert terminal.until("done").count("done") == 1


def test_log_lines_pass_by_it(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger("hypershell")
    before, level = list(root.handlers), root.level
    try:
        logs.setup(logs.LogSettings(level="warning", style="short"))
        lines: list[str] = []
        logs.share_terminal(lines.append)
        logging.getLogger("hypershell.server").warning("one")
        assert len(lines) == 1 and lines[0].endswith("one\n")
    finally:
        root.handlers[:] = before
        root.setLevel(level)


@pytest.mark.parametrize("where", ["terminal", "file"])
def test_the_line_stays_while_tasks_print(hs: Hs, terminal: Terminal, where: str) -> None:
    """Output and log lines of a run go in front of it; with stdout in a file the terminal shows stderr alone."""
    os.mkfifo(hs.folder / "gate")
    task = "read x <gate; echo out $x; echo err $x >&2; exit $x"
    hs.file([f"{task} # {number}" for number in range(3)])
    out = hs.folder / "out.txt"
    with open(out, "wb") as file:
        process = hs.start("cluster", "tasks.in", "-b1", stdout=terminal.side if where == "terminal" else file,
                           stderr=terminal.side, env={"TERM": "xterm", "COLUMNS": ""})  # fmt: skip
    os.close(terminal.side)
    shown = terminal.until("0/3 done [^\r\n]*\r")
    for status in (0, 1):
        with open(hs.folder / "gate", "w") as gate:
            gate.write(f"{status}\n")
        shown += terminal.until(rf"err {status}\r\n") + terminal.until("/3 done [^\r\n]*\r")
    process.send_signal(signal.SIGUSR1)
    shown += terminal.until("SIGUSR1[^\n]*\r\n\x1b\\[2K[^\r\n]*/3 done [^\r\n]*\r")
    with open(hs.folder / "gate", "w") as gate:
        gate.write("0\n")
    shown += terminal.rest()
    assert process.wait(60) == 7
    assert "Non-zero exit status (1)" in shown
    said = [line.rpartition("\x1b[2K")[2] for line in shown.split("\r\n")]
    printed = "".join(f"{line}\n" for line in said if line.startswith("out ")) if where == "terminal" else None
    assert (printed or Path(out).read_text()) == "out 0\nout 1\nout 0\n"
    assert [line for line in said if line.startswith("err ")] == ["err 0", "err 1", "err 0"]
    assert len(shown.encode()) < 20_000
