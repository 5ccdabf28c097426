"""Keys of the log, which files and environment set for all commands."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import ALL
from hypershell.options.kinds import LEVELS, STYLES, Option

__all__ = ["LOGGING_OPTIONS"]

LOGGING_OPTIONS: tuple[Option, ...] = (
    Option(
        "log_level",
        ALL,
        "Least level that is logged to stderr: " + ", ".join(LEVELS) + ".",
        metavar="NAME",
        parse=values.choice(*LEVELS),
        key="logging.level",
        default_text="warning for cluster and mpi, else info",
        group="logging",
    ),
    Option(
        "log_style",
        ALL,
        "Look of a log line: " + ", ".join(STYLES) + ".",
        metavar="NAME",
        parse=values.choice(*STYLES),
        key="logging.style",
        default="default",
        group="logging",
    ),
    Option(
        "log_format",
        ALL,
        "A log line in %-style of Python's logging; goes before the style.",
        metavar="TEXT",
        parse=values.log_format,
        key="logging.format",
        default_text="that of the style",
        group="logging",
    ),
    Option(
        "log_datefmt",
        ALL,
        "Date and time of a log line, as strftime(3).",
        metavar="TEXT",
        key="logging.datefmt",
        default="%Y-%m-%d %H:%M:%S",
        group="logging",
    ),
    Option(
        "log_color",
        ALL,
        "Colours, where stderr is a terminal.",
        metavar="BOOL",
        parse=values.flag,
        key="logging.color",
        default=True,
        group="logging",
    ),
    Option(
        "log_file",
        ALL,
        "Also log to this file; true: one in the site's log directory.",
        metavar="PATH",
        parse=values.log_file,
        key="logging.file.path",
        default_text="none",
        alias="logging.file",
        group="logging",
    ),
    Option(
        "log_file_level",
        ALL,
        "Least level that goes to the log file.",
        metavar="NAME",
        parse=values.choice(*LEVELS),
        key="logging.file.level",
        default="trace",
        group="logging",
    ),
    Option(
        "log_file_style",
        ALL,
        "Look of a line in the log file.",
        metavar="NAME",
        parse=values.choice(*STYLES),
        key="logging.file.style",
        default="system",
        group="logging",
    ),
    Option(
        "log_file_format",
        ALL,
        "A line of the log file; goes before its style.",
        metavar="TEXT",
        parse=values.log_format,
        key="logging.file.format",
        default_text="that of the style",
        group="logging",
    ),
)
