"""Output of tasks into an export: the bytes of all of them one after the other, and where each begins.

What was captured is read from its file, as far as that can be read here; else what the database kept is taken.
Which files may be opened somebody else knows (`Open`).

Called by ``export``; the layout is in ``docs/export.md``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hypershell.data import printed
from hypershell.data.columns import ROWS
from hypershell.errors import HyperShellError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hypershell.data.partitions import Tasks

__all__ = ["PLACES", "Open", "Outputs"]

Open = Callable[[str, str, str], int]
"""Opens the file of what a task printed, by its id, the stream (``stdout``, ``stderr``) and the path in its row.

Raises ``HyperShellError`` where the path is not that of such a file, ``OSError`` where it cannot be read here.
"""

_PIECE = 1 << 20
_STREAMS = {"stdout": "outpath", "stderr": "errpath"}
#: What is told of each stream of a task: where its bytes begin, how many are here, how many the task printed.
PLACES = ("offset", "length", "size")


class Outputs:
    """Group ``outputs`` of the open ``h5py.File`` `file`. `read` and `missing` count streams.

    `opened` opens files. `check` is called after each piece with the number of tasks that are done. `tasks` read
    what the database kept.
    """

    def __init__(
        self, file: Any, columns: Sequence[str], opened: Open, check: Callable[[int], None], tasks: Tasks | None
    ) -> None:
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
                for name in PLACES
            ]
            for place in places:
                place.attrs["missing"] = -1
                place.attrs["units"] = "bytes"
            self._streams.append((stream, columns.index(column), data, places))
        self._id = columns.index("id")
        self._tasks = tasks
        self.read = 0
        self.missing = 0
        self.refusals = 0
        """Files that were not opened, for their rows may not name them."""
        self.refusal: str | None = None
        """Why not the first of them."""
        self._open = opened
        self._check = check
        self._done = 0

    def append(self, columns: Sequence[Sequence[Any]], done: int) -> None:
        """Add the output of rows of table ``task``, given by columns, ordered by id; what is absent leaves -1."""
        self._done = done
        ids = columns[self._id]
        kept = self._tasks.kept_of(ids[0], ids[-1]) if self._tasks is not None and len(ids) else {}
        for stream, column, data, places in self._streams:
            found = [
                self._add(key, stream, path, kept.get(key), data)
                for key, path in zip(ids, columns[column], strict=True)
            ]
            for place, values in zip(places, zip(*found, strict=True), strict=True):
                begin = place.shape[0]
                place.resize((begin + len(values),))
                place[begin:] = values

    def _add(
        self, task_id: str, stream: str, path: str | None, place: Connection | None, data: Any
    ) -> tuple[int, int, int]:
        """Append one stream of a task: where it begins, its length here, and how much the task printed."""
        begin, refusals = data.shape[0], self.refusals
        if path is not None and (length := self._copy(task_id, stream, path, data)) >= 0:
            self.read += 1
            return begin, length, length
        kept = None if place is None else printed.read_kept(place, task_id, stream)
        if kept is None:
            self.missing += path is not None and self.refusals == refusals
            return -1, -1, -1
        self._append(data, kept.data)
        self.read += 1
        return begin, len(kept.data), kept.size

    def _append(self, data: Any, piece: bytes) -> None:
        import numpy as np

        end = data.shape[0]
        data.resize((end + len(piece),))
        data[end:] = np.frombuffer(piece, dtype=np.uint8)
        self._check(self._done)

    def _copy(self, task_id: str, stream: str, path: str, data: Any) -> int:
        """Append a file as long as it is now; its length, or -1 where it cannot be read here."""
        try:
            descriptor = self._open(task_id, stream, path)
        except HyperShellError as refusal:
            self.refusal = self.refusal or str(refusal)
            self.refusals += 1
            return -1
        except (OSError, ValueError):
            return -1
        with open(descriptor, "rb", buffering=0) as source:
            size = os.fstat(descriptor).st_size
            length = 0
            while length < size and (piece := source.read(min(_PIECE, size - length))):
                self._append(data, piece)
                length += len(piece)
        return length
