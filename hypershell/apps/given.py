"""What argparse cannot do itself: tell of repeated options, refuse reserved ones, begin in a folder that is gone.

Called by ``frame``, which makes the parser of a command from the table of options.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from hypershell.errors import UsageError
from hypershell.options import Option
from hypershell.options.reserved import RESERVED_FLAGS

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Given", "add_reserved", "command_line_library", "once"]


class Given(dict[str, Any]):
    """The typed values of a command line, by `dest`; `repeated` are the options of which only the last counts."""

    def __init__(self, values: dict[str, Any], repeated: list[str]) -> None:
        super().__init__(values)
        self.repeated = repeated


def once(option: Option, repeated: list[str]) -> type[argparse.Action]:
    """The action of an option with one value: the last one counts, and another before it is put into `repeated`."""

    class Once(argparse.Action):
        def __call__(self, parser: object, namespace: object, value: object, flag: str | None = None) -> None:
            name = "/".join(option.flags[:2])
            if getattr(namespace, self.dest, value) != value and name not in repeated:
                repeated.append(name)
            setattr(namespace, self.dest, value)

    return Once


def add_reserved(parser: Any, command: str) -> None:
    """Have the options refused by name that are reserved on `command`."""
    for flag, commands, purpose, instead in RESERVED_FLAGS:
        if command in commands:
            way_out = f"; today {instead}" if instead else ""
            text = f"{flag} is reserved for {purpose}, which is not there yet{way_out}"
            parser.add_argument(flag, nargs="?", dest=argparse.SUPPRESS, action=_refusal(text))


def _refusal(text: str) -> type[argparse.Action]:
    class Refusal(argparse.Action):
        def __call__(self, parser: object, namespace: object, value: object, flag: str | None = None) -> None:
            raise UsageError(text)

    return Refusal


def command_line_library() -> ModuleType:
    """``cmdkit.cli``, whose import asks for the current folder; instead of one that is gone it gets another."""
    try:
        os.getcwd()
    except OSError:
        here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
        os.chdir("/")
        try:
            return _library()
        finally:
            os.fchdir(here)
            os.close(here)
    return _library()


def _library() -> ModuleType:
    from cmdkit import cli

    module: ModuleType = cli
    return module
