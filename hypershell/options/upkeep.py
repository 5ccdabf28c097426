"""Options of the commands that keep a database in shape and tell what ran in it."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import INFO, LIST, RUNS, WAIT
from hypershell.options.kinds import Option

__all__ = ["UPKEEP_OPTIONS"]

_INITDB = ("initdb",)

UPKEEP_OPTIONS: tuple[Option, ...] = (
    Option(
        "vacuum",
        _INITDB,
        "Give the space that is no longer needed back to the disk.",
        flags=("-v", "--vacuum"),
        parse=values.flag,
        default=False,
    ),
    Option(
        "backup",
        _INITDB,
        "Write a copy of the database to PATH, which must not exist.",
        flags=("-b", "--backup"),
        metavar="PATH",
        parse=values.path,
    ),
    Option(
        "rotate",
        _INITDB,
        "Move tasks that ended into a partition, a new file beside the database.",
        flags=("-r", "--rotate"),
        parse=values.flag,
        default=False,
    ),
    Option(
        "truncate",
        _INITDB,
        "Remove all tasks, runs and clients.",
        flags=("-t", "--truncate"),
        parse=values.flag,
        default=False,
    ),
    Option(
        "ignore_partitions",
        (*LIST, *INFO, "export"),
        "Leave out tasks that were rotated into partitions.",
        flags=("-i", "--ignore-partitions"),
        parse=values.flag,
        default=False,
        group="selection",
    ),
    Option(
        "without_partitions",  # -i is another one here
        WAIT,
        "Leave out tasks that were rotated into partitions.",
        flags=("--ignore-partitions",),
        parse=values.flag,
        default=False,
        group="selection",
    ),
    Option(
        "run",
        RUNS,
        "Show this run in full, or its clients; the begin of an id will do.",
        metavar="ID",
        default_text="all",
        group="arguments",
    ),
)
