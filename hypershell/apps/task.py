"""``hs task X``: other names of commands, as HyperShell has them; ``hs task submit`` also prints the new id."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from hypershell.errors import ExitStatus, UsageError
from hypershell.options import COMMANDS

__all__ = ["main"]

#: The names below ``hs task``, and the commands that they mean.
NAMES = {"submit": "submit", "info": "info", "wait": "wait", "run": "run", "search": "list", "update": "update"}


def main(argv: list[str]) -> int:
    """Run ``hs task ARGV``; the exit status."""
    from hypershell.apps.frame import run_command

    if not argv:
        return run_command(lambda: _help(sys.stdout.write, ExitStatus.USAGE))
    word = argv[0]
    if word in ("-h", "--help"):
        return run_command(lambda: _help(sys.stdout.write, ExitStatus.SUCCESS))
    if word == "--list-columns":
        return run_command(_columns)
    if word == "submit":
        from hypershell.apps.submit import main_single

        return main_single(argv[1:])
    module = _modules().get(word)
    if module is None:
        return run_command(lambda: _refuse(word))
    return int(importlib.import_module(module).main(argv[1:]))


def _modules() -> dict[str, str]:
    """Name below ``hs task`` to the module of its command."""
    known = {command.name: command.module for command in COMMANDS}
    return {name: known[command] for name, command in NAMES.items() if command in known}


def _help(write: Callable[[str], object], status: int) -> int:
    write(f"usage: hs task [-h] [--list-columns] {{{','.join(_modules())}}} ...\n")
    write("The same as hs submit, info, wait and so on; search is hs list, submit prints the id of its one task.\n")
    return status


def _columns() -> int:
    from hypershell.data.where import FIELDS

    print(*FIELDS)
    return ExitStatus.SUCCESS


def _refuse(word: str) -> int:
    if word.startswith("-"):
        raise UsageError(f"unrecognized arguments: {word} (see hs task --help)")
    raise UsageError(f"unrecognized command: task {word} (see hs task --help)")
