"""The one table of commands and options.

Command line, configuration keys, environment variables, help texts and ``docs/reference.md`` all come from it.
Knows nothing of files, argparse or the site; called by `hypershell.config`, `hypershell.apps` and
``docs/generate.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypershell import values
from hypershell.values import Loader

__all__ = ["COMMANDS", "ENV_PREFIX", "EXPORT_PREFIX", "OPTIONS", "Command", "Option", "find_option", "options_of"]

ENV_PREFIX = "HYPERSHELL_"
EXPORT_PREFIX = "HYPERSHELL_EXPORT_"

LEVELS = ("devel", "trace", "debug", "info", "warning", "error", "critical")
STYLES = ("default", "detailed", "detailed-compact", "system", "short")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of ``hs``; `module` holds its ``main(argv) -> int``."""

    name: str
    module: str
    summary: str
    detail: str
    examples: tuple[str, ...]
    log_level: str


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of one or more commands.

    Without `flags` it is a positional argument, or with a `key` one that only files and environment can set.
    Without `metavar` it is a switch. `parse` reads the command line; `load` reads `key` from files and environment
    (`parse` where absent) and must accept what `dump` makes of a parsed value. `default` is as `load` returns it.
    With `many` it may be given several times, and `parse` reads each.
    """

    dest: str
    commands: tuple[str, ...]
    help: str
    flags: tuple[str, ...] = ()
    metavar: str = ""
    parse: Loader = values.text
    key: str | None = None
    load: Loader | None = None
    dump: Callable[[object], object] | None = None
    default: object = None
    default_text: str = ""
    alias: str | None = None
    group: str = "options"
    many: bool = False

    @property
    def env(self) -> str | None:
        """The environment variable that sets it."""
        return None if self.key is None else ENV_PREFIX + self.key.replace(".", "_").upper()

    @property
    def is_positional(self) -> bool:
        """Whether it is given by place."""
        return not self.flags and self.key is None

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value on the command line."""
        return bool(self.flags) and not self.metavar

    def from_config(self, value: object) -> object:
        """The typed value of a raw one of a file or variable; raises `ValueError` with the reason."""
        return (self.load or self.parse)(value)

    def to_config(self, value: object) -> object:
        """The raw form, as a file would hold it, of a typed value."""
        return value if self.dump is None or value is None else self.dump(value)


def _one_more(value: object) -> object:
    return values.whole(0)(value) + 1


def _one_less(value: object) -> object:
    return values.whole(1)(value) - 1


_RUN = ("cluster", "mpi")
_ALL = ("cluster", "mpi", "initdb", "list")
_LIST = ("list",)

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
)

OPTIONS: tuple[Option, ...] = (
    Option(
        "file",
        _RUN,
        "File of commands, one per line; '-' or nothing is stdin. With --restart: go on with the submission of "
        "this file.",
        metavar="FILE",
        parse=values.path,
        default_text="stdin",
        group="arguments",
    ),
    Option(
        "ranks",
        ("mpi",),
        "Start this number of ranks under the mpiexec of our MPI. Not inside an MPI job.",
        flags=("-n", "--ranks"),
        metavar="NUM",
        parse=values.whole(1),
    ),
    Option(
        "slots",
        _RUN,
        "Number of tasks at a time, for each client; 0 is the number of cores.",
        flags=("-N", "--num-threads", "--num-tasks"),
        metavar="NUM",
        parse=values.whole(0),
        default=1,
    ),
    Option(
        "template",
        _RUN,
        "Template that makes the command of each line.",
        flags=("-t", "--template"),
        metavar="CMD",
        default="{}",
    ),
    Option(
        "bundlesize",
        _RUN,
        "Number of tasks in one message to a client.",
        flags=("-b", "--bundlesize"),
        metavar="NUM",
        parse=values.whole(1),
        key="server.bundlesize",
        default_text="adapts",
    ),
    Option(
        "bundlewait",
        _RUN,
        "Longest time that results or new tasks wait for a bundle to fill.",
        flags=("-w", "--bundlewait"),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="submit.bundlewait",
        default=5.0,
    ),
    Option(
        "max_retries",
        _RUN,
        "Number of times that a failed task is tried again. The key holds the attempts, that is one more.",
        flags=("-r", "--max-retries"),
        metavar="NUM",
        parse=values.whole(0),
        key="server.attempts",
        load=_one_less,
        dump=_one_more,
        default=0,
    ),
    Option(
        "eager",
        _RUN,
        "Run failed tasks again before new ones.",
        flags=("--eager",),
        parse=values.flag,
        key="server.eager",
        default=False,
    ),
    Option(
        "task_timeout",
        _RUN,
        "Longest time that a task may run. In files 0 is none.",
        flags=("-W", "--task-timeout"),
        metavar="SEC",
        parse=values.duration(zero=False),
        key="task.timeout",
        load=values.none_if_zero(values.duration(zero=True)),
        default_text="none",
    ),
    Option(
        "signalwait",
        _RUN,
        "Time between INT, TERM and KILL when a task is stopped.",
        flags=("-S", "--signalwait"),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="task.signalwait",
        default=10.0,
    ),
    Option(
        "idle_timeout",
        _RUN,
        "A client without work for this time leaves. In files 0 is never.",
        flags=("-T", "--timeout"),
        metavar="SEC",
        parse=values.duration(zero=False),
        key="client.timeout",
        load=values.none_if_zero(values.duration(zero=True)),
        default_text="never",
    ),
    Option(
        "drain_time",
        _RUN,
        "Time that running tasks get to end after a TERM signal.",
        flags=("--drain-time",),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="server.drain_time",
        default=60.0,
    ),
    Option(
        "task_cwd",
        _RUN,
        "Working directory of all tasks.",
        metavar="PATH",
        parse=values.path,
        key="task.cwd",
        default_text="that of the client",
    ),
    Option(
        "output",
        _RUN,
        "Write the standard output of all tasks to this file.",
        flags=("-o", "--output"),
        metavar="PATH",
        parse=values.path,
        default_text="stdout",
        group="output",
    ),
    Option(
        "errors",
        _RUN,
        "Write the standard error of all tasks to this file.",
        flags=("-e", "--errors"),
        metavar="PATH",
        parse=values.path,
        default_text="stderr",
        group="output",
    ),
    Option(
        "failures",
        _RUN,
        "Write the lines of tasks that finally failed to this file.",
        flags=("-f", "--failures"),
        metavar="PATH",
        parse=values.path,
        group="output",
    ),
    Option(
        "capture",
        _RUN,
        "Keep the output of each task in its own files. Not with -o or -e.",
        flags=("--capture",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "allow_failures",
        _RUN,
        "Exit with 0 instead of 7 when tasks failed.",
        flags=("--allow-failures",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "fields",
        _LIST,
        "Fields to show; --fields prints their names.",
        metavar="FIELD...",
        default_text="all",
        group="arguments",
        many=True,
    ),
    Option(
        "where",
        _LIST,
        "Condition FIELD OP VALUE, OP one of == != > >= < <= and ~ (regular expression). Several: all hold.",
        flags=("-w", "--where"),
        metavar="COND",
        group="selection",
        many=True,
    ),
    Option(
        "tags",
        _LIST,
        "Tag that is there, or KEY:VALUE. Several, also after one -t: all hold.",
        flags=("-t", "--with-tag"),
        metavar="TAG",
        group="selection",
        many=True,
    ),
    Option(
        "group",
        _LIST,
        "Tasks of this group.",
        flags=("-g", "--group"),
        metavar="NUM",
        parse=values.whole(0),
        group="selection",
    ),
    *(
        Option(dest, _LIST, text, flags=flags, parse=values.flag, default=False, group="selection")
        for dest, text, flags in (
            ("failed", "Tasks that failed, every attempt of them.", ("-F", "--failed")),
            ("succeeded", "Tasks that succeeded.", ("-S", "--succeeded")),
            ("completed", "Tasks that ended: succeeded, failed or cancelled.", ("-C", "--completed", "--finished")),
            ("remaining", "Tasks that have not ended: pending or dispatched.", ("-R", "--remaining")),
            ("retries", "Second and later attempts.", ("--retries",)),
        )
    ),
    Option(
        "order_by",
        _LIST,
        "Order by this field, null first.",
        flags=("-s", "--order-by"),
        metavar="FIELD",
        default_text="id",
    ),
    Option("desc", _LIST, "With -s: the largest first.", flags=("--desc",), parse=values.flag, default=False),
    Option(
        "limit",
        _LIST,
        "At most this number of tasks.",
        flags=("-l", "--limit"),
        metavar="NUM",
        parse=values.whole(0),
    ),
    Option(
        "count", _LIST, "Print only how many they are.", flags=("-c", "--count"), parse=values.flag, default=False
    ),
    Option(
        "format",
        _LIST,
        "normal, plain, table, csv or json.",
        flags=("-f", "--format"),
        metavar="NAME",
        parse=values.choice("normal", "plain", "table", "csv", "json"),
        default_text="plain with FIELD, else normal",
        group="output",
    ),
    Option(
        "json", _LIST, "Same as --format=json.", flags=("--json",), parse=values.flag, default=False, group="output"
    ),
    Option(
        "csv", _LIST, "Same as --format=csv.", flags=("--csv",), parse=values.flag, default=False, group="output"
    ),
    Option(
        "delimiter",
        _LIST,
        "What stands between values, for plain and csv.",
        flags=("-d", "--delimiter"),
        metavar="STR",
        default_text="tab for plain, comma for csv",
        group="output",
    ),
    Option(
        "list_fields",
        _LIST,
        "Print the names of the fields.",
        flags=("--fields",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "tag_keys",
        _LIST,
        "Print the keys of the tags that these tasks have.",
        flags=("--tag-keys",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "tag_values",
        _LIST,
        "Print the values that the tag KEY has.",
        flags=("--tag-values",),
        metavar="KEY",
        group="output",
    ),
    Option(
        "db",
        _ALL,
        "SQLite file that keeps the tasks.",
        flags=("--db",),
        metavar="PATH",
        parse=values.path,
        key="database.file",
        default_text="main.db of the site",
        alias="database",
        group="database",
    ),
    Option(
        "provider",
        _ALL,
        "Kind of database.",
        metavar="NAME",
        parse=values.choice("sqlite"),
        key="database.provider",
        default="sqlite",
        group="database",
    ),
    Option(
        "no_db",
        _RUN,
        "Keep the tasks in memory only.",
        flags=("--no-db",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "restart",
        _RUN,
        "Go on with unfinished tasks that no living server owns. Reads no stdin.",
        flags=("--restart",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "forever",
        _RUN,
        "Never end; run what others submit to the database.",
        flags=("--forever",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "take_over",
        _RUN,
        "With --restart or --forever: do not wait until the lease of an unreachable server runs out.",
        flags=("--take-over",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "upgrade",
        ("initdb",),
        "Bring a database of another version to this one, after a backup.",
        flags=("--upgrade",),
        parse=values.flag,
        default=False,
    ),
    Option(
        "yes",
        ("initdb",),
        "Do not ask.",
        flags=("-y", "--yes"),
        parse=values.flag,
        default=False,
    ),
    Option(
        "log_level",
        _ALL,
        "Least level that is logged to stderr: " + ", ".join(LEVELS) + ".",
        metavar="NAME",
        parse=values.choice(*LEVELS),
        key="logging.level",
        default_text="warning for cluster and mpi, else info",
        group="logging",
    ),
    Option(
        "log_style",
        _ALL,
        "Look of a log line: " + ", ".join(STYLES) + ".",
        metavar="NAME",
        parse=values.choice(*STYLES),
        key="logging.style",
        default="default",
        group="logging",
    ),
    Option(
        "log_format",
        _ALL,
        "A log line in %-style of Python's logging; goes before the style.",
        metavar="TEXT",
        parse=values.log_format,
        key="logging.format",
        default_text="that of the style",
        group="logging",
    ),
    Option(
        "log_datefmt",
        _ALL,
        "Date and time of a log line, as strftime(3).",
        metavar="TEXT",
        key="logging.datefmt",
        default="%Y-%m-%d %H:%M:%S",
        group="logging",
    ),
    Option(
        "log_color",
        _ALL,
        "Colours, where stderr is a terminal.",
        metavar="BOOL",
        parse=values.flag,
        key="logging.color",
        default=True,
        group="logging",
    ),
    Option(
        "log_file",
        _ALL,
        "Also log to this file; true: one in the site's log directory.",
        metavar="PATH",
        parse=values.log_file,
        key="logging.file.path",
        default_text="none",
        alias="logging.file",
        group="logging",
    ),
    Option(
        "log_file_level",
        _ALL,
        "Least level that goes to the log file.",
        metavar="NAME",
        parse=values.choice(*LEVELS),
        key="logging.file.level",
        default="trace",
        group="logging",
    ),
    Option(
        "log_file_style",
        _ALL,
        "Look of a line in the log file.",
        metavar="NAME",
        parse=values.choice(*STYLES),
        key="logging.file.style",
        default="system",
        group="logging",
    ),
    Option(
        "log_file_format",
        _ALL,
        "A line of the log file; goes before its style.",
        metavar="TEXT",
        parse=values.log_format,
        key="logging.file.format",
        default_text="that of the style",
        group="logging",
    ),
)


def options_of(command: str) -> tuple[Option, ...]:
    """The options of one command, in the order of the table."""
    return tuple(option for option in OPTIONS if command in option.commands)


def find_option(dest: str) -> Option:
    """The option with this `dest`; raises KeyError."""
    for option in OPTIONS:
        if option.dest == dest:
            return option
    raise KeyError(dest)
