"""``hs export FILE``: tasks of the database to HDF5, CSV, JSON lines or Parquet."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hypershell import __version__
from hypershell.errors import ExitStatus, UsageError
from hypershell.ostext import joined

if TYPE_CHECKING:
    from hypershell.data.export import Source, Written
    from hypershell.data.outputs import Open
    from hypershell.settings import ExportSettings

__all__ = ["main"]

log = logging.getLogger("hypershell.data")

_FORMATS = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def main(argv: Sequence[str]) -> int:
    """Run ``hs export ARGV`` and return its exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _export(argv))


def _export(argv: Sequence[str]) -> int:
    from hypershell.apps.captured import Captured
    from hypershell.apps.frame import parse_export
    from hypershell.apps.list import build_filter, open_database
    from hypershell.apps.place import is_absent
    from hypershell.apps.progress import Bar

    settings, config = parse_export(argv)
    name = _format(settings)
    chosen = build_filter(settings)
    if settings.target not in (None, "-"):
        from hypershell.data.aside import check_target

        check_target(Path(str(settings.target)), settings.force)
    raw = open_database(settings.place, is_absent(settings, config), without_tasks=True)
    from hypershell.data.export import Source
    from hypershell.data.partitions import reading

    words = _words(settings)
    outputs = Captured.of(config.sites).open if settings.outputs else None
    with Bar("exporting", None) as progress:
        if raw is None:
            nothing = Source(None, chosen, words, __version__, settings.limit)
            return _write(settings, outputs, name, nothing, progress)
        with reading(raw, settings.place, settings.ignore_partitions) as tasks:
            if progress.is_on:
                found = tasks.count(chosen)
                progress.total = found if settings.limit is None else min(found, settings.limit)
            source = Source(tasks, chosen, words, __version__, settings.limit)
            return _write(settings, outputs, name, source, progress)


def _format(settings: ExportSettings) -> str:
    """The format, by option or ending.

    Raises:
        UsageError: there is none, or it does not go where it is sent, or with the other options.
    """
    target = settings.target
    ending = _FORMATS.get(os.path.splitext(target or "")[1].lower())
    name = settings.export_format or ending
    if target is None and name is None:
        raise UsageError("the following arguments are required: FILE, or --format=csv or jsonl for stdout")
    if name is None:
        known = " ".join(_FORMATS)
        raise UsageError(f"FILE {target}: its ending names no format ({known}); choose by --format")
    if target in (None, "-") and name not in ("csv", "jsonl"):
        raise UsageError(f"Using --format={name} with stdout is invalid: name a FILE")
    if settings.outputs and name != "hdf5":
        raise UsageError(f"Using --outputs with --format={name} is invalid: it is for hdf5")
    return name


def _words(settings: ExportSettings) -> str:
    """The filter as it could be typed; empty where all tasks are wanted."""
    words: list[str] = []
    for flag, values in (("-w", settings.where), ("-t", settings.tags)):
        for value in values:
            words += [flag, value]
    for flag, number in (("-g", settings.group), ("-l", settings.limit)):
        if number is not None:
            words += [flag, str(number)]
    for name in ("failed", "succeeded", "completed", "cancelled", "remaining", "retries"):
        if getattr(settings, name):
            words.append(f"--{name}")
    return joined(words)


def _write(
    settings: ExportSettings, outputs: Open | None, name: str, source: Source, progress: Callable[[int], None]
) -> int:
    from hypershell.data.aside import written_aside

    if settings.target is None or settings.target == "-":
        _to_stdout(name, source)
        return ExitStatus.SUCCESS
    path = Path(settings.target)
    with written_aside(path, settings.force) as aside:
        done = _to_file(name, source, aside, outputs, progress)
    log.info("Exported %d tasks (%s)", done.tasks, path)
    if settings.outputs:
        log.info("Exported the output of tasks: %d streams", done.outputs)
    if done.outputs_missing:
        log.warning("%d files of output are not readable here and were left out", done.outputs_missing)
    if done.outputs_refused:
        log.warning("%d files of output were refused; the first: %s", done.outputs_refused, done.refusal)
    if done.keys_left_out:
        log.warning("%d keys of tags have no dataset of their own; dataset tag has them", done.keys_left_out)
    if done.moved:
        log.warning("The database was written to meanwhile: the export is not the state of one moment")
    return ExitStatus.SUCCESS


def _to_file(
    name: str, source: Source, path: Path, outputs: Open | None, progress: Callable[[int], None]
) -> Written:
    from hypershell.data import export
    from hypershell.making import without_links

    if name == "hdf5":
        return export.to_hdf5(source, path, outputs, progress)
    if name == "parquet":
        return export.Written(export.to_parquet(source, path, progress))
    counted = _Counted(progress)
    with open(path, "wb", opener=without_links) as target:
        _to_stream(name, source, target, counted)
    return export.Written(counted.tasks)


class _Counted:
    """Remembers how many tasks are done."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.tasks = 0
        self._progress = progress

    def __call__(self, done: int) -> None:
        self.tasks = done
        self._progress(done)


def _to_stream(name: str, source: Source, target: IO[bytes], progress: Callable[[int], None]) -> None:
    from hypershell.apps.formats import Csv
    from hypershell.data import export
    from hypershell.data.where import FIELDS

    pages = export.rows_of(source, progress)
    if name == "jsonl":
        target.writelines(export.json_lines(pages))
        return
    form = Csv(tuple(FIELDS), None)
    for page in pages:
        target.write(form.page(page).encode())
    target.write(form.end().encode())


def _to_stdout(name: str, source: Source) -> None:
    """Through the text of stdout, whose errors are told as such."""
    from hypershell.apps.formats import Csv
    from hypershell.apps.list import prepare_stdout
    from hypershell.data import export
    from hypershell.data.where import FIELDS

    prepare_stdout()
    pages = export.rows_of(source, lambda done: None)
    if name == "jsonl":
        for lines in export.json_lines(pages):
            sys.stdout.write(lines.decode())
            sys.stdout.flush()
        return
    form = Csv(tuple(FIELDS), None)
    for page in pages:
        sys.stdout.write(form.page(page))
        sys.stdout.flush()
    sys.stdout.write(form.end())
