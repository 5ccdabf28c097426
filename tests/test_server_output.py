"""The writer of the tasks' output: order, back-pressure, a reader that goes away, a full disk."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from hypershell.reactor import Poller
from hypershell.server.output import Sink


class Taken(list[tuple[int, int]]):
    def __call__(self, peer: int, size: int) -> None:
        self.append((peer, size))


def test_a_file_gets_every_byte_in_order(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    taken = Taken()
    sink = Sink(fd, "out", Poller(), taken)
    sink.put(b"one\n", 1)
    sink.put(b"two\n" * 5000, 2)
    sink.put(b"", 3)
    sink.pump()
    os.close(fd)
    assert (tmp_path / "out").read_bytes() == b"one\n" + b"two\n" * 5000
    assert taken == [(1, 4), (2, 20000)] and sink.empty


def test_a_slow_reader_holds_output_back_without_blocking() -> None:
    read, write = os.pipe()
    poller, taken = Poller(), Taken()
    sink = Sink(write, "pipe", poller, taken)
    data = b"".join(b"%07d\n" % number for number in range(100_000))
    sink.put(data[:400_000], 1)
    sink.put(data[400_000:], 2)
    sink.pump()
    assert taken == [] and not sink.empty
    got = b""
    while len(got) < len(data):
        got += os.read(read, 65536)
        poller.wait(5)
    assert got == data
    assert taken == [(1, 400_000), (2, 400_000)] and sink.empty
    os.close(read)
    os.close(write)


def test_a_reader_that_left_is_told_once_and_the_rest_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    read, write = os.pipe()
    os.close(read)
    taken = Taken()
    sink = Sink(write, "stdout", Poller(), taken)
    sink.put(b"a\n", 1)
    sink.put(b"b\n", 1)
    sink.pump()
    assert taken == [(1, 2), (1, 2)] and sink.empty
    assert caplog.text.count("stdout: Broken pipe") == 1
    os.close(write)


def test_a_full_disk_holds_output_until_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    taken = Taken()
    sink = Sink(fd, "out", Poller(), taken)
    sink.put(b"kept\n", 1)
    sink.pump()
    assert sink.stuck and not sink.empty and taken == []
    assert not sink.retry()
    assert caplog.text.count("No space left") == 1
    os.close(fd)


def test_what_comes_before_there_is_a_file_is_held(tmp_path: Path) -> None:
    taken = Taken()
    sink = Sink(None, "out", Poller(), taken)
    sink.put(b"early\n", 1)
    sink.pump()
    assert not sink.begun and not sink.empty and taken == []
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    sink.begin(fd)
    sink.put(b"late\n", 2)
    sink.pump()
    os.close(fd)
    assert (tmp_path / "out").read_bytes() == b"early\nlate\n"
    assert taken == [(1, 6), (2, 5)] and sink.empty and sink.begun


def test_a_file_that_may_not_grow_holds_output_until_it_may(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    taken = Taken()
    sink = Sink(fd, "out", Poller(), taken)
    sink.put(b"x" * 3000, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        sink.pump()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sink.stuck and (tmp_path / "out").stat().st_size == 1000
    assert "File too large" in caplog.text and "held back" in caplog.text
    assert sink.retry() and taken == [(1, 3000)] and (tmp_path / "out").read_bytes() == b"x" * 3000
    os.close(fd)
