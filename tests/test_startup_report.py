"""``--startup-report``: what ranks tell of their start, and the table of it."""

from __future__ import annotations

import os
import time
from collections import deque

import pytest

from hypershell.core.model import ClientInfo, Result
from hypershell.loopback import LoopbackEnd
from hypershell.mpi.started import process_start
from hypershell.proto.codec import decode_client, encode
from hypershell.proto.messages import PROTOCOL_VERSION, Hello, Results, Startup
from hypershell.server.startup import SLOWEST, Rank, Tapped, report

TOLD = Startup(100.0, 100.1, 100.3, 100.7)


def hello(rank: int, told: Startup | None = TOLD) -> Hello:
    return Hello(PROTOCOL_VERSION, ClientInfo("id", f"node{rank}", 1, 1, "0", "linux", rank), [], told)


def results(*starts: float) -> Results:
    return Results([Result("id", 1, 0, start, start + 1) for start in starts])


def test_the_phases_add_up_from_the_first_process_on() -> None:
    assert Rank(1, "a", TOLD, 102.0).phases(99.5) == pytest.approx((0.5, 0.1, 0.2, 0.4, 1.3, 2.5))
    assert Rank(1, "a", TOLD).phases(99.5) == pytest.approx((0.5, 0.1, 0.2, 0.4, 0.0, 1.2))


def test_the_table_has_medians_the_slowest_ranks_and_80_columns() -> None:
    late = [Rank(n, f"node{n:05}.a-long-name.example", TOLD, 102.0 + n) for n in range(9990, 10_010)]
    text = report([*late, Rank(0, "node0", TOLD)], 10_000)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 3 + SLOWEST
    assert lines[0].startswith("Start-up of 21 of 10000 ranks")
    head = ["rank", "host", "launched", "interp.", "imports", "MPI_Init", "1st", "task", "total"]
    assert lines[1].split() == head
    assert lines[2].split()[:5] == ["median", "0.00", "0.10", "0.20", "0.40"]
    assert [int(line.split()[0]) for line in lines[3:]] == list(range(10_009, 9999, -1))
    assert report([Rank(0, "node0", TOLD)], 1).splitlines()[-1].split()[-2:] == ["none", "0.70"]


def test_it_is_told_once_when_each_rank_has_had_a_task() -> None:
    up: deque[object] = deque()
    told: list[str] = []
    tapped = Tapped(LoopbackEnd(up, deque(), 1), 3, 1, Rank(0, "node0", TOLD), told.append)
    for message in (hello(1), results(103.0, 102.0), results(101.0)):
        assert told == []
        up.append(message)
        assert [delivery.message for delivery in tapped.poll()] == [message]
        if isinstance(message, Results):
            break
    assert len(told) == 1 and " ".join(told[0].split()[-16:-8]) == "1 node1 0.00 0.10 0.20 0.40 1.30 2.00"
    up.append(results(101.0))
    assert len(tapped.poll()) == 1
    tapped.end()
    assert len(told) == 1


def test_at_the_end_it_is_told_with_what_is_known() -> None:
    odd = hello(1, Startup(float("nan"), 1.0, 1.0, 1.0))
    up: deque[object] = deque([odd, hello(2, None), results(float("inf"))])
    told: list[str] = []
    tapped = Tapped(LoopbackEnd(up, deque(), 1), 3, 2, Rank(0, "node0", TOLD), told.append)
    while up:
        tapped.poll()
    tapped.end()
    assert len(told) == 1 and told[0].startswith("Start-up of 1 of 3 ranks")


def test_a_hello_with_and_without_times_passes_the_wire() -> None:
    for message in (hello(1), hello(1, None)):
        assert decode_client(encode(message)) == message


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="this system does not tell")
def test_the_kernel_knows_when_a_process_began() -> None:
    now = time.time()
    assert 0 <= now - process_start(now) < 24 * 3600
    assert process_start(0.0) == 0.0  # never later than what we know ourselves
