"""Usage and help texts, made from the table of options, and their way to stdout.

Knows nothing of argparse or values given. Called by `hypershell.apps.main` and `hypershell.apps.frame`.
"""

from __future__ import annotations

import re
import sys
import textwrap

from hypershell.apps.stdout import checked_stdout, silence_stdout, write_bytes
from hypershell.color import wants_color
from hypershell.errors import ExitStatus
from hypershell.options import COMMANDS, Command, Option, options_of

__all__ = [
    "command_help",
    "command_usage",
    "default_text",
    "see_help",
    "shown_value",
    "top_help",
    "top_usage",
    "write_out",
]

WIDTH = 80
_COLUMN = 28
_COLORS = ((re.compile(r"(?m)^[a-z]+:"), "\033[1m"), (re.compile(r"(?<![\w'-])--?[a-zA-Z][\w-]*"), "\033[36m"))


def top_usage() -> str:
    """Usage of ``hs`` itself."""
    return "usage: hs [-h] [-v] [--citation] COMMAND ...\nRun lists of shell commands in parallel.\n"


def top_help() -> str:
    """Help of ``hs`` itself."""
    lines = [top_usage(), "commands:"]
    for command in COMMANDS:
        lines += _entry(command.name, command.summary)
    lines += ["", "options:"]
    lines += _entry("-h, --help", "Show this message.")
    lines += _entry("-v, --version", "Show the version.")
    lines += _entry("--citation", "Show how to cite.")
    lines += ["", "'hs COMMAND --help' tells more of a command; hsx is hs cluster."]
    return "\n".join(lines) + "\n"


def command_usage(command: Command) -> str:
    """Usage of one command."""
    words = ["[-h]"]
    for option in _with_effect(command):
        flag = "" if option.is_positional else option.flags[0]
        words.append(f"[{' '.join(part for part in (flag, option.metavar) if part)}]")
    start = f"usage: hs {command.name} "
    # A blank inside brackets must not become the end of a line.
    body = " ".join(word.replace(" ", "\0") for word in words)
    text = textwrap.fill(body, WIDTH - len(start), break_long_words=False, break_on_hyphens=False)
    return start + textwrap.indent(text, " " * len(start)).lstrip().replace("\0", " ") + f"\n{command.summary}\n"


def command_help(command: Command) -> str:
    """Help of one command: usage, what it does, options by group, examples."""
    options = _with_effect(command)
    lines = [command_usage(command).rpartition(command.summary)[0], *textwrap.wrap(command.detail, WIDTH)]
    for group in dict.fromkeys(option.group for option in options):
        lines += ["", f"{group}:"]
        for option in options:
            if option.group == group:
                lines += _entry(_head(option), option.help + _default_note(option))
        if group == "options":
            lines += _entry("-h, --help", "Show this message.")
    if idle := [_head(option) for option in options_of(command.name) if option.flags and option.idle]:
        lines += ["", "accepted without effect, for command lines of HyperShell:"]
        lines += textwrap.wrap("; ".join(idle), WIDTH, initial_indent="  ", subsequent_indent="  ")
    lines += ["", "examples:", *(f"  {example}" for example in command.examples)]
    if any(option.metavar == "SEC" for option in options):
        lines += ["", "SEC is a number of seconds, or a duration such as 10m or 2:00:00."]
    return "\n".join(lines) + "\n"


def see_help(text: str, command: str = "") -> str:
    """`text`, which ends with unknown words, and the way out: the known word that is most like them, and the help.

    The words are options and arguments of `command`, or without it a command.
    """
    import difflib

    word = text.partition(": ")[2].split(" ")[0].partition("=")[0]
    if command:
        known = [flag for option in options_of(command) for flag in option.flags]
        known = [flag for flag in known if flag.startswith("--")] if word.startswith("--") else []
    else:
        known = [entry.name for entry in COMMANDS]
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.75)
    before = "-- goes before a command that has options; " if command in ("submit", "run") else ""
    question = f"did you mean {near[0]}? " if near else before
    return f"{text} ({question}see {' '.join(filter(None, ('hs', command, '--help')))})"


def default_text(option: Option) -> str:
    """The default as people read it, empty for a switch and where nothing is said."""
    if option.default_text:
        return option.default_text
    if option.default is None or option.is_switch:
        return ""
    return shown_value(option.default)


def shown_value(value: object) -> str:
    """A value as it stands in a file, without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def write_out(text: str, status: int = ExitStatus.SUCCESS) -> int:
    """Print `text`, coloured on a terminal, and return `status`; a closed pipe is no error and gives 0.

    Raises `hypershell.apps.stdout.StdoutError`.
    """
    colored = wants_color(sys.stdout)
    if colored:
        for pattern, code in _COLORS:
            text = pattern.sub(f"{code}\\g<0>\033[0m", text)
    with checked_stdout():
        try:
            if colored:  # past what keeps such codes from a terminal
                write_bytes(text.encode(sys.stdout.encoding, "replace"))
            else:
                sys.stdout.write(text)
                sys.stdout.flush()
        except BrokenPipeError:
            silence_stdout()
            return ExitStatus.SUCCESS
    return status


def _with_effect(command: Command) -> list[Option]:
    """What may stand on the command line and changes something."""
    options = options_of(command.name)
    return [option for option in options if (option.flags or option.is_positional) and not option.idle]


def _head(option: Option) -> str:
    names = ", ".join(option.flags[:2])
    return " ".join(part for part in (names, option.metavar) if part)


def _default_note(option: Option) -> str:
    default = default_text(option)
    return f" (default: {default})" if default else ""


def _entry(head: str, text: str) -> list[str]:
    """Head and wrapped text in two columns; a long head has its own line."""
    body = textwrap.wrap(text, WIDTH - _COLUMN - 2, break_on_hyphens=False)
    start = f"  {head}"
    if len(start) > _COLUMN:
        return [start, *(" " * (_COLUMN + 2) + line for line in body)]
    first, *rest = body
    return [f"{start:<{_COLUMN}}  {first}", *(" " * (_COLUMN + 2) + line for line in rest)]
