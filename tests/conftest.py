"""Fixtures that several folders of tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testbed.cli import Hs


@pytest.fixture
def hs(tmp_path: Path) -> Hs:
    """``hs`` in a fresh site and an empty current directory."""
    return Hs(tmp_path)
