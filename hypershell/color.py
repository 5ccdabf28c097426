"""Whether a stream gets colours. Called by the log and by the help texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

__all__ = ["wants_color"]


def wants_color(stream: TextIO | None, environ: Mapping[str, str] | None = None) -> bool:
    """True for a terminal; NO_COLOR (https://no-color.org) forbids, else FORCE_COLOR demands."""
    environ = os.environ if environ is None else environ
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream is not None and not stream.closed and stream.isatty()
