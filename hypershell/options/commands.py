"""The commands of ``hs``, in the order in which help shows them."""

from __future__ import annotations

from hypershell.options.kinds import Command

__all__ = [
    "ALL",
    "BUNDLE",
    "CLIENT",
    "COMMANDS",
    "CONFIG",
    "DATA",
    "DIAL",
    "DOOR",
    "EXECUTE",
    "INFO",
    "LIST",
    "MPI",
    "ONE",
    "ORDER",
    "RUN",
    "RUNS",
    "SELECT",
    "SERVE",
    "SERVER",
    "STATUS",
    "SUBMIT",
    "UPDATE",
    "WAIT",
]

#: Names of commands that share options.
RUN = ("cluster", "mpi")
SERVER = ("server",)
CLIENT = ("client",)
MPI = ("mpi",)
STATUS = ("status",)
#: Those that schedule tasks, and those that execute them.
SERVE = (*RUN, *SERVER)
EXECUTE = (*RUN, *CLIENT)
#: Those that others reach over the network, and those that reach them.
DOOR = (*SERVER, *MPI)
DIAL = ("client", "submit", "status")
#: Those that use a database.
DATA = (
    *("cluster", "mpi", "server", "submit", "run", "list", "info", "wait", "update", "export", "import", "runs"),
    *("clients", "initdb"),
)
ALL = (*DATA, "client", "status", "config", "bundle")
BUNDLE = ("bundle",)
CONFIG = ("config",)
LIST = ("list",)
UPDATE = ("update",)
#: Those that select tasks, and those that take them in an order.
SELECT = ("list", "update", "export")
ORDER = ("list", "update")
SUBMIT = ("submit",)
#: The one that submits a task and waits for it.
ONE = ("run",)
INFO = ("info",)
WAIT = ("wait",)
#: Those that show other records than tasks.
RUNS = ("runs", "clients")

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
        "server",
        "hypershell.apps.server",
        "Schedule commands for clients that connect over the network.",
        "Schedules the commands of FILE, one per line, for clients on any host ('hs client'); it executes none "
        "itself. With --forever it waits for tasks that 'hs submit' brings.",
        (
            "hs server tasks.in --bind 0.0.0.0 --connect-file server.json",
            "hs server --forever --bind 0.0.0.0 --auth-file key",
        ),
        "warning",
    ),
    Command(
        "client",
        "hypershell.apps.client",
        "Run tasks of a server.",
        "Connects to a server ('hs server', or 'hs mpi' with --bind) and runs its tasks until it is dismissed. May "
        "come and go at any time, from any host and system.",
        ("hs client --connect server.json -N8", "hs client --host login1 --auth-file key -N0 --capture"),
        "warning",
    ),
    Command(
        "submit",
        "hypershell.apps.submit",
        "Put tasks into the database, to be run by a server.",
        "Puts a command, or those of FILE or stdin, one per line, into the database. They run when a server takes "
        "them: one with --forever at once, else the next with --restart.",
        (
            "hs submit tasks.in --tag prod instr:B12 site:us-west-1 batch:12",
            "hs submit -t test -- ./simulate --seed 1",
            "hs submit 'sort data.txt >sorted.txt'",
        ),
        "info",
    ),
    Command(
        "run",
        "hypershell.apps.run",
        "Have a server run one command, and wait for it.",
        "Puts a command into the database, waits until a server has run it, prints what it printed, and exits with "
        "its status. Ctrl-C cancels it.",
        ("hs run -- ./simulate --seed 1", "hs run -t site:west -c4 -W 10m 'sort data.txt | uniq -c'"),
        "warning",
    ),
    Command(
        "status",
        "hypershell.apps.status",
        "Show how a running server stands.",
        "Asks a server that runs how it stands: its tasks, how fast it goes, its clients.",
        ("hs status --connect server.json", "hs status --host login1 --auth-file key --json"),
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
        "info",
        "hypershell.apps.info",
        "Show one task.",
        "Shows everything about the task ID, one field of it, or what it printed. The beginning of an id is enough "
        "where no other task has it.",
        ("hs info 01a202f2-57d7", "hs info 01a202f2-57d7 -x args", "hs info 01a202f2-57d7 --stdout"),
        "info",
    ),
    Command(
        "wait",
        "hypershell.apps.wait",
        "Wait for one task.",
        "Waits until the task ID has ended: until it succeeded, was cancelled, or failed and is not tried again.",
        ("hs wait 01a202f2-57d7 -r && echo good",),
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
    Command(
        "runs",
        "hypershell.apps.runs",
        "Show the runs of the database.",
        "Shows the runs that the database remembers, the newest first: where each ran, on what, and how it ended. "
        "With ID all that is known of one.",
        ("hs runs", "hs runs -l 5 --json", "hs runs 019a"),
        "info",
    ),
    Command(
        "clients",
        "hypershell.apps.clients",
        "Show the clients of the database.",
        "Shows the clients that the database remembers, the newest first: where each ran, for which run, and how "
        "it went. With ID those of the run whose id begins so. What a running server sees now: 'hs status'.",
        ("hs clients", "hs clients 019a --json"),
        "info",
    ),
    Command(
        "initdb",
        "hypershell.apps.initdb",
        "Create the database and keep it in shape.",
        "Creates the tables of the database. Nothing happens to a database that is up to date. Options upgrade it, "
        "copy it, make it smaller, move tasks that ended out of it, or empty it.",
        ("hs initdb --yes", "hs initdb --rotate --yes", "hs initdb --backup copy.db -y", "hs initdb --upgrade"),
        "info",
    ),
    Command(
        "config",
        "hypershell.apps.config",
        "Tell where the configuration comes from.",
        "'which' shows the files of the configuration, which were read, and why one was not. 'which KEY' shows the "
        "value of KEY and where it was set.",
        ("hs config which", "hs config which server.bundlesize"),
        "info",
    ),
    Command(
        "bundle",
        "hypershell.apps.bundle",
        "Make one file of this program, from which many ranks start quickly.",
        "Writes OUT, one executable file with this program and those of its dependencies that are pure Python; the "
        "others are taken from where they are. For file systems on which thousands of small files are slow.",
        ("hs bundle hs.pyz", "mpirun -n 64 python hs.pyz mpi tasks.in"),
        "info",
    ),
)
