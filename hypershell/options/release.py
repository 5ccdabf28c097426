"""Options of how the clients of a run get their first work."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import MPI, SERVE
from hypershell.options.kinds import Option

__all__ = ["RELEASE_OPTIONS"]

RELEASE_OPTIONS: tuple[Option, ...] = (
    Option(
        "start_delay",
        SERVE,
        "Time before clients get their first task. Negative: first tasks are spread evenly over that time.",
        flags=("-d", "--delay-start"),
        metavar="SEC",
        parse=values.delay,
        key="server.delay_start",
        default=0.0,
    ),
    Option(
        "release_rate",
        SERVE,
        "Clients per second that get their first task; 0 is no limit.",
        flags=("--release-rate",),
        metavar="NUM",
        parse=values.rate(zero=True),
        key="server.release_rate",
        load=values.none_if_auto(values.rate(zero=True)),
        default_text="1000 slots per second above 1000",
    ),
    Option(
        "rank0_tasks",
        MPI,
        "Number of tasks at a time that rank 0 runs itself.",
        flags=("--rank0-tasks",),
        metavar="NUM",
        parse=values.whole(0),
        key="server.rank0_tasks",
        default_text="-N less 1; alone: all",
    ),
)
