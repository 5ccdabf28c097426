"""Words of the command line that get a meaning soon, so that nobody begins to rely on another one.

Knows only words. ``apps.main`` refuses the commands, ``apps.given`` the options.
"""

from __future__ import annotations

from typing import NamedTuple

from hypershell.options.commands import CLIENT, EXECUTE, RUN, SERVER

__all__ = ["RESERVED_COMMANDS", "RESERVED_FLAGS", "ReservedFlag"]

#: Command that is not there yet, and what helps today.
RESERVED_COMMANDS: dict[str, str] = {
    "doctor": "hs --version and hs status",
    "completion": "hs COMMAND --help lists options",
    "top": "hs status",
    "web": "hs status --json",
    "report": "hs runs and hs list",
    "summary": "hs runs and hs list -c",
    "explain": "hs info",
    "advise": "hs runs and hs list -s duration --desc",
    "output": "hs info ID --stdout",
    "scale": "hs client",
    "stop": "a signal to the server (docs/signals.md), or hs update --cancel",
    "shim": "hs mpi",
}


class ReservedFlag(NamedTuple):
    """An option that is refused by name on these commands: what it is for, and what helps today."""

    flag: str
    commands: tuple[str, ...]
    purpose: str
    instead: str = ""


#: What autoscaling is told, in long form.
_SIZES = ("--factor", "--period", "--init-size", "--min-size", "--max-size")

RESERVED_FLAGS: tuple[ReservedFlag, ...] = (
    ReservedFlag("-k", ("cluster",), "--keep-order"),
    ReservedFlag("-c", RUN, "the cores of each task", "the tag cores: says them"),
    ReservedFlag("-m", RUN, "the memory of each task", "the tag memory: says it"),
    ReservedFlag("-G", (*RUN, "submit"), "the GPUs of each task"),
    ReservedFlag("-C", EXECUTE, "the cores of a client", "-N bounds the tasks at a time"),
    ReservedFlag("-M", EXECUTE, "the memory of a client", "-N bounds the tasks at a time"),
    *(
        ReservedFlag(flag, ("cluster",), "the environment of remote clients", "hs client runs tasks on other hosts")
        for flag in ("-E", "--env")
    ),
    *(
        ReservedFlag(flag, ("cluster",), "a cluster over SSH", "start hs server, and hs client on each host")
        for flag in ("--ssh", "--ssh-args", "--ssh-group", "--remote-exe")
    ),
    *(
        ReservedFlag(flag, ("cluster",), "a cluster that a launcher starts", "say srun hs mpi FILE")
        for flag in ("--launcher", "--mpi")
    ),
    *(
        ReservedFlag(flag, ("cluster", *SERVER), "autoscaling", "start hs client where there is room")
        for flag in ("-A", "-F", "-P", "-I", "-X", "-Y", "--autoscaling", *_SIZES)
    ),
    ReservedFlag("--monitor", EXECUTE, "monitoring of tasks", "hs list user_time system_time max_rss"),
    ReservedFlag("--delay", (*RUN, *CLIENT), "a pause between the starts of tasks", "say --delay-start or -R"),
)
