"""Options for what surrounds a task on its client: the launcher's variables, the cores, the start of its rank."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import BUNDLE, EXECUTE, MPI
from hypershell.options.kinds import Option

__all__ = ["SURROUNDINGS_OPTIONS"]

SURROUNDINGS_OPTIONS: tuple[Option, ...] = (
    Option(
        "task_env",
        EXECUTE,
        "What tasks do without of the variables that a launcher set: those of the rank, also those of the job, or "
        "none (rank, job, none).",
        flags=("--task-env",),
        metavar="WHAT",
        parse=values.choice("rank", "job", "none"),
        key="task.environment",
        default="rank",
    ),
    Option(
        "task_bind",
        EXECUTE,
        "Cores that tasks may use: all of the node, those that are this client's share of it, or a share of their "
        "own for each slot (none, share, cores). Also --bind with one of these words.",
        flags=("--task-bind",),
        metavar="WHAT",
        parse=values.choice("none", "share", "cores"),
        key="task.bind",
        default="share",
    ),
    Option(
        "startup_report",
        MPI,
        "Tell on stderr where the time until the first task of the slowest ranks went.",
        flags=("--startup-report",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "bundle",
        BUNDLE,
        "File to write. One that is there is replaced if it is a bundle.",
        metavar="OUT",
        parse=values.path,
        group="arguments",
    ),
)
