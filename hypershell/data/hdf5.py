"""Writing an export: one extendible dataset for each column, block after block, in constant memory.

Owns how values become datasets (``docs/export.md``); `restore` is its inverse. Called by ``export``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hypershell.data.columns import FORMAT, ID_BYTES, KEYS, NO_NUMBER, ROWS, STATES, TABLES, Kind, escaped, kind_of
from hypershell.data.packed import Fixed, Same
from hypershell.errors import StoreError

__all__ = ["Hdf5Writer", "blocks"]

Values = Sequence[Any]

#: Of zlib: more packs hardly better.
_LEVEL = 1


def _integers(values: Values) -> Any:
    """64-bit integers; `NO_NUMBER` for null."""
    import numpy as np

    if None in values:
        values = [NO_NUMBER if value is None else value for value in values]
    return np.array(values, dtype=np.int64)


def _times(values: Values) -> Any:
    """UTC text to nanoseconds since the epoch; `NO_NUMBER` for null. Raises ValueError beyond the year 2262."""
    import numpy as np

    texts = values.array() if isinstance(values, Fixed) else values
    micros = np.array(texts, dtype="datetime64[us]").view(np.int64)
    known = micros != NO_NUMBER
    if known.any() and abs(micros[known]).max() > 2**63 // 1000 - 1:
        raise ValueError("a time beyond the year 2262")
    return np.where(known, micros * 1000, NO_NUMBER)


def _ids(values: Values) -> Any:
    """ASCII of at most 36 bytes; empty for null."""
    import numpy as np

    if isinstance(values, Fixed):
        return values.array()
    texts = [value or "" for value in values]
    if max(map(len, texts)) > ID_BYTES:
        raise ValueError(f"an id of more than {ID_BYTES} characters")
    return np.array(texts, dtype=f"S{ID_BYTES}")


def _reals(values: Values) -> Any:
    import numpy as np

    return np.array(values, dtype=np.float64)


def _flags(values: Values) -> Any:
    import numpy as np

    return np.array(values, dtype=np.bool_)


def _states(values: Values) -> Any:
    import numpy as np

    return np.fromiter(map(STATES.__getitem__, values), np.int8, len(values))


def _objects(values: Values) -> Any:
    import numpy as np

    if isinstance(values, Same):
        return np.full(len(values), values.value, dtype=object)
    return np.array(values, dtype=object)


class _Names(dict[str | None, int]):
    """Numbers names in the order in which they are met; null is -1."""

    def __init__(self) -> None:
        super().__init__({None: -1})

    def __missing__(self, name: str) -> int:
        if not isinstance(name, str) or "\0" in name:  # told with its row, for the names are written at the end
            raise ValueError("a name of a host that is no text, or has a NUL")
        self[name] = number = len(self) - 1
        return number

    def numbers(self, values: Values) -> Any:
        import numpy as np

        return np.fromiter(map(self.__getitem__, values), np.int32, len(values))


class _Column:
    """One dataset that grows; rows that are all missing are not stored."""

    def __init__(self, group: Any, name: str, dtype: Any, fill: Any, **attributes: Any) -> None:
        # Of text only the references are packed, which keeps the unused part of the last chunk small.
        options: dict[str, Any] = {"compression": "gzip", "compression_opts": _LEVEL, "shuffle": True}
        if fill is not None:
            options["fillvalue"] = fill
        self.dataset = group.create_dataset(name, (0,), maxshape=(None,), chunks=(ROWS,), dtype=dtype, **options)
        self.fill = fill
        self._packed = (b"", b"")
        for key, value in attributes.items():
            self.dataset.attrs[key] = value

    def append(self, array: Any) -> None:
        begin = self.dataset.shape[0]
        end = begin + len(array)
        self.dataset.resize((end,))
        if self.fill is None or not self._is_missing(array):
            self.dataset[begin:end] = array

    def append_at(self, places: Any, array: Any, count: int) -> None:
        """Add `count` rows of which only those at `places` have a value: a text costs as much where it is empty."""
        import h5py

        begin = self.dataset.shape[0]
        self.dataset.resize((begin + count,))
        where = self.dataset.id.get_space()
        where.select_elements((places + begin).reshape(-1, 1))
        self.dataset.id.write(h5py.h5s.create_simple(places.shape), where, array.astype(self.dataset.dtype))

    def append_same(self, one: Any, count: int) -> None:
        """Add `count` times the only value of `one`: a whole chunk of them is packed once and written as it is."""
        import numpy as np

        begin = self.dataset.shape[0]
        if count != ROWS or begin % ROWS or (self.fill is not None and self._is_missing(one)):
            self.append(np.repeat(one, count))
            return
        value = one.tobytes()
        if value != self._packed[0]:
            # Shuffled are first all first bytes, then all second ones.
            bytes_ = np.repeat(np.frombuffer(value, dtype=np.uint8), ROWS)
            self._packed = (value, zlib.compress(bytes_.tobytes(), _LEVEL))
        self.dataset.resize((begin + ROWS,))
        self.dataset.id.write_direct_chunk((begin,), self._packed[1])

    def extend(self, rows: int) -> None:
        """Let the dataset be `rows` long; what is added is missing."""
        self.dataset.resize((rows,))

    def _is_missing(self, array: Any) -> bool:
        same = array != array if self.fill != self.fill else array == self.fill
        return bool(same.all())


class _Text:
    """Text of any length, and beside it, where it can be null, where it is."""

    def __init__(self, group: Any, missing: Any, name: str, rows: int = 0) -> None:
        import h5py
        import numpy as np

        self._texts = _Column(group, name, h5py.string_dtype("utf-8"), None)
        self._missing = None
        if missing is not None:
            self._missing = _Column(missing, name, np.dtype(np.uint8), 1)
            self._texts.dataset.attrs["missing"] = self._missing.dataset.name
        self.extend(rows)

    def append(self, values: Values) -> None:
        import numpy as np

        if self._missing is None:
            self._texts.append(_objects(values))
            return
        array = _objects(values)
        absent = array == None  # noqa: E711  (of each element)
        if absent.all():
            self.extend(self._texts.dataset.shape[0] + len(values))
            return
        if absent.sum() * 2 > len(array):
            self._texts.append_at(np.flatnonzero(~absent), array[~absent], len(array))
        else:
            array[absent] = ""
            self._texts.append(array)
        self._missing.append(absent.astype(np.uint8))

    def extend(self, rows: int) -> None:
        self._texts.extend(rows)
        if self._missing is not None:
            self._missing.extend(rows)


class _Bytes:
    """Bytes of any length; none at all for null."""

    def __init__(self, group: Any, name: str) -> None:
        import h5py
        import numpy as np

        self._column = _Column(group, name, h5py.vlen_dtype(np.uint8), None)
        self._column.dataset.attrs["missing"] = "no bytes"

    def append(self, values: Values) -> None:
        import numpy as np

        end = self._column.dataset.shape[0] + len(values)
        if all(value is None for value in values):
            self._column.extend(end)
            return
        array = np.empty(len(values), dtype=object)
        for place, value in enumerate(values):
            array[place] = np.frombuffer(value or b"", dtype=np.uint8)
        self._column.append(array)


class _Tags:
    """A dataset for each of the first keys of tags that are met, with values as ``hs list`` shows them."""

    def __init__(self, group: Any, missing: Any) -> None:
        self._group = group
        self._missing = missing
        self._columns: dict[str, _Text] = {}
        self.left_out: set[str] = set()
        self._rows = 0

    def append(self, texts: Sequence[str]) -> None:
        tags = {text: msgspec.json.decode(text) for text in set(texts)}
        for key in sorted({key for one in tags.values() for key in one}):
            if key not in self._columns and len(self._columns) < KEYS:
                self._columns[key] = _Text(self._group, self._missing, escaped(key), self._rows)
            elif key not in self._columns and len(self.left_out) < 10_000:
                self.left_out.add(key)
        for key, column in self._columns.items():
            shown = {text: _shown(one[key]) if key in one else None for text, one in tags.items()}
            column.append([shown[text] for text in texts])
        self._rows += len(texts)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Hdf5Writer:
    """An export that is being written to the open ``h5py.File`` `file`, which its caller closes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._hosts = _Names()
        self._tables: dict[str, dict[str, Callable[[Values], None]]] = {}
        self.counts = dict.fromkeys(TABLES, 0)
        for name in TABLES:
            self._tables[name] = self._make_table(name)
        tasks = file["tasks"]
        self._tags = _Tags(tasks.create_group("tags"), tasks["missing"].create_group("tags"))

    def append(self, table: str, columns: Sequence[Values]) -> None:
        """Add rows: the values of all columns of `table` in their order; times are text, tags JSON.

        Raises:
            StoreError: a value that the column cannot hold; with the row's id and the column.
        """
        for (name, append), values in zip(self._tables[table].items(), columns, strict=True):
            try:
                append(values)
                if name == "tag":
                    self._tags.append(values)
            except (ValueError, TypeError, KeyError, OverflowError, msgspec.DecodeError) as error:
                raise self._bad_value(table, name, append, values, columns[0]) from error
        self.counts[table] += len(columns[0])

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Write what is known at the end: names of hosts, `attributes`, counts."""
        import h5py

        names = [name for name in self._hosts if name is not None]
        hosts = self._file.create_dataset("hosts", (len(names),), dtype=h5py.string_dtype("utf-8"))
        if names:
            hosts[:] = names
        self._file.attrs["format"] = FORMAT
        for key, value in attributes.items():
            self._file.attrs[key] = value
        for table, count in self.counts.items():
            self._file.attrs[table] = count
        self._file["tasks/tags"].attrs["left_out"] = len(self._tags.left_out)

    @property
    def keys_left_out(self) -> int:
        """Keys of tags that got no dataset of their own; their values are in ``tasks/tag``."""
        return len(self._tags.left_out)

    def _make_table(self, table: str) -> dict[str, Callable[[Values], None]]:
        group = self._file.create_group(table)
        missing = group.create_group("missing")
        made: dict[str, Callable[[Values], None]] = {}
        for column in TABLES[table].columns:
            beside = missing if column.nullable else None
            made[column.name] = self._make(group, beside, column.name, kind_of(column))
        return made

    def _make(self, group: Any, missing: Any, name: str, kind: Kind) -> Callable[[Values], None]:
        import h5py
        import numpy as np

        if kind is Kind.TEXT:
            return _Text(group, missing, name).append
        if kind is Kind.BYTES:
            return _Bytes(group, name).append
        ids = np.dtype(f"S{ID_BYTES}")
        state = h5py.enum_dtype(STATES, basetype=np.int8)
        kinds: dict[Kind, tuple[Any, Any, Callable[[Values], Any], dict[str, Any]]] = {
            Kind.INTEGER: (np.dtype(np.int64), NO_NUMBER, _integers, {"missing": NO_NUMBER}),
            Kind.TIME: (np.dtype(np.int64), NO_NUMBER, _times, {"missing": NO_NUMBER, "units": _TIME_UNIT}),
            Kind.REAL: (np.dtype(np.float64), np.nan, _reals, {"missing": "NaN"}),
            Kind.ID: (ids, b"", _ids, {"missing": "empty"}),
            Kind.HOST: (np.dtype(np.int32), -1, self._hosts.numbers, {"missing": -1, "names": "/hosts"}),
            Kind.FLAG: (np.dtype(np.bool_), None, _flags, {}),
            Kind.STATE: (state, None, _states, {}),
        }
        dtype, fill, convert, attributes = kinds[kind]
        unit = _UNITS.get(name)
        column = _Column(group, name, dtype, fill, **attributes, **({"units": unit} if unit else {}))

        def append(values: Values) -> None:
            if isinstance(values, Same):
                column.append_same(convert((values.value,)), len(values))
            else:
                column.append(convert(values))

        return append

    def _bad_value(
        self, table: str, name: str, append: Callable[[Values], None], values: Values, ids: Values
    ) -> StoreError:
        """The error that names the first row whose value cannot be written."""
        for id_, value in zip(ids, values, strict=True):
            try:
                append((value,))
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                return StoreError(f"{table}: row {id_} has in column {name} what no export can hold: {reason}")
        return StoreError(f"{table}: column {name} of rows {ids[0]} to {ids[-1]} cannot be exported")


_TIME_UNIT = "ns since 1970-01-01 UTC"
_UNITS: dict[str, str] = {
    **dict.fromkeys(("memory", "memory_max", "max_rss", "offset"), "bytes"),
    **dict.fromkeys(("timeout", "waited", "duration", "user_time", "system_time"), "s"),
    **dict.fromkeys(("cores", "cores_max"), "cores"),
}


def blocks(pages: Iterable[list[Any]]) -> Iterator[list[Values]]:
    """Pages of any size joined into the columns of `ROWS` rows, so that each chunk is written once."""
    held: list[Any] = []
    for page in pages:
        held += page
        while len(held) >= ROWS:
            yield list(zip(*held[:ROWS], strict=True))
            held = held[ROWS:]
    if held:
        yield list(zip(*held, strict=True))
