"""Fixtures that several folders of tests use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.cli import Hs
from tests.testbed.postgres import PostgresHs, Server, binaries


def pytest_configure() -> None:
    """Let what the tests start be interrupted, also where a shell in the background has these signals ignored."""
    for name in ("SIGHUP", "SIGINT", "SIGQUIT"):  # the first and the last are not on Windows
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.fixture
def hs(tmp_path: Path) -> Hs:
    """``hs`` in a fresh site and an empty current directory."""
    return Hs(tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of our own, for all tests. Where everything is promised to be installed, it must be."""
    if binaries() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no PostgreSQL is installed; .ci/run installs it")
        pytest.skip("no PostgreSQL is installed")
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def pg(tmp_path: Path, postgres: Server) -> PostgresHs:
    """``hs`` in a fresh site, with its tasks in a fresh schema of the server."""
    return PostgresHs(tmp_path, postgres)
