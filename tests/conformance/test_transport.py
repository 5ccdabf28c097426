"""One suite for every transport: loopback and TCP in this process, MPI in ranks of both wheels."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hypershell.loopback import loopback
from tests.conformance.transport_cases import CASES
from tests.testbed.mpi import Mpi, each_mpi, launch
from tests.testbed.net import LONG, net

MESSAGES = sorted(name for name, case in CASES.items() if not (case.bytes_only or case.losses))
#: Over TCP whoever sends what is no message is rejected: tests/test_net_security.py.
STREAMS = sorted(name for name, case in CASES.items() if not case.bytes_only)


@pytest.mark.parametrize("name", MESSAGES)
def test_loopback(name: str) -> None:
    server_end, client_end = loopback()
    running = [CASES[name].server(server_end, [1]), CASES[name].client(client_end, 1)]
    for _ in range(100_000):
        running = [program for program in running if next(program, "over") is None]
        if not running:
            break
    assert not running, "the two ends wait for each other"
    server_end.close()
    server_end.close()
    client_end.close()


@pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
@pytest.mark.parametrize("name", STREAMS)
def test_tcp(name: str, secure: bool) -> None:
    case, numbers = CASES[name], (1, 2)
    with net(secure=secure) as wire:
        joined = {peer: dialer for dialer, peer in (wire.join(f"client {number}") for number in numbers)}
        ends: list[Any] = [wire.listener, *joined.values()]
        running = {wire.listener: case.server(wire.listener, sorted(joined))}
        running |= {dialer: case.client(dialer, peer) for peer, dialer in joined.items()}
        end = time.monotonic() + LONG
        while running:
            assert time.monotonic() < end, "the ends wait for each other"
            for who, program in list(running.items()):
                if next(program, "over") is not None:
                    del running[who]
                    if case.losses:
                        who.close()
            for who in ends:
                who.flush()
            hints = [hint for who in ends if (hint := who.wait_hint(time.monotonic())) is not None]
            wire.poller.wait(min([*hints, 0.05]))  # a program may go on without anything having come


@each_mpi()
@pytest.mark.parametrize("name", sorted(CASES))
def test_mpi(mpi: Mpi, name: str) -> None:
    ended = launch(mpi, 3, ["-m", "tests.conformance.mpi_driver", name], timeout=60)
    assert ended.status == 0, ended.stderr
    assert f"PASS {name}" in ended.stdout
