"""Fixtures of real parts that several files here use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.testbed.slurm import Slurm, missing


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    """Two nodes of four cores."""
    if reason := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    slurm = Slurm()
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.close()
