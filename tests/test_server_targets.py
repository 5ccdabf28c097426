"""Files that a run writes for its user: kept aside, appended to, written anew; and never two runs in one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hypershell.server.targets import Opening, OutputError, Outputs, Target


def write(path: Path | str, how: Opening, text: bytes = b"new\n") -> None:
    """Claim, open, write, close."""
    target = Target(str(path))
    target.claim(how)
    os.write(target.open(how), text)
    target.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_what_is_there_is_kept_aside_under_the_first_free_name(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    out.write_bytes(b"old\n")
    out.chmod(0o640)
    write(out, Opening.ASIDE)
    assert caplog.messages == [f"{out} was there before this run: it is kept as {out}.1"]
    Path(f"{out}.3").write_bytes(b"somebody's\n")
    write(out, Opening.ASIDE, b"newer\n")
    write(out, Opening.ASIDE, b"newest\n")
    files = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert files == {
        "out": b"newest\n",
        "out.1": b"old\n",
        "out.2": b"new\n",
        "out.3": b"somebody's\n",
        "out.4": b"newer\n",
    }
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


def test_an_empty_file_needs_no_other_name(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    out.touch()
    write(out, Opening.ASIDE)
    assert [path.name for path in out.parent.iterdir()] == ["out"] and caplog.messages == []


@pytest.mark.parametrize(
    ("before", "after"), [(b"", b"new\n"), (b"old\n", b"old\nnew\n"), (b"old\nto", b"old\nto\nnew\n")]
)
def test_what_is_appended_begins_a_line(out: Path, before: bytes, after: bytes) -> None:
    out.write_bytes(before)
    write(out, Opening.APPEND)
    assert out.read_bytes() == after
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_whoever_writes_all_of_it_again_may_begin_anew(out: Path) -> None:
    out.write_bytes(b"old\n")
    write(out, Opening.ANEW)
    assert out.read_bytes() == b"new\n"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("how", list(Opening))
def test_a_claim_changes_nothing(out: Path, how: Opening) -> None:
    Outputs(str(out), None).claim(how)
    assert not out.exists()
    out.write_bytes(b"old")
    before = out.stat()
    target = Target(str(out))
    target.claim(how)
    target.close()
    assert out.read_bytes() == b"old" and out.stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real").write_bytes(b"old\n")
    (tmp_path / "link").symlink_to("far/real")
    write(tmp_path / "link", Opening.ASIDE)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "far" / "real").read_bytes() == b"new\n"
    assert (tmp_path / "far" / "real.1").read_bytes() == b"old\n"


@pytest.mark.parametrize("how", list(Opening))
def test_what_is_no_regular_file_is_written_as_it_is(tmp_path: Path, how: Opening) -> None:
    os.mkfifo(tmp_path / "fifo")
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    write(tmp_path / "fifo", how)
    reader.join(60)
    assert said == [b"new\n"]
    write("/dev/null", how)
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "-"])
def test_our_own_stdout_goes_on_where_it_is(tmp_path: Path, name: str) -> None:
    """To open ``/dev/stdout`` anew would write over the beginning of the file that it leads to."""
    code = f"""
import os
from hypershell.server.targets import Opening, Target
os.write(1, b"first\\n")
target = Target({name!r})
target.claim(Opening.ASIDE)
os.write(target.open(Opening.ASIDE), b"second\\n")
target.close()
os.write(1, b"third\\n")
"""
    with open(tmp_path / "log", "wb") as log:
        log.write(b"before\n")
        log.flush()
        subprocess.run([sys.executable, "-c", code], stdout=log, check=True)
    assert (tmp_path / "log").read_bytes() == b"before\nfirst\nsecond\nthird\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    missing, folder = "No such file or directory", "Is a directory"
    for path, reason in ((tmp_path / "none" / "out", missing), (tmp_path, folder), (f"{tmp_path}/out/", folder)):
        with pytest.raises(OutputError, match=f"cannot write failures to {path}: {reason}"):
            Target(str(path), "failures").claim(Opening.ASIDE)


def test_a_name_that_leaves_no_room_for_another_stays(tmp_path: Path) -> None:
    path = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    path.write_bytes(b"before\n")
    with pytest.raises(OutputError, match=r"no name to keep that aside .*File name too long.*: move it away"):
        write(path, Opening.ASIDE)
    assert path.read_bytes() == b"before\n"


@contextmanager
def another(path: Path) -> Iterator[int]:
    """Another process that writes `path`; its number."""
    code = f"""
import os, sys
from hypershell.server.targets import Opening, Target
target = Target({str(path)!r})
target.claim(Opening.ASIDE)
print(os.getpid() if target.open(Opening.ASIDE) else 0, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def test_a_file_that_another_process_writes_is_refused_and_the_process_named(out: Path) -> None:
    late = Target(str(out))
    late.claim(Opening.ASIDE)  # nothing was there yet
    with another(out) as pid:
        with pytest.raises(OutputError, match=rf"being written by process {pid} \(.*import os, sys from"):
            Target(str(out)).claim(Opening.APPEND)
        with pytest.raises(OutputError, match=f"being written by process {pid}"):
            late.open(Opening.ASIDE)
    write(out, Opening.ASIDE)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_one_file_for_both_streams_is_opened_once(out: Path) -> None:
    out.write_bytes(b"torn")
    (out.parent / "same").hardlink_to(out)
    outputs = Outputs(str(out), str(out.parent / "same"))
    outputs.claim(Opening.APPEND)
    assert outputs.streams == (None, None)
    fds = outputs.open(Opening.APPEND)
    assert fds[0] == fds[1] and fds[2] is None
    outputs.close()
    assert out.read_bytes() == b"torn\n"


def test_failures_may_be_opened_in_another_way(out: Path) -> None:
    failed = out.with_name("failed")
    out.write_bytes(b"old\n")
    failed.write_bytes(b"old\n")
    outputs = Outputs(str(out), None, str(failed))
    outputs.claim(Opening.APPEND)
    assert outputs.streams == (None, 2)
    outputs.open(Opening.APPEND, failures=Opening.ANEW)
    outputs.close()
    assert (out.read_bytes(), failed.read_bytes()) == (b"old\n", b"")
