"""The commands of ``hs``, in the order in which help shows them."""

from __future__ import annotations

from hypershell.options.kinds import Command

__all__ = ["ALL", "COMMANDS", "LIST", "RUN", "SELECT", "UPDATE"]

#: Names of commands that share options.
RUN = ("cluster", "mpi")
ALL = ("cluster", "mpi", "initdb", "list", "update")
LIST = ("list",)
UPDATE = ("update",)
#: Those that select tasks.
SELECT = (*LIST, *UPDATE)

COMMANDS: tuple[Command, ...] = (
    Command(
        "cluster",
        "hypershell.apps.cluster",
        "Run commands in parallel on this machine.",
        "Runs the commands of FILE, one per line, in parallel on this machine. "
        "Every task is kept in a database, so an interrupted run can go on later.",
        ("hs cluster tasks.in -N8", "seq 100 | hs cluster -N0 -t './work {} >out/{}.txt'"),
        "warning",
    ),
    Command(
        "mpi",
        "hypershell.apps.mpi",
        "Run commands in parallel on the ranks of an MPI job.",
        "Runs the commands of FILE, one per line, on the ranks of an MPI job. Rank 0 schedules and keeps the "
        "database; every other rank runs tasks. With a single rank it runs them itself.",
        ("mpirun -n 64 hs mpi tasks.in", "srun hs mpi tasks.in -N4", "hs mpi -n 4 tasks.in"),
        "warning",
    ),
    Command(
        "initdb",
        "hypershell.apps.initdb",
        "Create or upgrade the database.",
        "Creates the tables of the database. Nothing happens to a database that is up to date.",
        ("hs initdb --yes", "hs initdb --upgrade --db old.db"),
        "info",
    ),
    Command(
        "list",
        "hypershell.apps.list",
        "Show tasks of the database.",
        "Shows tasks of the database that satisfy all conditions, and of each the fields that are named. Without "
        "arguments: the newest tasks, as a table on a terminal.",
        (
            "hs list id args -w 'exit_status != 0' -w 'duration > 10m'",
            "hs list args -F -t site:west run | hs cluster",
            "hs list -s duration --desc -l 5 --json",
        ),
        "info",
    ),
    Command(
        "update",
        "hypershell.apps.update",
        "Change, cancel, revert or delete tasks.",
        "Changes the tasks of the database that satisfy all conditions, after it has told how many they are. All "
        "that is given is done to the same tasks, or nothing is.",
        (
            "hs update timeout=2h prio:high --remove-tag old -R -t site:west",
            "hs update --cancel -g 3",
            "hs update --revert -F -w 'duration > 10m' -f",
        ),
        "info",
    ),
)
