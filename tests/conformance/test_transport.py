"""One suite for every transport: loopback in this process, MPI in ranks of both wheels."""

from __future__ import annotations

import pytest

from hypershell.loopback import loopback
from tests.conformance.transport_cases import CASES
from tests.testbed.mpi import Mpi, each_mpi, launch

MESSAGES = sorted(name for name, case in CASES.items() if not (case.bytes_only or case.losses))


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


@each_mpi()
@pytest.mark.parametrize("name", sorted(CASES))
def test_mpi(mpi: Mpi, name: str) -> None:
    ended = launch(mpi, 3, ["-m", "tests.conformance.mpi_driver", name], timeout=60)
    assert ended.status == 0, ended.stderr
    assert f"PASS {name}" in ended.stdout
