"""Messages that are wrong in one field, told to the real server and client: nothing that is said ends either.

The soak tells a million of them. Over MPI it is the case ``junk`` of ``conformance/test_transport.py``.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from hypershell.errors import ProtocolError
from hypershell.proto.framing import MESSAGE, frame
from hypershell.proto.messages import Output
from hypershell.proto.visits import decode_answer
from hypershell.transport import SERVER
from tests.conformance.transport_cases import BROKEN
from tests.testbed.fuzz import ANSWERS, OF_CLIENTS, OF_SERVERS, broken
from tests.testbed.fuzzing import fuzz_client, fuzz_server
from tests.testbed.net import Net, net

CASES = int(os.environ.get("HS_TEST_FUZZ", "20000")) // 2
SEED = int(os.environ.get("HS_TEST_SEED", "1"))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "hypershell")


def test_a_server_takes_or_refuses_them() -> None:
    assert CASES / 20 < fuzz_server(CASES, SEED) < CASES


def test_a_client_takes_or_refuses_them() -> None:
    assert CASES / 20 < fuzz_client(CASES, SEED) < CASES


def test_who_asks_a_server_takes_or_refuses_its_answers() -> None:
    draw = random.Random(SEED)
    for _ in range(1000):
        try:
            decode_answer(broken(draw, ANSWERS))
        except ProtocolError as error:
            assert "\n" not in str(error)


def say(wire: Net, name: str, draw: random.Random, up: bool) -> None:
    """A new client joins, and it (or the server) says one of them, which is taken or ends the connection."""
    dialer, peer = wire.join(name)
    ends = wire.listener._guests[peer].connection, dialer._connection
    assert ends[1] is not None
    before = len(wire.messages(peer) if up else wire.heard[dialer])
    sender = ends[up]
    sender.put(frame(MESSAGE, broken(draw, OF_CLIENTS if up else OF_SERVERS)))
    wire.until(lambda: sender.flush(time.monotonic()))
    wire.until(lambda: len(wire.messages(peer) if up else wire.heard[dialer]) > before)
    dialer.close()
    wire.dialers.remove(dialer)


@pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
def test_over_tcp_only_who_says_them_is_turned_away(secure: bool) -> None:
    draw = random.Random(SEED)
    with net(secure=secure) as wire:
        honest, number = wire.join("honest")
        for case in range(BROKEN):
            say(wire, f"client {case}", draw, up=case % 2 == 0)
        honest.send(SERVER, Output(b"still here", b""))
        wire.until(lambda: Output(b"still here", b"") in wire.messages(number))
