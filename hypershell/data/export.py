"""Exporting a database to a file: HDF5, CSV, JSON lines or Parquet, in constant memory, whole or not at all.

Reads in the short pieces of ``query``, so that a server beside it never waits. Called by ``hs export``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import Connection

from hypershell.data import query
from hypershell.data.aside import ExportError
from hypershell.data.columns import TABLES
from hypershell.data.engine import SCHEMA_VERSION
from hypershell.data.partitions import Tasks
from hypershell.data.where import FIELDS, Filter
from hypershell.errors import StoreError
from hypershell.masking import masked_line

if TYPE_CHECKING:
    from hypershell.data.outputs import Open

__all__ = ["Source", "Written", "json_lines", "rows_of", "to_hdf5", "to_parquet"]

Progress = Callable[[int], None]
Block = TypeVar("Block")

#: Objects that may have been made before cycles of them are looked for: those of some blocks.
_COLLECT = 200_000
#: Bytes of unpacked chunks that HDF5 holds of each dataset: one after the other is filled.
_CACHE = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """What to export: `words` are the filter as it was given. `tasks` None: a database without tasks."""

    tasks: Tasks | None
    chosen: Filter
    words: str
    version: str
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What an export has. `moved`: somebody wrote to the database meanwhile."""

    tasks: int
    keys_left_out: int = 0
    outputs: int = 0
    outputs_missing: int = 0
    outputs_refused: int = 0
    refusal: str | None = None
    """Why the first of these was refused."""
    moved: bool = False


def to_hdf5(source: Source, path: Path, outputs: Open | None, progress: Progress) -> Written:
    """Write all of `source` to `path`, an empty file; tells `progress` how many tasks are done.

    With `outputs`, which opens the files, also what tasks printed.

    Raises:
        StoreError: the database cannot be read, or holds a value that HDF5 cannot.
        OSError: the file cannot be written.
    """
    import h5py

    from hypershell.data.sink import Sink, interrupts_wait

    sink = Sink(path)
    try:
        with (
            _rare_collections(),
            interrupts_wait() as asked,
            h5py.File(sink, "w", libver=("earliest", "v110"), rdcc_nbytes=_CACHE) as file,
        ):

            def check(done: int) -> None:
                sink.check()
                if asked:
                    raise KeyboardInterrupt
                progress(done)

            written = _fill(file, source, outputs, check)
        sink.check()
    finally:
        sink.close()
    return written


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles of objects seldom: rows are many, none is in one, and looking takes a fifth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _fill(file: Any, source: Source, outputs: Open | None, check: Progress) -> Written:
    """Write everything; `check` is called after each block."""
    from hypershell.data.hdf5 import Hdf5Writer, blocks
    from hypershell.data.outputs import Outputs

    writer = Hdf5Writer(file)
    link = None if source.tasks is None else source.tasks.main.connection
    columns = TABLES["tasks"].columns.keys()
    files = None if outputs is None else Outputs(file, columns, outputs, check, source.tasks)
    before = _data_version(link)
    if source.tasks is not None and link is not None:
        for block in _told(_columns(source.tasks, source, is_shared=files is not None)):
            writer.append("tasks", block)
            check(writer.counts["tasks"])
            if files is not None:
                files.append(block, writer.counts["tasks"])
        for table in ("submissions", "runs", "clients"):
            rows = query.raw_rows(link, TABLES[table])
            for block in _told(blocks(_masked(rows) if table == "runs" else rows)):
                writer.append(table, block)
                check(writer.counts["tasks"])
    moved = _data_version(link) != before
    writer.finish({"schema": SCHEMA_VERSION, "version": source.version, "query": source.words, "moved": int(moved)})
    written = Written(writer.counts["tasks"], writer.keys_left_out, moved=moved)
    if files is None:
        return written
    return replace(
        written,
        outputs=files.read,
        outputs_missing=files.missing,
        outputs_refused=files.refusals,
        refusal=files.refusal,
    )


def _told(found: Iterable[Block]) -> Iterator[Block]:
    """The blocks of `found`. A value that cannot even be read, for it was written by hand, is a ``StoreError``."""
    try:
        yield from found
    except (ValueError, TypeError, OverflowError, msgspec.DecodeError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"a row holds what no export can hold: {reason} (CSV and JSON lines may)") from error


def _masked(pages: Iterable[Sequence[query.Row]]) -> Iterator[list[query.Row]]:
    """Rows of table ``run`` without the keys that older versions recorded with the command line."""
    place = TABLES["runs"].columns.keys().index("command")
    for page in pages:
        yield [(*row[:place], masked_line(row[place]), *row[place + 1 :]) for row in page]


def _columns(tasks: Tasks, source: Source, is_shared: bool = False) -> Iterator[Sequence[Sequence[Any]]]:
    """The tasks as blocks of columns. `is_shared`: the connection is used between two of them."""
    from hypershell.data.hdf5 import blocks

    link = tasks.main.connection
    if link.dialect.name == "sqlite" and source.chosen == Filter() and not tasks.has_parts():
        from hypershell.data.packed import Reader, ahead

        raw: Any = link.connection.dbapi_connection
        found = Reader(raw).blocks(source.limit)
        return found if is_shared else ahead(found)
    return blocks(tasks.raw_pages(source.chosen, source.limit))


def _data_version(link: Connection | None) -> int | None:
    """A number that is another one after somebody else wrote; None where the database has none."""
    if link is None or link.dialect.name != "sqlite":
        return None
    return int(link.exec_driver_sql("PRAGMA data_version").scalar_one())


def json_lines(pages: Iterable[Sequence[query.Row]]) -> Iterator[bytes]:
    """Rows of all fields as one JSON object a line."""
    names = tuple(FIELDS)
    encode = msgspec.json.Encoder().encode_lines
    for page in pages:
        yield encode([dict(zip(names, row, strict=True)) for row in page])


def rows_of(source: Source, progress: Progress) -> Iterator[list[query.Row]]:
    """Pages of all fields, as ``hs list`` has them."""
    if source.tasks is None:
        return
    done = 0
    for page in source.tasks.pages(source.chosen, tuple(FIELDS), limit=source.limit):
        done += len(page)
        yield page
        progress(done)


def to_parquet(source: Source, path: Path, progress: Progress) -> int:
    """Write the tasks to `path` as Parquet, a row group for each block; how many.

    Raises:
        ExportError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ExportError(
            "Parquet needs pyarrow: pip install 'hypershell-mpi[parquet]', or name a .h5, .csv or .jsonl file"
        ) from None
    from hypershell.data.parquet import schema_of_tasks, table_of
    from hypershell.making import without_links

    schema = schema_of_tasks(arrow)
    done = 0
    with (
        _rare_collections(),
        open(path, "wb", opener=without_links) as target,  # pyarrow takes no path with bytes that are not UTF-8
        parquet.ParquetWriter(target, schema, compression="zstd") as writer,
    ):
        if source.tasks is not None:
            found = _columns(source.tasks, source)
            for table in _told(table_of(arrow, schema, block) for block in found):
                writer.write_table(table)
                done += table.num_rows
                progress(done)
    return done
