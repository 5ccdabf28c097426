"""Captured output of tasks into an export: the bytes of all files one after the other, and where each begins.

Called by ``export``; the layout is in ``docs/export.md``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from hypershell.data.columns import ROWS

__all__ = ["Outputs"]

_PIECE = 1 << 20
_STREAMS = {"stdout": "outpath", "stderr": "errpath"}


class Outputs:
    """Group ``outputs`` of the open ``h5py.File`` `file`. `read` and `missing` count files.

    `check` is called after each piece with the number of tasks that are done.
    """

    def __init__(self, file: Any, columns: Sequence[str], check: Callable[[int], None]) -> None:
        import numpy as np

        group = file.create_group("outputs")
        packed: dict[str, Any] = {"maxshape": (None,), "compression": "gzip", "compression_opts": 1}
        self._streams = []
        for stream, column in _STREAMS.items():
            data = group.create_dataset(stream, (0,), dtype=np.uint8, chunks=(_PIECE,), **packed)
            places = [
                group.create_dataset(
                    f"{stream}_{name}", (0,), dtype=np.int64, chunks=(ROWS,), fillvalue=-1, **packed
                )
                for name in ("offset", "length")
            ]
            for place in places:
                place.attrs["missing"] = -1
                place.attrs["units"] = "bytes"
            self._streams.append((columns.index(column), data, places))
        self.read = 0
        self.missing = 0
        self._check = check
        self._done = 0

    def append(self, columns: Sequence[Sequence[Any]], done: int) -> None:
        """Add the files of rows of table ``task``, given by columns; an absent file leaves -1."""
        self._done = done
        for column, data, places in self._streams:
            lengths, offsets = [], []
            for path in columns[column]:
                begin = data.shape[0]
                length = -1 if path is None else self._copy(path, data)
                lengths.append(length)
                offsets.append(-1 if length < 0 else begin)
            for place, values in zip(places, (offsets, lengths), strict=True):
                begin = place.shape[0]
                place.resize((begin + len(values),))
                place[begin:] = values

    def _copy(self, path: str, data: Any) -> int:
        """Append a file as long as it is now; its length, or -1 where it cannot be read here."""
        import numpy as np

        try:
            # Without waiting for the other end, should it be a FIFO.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except (OSError, ValueError):
            self.missing += 1
            return -1
        with open(descriptor, "rb", buffering=0) as source:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                self.missing += 1
                return -1
            self.read += 1
            length = 0
            while length < status.st_size and (piece := source.read(min(_PIECE, status.st_size - length))):
                end = data.shape[0]
                data.resize((end + len(piece),))
                data[end:] = np.frombuffer(piece, dtype=np.uint8)
                length += len(piece)
                self._check(self._done)
        return length
