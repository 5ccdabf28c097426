"""Run ``hs`` inside of the process of the tests, which saves the time to start one."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from hypershell.__main__ import main
from tests.testbed.cli import Done, Hs


def run_inside(hs: Hs, *args: str, input: str = "", env: dict[str, str] | None = None) -> Done:
    """What `Hs.run` does, with the same streams and variables."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
    logger = logging.getLogger("hypershell")
    before, level = list(logger.handlers), logger.level
    logger.handlers.clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HYPERSHELL_SITE": str(hs.site), **(env or {})}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.StringIO(input))
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        patch.setattr(logger, "propagate", False)
        patch.chdir(hs.folder)
        status = main(list(args))
    for stream in streams:
        stream.flush()
    logger.handlers[:] = before
    logger.setLevel(level)
    out, err = (stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in streams)
    return Done(status, out, err)
