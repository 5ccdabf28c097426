"""Waiting for what comes from other processes, which tell nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["until"]


def until(done: Callable[[], Any], most: float = 60.0) -> None:
    """Look again and again until `done`; that it was not after `most` seconds is a failure."""
    end = time.monotonic() + most
    while not done():
        assert time.monotonic() < end, f"did not come true within {most:.0f} s"
        time.sleep(0.02)
