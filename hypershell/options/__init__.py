"""The one table of commands and options.

Command line, configuration keys, environment variables, help texts and ``docs/reference.md`` all come from it; each
part of the table has a module of its own. Knows nothing of files, argparse or the site; called by
`hypershell.config`, `hypershell.apps` and ``docs/generate.py``.
"""

from __future__ import annotations

from hypershell.options.changed import CHANGED_OPTIONS
from hypershell.options.commands import COMMANDS
from hypershell.options.config import CONFIG_OPTIONS
from hypershell.options.database import DATABASE_OPTIONS
from hypershell.options.ending import ENDING_OPTIONS
from hypershell.options.export import EXPORT_OPTIONS
from hypershell.options.idle import IDLE_OPTIONS
from hypershell.options.kinds import ENV_PREFIX, EXPORT_PREFIX, LEVELS, STYLES, Command, Option
from hypershell.options.logging import LOGGING_OPTIONS
from hypershell.options.net import NET_OPTIONS
from hypershell.options.query import QUERY_OPTIONS
from hypershell.options.release import RELEASE_OPTIONS
from hypershell.options.result import RESULT_OPTIONS
from hypershell.options.run import RUN_OPTIONS
from hypershell.options.server import SERVER_OPTIONS
from hypershell.options.surroundings import SURROUNDINGS_OPTIONS
from hypershell.options.task import TASK_OPTIONS
from hypershell.options.update import UPDATE_OPTIONS
from hypershell.options.upkeep import UPKEEP_OPTIONS

__all__ = [
    "COMMANDS",
    "ENV_PREFIX",
    "EXPORT_PREFIX",
    "LEVELS",
    "OPTIONS",
    "STYLES",
    "Command",
    "Option",
    "find_option",
    "options_of",
]

OPTIONS: tuple[Option, ...] = (
    *TASK_OPTIONS,
    *RUN_OPTIONS,
    *SURROUNDINGS_OPTIONS,
    *RELEASE_OPTIONS,
    *ENDING_OPTIONS,
    *RESULT_OPTIONS,
    *UPDATE_OPTIONS,
    *QUERY_OPTIONS,
    *EXPORT_OPTIONS,
    *DATABASE_OPTIONS,
    *CONFIG_OPTIONS,
    *SERVER_OPTIONS,
    *CHANGED_OPTIONS,
    *UPKEEP_OPTIONS,
    *NET_OPTIONS,
    *LOGGING_OPTIONS,
    *IDLE_OPTIONS,
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
