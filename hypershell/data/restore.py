"""Reading an export back into an empty database, in one transaction.

The file may be anybody's: what is not exactly as ``hdf5`` writes it is an error that names the file and the reason.
Called by ``hs import``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Table

from hypershell.address import Where
from hypershell.core.model import KEPT_MOST
from hypershell.data import printed
from hypershell.data.aside import ExportError
from hypershell.data.columns import FORMAT, ID_BYTES, NO_NUMBER, STATES, TABLES, Kind, kind_of
from hypershell.data.engine import SCHEMA_VERSION
from hypershell.data.filling import BadRow, Filler, filling
from hypershell.data.outputs import PLACES
from hypershell.data.owner import Sharing
from hypershell.data.places import create
from hypershell.data.schema import output
from hypershell.errors import StoreError

__all__ = ["Restored", "restore"]

#: Rows that are held at a time, and the most bytes that one chunk of a file may claim.
_ROWS = 8_192
_MOST = 64 << 20

Read = Callable[[int, int], list[Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored. `query`: the filter of the export; `moved`: it was made while somebody wrote."""

    counts: dict[str, int]
    query: str
    moved: bool


def restore(
    source: Path, where: Where, progress: Callable[[int], None], sharing: Sharing | None = None
) -> Restored:
    """Restore the export `source` into the database `where`, which is made where it is not there.

    `sharing` as for ``places.preflight``.

    Raises:
        ExportError: the file is no export of this version, or is damaged; the database is then as empty as before.
        StoreError: the database cannot be written, or is not empty.
    """
    import h5py

    if not source.is_file():
        raise ExportError(f"cannot read {source}: there is no such file")
    try:
        file = h5py.File(source, "r", locking="best-effort")
    except OSError as error:
        raise ExportError(f"cannot read {source}: {_short(error)}; it is no HDF5 file, or damaged") from error
    with file:
        try:
            about = _about(file, source)
            outputs = _Outputs(file, about.counts["tasks"]) if "outputs" in file else None
            tables = {name: _Table(file, name, about.counts[name]) for name in TABLES}
        except _FOREIGN as error:
            raise ExportError(f"{source} is no export of hypershell, or damaged: {_short(error)}") from error
        create(where, sharing)
        _fill(tables, outputs, source, where, progress)
    if outputs is not None:
        about.counts["outputs"] = outputs.restored
    return about


#: What h5py and numpy raise for what is not there or not readable.
_FOREIGN = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError, IndexError)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _about(file: Any, source: Path) -> Restored:
    if file.attrs.get("format") != FORMAT:
        raise ExportError(f"{source} is no export of hypershell: it has no attribute format = {FORMAT}")
    schema = int(file.attrs["schema"])
    if schema != SCHEMA_VERSION:
        raise ExportError(
            f"{source} has schema {schema}, here it is {SCHEMA_VERSION}: use the version that made it"
        )
    counts = {name: int(file.attrs[name]) for name in TABLES}
    return Restored(counts, str(file.attrs["query"]), bool(file.attrs["moved"]))


class _Table:
    """The columns of one table in the file, checked."""

    def __init__(self, file: Any, name: str, count: int) -> None:
        self.name = name
        self.count = count
        self.columns = TABLES[name].columns.keys()
        group = _own(file, name)
        self._reads: list[Read] = []
        for column in TABLES[name].columns:
            kind = kind_of(column)
            data = self._dataset(group, column.name)
            self._check_type(data, kind)
            if kind is Kind.HOST:
                self._reads.append(_hosts(data, _names(file)))
            elif kind is Kind.TEXT:
                absent = self._dataset(_own(group, "missing"), column.name) if column.nullable else None
                self._reads.append(_texts(data, absent))
            else:
                self._reads.append(_reader(data, kind, bool(column.nullable)))

    def blocks(self) -> Iterator[list[tuple[Any, ...]]]:
        for begin in range(0, self.count, _ROWS):
            end = min(begin + _ROWS, self.count)
            yield list(zip(*(read(begin, end) for read in self._reads), strict=True))

    def _dataset(self, group: Any, column: str) -> Any:
        return _dataset(group, column, self.count)

    def _check_type(self, data: Any, kind: Kind) -> None:
        import h5py

        dtype = data.dtype
        good = {
            Kind.TEXT: h5py.check_string_dtype(dtype) == ("utf-8", None),
            Kind.BYTES: h5py.check_vlen_dtype(dtype) == "uint8",
            Kind.ID: dtype.kind == "S" and dtype.itemsize == ID_BYTES,
            Kind.STATE: h5py.check_enum_dtype(dtype) == STATES,
            Kind.FLAG: dtype.kind == "b",
            Kind.HOST: dtype.kind == "i" and dtype.itemsize == 4,
            Kind.REAL: dtype.kind == "f" and dtype.itemsize == 8,
        }.get(kind, dtype.kind == "i" and dtype.itemsize == 8)
        if not good:
            raise ValueError(f"{data.name} has type {dtype}")


class _Outputs:
    """Group ``outputs``: rows of table ``output``, a task at a time, which may be 2 MiB.

    `restored` counts them. Of a stream as much is taken as the database keeps of one.
    """

    def __init__(self, file: Any, count: int) -> None:
        group = _own(file, "outputs")
        self._ids = _dataset(_own(file, "tasks"), "id", count)
        self._count = count
        self._streams: list[tuple[Any, list[Any]]] = []
        for stream in printed.STREAMS:
            data = _dataset(group, stream, None)
            # Files of before had no sizes: they held all of what a task printed.
            names = [name if f"{stream}_{name}" in group else "length" for name in PLACES]
            places = [_dataset(group, f"{stream}_{name}", count) for name in names]
            if data.dtype != "uint8" or any(place.dtype != "int64" for place in places):
                raise ValueError(f"{data.name}, or where its parts lie, has another type")
            self._streams.append((data, places))
        self.restored = 0

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Columns of table ``output``; raises ValueError for places outside of the file."""
        for begin in range(0, self._count, _ROWS):
            end = min(begin + _ROWS, self._count)
            ids = self._ids[begin:end].tolist()
            places = [[place[begin:end].tolist() for place in places] for _, places in self._streams]
            for number, task_id in enumerate(ids):
                found = [
                    _stream(data, *(values[number] for values in of_stream))
                    for (data, _), of_stream in zip(self._streams, places, strict=True)
                ]
                if any(stream is not None for stream, _ in found):
                    self.restored += 1
                    yield task_id.decode("ascii"), *(one for one, _ in found), *(size for _, size in found)


def _stream(data: Any, offset: int, length: int, size: int) -> tuple[bytes | None, int | None]:
    if offset == -1 or length == -1:
        return None, None
    if offset < 0 or length < 0 or size < length or offset + length > data.shape[0]:
        raise ValueError(f"{data.name} has no {length} bytes at {offset} of {size}")
    return data[offset : offset + min(length, KEPT_MOST)].tobytes(), size


def _dataset(group: Any, name: str, count: int | None) -> Any:
    """A one-dimensional dataset of this file, of `count` values."""
    data = _own(group, name)
    if len(data.shape) != 1 or (count is not None and data.shape != (count,)):
        raise ValueError(f"{data.name} has shape {data.shape}, not {(count,)}")
    if data.external or data.is_virtual:
        raise ValueError(f"{data.name} lies in another file")
    if data.chunks is None or data.chunks[0] * data.dtype.itemsize > _MOST:
        raise ValueError(f"{data.name} is not kept in chunks, or in too large ones")
    return data


def _own(group: Any, name: str) -> Any:
    """A member of a group that lies in this file."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"there is no {group.name.rstrip('/')}/{name}")
    return group[name]


def _names(file: Any) -> list[str]:
    data = _own(file, "hosts")
    if data.external or data.is_virtual or data.ndim != 1 or data.shape[0] > 10_000_000:
        raise ValueError("/hosts is no list of names")
    return [str(name) for name in data.asstr()[:]]


def _hosts(data: Any, names: list[str]) -> Read:
    lookup = [*names, None]  # -1 is the last one

    def read(begin: int, end: int) -> list[Any]:
        numbers = data[begin:end]
        if len(numbers) and numbers.min() < -1:
            raise ValueError(f"{data.name} has a negative number of a host")
        return [lookup[number] for number in numbers.tolist()]

    return read


def _texts(data: Any, absent: Any) -> Read:
    texts = data.asstr(errors="strict")

    def read(begin: int, end: int) -> list[Any]:
        values: list[Any] = texts[begin:end].tolist()
        if absent is not None:
            flags = absent[begin:end].tolist()
            return [None if flag else value for flag, value in zip(flags, values, strict=True)]
        return values

    return read


def _reader(data: Any, kind: Kind, nullable: bool) -> Read:
    convert = _CONVERT[kind]
    null: Any = {Kind.INTEGER: NO_NUMBER, Kind.ID: "", Kind.BYTES: b""}.get(kind)

    def read(begin: int, end: int) -> list[Any]:
        values = convert(data[begin:end])
        if nullable and null is not None:
            return [None if value == null else value for value in values]
        return values

    return read


def _times(array: Any) -> list[Any]:
    import numpy as np

    texts = np.datetime_as_string(array.view("datetime64[ns]"), unit="us").tolist()
    return [None if text == "NaT" else text.replace("T", " ") for text in texts]


def _reals(array: Any) -> list[Any]:
    return [None if value != value else value for value in array.tolist()]


def _states(array: Any) -> list[Any]:
    names = {number: name for name, number in STATES.items()}
    return [names[number] for number in array.tolist()]


_CONVERT: dict[Kind, Callable[[Any], list[Any]]] = {
    Kind.INTEGER: lambda array: list(array.tolist()),
    Kind.REAL: _reals,
    Kind.TIME: _times,
    Kind.FLAG: lambda array: [int(value) for value in array],
    Kind.ID: lambda array: [value.decode("ascii") for value in array.tolist()],
    Kind.STATE: _states,
    Kind.BYTES: lambda array: [bytes(value) for value in array],
}


def _fill(
    tables: dict[str, _Table],
    outputs: _Outputs | None,
    source: Path,
    where: Where,
    progress: Callable[[int], None],
) -> None:
    with filling(where) as filler:
        _check_empty(filler, where)
        done = 0
        for name in ("submissions", "runs", "clients", "tasks"):
            for block in _told(tables[name].blocks(), name, source):
                _insert(filler, TABLES[name], block, name, source)
                done += len(block) if name == "tasks" else 0
                progress(done)
        if outputs is not None:
            for row in _told(outputs.rows(), "outputs", source):
                _insert(filler, output, [row], "outputs", source)


def _insert(filler: Filler, table: Table, rows: list[tuple[Any, ...]], name: str, source: Path) -> None:
    try:
        filler.insert(table, rows)
    except BadRow as error:
        raise ExportError(f"{source} is damaged: {name}: {error}; nothing was restored") from error


def _told(found: Iterator[T], name: str, source: Path) -> Iterator[T]:
    """What cannot be read is told as damage."""
    try:
        yield from found
    except _FOREIGN as error:
        raise ExportError(f"{source} is damaged: {name}: {_short(error)}; nothing was restored") from error


def _check_empty(filler: Filler, where: Where) -> None:
    for table in (*TABLES.values(), output):
        if filler.has_rows(table):
            raise StoreError(
                f"database {where} is not empty (table {table.name}): import restores only into an empty one, name "
                "another file with --db PATH"
            )
