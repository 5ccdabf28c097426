"""Writes ``docs/reference.md`` from the table of options; with ``--check`` only tells whether it is current."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hypershell.apps.help import command_help, default_text, shown_value, top_help
from hypershell.options import COMMANDS, OPTIONS, Option, options_of

PAGE = Path(__file__).with_name("reference.md")

_INTRODUCTION = """\
# Reference of commands and settings

This page is made from `hypershell/options/` by `python docs/generate.py`; change the table, not the page.
[configuration.md](configuration.md) tells where settings come from, [exit-status.md](exit-status.md) how
commands end.

Long options may be shortened while they are unambiguous; `--opt=value`, `-N2` and `--` work. SEC is a number of
seconds or a duration such as `10m`, `1h30m` or `2:00:00`.
"""

_VARIABLES = (
    ("HYPERSHELL_SITE", "Directory that replaces the local site and holds database and logs."),
    ("HYPERSHELL_CONFIG_FILE", "The only configuration file that is read; empty: none is."),
    ("HYPERSHELL_EXPORT_NAME", "`NAME` in the environment of every task, with exactly this text."),
    ("NO_COLOR, FORCE_COLOR", "No colours at all; colours without a terminal. The first goes before the second."),
)


def render() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## hs\n", _listing(top_help())]
    for command in COMMANDS:
        parts += [f"## hs {command.name}\n", _listing(command_help(command))]
        rows = [option for option in options_of(command.name) if option.flags and not option.idle]
        parts.append(_table(("option", "key", "variable", "default"), [_option_row(option) for option in rows]))
    keyed = [option for option in OPTIONS if option.key and not option.idle]
    parts += ["## Keys and variables\n", _table(("key", "variable", "default", "meaning"), [*map(_key_row, keyed)])]
    parts.append(
        "Each key also has the forms `KEY_env` and `KEY_eval`, each variable those with `_ENV` and `_EVAL`.\n"
    )
    aliases = [f"`{option.alias}` is short for `{option.key}`" for option in keyed if option.alias]
    parts.append("; ".join(aliases) + ".\n")
    parts += [
        "## Other variables\n",
        _table(("variable", "meaning"), [(f"`{name}`", text) for name, text in _VARIABLES]),
    ]
    return "\n".join(parts)


def _option_row(option: Option) -> tuple[str, ...]:
    names = ", ".join(f"`{flag}`" for flag in option.flags)
    return names, _code(option.key), _code(option.env), _default(option)


def _key_row(option: Option) -> tuple[str, ...]:
    shown = option.default_text or _code(shown_value(option.to_config(option.default)))
    return _code(option.key), _code(option.env), shown, option.help


def _default(option: Option) -> str:
    if option.is_switch:
        return "off"
    return _code(default_text(option)) if not option.default_text else option.default_text


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _listing(text: str) -> str:
    return f"```\n{text}```\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def main(argv: list[str]) -> int:
    """Write the page, or compare it (status 1: the page is old)."""
    text = render()
    if argv == ["--check"]:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
