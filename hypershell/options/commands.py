"""The commands of ``hs``, in the order in which help shows them."""

from __future__ import annotations

from hypershell.options.kinds import Command

__all__ = ["ALL", "COMMANDS", "LIST", "RUN", "SELECT"]

#: Names of commands that share options.
RUN = ("cluster", "mpi")
ALL = ("cluster", "mpi", "initdb", "list", "export", "import")
LIST = ("list",)
SELECT = ("list", "export")

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
        "export",
        "hypershell.apps.export",
        "Write tasks of the database to a file for analysis or safe keeping.",
        "Writes the tasks that satisfy all conditions to FILE, whole or not at all: HDF5 (.h5, .hdf5), which 'hs "
        "import' restores, CSV (.csv), JSON lines (.jsonl, .ndjson) or Parquet (.parquet).",
        (
            "hs export tasks.h5",
            "hs export failed.parquet -F -w 'submit_time >= 2026-01-31'",
            "hs export - --format jsonl -t site:west | jq .duration",
        ),
        "info",
    ),
    Command(
        "import",
        "hypershell.apps.restore",
        "Restore an HDF5 export into an empty database.",
        "Restores FILE, which 'hs export FILE.h5' wrote, into a database that is not there yet or empty.",
        ("hs import tasks.h5 --db copy.db",),
        "info",
    ),
)
