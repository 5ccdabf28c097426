"""Output of tasks on its way: no client has more of it at the server than one of ours may have."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypershell.core.model import OUTPUT_OVERDRAFT, OUTPUT_WINDOW
from hypershell.executor.output import LONGEST_LINE, WINDOW, Pipe
from hypershell.executor.output import Output as Client
from hypershell.proto.messages import Leave, Output
from hypershell.reactor import Poller
from hypershell.server.credit import CROWDED, MOST, OutputCredit, Printed
from hypershell.server.output import Sink
from hypershell.transport import Delivery

STEPS = ["print", "line", "close", "read", "take"]


def test_more_than_the_window_and_the_overdraft_is_too_much() -> None:
    credit = OutputCredit()
    assert MOST == OUTPUT_WINDOW + OUTPUT_OVERDRAFT and OUTPUT_WINDOW == WINDOW
    assert credit.came(1, MOST) and credit.came(2, 5)
    assert not credit.came(1, 1)
    credit.taken(1, MOST)
    assert not credit.came(1, 1), "one that broke the rule is not heard again"
    assert credit.came(2, MOST - 5) and credit.total == MOST
    credit.lost(1)
    credit.taken(2, MOST)
    assert credit.total == 0


def test_output_that_nobody_takes_keeps_new_clients_out() -> None:
    credit = OutputCredit()
    for peer in range(CROWDED // MOST):
        assert credit.crowded() is None and credit.came(peer, MOST)
        credit.lost(peer)
    assert credit.crowded() == f"{CROWDED >> 20} MiB of what tasks printed wait to be written"
    credit.taken(0, 1)
    assert credit.crowded() is None


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(1, 3)),
        max_size=60,
    )
)
def test_no_client_of_ours_is_ever_given_up(steps: list[tuple[str, int, int]]) -> None:
    """A client with four pipes beside a server that takes when it likes."""
    credit = OutputCredit()
    poller = Poller()
    sent: list[int] = []

    def send(out: bytes, err: bytes) -> None:
        assert credit.came(1, len(out) + len(err))
        sent.append(len(out) + len(err))

    output = Client(poller, send)
    def another() -> tuple[Pipe, int]:
        read, write = os.pipe2(os.O_NONBLOCK)
        return Pipe(read, False), write

    pipes = [another() for _ in range(4)]
    try:
        for step, number, size in steps:
            pipe, write = pipes[number]
            if step in ("print", "line"):
                # Large pieces, so that few steps fill the window; past the pipe, whose own buffer is small.
                data = b"x" * (size * LONGEST_LINE - 1) + (b"\n" if step == "line" else b"")
                if not output.full:
                    output._take(pipe, data[:LONGEST_LINE])
            elif step == "close":
                output.close(pipe)
                os.close(write)
                pipes[number] = another()
            elif step == "read":
                output.flush()
            elif sent:
                output.taken(taken := sent.pop(0))
                credit.taken(1, taken)
        for pipe, _ in pipes:
            output.close(pipe)
        output.flush()
    finally:
        for pipe, write in pipes:
            output.close(pipe)
            os.close(write)
        poller.close()


def test_unfinished_lines_of_many_tasks_are_cut_where_nothing_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    poller = Poller()
    sent: list[int] = []
    output = Client(poller, lambda out, err: sent.append(len(out) + len(err)))
    ends = [os.pipe() for _ in range(40)]
    pipes = [Pipe(read, False) for read, _ in ends]
    for pipe in pipes:
        output._take(pipe, b"y" * (LONGEST_LINE - 1))
    while not output.full:
        output._take(pipes[0], b"x" * LONGEST_LINE)
    for pipe, (_, write) in zip(pipes, ends, strict=True):
        output.close(pipe)
        os.close(write)
    output.flush()
    assert sent == [MOST]
    assert caplog.text.count("are cut off") == 1
    poller.close()


def test_memory_stays_where_it_is_whatever_a_peer_sends() -> None:
    out, err = (Sink(None, name, Poller(), lambda peer, size: None) for name in ("stdout", "stderr"))
    dropped: list[int] = []
    printed = Printed(out, err, lambda peer, reason: dropped.append(peer))
    credit = printed.credit
    assert not printed.take([Delivery(1, Leave("done"))])
    tracemalloc.start()
    try:
        for _ in range(400):
            assert printed.take([Delivery(1, Output(bytes(1 << 20), bytes(1 << 20)))])
        assert tracemalloc.get_traced_memory()[0] < MOST + (3 << 20)
    finally:
        tracemalloc.stop()
    assert dropped == [1] * 399 and credit.total == MOST
    assert printed.take([Delivery(2, Output(b"a\n", b""))]) and credit.total == MOST + 2
