"""Options of the commands that run tasks."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import CLIENT, EXECUTE, SERVE, SUBMIT
from hypershell.options.kinds import Option

__all__ = ["RUN_OPTIONS"]


def _one_more(value: object) -> object:
    return values.whole(0)(value) + 1


def _one_less(value: object) -> object:
    return values.whole(1)(value) - 1


RUN_OPTIONS: tuple[Option, ...] = (
    Option(
        "file",
        SERVE,
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
        EXECUTE,
        "Number of tasks at a time, for each client; 0 is the number of cores.",
        flags=("-N", "--num-threads", "--num-tasks"),
        metavar="NUM",
        parse=values.whole(0),
        default=1,
    ),
    Option(
        "template",
        EXECUTE,
        "Template that makes the command of each line.",
        flags=("-t", "--template"),
        metavar="CMD",
        default="{}",
    ),
    Option(
        "bundlesize",
        SERVE,
        "Number of tasks in one message to a client.",
        flags=("-b", "--bundlesize"),
        metavar="NUM",
        parse=values.whole(1),
        key="server.bundlesize",
        default_text="adapts",
    ),
    Option(
        "bundlewait",
        (*SERVE, *SUBMIT),
        "Longest time that results or new tasks wait for a bundle to fill.",
        flags=("-w", "--bundlewait"),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="submit.bundlewait",
        default=5.0,
    ),
    Option(
        "client_bundlesize",
        CLIENT,
        "Number of results in one message to the server.",
        flags=("-b", "--bundlesize"),
        metavar="NUM",
        parse=values.whole(1),
        key="client.bundlesize",
        default_text="as the server says",
    ),
    Option(
        "client_bundlewait",
        CLIENT,
        "Longest time that results wait for a bundle to fill.",
        flags=("-w", "--bundlewait"),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="client.bundlewait",
        default_text="as the server says",
    ),
    Option(
        "delay_start",
        CLIENT,
        "Time to wait before connecting; a negative one is the longest of a random time.",
        flags=("-d", "--delay-start"),
        metavar="SEC",
        parse=values.delay,
        default=0.0,
    ),
    Option(
        "max_retries",
        SERVE,
        "Number of times that a failed task is tried again. In a configuration file server.attempts counts the "
        "first try too.",
        flags=("-r", "--max-retries"),
        metavar="NUM",
        parse=values.whole(0, values.MAX_INTEGER - 1),
        key="server.attempts",
        load=_one_less,
        dump=_one_more,
        default=0,
    ),
    Option(
        "eager",
        SERVE,
        "Run failed tasks again before new ones.",
        flags=("--eager",),
        parse=values.flag,
        key="server.eager",
        default=False,
    ),
    Option(
        "task_timeout",
        (*SERVE, *CLIENT),
        "Longest time that a task may run. In a configuration file 0 means none.",
        flags=("-W", "--task-timeout"),
        metavar="SEC",
        parse=values.duration(zero=False),
        key="task.timeout",
        load=values.none_if_zero(values.duration(zero=True)),
        default_text="none",
    ),
    Option(
        "ratelimit",
        EXECUTE,
        "Number of tasks that each client starts per second at most, also a fraction. In a configuration file 0 "
        "means no limit.",
        flags=("-R", "--ratelimit"),
        metavar="NUM",
        parse=values.rate(zero=False),
        key="client.ratelimit",
        load=values.none_if_zero(values.rate(zero=True)),
        default_text="none",
    ),
    Option(
        "signalwait",
        (*SERVE, *CLIENT),
        "Time between INT, TERM and KILL when a task is stopped.",
        flags=("-S", "--signalwait"),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="task.signalwait",
        default=10.0,
    ),
    Option(
        "idle_timeout",
        (*SERVE, *CLIENT),
        "A client without work for this time leaves. In a configuration file 0 means never.",
        flags=("-T", "--timeout"),
        metavar="SEC",
        parse=values.duration(zero=False),
        key="client.timeout",
        load=values.none_if_zero(values.duration(zero=True)),
        default_text="never",
    ),
    Option(
        "drain_time",
        SERVE,
        "Time that running tasks get to end after a TERM signal.",
        flags=("--drain-time",),
        metavar="SEC",
        parse=values.duration(zero=True),
        key="server.drain_time",
        default=60.0,
    ),
    Option(
        "task_cwd",
        (*SERVE, *CLIENT),
        "Working directory of all tasks.",
        metavar="PATH",
        parse=values.path,
        key="task.cwd",
        default_text="that of the client",
    ),
    Option(
        "output",
        EXECUTE,
        "Write the standard output of all tasks to this file. A restart appends to an existing file; any "
        "other run first renames it to PATH.1.",
        flags=("-o", "--output"),
        metavar="PATH",
        parse=values.path,
        default_text="stdout",
        group="output",
    ),
    Option(
        "errors",
        EXECUTE,
        "Write the standard error of all tasks to this file. An existing file: as with -o.",
        flags=("-e", "--errors"),
        metavar="PATH",
        parse=values.path,
        default_text="stderr",
        group="output",
    ),
    Option(
        "failures",
        SERVE,
        "Write the lines of tasks that finally failed to this file. A restart appends to an existing file; any "
        "other run first renames it to PATH.1.",
        flags=("-f", "--failures"),
        metavar="PATH",
        parse=values.path,
        group="output",
    ),
    Option(
        "capture",
        EXECUTE,
        "Keep the output of each task in its own files. Not with -o or -e.",
        flags=("--capture",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "allow_failures",
        SERVE,
        "Exit with 0 instead of 7 when tasks failed.",
        flags=("--allow-failures",),
        parse=values.flag,
        default=False,
        group="output",
    ),
)
