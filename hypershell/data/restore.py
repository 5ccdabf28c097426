"""Reading an export back into an empty database, in one transaction.

The file may be anybody's: what is not exactly as ``hdf5`` writes it is an error that names the file and the reason.
Called by ``hs import``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypershell.address import Where
from hypershell.data.aside import ExportError
from hypershell.data.columns import FORMAT, ID_BYTES, NO_NUMBER, STATES, TABLES, Kind, kind_of
from hypershell.data.engine import SCHEMA_VERSION
from hypershell.data.filling import BadRow, Filler, filling
from hypershell.data.places import create
from hypershell.errors import StoreError

__all__ = ["Restored", "restore"]

#: Rows that are held at a time, and the most bytes that one chunk of a file may claim.
_ROWS = 8_192
_MOST = 64 << 20

Read = Callable[[int, int], list[Any]]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored. `query`: the filter of the export; `moved`: it was made while somebody wrote."""

    counts: dict[str, int]
    query: str
    moved: bool


def restore(source: Path, where: Where, progress: Callable[[int], None]) -> Restored:
    """Restore the export `source` into the database `where`, which is made where it is not there.

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
            tables = {name: _Table(file, name, about.counts[name]) for name in TABLES}
        except _FOREIGN as error:
            raise ExportError(f"{source} is no export of hypershell, or damaged: {_short(error)}") from error
        create(where)
        _fill(tables, source, where, progress)
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
        data = _own(group, column)
        if data.shape != (self.count,):
            raise ValueError(f"{data.name} has shape {data.shape}, not {(self.count,)}")
        if data.external or data.is_virtual:
            raise ValueError(f"{data.name} lies in another file")
        if data.chunks is None or data.chunks[0] * data.dtype.itemsize > _MOST:
            raise ValueError(f"{data.name} is not kept in chunks, or in too large ones")
        return data

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


def _fill(tables: dict[str, _Table], source: Path, where: Where, progress: Callable[[int], None]) -> None:
    with filling(where) as filler:
        _check_empty(filler, where)
        done = 0
        for name in ("submissions", "runs", "clients", "tasks"):
            for block in _blocks(tables[name], source):
                try:
                    filler.insert(TABLES[name], block)
                except BadRow as error:
                    raise ExportError(f"{source} is damaged: {name}: {error}; nothing was restored") from error
                done += len(block) if name == "tasks" else 0
                progress(done)


def _blocks(table: _Table, source: Path) -> Iterator[list[tuple[Any, ...]]]:
    try:
        yield from table.blocks()
    except _FOREIGN as error:
        raise ExportError(f"{source} is damaged: {table.name}: {_short(error)}; nothing was restored") from error


def _check_empty(filler: Filler, where: Where) -> None:
    for table in TABLES.values():
        if filler.has_rows(table):
            raise StoreError(
                f"database {where} is not empty (table {table.name}): import restores only into an empty one, name "
                "another file with --db PATH"
            )
