"""How an option of the table may be written on a command line, as argparse reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypershell.options.kinds import Option

__all__ = ["Spelled", "spelled"]


class Spelled(NamedTuple):
    """A word that gives an option: what stands before the value, and the value; None: it is the next word."""

    head: str
    value: str | None


def spelled(word: str, options: Sequence[Option], option: Option) -> Spelled | None:
    """The parts of a word that gives `option`, perhaps shortened (``--aut=x``) or behind switches (``-Ftx``).

    :param options: those of the command.
    """
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        everything = {flag for one in options for flag in one.flags if flag.startswith("--")} | {"--help"}
        matches = [name] if name in everything else [flag for flag in everything if flag.startswith(name)]
        if len(matches) != 1 or matches[0] not in option.flags:
            return None
        return Spelled(name + equals, value if equals else None)
    if not word.startswith("-"):
        return None
    switches = {flag[1] for one in options if one.is_switch for flag in one.flags if not flag.startswith("--")}
    for place, letter in enumerate(word[1:], start=2):
        if "-" + letter in option.flags:
            return Spelled(word[:place], word[place:] or None)
        if letter not in switches:
            break
    return None
