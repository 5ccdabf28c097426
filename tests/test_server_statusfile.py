"""When the status file is written, and over what it is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from hypershell.errors import InputError
from hypershell.server.statusfile import StatusFile, Told

NOTHING = Told("starting", None, None, 0, 0, 0, 0, False, 0.0, None, 0, None, "run-1", None, "here", 1, 0.0, 0.0)


class Bench:
    """A status file with what is told in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told = NOTHING
        self.file = StatusFile(str(path), lambda: self.told)

    def seen(self) -> int:
        """Succeeded tasks that the file tells of."""
        return int(json.loads(self.path.read_text())["succeeded"])

    def turn(self, now: float, succeeded: int, rate: float = 1.0) -> None:
        self.told = replace(self.told, succeeded=succeeded, rate=rate)
        self.file.turn(now)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "status.json")


def test_the_first_change_is_written_at_once_then_once_a_second(bench: Bench) -> None:
    bench.file.claim()
    bench.file.begin()
    assert bench.seen() == 0 and bench.file.deadline() is None
    bench.turn(100.0, 1)
    assert bench.seen() == 1 and bench.file.deadline() is None
    bench.turn(100.4, 2)
    assert bench.seen() == 1 and bench.file.deadline() == 101.0
    bench.turn(101.0, 2)
    assert bench.seen() == 2 and bench.file.deadline() is None
    bench.turn(150.0, 3)  # after a quiet time at once again
    assert bench.seen() == 3


def test_nothing_is_written_while_nothing_changes(bench: Bench) -> None:
    bench.file.begin()
    bench.turn(100.0, 1)
    before = os.stat(bench.path).st_ino, bench.path.read_text()
    for now in (101.0, 102.0, 103.0):
        bench.turn(now, 1, rate=1 / now)  # a rate that sinks is no change
        assert bench.file.deadline() is None
    assert (os.stat(bench.path).st_ino, bench.path.read_text()) == before


def test_nothing_is_written_before_it_begins(bench: Bench) -> None:
    bench.file.claim()
    bench.turn(100.0, 1)
    assert not bench.file.write(bench.told) and bench.file.deadline() is None and not bench.path.exists()


@pytest.mark.parametrize("text", ['{"results": [1, 2]}', "echo 1\n", "\xff"])
def test_what_is_no_status_file_is_not_replaced(bench: Bench, text: str) -> None:
    bench.path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="is no status file"):
        bench.file.claim()
    assert bench.path.read_text(encoding="latin-1") == text


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null"):
        with pytest.raises(InputError, match="is no regular file"):
            StatusFile(str(path), lambda: NOTHING).claim()
    (tmp_path / "link").symlink_to("status.json")
    StatusFile(str(tmp_path / "link"), lambda: NOTHING).begin()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "status.json").exists()


def test_the_file_of_a_living_run_is_its_own(bench: Bench) -> None:
    bench.file.begin()
    bench.turn(100.0, 1)
    other = Bench(bench.path)
    with pytest.raises(InputError, match=rf"is the status file of process {os.getpid()} \("):
        other.file.claim()
    bench.file.end(replace(bench.told, state="ended", exit_status=0))
    other.file.claim()
    assert other.file.found is None


def test_a_run_without_an_end_is_found(bench: Bench) -> None:
    bench.path.write_text('{"state": "running", "run": "run-0"}')
    bench.file.claim()
    assert bench.file.found == "run-0"


def test_runs_that_begin_together_do_not_share_what_they_write_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of one minute begin alike."""
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda path, *args: opened.append(str(path)) or real(path, *args))
    for run in ("01a22ed8-0d70-7208-9b36-610c48abb188", "01a22ed8-0d70-7208-9b36-610c48abb189"):
        (tmp_path / run).mkdir()
        bench = Bench(tmp_path / run / "status.json")
        bench.told = replace(NOTHING, run=run)
        bench.file.begin()
    parts = [os.path.basename(path) for path in opened if path.endswith(".partial")]
    assert len(parts) == 2 and parts[0] != parts[1]
