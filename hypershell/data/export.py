"""Exporting a database to a file: HDF5, CSV, JSON lines or Parquet, in constant memory, whole or not at all.

Reads in the short pieces of ``query``, so that a server beside it never waits. Called by ``hs export``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from hypershell.data import query
from hypershell.data.aside import ExportError
from hypershell.data.columns import TABLES
from hypershell.data.engine import SCHEMA_VERSION
from hypershell.data.where import FIELDS, Filter

__all__ = ["Source", "Written", "json_lines", "rows_of", "to_hdf5", "to_parquet"]

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Source:
    """What to export: `words` are the filter as it was given. `link` None: a database without tasks."""

    link: Connection | None
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
    moved: bool = False


def to_hdf5(source: Source, path: Path, outputs: bool, progress: Progress) -> Written:
    """Write all of `source` to `path`, an empty file; tells `progress` how many tasks are done.

    Raises:
        StoreError: the database cannot be read, or holds a value that HDF5 cannot.
        OSError: the file cannot be written.
    """
    import h5py

    from hypershell.data.sink import Sink, interrupts_wait

    sink = Sink(path)
    try:
        with interrupts_wait() as asked, h5py.File(sink, "w", libver=("earliest", "v110")) as file:

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


def _fill(file: Any, source: Source, outputs: bool, check: Progress) -> Written:
    """Write everything; `check` is called after each block."""
    from hypershell.data.hdf5 import Hdf5Writer, blocks
    from hypershell.data.outputs import Outputs

    writer = Hdf5Writer(file)
    files = Outputs(file, TABLES["tasks"].columns.keys(), check, source.link) if outputs else None
    before = _data_version(source.link)
    if source.link is not None:
        for block in blocks(query.raw_pages(source.link, source.chosen, source.limit)):
            writer.append("tasks", block)
            check(writer.counts["tasks"])
            if files is not None:
                files.append(block, writer.counts["tasks"])
        for table in ("submissions", "runs", "clients"):
            for page in query.raw_rows(source.link, TABLES[table]):
                writer.append(table, page)
                check(writer.counts["tasks"])
    moved = _data_version(source.link) != before
    writer.finish({"schema": SCHEMA_VERSION, "version": source.version, "query": source.words, "moved": int(moved)})
    read, missing = (files.read, files.missing) if files else (0, 0)
    return Written(writer.counts["tasks"], writer.keys_left_out, read, missing, moved)


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
    if source.link is None:
        return
    done = 0
    for page in query.pages(source.link, source.chosen, tuple(FIELDS), limit=source.limit):
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
    from hypershell.data.hdf5 import blocks
    from hypershell.data.parquet import schema_of_tasks, table_of

    schema = schema_of_tasks(arrow)
    done = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        if source.link is not None:
            for block in blocks(query.raw_pages(source.link, source.chosen, source.limit)):
                writer.write_table(table_of(arrow, schema, block))
                done += len(block)
                progress(done)
    return done
