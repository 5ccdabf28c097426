"""Options for a FILE that changed since it was submitted."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import SERVE
from hypershell.options.kinds import Option

__all__ = ["CHANGED_OPTIONS"]

CHANGED_OPTIONS: tuple[Option, ...] = (
    Option(
        "update",
        SERVE,
        "With --restart FILE, where FILE has changed: add the lines that its submission does not have yet.",
        flags=("--update",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "repeat",
        SERVE,
        "With --restart FILE, where FILE has changed: run all of it again.",
        flags=("--repeat",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "retry_failed",
        SERVE,
        "With --restart: try tasks that finally failed again, with all retries of -r.",
        flags=("--retry-failed",),
        parse=values.flag,
        default=False,
        group="database",
    ),
)
