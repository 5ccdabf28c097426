"""Few descriptors for this process."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["descriptors"]


@contextmanager
def descriptors(free: int) -> Iterator[int]:
    """Let this process open only so many more; gives the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Tried by opening: a thread that waits in accept(2) has a number that nobody sees.
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(free)]
    limit = max(opened) + 1
    for fd in opened:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
