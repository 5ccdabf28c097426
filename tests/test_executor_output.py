"""Lines and back-pressure of task output."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.executor.output import LONGEST_LINE, WINDOW, Output, Pipe
from hypershell.reactor import Poller


class Bench:
    """An output with the messages that it sent."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.sent: list[tuple[bytes, bytes]] = []
        self.output = Output(self.poller, lambda out, err: self.sent.append((out, err)))
        self._open: list[int] = []

    def pipe(self, error: bool = False, limit: int = 0) -> tuple[Pipe, int]:
        read, write = os.pipe()
        os.set_blocking(read, False)
        self._open.append(write)
        return Pipe(read, error, limit), write

    def hang_up(self, write: int) -> None:
        self._open.remove(write)
        os.close(write)

    def flushed(self) -> bytes:
        """What has been sent to stdout, all messages together."""
        self.output.flush()
        return b"".join(out for out, _ in self.sent)

    def close(self) -> None:
        for write in self._open:
            os.close(write)
        self.poller.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def test_whole_lines_of_both_kinds_go_in_one_message(bench: Bench) -> None:
    out, out_end = bench.pipe()
    err, err_end = bench.pipe(error=True)
    os.write(out_end, b"a\nb")
    os.write(err_end, b"c\n")
    assert (bench.output.drain(out), bench.output.drain(err)) == (False, False)
    bench.output.flush()
    assert bench.sent == [(b"a\n", b"c\n")]
    bench.output.flush()
    assert len(bench.sent) == 1
    os.write(out_end, b"c\nd")
    bench.hang_up(out_end)
    assert bench.output.drain(out)
    assert bench.flushed() == b"a\nbc\nd"
    assert out.fd == -1
    bench.output.close(err)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([b"x", b"yy", b"\n", b"z\n\nz", b"\n\n"])), max_size=30)
)
def test_lines_stay_whole_however_writes_are_cut(writes: list[tuple[int, bytes]]) -> None:
    bench = Bench()
    pipes = [bench.pipe() for _ in range(3)]
    whole = [b"", b"", b""]
    for place, data in writes:
        os.write(pipes[place][1], data)
        whole[place] += data
        bench.output.drain(pipes[place][0])
        # Only whole lines until now: what was passed on ends with a newline.
        assert bench.flushed()[-1:] in (b"", b"\n")
    before = bench.flushed()
    for pipe, write in pipes:
        bench.hang_up(write)
        assert bench.output.drain(pipe)
    after = bench.flushed()
    tails = [data.rpartition(b"\n")[2] for data in whole]
    assert after == before + b"".join(tails)
    expected = sorted(line for data in whole for line in data.split(b"\n")[:-1])
    assert sorted(before.split(b"\n")[:-1]) == expected
    bench.close()


def test_a_line_that_does_not_end_passes_in_pieces(bench: Bench) -> None:
    pipe, write = bench.pipe()
    os.write(write, b"x" * (LONGEST_LINE - 1))
    bench.output.drain(pipe)
    assert bench.flushed() == b""
    os.write(write, b"x")
    bench.output.drain(pipe)
    assert bench.flushed() == b"x" * LONGEST_LINE
    bench.output.close(pipe)


def test_a_full_window_stops_reading_until_the_server_took_some(bench: Bench) -> None:
    pipe, write = bench.pipe()
    bench.output.watch(pipe)
    line = b"x" * 65_535 + b"\n"
    for _ in range(WINDOW // 65_536):
        assert not bench.output.full
        os.write(write, line)
        bench.poller.wait(0)
    assert bench.output.full
    assert len(bench.flushed()) == WINDOW
    os.write(write, line)
    bench.poller.wait(0)
    bench.output.drain(pipe)
    assert len(bench.flushed()) == WINDOW
    bench.output.taken(-5)
    assert bench.output.full
    bench.output.taken(1)
    bench.poller.wait(0)
    assert len(bench.flushed()) == WINDOW + 65_536
    bench.output.close(pipe)


def test_a_pipe_can_be_closed_while_nothing_is_read(bench: Bench) -> None:
    pipe, write = bench.pipe()
    other, other_end = bench.pipe()
    bench.output.watch(pipe)
    bench.output.watch(other)
    for _ in range(WINDOW // 65_536):
        os.write(write, b"x" * 65_535 + b"\n")
        bench.poller.wait(0)
    bench.output.close(other)
    bench.output.taken(WINDOW)
    os.write(write, b"end\n")
    bench.poller.wait(0)
    assert bench.flushed().endswith(b"x\nend\n")
    bench.output.close(pipe)
    with pytest.raises(BrokenPipeError):
        os.write(other_end, b"x")


def test_a_kept_pipe_is_bounded(bench: Bench) -> None:
    pipe, write = bench.pipe(limit=10)
    bench.output.watch(pipe)
    os.write(write, b"0123456789")
    bench.poller.wait(0)
    assert (bytes(pipe.kept), pipe.overflowed) == (b"0123456789", False)
    os.write(write, b"x")
    bench.poller.wait(0)
    assert (pipe.fd, pipe.overflowed) == (-1, True)
    assert bench.flushed() == b""
