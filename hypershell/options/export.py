"""Options of what goes out of the database into files, and back."""

from __future__ import annotations

from hypershell import values
from hypershell.options.kinds import Option

__all__ = ["EXPORT_OPTIONS"]

EXPORT_OPTIONS: tuple[Option, ...] = (
    Option(
        "target",
        ("export",),
        "File to write; its ending names the format. - is stdout, for csv and jsonl.",
        metavar="FILE",
        group="arguments",
    ),
    Option(
        "export_format",
        ("export",),
        "hdf5, csv, jsonl or parquet, whatever the ending of FILE.",
        flags=("--format",),
        metavar="NAME",
        parse=values.choice("hdf5", "csv", "jsonl", "parquet"),
        default_text="by the ending of FILE",
        group="output",
    ),
    Option(
        "outputs",
        ("export",),
        "HDF5: with the captured stdout and stderr of the tasks.",
        flags=("--outputs",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "force",
        ("export",),
        "Replace FILE if it exists.",
        flags=("--force",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "source",
        ("import",),
        "HDF5 file that hs export wrote.",
        metavar="FILE",
        group="arguments",
    ),
)
