"""Options that take several words, without taking what belongs to others.

argparse lets such an option swallow every word up to the next option. Here the words that may belong to it are
told by a function, and each of them gets the option in front of it before argparse sees the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypershell.options import Option
from hypershell.options.commands import EXECUTE
from hypershell.options.spelled import spelled

__all__ = ["name_binding", "spread"]

#: Words after ``--bind`` that are no address (docs/decisions/0015).
_BINDINGS = ("none", "share", "cores")


def name_binding(command: str, argv: Sequence[str]) -> list[str]:
    """`argv` with ``--task-bind`` for ``--bind`` where a word for cores follows; an address stays one."""
    if command not in EXECUTE:
        return list(argv)
    result: list[str] = []
    for place, word in enumerate(argv):
        if word == "--":
            return [*result, *argv[place:]]
        value = argv[place + 1] if place + 1 < len(argv) else ""
        if word == "--bind" and value.lower() in _BINDINGS:
            word = "--task-bind"
        elif word.startswith("--bind=") and word[7:].lower() in _BINDINGS:
            word = f"--task-bind={word[7:]}"
        result.append(word)
    return result


def spread(
    argv: Sequence[str], options: Sequence[Option], option: Option, belongs: Callable[[str], bool]
) -> list[str]:
    """`argv` with `option` repeated before each further word after its value, as long as `belongs` says so.

    `options` are those of the command. The first word after the option is its value whatever it is; a word that
    begins with ``-`` ends the list, and all after ``--`` stays.
    """
    result: list[str] = []
    words = iter(argv)
    taking = False
    for word in words:
        if word == "--":
            return [*result, word, *words]
        if taking and not word.startswith("-") and belongs(word):
            result += [option.flags[0], word]
            continue
        result.append(word)
        taking = False
        found = spelled(word, options, option)
        if found is not None and found.value is None:
            value = next(words, None)
            if value is None:
                break
            result.append(value)
            if value == "--":
                return [*result, *words]
        taking = found is not None
    return result
