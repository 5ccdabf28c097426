"""Options of the commands that put tasks into the database and look at one of them."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import INFO, ONE, SUBMIT, WAIT
from hypershell.options.kinds import Option

__all__ = ["TASK_OPTIONS"]

_BOTH = (*SUBMIT, *ONE)

_SUBMIT_OPTIONS: tuple[Option, ...] = (
    Option(
        "words",
        SUBMIT,
        "A command, or one FILE of commands that is not executable; '-' or nothing is stdin.",
        metavar="ARGS...",
        default_text="stdin",
        group="arguments",
        many=True,
    ),
    Option(
        "task_file",
        SUBMIT,
        "File of commands, one per line; '-' is stdin.",
        flags=("-f", "--task-file"),
        metavar="FILE",
        parse=values.path,
    ),
    Option(
        "expand",
        _BOTH,
        "Template that makes the command of each line now, before it is stored.",
        flags=("--template",),
        metavar="CMD",
        default="{}",
    ),
    Option(
        "tag",
        _BOTH,
        "Tag of these tasks. Several, also after one -t, up to an option, a file, -- or what is no tag.",
        flags=("-t", "--tag"),
        metavar="TAG",
        many=True,
    ),
    Option(
        "task_group",
        _BOTH,
        "Group of these tasks.",
        flags=("-g", "--group"),
        metavar="NUM",
        parse=values.whole(0),
        default=0,
    ),
    Option(
        "cores",
        _BOTH,
        "Cores that each task needs. In files 0 is no demand.",
        flags=("-c", "--cores"),
        metavar="NUM",
        parse=values.whole(0),
        key="task.cores",
        load=values.none_if_zero(values.whole(0)),
        default_text="none",
    ),
    Option(
        "memory",
        _BOTH,
        "Memory that each task needs, such as 4G. In files 0 is no demand.",
        flags=("-m", "--memory"),
        metavar="SIZE",
        parse=values.size,
        key="task.memory",
        load=values.none_if_zero(values.size),
        default_text="none",
    ),
    Option(
        "timeout",
        _BOTH,
        "Longest time that each task may run.",
        flags=("-W", "--timeout"),
        metavar="SEC",
        parse=values.duration(zero=False),
        default_text="task.timeout",
    ),
    Option(
        "commitsize",
        SUBMIT,
        "Number of tasks in one transaction.",
        flags=("-b", "--bundlesize"),
        metavar="NUM",
        parse=values.whole(1),
        key="submit.bundlesize",
        default_text="adapts",
    ),
    Option(
        "initdb",
        SUBMIT,
        "Make the tables of the database before anything is read.",
        flags=("--initdb",),
        parse=values.flag,
        default=False,
        group="database",
    ),
)

_SHOWN = (*INFO, *WAIT)

_INFO_OPTIONS: tuple[Option, ...] = (
    Option(
        "task_id",
        _SHOWN,
        "Id of the task, or the beginning of it.",
        metavar="ID",
        group="arguments",
    ),
    Option(
        "interval",
        (*WAIT, *ONE),
        "Time between two looks at the database.",
        flags=("-n", "--interval"),
        metavar="SEC",
        parse=values.duration(zero=False),
        default=0.02,
    ),
    Option(
        "show_info",
        WAIT,
        "At the end show the task as hs info does.",
        flags=("-i", "--info"),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "show_status",
        WAIT,
        "At the end print the exit status of the task.",
        flags=("-s", "--status"),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "return_status",
        WAIT,
        "Exit with the status of the task.",
        flags=("-r", "--return"),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "extract",
        INFO,
        "Print only the value of this field.",
        flags=("-x", "--extract"),
        metavar="FIELD",
        group="output",
    ),
    Option(
        "show_stdout",
        INFO,
        "Print what the task wrote to its stdout.",
        flags=("--stdout",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "show_stderr",
        INFO,
        "Print, to stderr, what the task wrote to its stderr.",
        flags=("--stderr",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "info_format",
        _SHOWN,
        "normal, json or yaml.",
        flags=("-f", "--format"),
        metavar="NAME",
        parse=values.choice("normal", "json", "yaml"),
        default_text="normal",
        group="output",
    ),
    Option(
        "info_json",
        _SHOWN,
        "Same as --format=json.",
        flags=("--json",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "info_yaml",
        _SHOWN,
        "Same as --format=yaml.",
        flags=("--yaml",),
        parse=values.flag,
        default=False,
        group="output",
    ),
)

TASK_OPTIONS: tuple[Option, ...] = (*_SUBMIT_OPTIONS, *_INFO_OPTIONS)
