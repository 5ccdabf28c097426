"""Options about what comes back of a task: its output in the database, and ``hs run``."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import ONE, SERVE, SUBMIT
from hypershell.options.kinds import Option

__all__ = ["RESULT_OPTIONS"]

RESULT_OPTIONS: tuple[Option, ...] = (
    Option(
        "words",
        ONE,
        "The command: one word as typed, or several that the shell sees as they are.",
        metavar="ARGS...",
        default_text="none",
        group="arguments",
        many=True,
    ),
    Option(
        "keep_output",
        (*SERVE, *SUBMIT),
        "Keep the first 1 MiB of what each task prints to each stream in the database.",
        flags=("--keep-output",),
        parse=values.flag,
        default=False,
        group="output",
    ),
)
