"""Secrets on a command line of ``hs``: which words they are, and the line without them.

Everybody on a host reads the command lines of its processes, and a database is copied and exported. So what is
recorded, shown or handed to another process has `MASK` in the place of a secret. Called by those who record
command lines (``server.run``, ``apps.submit``), show recorded ones (``data``), or start ranks (``apps.mpi``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

from hypershell.options import OPTIONS, options_of
from hypershell.options.spelled import spelled
from hypershell.ostext import joined

__all__ = ["MASK", "masked", "masked_line", "put_back", "take_out"]

#: Stands for a secret. No key can look like it.
MASK = "***"


def masked(words: Sequence[str]) -> list[str]:
    """`words`, the name of a command and its arguments, without secrets."""
    return take_out(words)[0]


def take_out(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """As `masked`, and the secrets in their order."""
    secrets: list[str] = []

    def keep(secret: str) -> str:
        secrets.append(secret)
        return MASK

    return _changed(words, keep), secrets


def put_back(words: Sequence[str], secrets: Sequence[str]) -> list[str]:
    """What `take_out` was given; `MASK` stays where there are too few secrets."""
    left = iter(secrets)
    return _changed(words, lambda found: next(left, found))


def masked_line(line: str) -> str:
    """A command line as the database has it, without secrets: rows of older versions hold them."""
    import shlex

    if not isinstance(line, str):  # SQLite keeps any value; we wrote none but text
        return line
    if not _hint().search(line):  # taking a line apart costs much more, and there may be many
        return line
    try:
        program, *words = shlex.split(line)
    except ValueError:  # no line that we wrote
        program, *words = line.split() or [""]
    hidden, secrets = take_out(words)
    return joined([program, *hidden]) if any(secret != MASK for secret in secrets) else line


@cache
def _hint() -> re.Pattern[str]:
    """Finds the beginning of every word that could give a secret, perhaps shortened or behind switches."""
    flags = [flag for option in OPTIONS if option.is_secret for flag in option.flags]
    letters = {flag[1] for flag in flags if not flag.startswith("--")}
    firsts = {flag[:3] for flag in flags if flag.startswith("--")}
    short = rf"-\w*[{''.join(sorted(letters))}]"
    return re.compile(rf"(?:^|[\s'])(?:{'|'.join([short, *sorted(firsts)])})")


def _changed(words: Sequence[str], change: Callable[[str], str]) -> list[str]:
    """`words` with each secret changed."""
    options = options_of(words[0]) if words else ()
    secret = [option for option in options if option.is_secret and option.flags]
    if not secret:
        return list(words)
    rest = iter(words)
    result = [next(rest)]
    for word in rest:
        result.append(word)
        if word == "--":
            return [*result, *rest]
        found = next(filter(None, (spelled(word, options, option) for option in secret)), None)
        if found is None:
            continue
        if found.value is not None:
            result[-1] = found.head + change(found.value)
        elif (value := next(rest, None)) is not None:
            result.append(change(value))
    return result
