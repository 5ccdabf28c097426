"""What a stream to a terminal can show."""

from __future__ import annotations

import os
import shutil
from typing import IO

__all__ = ["width_of"]


def width_of(stream: IO[str]) -> int:
    """Columns of the terminal behind `stream`, which need not be that of stdout; where it does not say: 80."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = shutil.get_terminal_size().columns
    return columns if columns > 1 else 80
