"""Messages that are wrong in one field, told to the real server and client: nothing that is said ends either.

The soak tells a million of them.
"""

from __future__ import annotations

import os
import random

import pytest

from hypershell.errors import ProtocolError
from hypershell.proto.visits import decode_answer
from tests.testbed.fuzz import ANSWERS, broken
from tests.testbed.fuzzing import fuzz_client, fuzz_server

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
