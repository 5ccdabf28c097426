"""The top level of ``hs``: finds the command, or prints help, version and citation.

Stays quick: no argparse, no configuration, no database. Called by `hypershell.__main__`.
"""

from __future__ import annotations

import importlib
import os
import sys

from hypershell import __version__
from hypershell.apps.help import see_help, top_help, top_usage, write_out
from hypershell.apps.stdout import StdoutError
from hypershell.errors import ExitStatus, HyperShellError, UsageError
from hypershell.options import COMMANDS

__all__ = ["main"]

#: Commands that help does not show.
HIDDEN = {"task": "hypershell.apps.task"}

#: Commands that need what POSIX has and Windows has not; there they are refused.
POSIX_ONLY = ("cluster", "mpi", "server")

_INFORMATION = ("--help", "--version", "--citation")


def main(argv: list[str]) -> int:
    """Run the command that `argv` names and return its exit status."""
    if not argv:
        return _tell(top_usage(), ExitStatus.USAGE)
    if sys.platform == "win32" and argv[0] in POSIX_ONLY:
        way_out = "run it on Linux or macOS, and join it from here with 'hs client'"
        return _fail(UsageError(f"hs {argv[0]} does not run on Windows: {way_out}"))
    for command in COMMANDS:
        if command.name == argv[0]:
            return int(importlib.import_module(command.module).main(argv[1:]))
    if argv[0] in HIDDEN:
        return int(importlib.import_module(HIDDEN[argv[0]]).main(argv[1:]))
    asked = _information(argv[0])
    if asked == "--help":
        return _tell(top_help())
    if asked == "--version":
        return _tell(_version())
    if asked == "--citation":
        return _tell(_citation())
    return _refuse(argv[0])


def _information(word: str) -> str | None:
    """The option that a word, perhaps shortened, means."""
    if word in ("-h", "-v"):
        return {"-h": "--help", "-v": "--version"}[word]
    matches = [option for option in _INFORMATION if len(word) > 2 and option.startswith(word)]
    return matches[0] if matches else None


def _tell(text: str, status: int = ExitStatus.SUCCESS) -> int:
    try:
        return write_out(text, status)
    except StdoutError as error:
        return _fail(error)


def _refuse(word: str) -> int:
    if word.startswith("-"):
        return _fail(UsageError("the following arguments are required: command (see hs --help)"))
    from hypershell.options.reserved import RESERVED_COMMANDS
    from hypershell.ostext import joined

    if word in RESERVED_COMMANDS:
        return _fail(UsageError(f"hs {word} is reserved and not there yet; today: {RESERVED_COMMANDS[word]}"))
    text = f"unrecognized command: {word}"
    if os.path.isfile(word):
        return _fail(UsageError(f"{text} (to run the lines of this file: hs cluster {joined([word])})"))
    return _fail(UsageError(see_help(text)))


def _fail(error: HyperShellError) -> int:
    from hypershell.apps.frame import run_command

    def fail() -> int:
        raise error

    return run_command(fail)


def _version() -> str:
    name = {"cpython": "CPython", "pypy": "PyPy"}.get(sys.implementation.name, sys.implementation.name)
    return f"HyperShell v{__version__} ({name} {'.'.join(map(str, sys.version_info[:3]))})\n"


def _citation() -> str:
    return (
        "@software{hypershell_mpi,\n"
        "  title   = {hypershell-mpi: MPI-native parallel executor of shell commands},\n"
        "  author  = {{The hypershell-mpi developers}},\n"
        f"  version = {{{__version__}}},\n"
        "  license = {Apache-2.0}\n"
        "}\n"
    )
