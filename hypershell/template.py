"""Templates: from the arguments of a task to its command.

Owns the patterns, their errors and the safe placing of arguments into the commands of ``{% %}``. Runs no
command and reads no file: the executor runs ``commands(args)`` and hands their output to ``expand``. Called by
the executor (one template per submission) and by whatever checks a template before work begins.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Sequence
from enum import Enum

from msgspec import Struct

from hypershell.errors import HyperShellError, UsageError
from hypershell.ostext import in_quotes

__all__ = ["ExpansionError", "Slot", "Template", "TemplateError"]


class Slot(Struct, frozen=True, gc=False):
    """Where a task runs: the number of its slot on its client, from 0, and how many slots that client has."""

    number: int = 0
    count: int = 1


_FIRST = Slot()


class TemplateError(UsageError):
    """A template that no task can be expanded with; the message names the pattern."""


class ExpansionError(HyperShellError):
    """A template that cannot be expanded with the arguments of one task; the task fails, the run goes on."""


class Template:
    """A template, parsed once and expanded for every task.

    ``docs/templates.md`` describes the patterns. Only the template is scanned, never the arguments.
    `needs_slot` says that it can be expanded only where the task runs.

    :raises TemplateError: a pattern that is never closed, or braces that can only be a mistyped pattern.
    """

    __slots__ = ("_commands", "_parts", "_seams", "needs_slot", "text", "trivial")

    def __init__(self, text: str) -> None:
        parts, commands = _parse(text)
        self.text = text
        self.trivial = parts == [_all_args]
        self.needs_slot = any(isinstance(part, _OfSlot) for part in parts)
        self._parts = parts
        self._commands = commands
        self._seams = _seams(parts)

    def commands(self, args: str) -> tuple[str, ...]:
        """The shell commands of the ``{% %}`` parts for these arguments, in the order of the template."""
        return tuple(_render_command(pieces, args) for pieces in self._commands)

    def expand(self, args: str, outputs: Sequence[str] = (), slot: Slot = _FIRST) -> str:
        """The command of a task.

        :param args: the arguments; they appear as they are.
        :param outputs: for each of ``commands(args)`` its standard output without blanks at the ends.
        :param slot: where the task runs.
        :raises ExpansionError: an index out of range, a failing ``{= =}``, or another number of outputs.
        """
        if self._seams is not None:
            return args.join(self._seams)
        if len(outputs) != len(self._commands):
            raise ExpansionError(
                f"template {_shown(self.text)}: {len(outputs)} command outputs given, {len(self._commands)} needed"
            )
        remaining = iter(outputs)
        return "".join(
            part if isinstance(part, str) else next(remaining) if part is None else part(args, slot)
            for part in self._parts
        )


_Pattern = Callable[[str, Slot], str]
_Part = str | _Pattern | None  # None: the place of a {% %} output


def _all_args(args: str, slot: Slot) -> str:
    return args


def _shown(text: str) -> str:
    return in_quotes(text if len(text) <= 60 else text[:57] + "...")


def _seams(parts: list[_Part]) -> list[str] | None:
    """The literals around each ``{}`` if the template has no other pattern: joining them by the args expands it."""
    seams = [""]
    for part in parts:
        if isinstance(part, str):
            seams[-1] += part
        elif part is _all_args:
            seams.append("")
        else:
            return None
    return seams


# ----------------------------------------------------------------------------------------------------
# Parsing

def _of_path(function: Callable[[str], str]) -> _Pattern:
    return lambda args, _: function(args)


_PATHS: dict[str, _Pattern] = {
    "": _all_args,
    ".": _of_path(os.path.dirname),
    "..": _of_path(lambda args: os.path.dirname(os.path.dirname(args))),
    "/": _of_path(os.path.basename),
    "/-": _of_path(lambda args: os.path.splitext(os.path.basename(args))[0]),
    "-": _of_path(lambda args: os.path.splitext(args)[0]),
    "+": _of_path(lambda args: os.path.splitext(args)[1]),
    "++": _of_path(lambda args: os.path.splitext(args)[1][1:]),
}


class _OfSlot:
    """A pattern whose value is known only where the task runs."""

    __slots__ = ("_value",)

    def __init__(self, value: _Pattern) -> None:
        self._value = value

    def __call__(self, args: str, slot: Slot) -> str:
        return self._value(args, slot)


_SLOTS = {
    "slot": _OfSlot(lambda _, slot: str(slot.number)),
    "slot_count": _OfSlot(lambda _, slot: str(slot.count)),
}

# Patterns are text here and below: compiled at first use, as most ranks need few of them.
# Possessive repeats (*+): many blanks after a brace must not cost their square.
_NUMBER = r"[ \t]*+(-?[0-9]{1,18})?[ \t]*+"
_BRACE = r"\{\{|\}\}|\{"
_SLOT = r"\{[ \t]*+(slot(?:_count)?)[ \t]*+\}"
_PATH = r"\{[ \t]*+([./+-]*+)[ \t]*+\}"
_SLICE = rf"\{{[ \t]*+\[{_NUMBER}(?:(:){_NUMBER}(?::{_NUMBER})?)?\][ \t]*+\}}"
_MISTYPED = r"\{\[[^}]*+\}?|\{[./+-]++[ \t]*+\}"

_HINTS = {"{//}": "{.} is the directory", "{/.}": "{/-} is the name without extension"}


def _parse(text: str) -> tuple[list[_Part], list[tuple[_Piece, ...]]]:
    parts: list[_Part] = []
    commands: list[tuple[_Piece, ...]] = []
    doubled = 0  # how many {{ still wait for their }}
    position = 0
    while brace := re.compile(_BRACE).search(text, position):
        start = brace.start()
        parts.append(text[position:start])
        sign = brace.group()
        position = brace.end()
        if sign == "{{":
            doubled += 1
            parts.append("{")
        elif sign == "}}":
            # Without a {{ in front this is the shell's, as in ${a:-${b}} or awk '{if (x) {y}}'.
            parts.append("}" if doubled else "}}")
            doubled = max(doubled - 1, 0)
        elif text.endswith("$", 0, start):
            parts.append("{")  # the shell's: ${slot}, ${#}, ${-}
        elif text.startswith("%", position):
            body, position = _enclosed(text, start, "%}")
            commands.append(_parse_command(body))
            parts.append(None)
        elif text.startswith("=", position):
            body, position = _enclosed(text, start, "=}")
            parts.append(_expression(body))
        else:
            part, position = _short_pattern(text, start)
            parts.append(part)
    parts.append(text[position:])
    return [part for part in parts if part != ""], commands


def _enclosed(text: str, start: int, closing: str) -> tuple[str, int]:
    end = text.find(closing, start + 2)
    opening = text[start : start + 2]
    if end < 0:
        raise _unusable(text, start, f"{opening} is never closed: expected {closing}")
    body = text[start + 2 : end].strip()
    if not body:
        raise _unusable(text, start, f"nothing between {opening} and {closing}")
    return body, end + 2


def _short_pattern(text: str, start: int) -> tuple[_Part, int]:
    """The path, slot or slice pattern that begins at the brace, else the brace itself as a literal."""
    path = re.compile(_PATH).match(text, start)
    if path and path[1] in _PATHS:
        return _PATHS[path[1]], path.end()
    slot = re.compile(_SLOT).match(text, start)
    if slot:
        return _SLOTS[slot[1]], slot.end()
    words = re.compile(_SLICE).match(text, start)
    if words and (words[1] or words[2]):
        if words[4] and int(words[4]) == 0:
            raise _unusable(text, start, f"the step of {words[0]} is 0")
        return (_slice(words) if words[2] else _index(words)), words.end()
    mistyped = re.compile(_MISTYPED).match(text, start)
    if mistyped:
        pattern = mistyped[0]
        hint = f" ({_HINTS[pattern]})" if pattern in _HINTS else ""
        raise _unusable(text, start, f"unknown template pattern {_shown(pattern)[1:-1]}{hint}")
    return "{", start + 1


def _unusable(text: str, start: int, reason: str) -> TemplateError:
    return TemplateError(f"template {_shown(text)}, column {start + 1}: {reason}; a plain brace is written {{{{")


def _index(words: re.Match[str]) -> _Pattern:
    index, pattern = int(words[1]), words[0]

    def pick(args: str, slot: Slot) -> str:
        found = args.split()
        try:
            return found[index]
        except IndexError:
            raise ExpansionError(f"{pattern}: index out of range, the line has {len(found)} words") from None

    return pick


def _slice(words: re.Match[str]) -> _Pattern:
    first, last, step = (int(number) if number else None for number in words.group(1, 3, 4))
    part = slice(first, last, step)
    return lambda args, _: " ".join(args.split()[part])


# ----------------------------------------------------------------------------------------------------
# {= expression =}

_INTEGER = r"[+-]?[0-9]{1,300}"
_DECIMAL = r"[+-]?(?:[0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,4})?"


def _operand(args: str) -> object:
    """The arguments as an expression sees them. Unlike a tag, ``007``, ``0.10`` and ``1e5`` are numbers here:
    in arithmetic the value counts, and a text would multiply by repetition without a word."""
    from hypershell.tags import coerce

    text = args.strip()
    if re.fullmatch(_INTEGER, text):
        return int(text)
    if re.fullmatch(_DECIMAL, text):
        return float(text)
    constant = coerce(text)
    return constant if constant is None or isinstance(constant, bool) else args


_NAMES_A_SLOT = r"\bslot(?:_count)?\b"


def _expression(source: str) -> _Pattern:
    import datetime
    import math
    import os

    pattern = f"{{= {source} =}}"
    try:
        code = compile(source, "<template>", "eval")
    except Exception as error:  # beside SyntaxError: surrogates, NUL bytes, nesting too deep
        reason = _reason(error)
        raise TemplateError(f"template pattern {_shown(pattern)} is no Python expression: {reason}") from None
    names = {"os": os, "path": os.path, "math": math, "dt": datetime}

    def evaluate(args: str, slot: Slot) -> str:
        given = {"x": _operand(args), "slot": slot.number, "slot_count": slot.count, **names}
        try:
            return str(eval(code, given))
        except (Exception, SystemExit) as error:
            raise ExpansionError(f"{_shown(pattern)[1:-1]}: {type(error).__name__}: {_reason(error)}") from None

    return _OfSlot(evaluate) if re.search(_NAMES_A_SLOT, source) else evaluate


def _reason(error: BaseException) -> str:
    """What an exception says, on one line; code that is not ours may have an exception that cannot be printed."""
    try:
        text = str(getattr(error, "msg", None) or error)
    except Exception:
        text = "(no message)"
    return _shown(" ".join(text.split()))[1:-1]


# ----------------------------------------------------------------------------------------------------
# {% command %}


class _Hole(Enum):
    """A place of ``@`` by the quoting around it."""

    ALONE = 1  # a word of its own
    GLUED = 2  # part of an unquoted word or next to an operator: 2 in 2>x would become a descriptor
    SINGLE = 3  # between '...'
    DOUBLE = 4  # between "..."


_Piece = str | _Hole

_ENDS = " \t\n"
_SAFE = r"[A-Za-z0-9_@%+=:,./-]+"
_ACTIVE = r'[\\"$`]'

# What matters to a reader of sh in each context. Substitutions other than $( ) are taken whole and only if simple.
_WHOLE = r"`[^`\\@]*`|\$\(\([^()'\"\\`@]*\)\)|\$\{[^{}()'\"\\`@]*\}"
_ACTIVE_IN_DOUBLE = rf"\\.|{_WHOLE}|`|\$\(\(|\$[({{\[]|\$@(?!@)|\"|@@?"
_UNQUOTED = rf"{_ACTIVE_IN_DOUBLE}|\$'|<<|\(\(|[()']|(?<![^ \t\n;&|()<>])#[^\n]*"
_SINGLE = r"'|@@?"
_CASE = r"\bcase\b"

_TOKENS = {"": _UNQUOTED, "(": _UNQUOTED, "$(": _UNQUOTED, '"': _ACTIVE_IN_DOUBLE, "'": _SINGLE}
_CLOSING = {"": "", "(": ")", "$(": ")", '"': '"', "'": "'"}

# Signs after which quoting is not that of a plain command, so that arguments could leave their place.
_REFUSED = {
    "`": "@ or \\ between back quotes (use $( ) instead)",
    "$((": "@ or nesting in $(( )) (use {= =} instead)",
    "((": "(( )) (use {= =} instead)",
    "$[": "$[ ] (use {= =} instead)",
    "${": "@ or quotes in ${ }",
    "$@": "$@, which is empty here",
    "$'": "$'...', which is not sh",
    "<<": "a here-document",
}


def _parse_command(command: str) -> tuple[_Piece, ...]:
    """The command cut at each ``@``, with the quoting at that place (POSIX, "Shell Command Language", 2.2 to 2.6).

    Arguments must not be able to leave their place, so a command with ``@`` that we cannot follow is refused.
    """
    if "@" not in command:
        return (command,)
    if "$(" in command and re.search(_CASE, command):
        raise _unsafe(command, "'case' beside $( )")
    pieces: list[_Piece] = []
    contexts = [""]  # what opened each of the nested contexts
    position = 0
    joined = -1  # end of the last quoted piece: a # right after it is inside a word
    while token := re.compile(_TOKENS[contexts[-1]], re.DOTALL).search(command, position):
        start, sign = token.start(), token.group()
        pieces.append(command[position:start])
        position = token.end()
        if sign in _REFUSED:
            raise _unsafe(command, _REFUSED[sign])
        if sign == "@":
            pieces.append(_hole(command, start, contexts[-1]))
            continue
        if sign == "@@":
            sign = "@"
        elif sign[0] == "#":
            if start == joined:
                sign, position = "#", start + 1
            elif "@" in sign:
                raise _unsafe(command, "@ in a comment")
        elif sign == _CLOSING[contexts[-1]]:
            if contexts.pop() != "(":
                joined = position
        elif sign in _CLOSING:
            contexts.append(sign)
        elif sign != ")":
            joined = position
        pieces.append(sign)
    if len(contexts) > 1:
        raise _unsafe(command, f"{contexts[-1]} is never closed")
    pieces.append(command[position:])
    return tuple(piece for piece in pieces if piece)


def _unsafe(command: str, reason: str) -> TemplateError:
    way_out = "write @@ for a plain @, or put the command in a script"
    return TemplateError(f"template command {_shown(command)} cannot take @ safely: {reason}; {way_out}")


def _hole(command: str, start: int, context: str) -> _Hole:
    if context == "'":
        return _Hole.SINGLE
    if context == '"':
        return _Hole.DOUBLE
    before, after = command[max(start - 1, 0) : start], command[start + 1 : start + 2]
    alone = before in _ENDS and after in _ENDS  # '' at an end of the command is in it, too
    return _Hole.ALONE if alone else _Hole.GLUED


def _render_command(pieces: tuple[_Piece, ...], args: str) -> str:
    return "".join(piece if isinstance(piece, str) else _placed(piece, args) for piece in pieces)


def _placed(hole: _Hole, args: str) -> str:
    if hole is _Hole.DOUBLE:
        return re.sub(_ACTIVE, r"\\\g<0>", args)
    inner = args.replace("'", "'\"'\"'")
    if hole is _Hole.SINGLE or (hole is _Hole.ALONE and re.fullmatch(_SAFE, args)):
        return inner
    return f"'{inner}'"
