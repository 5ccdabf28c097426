"""Options for what surrounds a task on its client: the launcher's variables, the cores, the start of its rank."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import ALL, BUNDLE, EXECUTE, MPI
from hypershell.options.kinds import Option

__all__ = ["SURROUNDINGS_OPTIONS"]

SURROUNDINGS_OPTIONS: tuple[Option, ...] = (
    Option(
        "site_mode",
        ALL,
        "Permissions of the folders of the site, whatever the umask: 0700, or to share them 0750 or 0770. Logs and "
        "captured files get the same without x.",
        metavar="MODE",
        parse=values.mode(0o700, 0o750, 0o770),
        dump=values.octal,
        key="site.mode",
        default_text="0700 for new folders",
    ),
    Option(
        "task_env",
        EXECUTE,
        "Which variables of the launcher are kept from tasks: the variables of the rank (rank), the variables of "
        "the job too (job), or none of them (none).",
        flags=("--task-env",),
        metavar="WHAT",
        parse=values.choice("rank", "job", "none"),
        key="task.environment",
        default="rank",
    ),
    Option(
        "task_bind",
        EXECUTE,
        "Which cores a task may use: all cores of the node (none), its client's share of the node (share), or "
        "cores of its own (cores). Also --bind with one of these words.",
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
        "File to write. An existing file is replaced only if it is a bundle.",
        metavar="OUT",
        parse=values.path,
        group="arguments",
    ),
)
