"""``hs config which [KEY]``: which files of the configuration were read, and where a value comes from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hypershell.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from hypershell.config import Config
    from hypershell.options import Option

__all__ = ["main", "parse_config"]

#: Keys whose value is shown to nobody; the URL of a database may hold a password.
_SECRET = frozenset({"server.auth", "database.password", "database.url"})

_HIDDEN = "****"

#: Layers that are built in, and so have no place.
_BUILT_IN = ("default", "preload")


def main(argv: Sequence[str]) -> int:
    """Run ``hs config ARGV`` and return its exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    from hypershell.ostext import escaped

    words, config = parse_config(argv)
    lines = [_of_key(config, words[1])] if len(words) == 2 else _files(config)
    sys.stdout.write("".join(f"{escaped(line)}\n" for line in lines))
    return ExitStatus.SUCCESS


def parse_config(argv: Sequence[str]) -> tuple[tuple[str, ...], Config]:
    """The words after ``config``, and the configuration; raises as `hypershell.apps.frame.parse`."""
    from hypershell.apps.frame import EndEarly, command_entry, configure, parse_arguments
    from hypershell.apps.help import command_usage

    if not argv:
        raise EndEarly(command_usage(command_entry("config")), ExitStatus.USAGE)
    given = parse_arguments("config", argv)
    words = tuple(given.get("config_words", ()))
    if not words:
        raise UsageError("the following arguments are required: which, and perhaps a KEY")
    if words[0] != "which":
        raise UsageError(f"hs config {words[0]} is not there yet; today: hs config which [KEY]")
    if len(words) > 2:
        raise UsageError(f"hs config which takes one KEY, not {len(words) - 1}")
    return words, configure("config", given)


def _files(config: Config) -> list[str]:
    """A line for each file, from the least to the most important."""
    rows = config.files
    if not rows:
        return ["no file is read: HYPERSHELL_CONFIG_FILE is empty"]
    width = max(len(row.path) for row in rows)
    return [f"{row.layer:<6}  {row.path:<{width}}  {row.state}" for row in rows]


def _of_key(config: Config, key: str) -> str:
    """The value of a key, where it comes from, and what is built in, as HyperShell shows it."""
    option = _option(key)
    origin = config.which(key)
    name, raw = config.form(key)
    is_hidden = key in _SECRET
    if name != key:  # it is not computed: a command may ask somebody for a password
        value, where = str(raw), f"{origin}: {name}"
    else:
        value, where = _shown(option, config.get(key), is_hidden), str(origin)
    if origin.layer in _BUILT_IN:
        return f"{value} ({where})"
    built_in = config.sites.default.database if option.dest == "db" else option.default
    return f"{value} ({where} | default: {_shown(option, built_in, is_hidden)})"


def _option(key: str) -> Option:
    """The option with this key; raises `UsageError`."""
    from hypershell.options import OPTIONS

    for option in OPTIONS:
        if option.key == key:
            return option
    import difflib

    near = difflib.get_close_matches(key, [option.key for option in OPTIONS if option.key], n=1)
    question = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"unknown key {key} ({question}docs/reference.md lists all)")


def _shown(option: Option, value: object, is_hidden: bool) -> str:
    if value is None or value == ():
        return "null"
    if is_hidden:
        return _HIDDEN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(option.to_config(value))
