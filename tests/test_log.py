"""Log lines: levels, styles, colours, the log file and its rotation."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypershell.color import wants_color
from hypershell.errors import ConfigError
from hypershell.log import DEVEL, STYLES, TRACE, LogSettings, rotate, setup
from hypershell.room import Spare
from hypershell.settings import RunSettings
from tests.testbed.room import descriptors


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The logger of the package, put back afterwards."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger("hypershell")
    before, level = list(root.handlers), root.level
    yield root
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


class Captured:
    """What went to stderr so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Captured:
    return Captured(capsys)


def test_shape_of_a_line(stderr: Captured) -> None:
    setup(LogSettings())
    logging.getLogger("hypershell.client").info("Running task (%s)", "x")
    logging.getLogger("hypershell").critical("over")
    assert stderr.getvalue() == "    INFO [hypershell.client] Running task (x)\nCRITICAL [hypershell] over\n"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("devel", ["DEVEL", "TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
        ("trace", ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
        ("info", ["INFO", "WARNING", "ERROR", "CRITICAL"]),
        ("critical", ["CRITICAL"]),
    ],
)
def test_levels(level: str, expected: list[str], stderr: Captured) -> None:
    setup(LogSettings(level=level))
    for number in (DEVEL, TRACE, 10, 20, 30, 40, 50):
        logging.getLogger("hypershell.data").log(number, "m")
    assert [line.split()[0] for line in stderr.getvalue().splitlines()] == expected


@pytest.mark.parametrize(
    ("style", "pattern"),
    [
        ("default", r" WARNING \[hypershell\.data\] hello"),
        ("detailed", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+  WARNING \[hypershell\.data\] hello"),
        ("detailed-compact", r"\d\d-\d\d:\d\d:\d\d\.\d{3} \[[^.\]]+\]  WARNING \[data\] hello"),
        ("system", r"[-\d]+ [:\d]+\.\d{3} \S+  WARNING \[[0-9a-f-]{36}\] \[hypershell\.data\] hello"),
        ("short", r"\[\d+\.\d{3}\] hello"),
    ],
)
def test_styles(style: str, pattern: str, stderr: Captured) -> None:
    setup(LogSettings(style=style))
    logging.getLogger("hypershell.data").warning("hello")
    assert re.fullmatch(pattern + "\n", stderr.getvalue())


def test_every_style_is_in_the_table_of_options() -> None:
    from hypershell import options

    assert tuple(STYLES) == options.STYLES


def test_format_goes_before_style(stderr: Captured) -> None:
    setup(LogSettings(format="%(app_id)s %(elapsed_delta).0f %(ansi_red)s%(message)s", app_id="me"))
    logging.getLogger("hypershell").warning("x")
    assert re.fullmatch(r"me \d+ x\n", stderr.getvalue())


@pytest.mark.parametrize("layout", ["%(nothing)s", "%(message)", "plain"])
def test_bad_format_is_named(layout: str, stderr: Captured) -> None:
    with pytest.raises(ConfigError, match=r"^logging\.format: ") as caught:
        setup(LogSettings(format=layout))
    assert repr(layout) in str(caught.value)


def test_settings_of_a_run_are_enough(stderr: Captured) -> None:
    setup(RunSettings(log_level="error", log_style="short"))
    logging.getLogger("hypershell.client").warning("no")
    logging.getLogger("hypershell.client").error("yes")
    assert re.fullmatch(r"\[\d+\.\d{3}\] yes\n", stderr.getvalue())


def test_newest_setup_holds(stderr: Captured) -> None:
    setup(LogSettings(level="debug"))
    setup(LogSettings(level="error"))
    logging.getLogger("hypershell").warning("no")
    logging.getLogger("hypershell").error("once")
    assert stderr.getvalue() == "   ERROR [hypershell] once\n"


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    setup(LogSettings())
    logging.getLogger("hypershell").error("x")
    assert "\033[31m" in stream.getvalue()
    stream.truncate(0)
    setup(LogSettings(color=False))
    logging.getLogger("hypershell").error("x")
    assert "\033" not in stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "environ", "expected"),
    [
        (io.StringIO(), {}, False),
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (None, {}, False),
    ],
)
def test_who_wants_colour(stream: io.StringIO | None, environ: dict[str, str], expected: bool) -> None:
    assert wants_color(stream, environ) is expected


def test_closed_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    setup(LogSettings())
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    logging.getLogger("hypershell").error("x")
    monkeypatch.setattr(sys, "stderr", None)
    logging.getLogger("hypershell").error("x")


def log_to(tmp_path: Path, **more: str) -> LogSettings:
    return LogSettings(file=str(tmp_path / "sub" / "a.log"), file_style="default", **more)  # type: ignore[arg-type]


def test_bytes_that_are_not_utf8_are_shown_as_in_lines(tmp_path: Path, stderr: Captured) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.log")
    setup(LogSettings(file=str(path)))
    logging.getLogger("hypershell.data").warning("cannot open %s", path.name)
    assert r" cannot open caf\xe9.log" in stderr.getvalue()
    assert path.read_text(encoding="utf-8").endswith(" cannot open caf\\xe9.log\n")


def test_file_has_its_own_level(tmp_path: Path, stderr: Captured) -> None:
    setup(log_to(tmp_path, level="error", file_level="debug"))
    logging.getLogger("hypershell").debug("quiet")
    assert stderr.getvalue() == ""
    assert (tmp_path / "sub" / "a.log").read_text() == "   DEBUG [hypershell] quiet\n"


@pytest.mark.parametrize(("role", "name"), [("mpi", f"mpi-{os.uname().nodename}.log"), ("", "main.log")])
def test_default_name_of_the_file(role: str, name: str, tmp_path: Path, stderr: Captured) -> None:
    setup(LogSettings(file="", directory=str(tmp_path), role=role))
    logging.getLogger("hypershell").info("x")
    assert (tmp_path / name).read_text().endswith(" x\n")


def test_file_that_cannot_be_opened_is_named(tmp_path: Path, stderr: Captured) -> None:
    with pytest.raises(ConfigError, match=rf"^logging\.file: cannot open {tmp_path}: Is a directory"):
        setup(LogSettings(file=str(tmp_path)))


def test_rotation_numbers_upward(tmp_path: Path, stderr: Captured) -> None:
    setup(log_to(tmp_path))
    folder = tmp_path / "sub"
    (folder / "a.log.x").write_text("")
    for word in ("one", "two", "three"):
        logging.getLogger("hypershell").info(word)
        if word != "three":
            rotate()
    texts = [(folder / name).read_text() for name in ("a.log.1", "a.log.2", "a.log")]
    assert [text.split()[-1] for text in texts] == ["one", "two", "three"]


def test_file_that_was_moved_away_is_opened_again(tmp_path: Path, stderr: Captured) -> None:
    setup(log_to(tmp_path))
    folder = tmp_path / "sub"
    logging.getLogger("hypershell").info("one")
    (folder / "a.log").rename(folder / "old")
    rotate()
    logging.getLogger("hypershell").info("two")
    assert sorted(os.listdir(folder)) == ["a.log", "old"]
    assert (folder / "a.log").read_text().endswith("two\n")


def test_rotation_that_fails_keeps_logging(tmp_path: Path, stderr: Captured) -> None:
    setup(log_to(tmp_path))
    path = tmp_path / "sub" / "a.log"
    path.unlink()
    path.mkdir()
    rotate()
    assert "cannot rotate log file" in stderr.getvalue()
    logging.getLogger("hypershell").error("still here")
    assert "still here" in stderr.getvalue()


def test_rotation_keeps_a_descriptor_for_itself(tmp_path: Path, stderr: Captured) -> None:
    with descriptors(3):
        setup(log_to(tmp_path))
        others = Spare(3)
        logging.getLogger("hypershell").info("before")
        rotate()
        logging.getLogger("hypershell").info("after")
        others.give()
    folder = tmp_path / "sub"
    assert [(folder / name).read_text().split()[-1] for name in ("a.log.1", "a.log")] == ["before", "after"]
    assert "cannot rotate" not in stderr.getvalue()


def test_rotation_without_a_file_does_nothing(tmp_path: Path, stderr: Captured) -> None:
    setup(LogSettings())
    rotate()
    assert stderr.getvalue() == ""
