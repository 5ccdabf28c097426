"""Options of the end of a job: when it comes, and where is written how it went."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import SERVE
from hypershell.options.kinds import Option

__all__ = ["ENDING_OPTIONS"]

ENDING_OPTIONS: tuple[Option, ...] = (
    Option(
        "walltime",
        SERVE,
        "Time from now to the end of the job. What cannot end before does not begin; then the run ends with status "
        "75. 0: there is no end.",
        flags=("--walltime",),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="server.walltime",
        default_text="as the scheduler says",
    ),
    Option(
        "poison",
        SERVE,
        "A task fails after so many deaths of the client that ran it; 0: never. Kept with the submission for a "
        "restart.",
        flags=("--poison",),
        metavar="NUM",
        parse=values.deaths,
        key="server.poison",
        default_text="3",
    ),
    Option(
        "status_file",
        SERVE,
        "Keep in this file, as JSON, how the run stands and how it ended.",
        flags=("--status-file",),
        metavar="PATH",
        parse=values.path,
        group="output",
    ),
)
