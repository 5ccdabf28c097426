"""Templates: from the arguments of a task to its command.

Owns the patterns and their errors; how text is quoted for its place is the business of ``shellplaces`` and
``cmdplaces``. Runs no command and reads no file: the executor runs ``commands(args)`` and hands their output to
``expand``. Called by the executor (one template per submission) and by whatever checks a template before work
begins.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from hypershell.errors import HyperShellError, UsageError
from hypershell.ostext import in_quotes

if TYPE_CHECKING:
    from hypershell.shellplaces import Place, Unsafe

__all__ = ["ExpansionError", "Slot", "Template", "TemplateError", "with_quotes"]


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
    `needs_slot` says that it can be expanded only where the task runs, `quotes` that it is to be expanded there,
    since it quotes for the shell of that system.

    :param windows: the commands are for cmd.exe, not for sh.
    :raises TemplateError: a pattern that is never closed, braces that can only be a mistyped pattern, or a place
        where arguments cannot be quoted safely.
    """

    __slots__ = ("_commands", "_output_places", "_parts", "_seams", "needs_slot", "quotes", "text", "trivial")

    def __init__(self, text: str, *, windows: bool = False) -> None:
        found = _parse(text)
        insertions = [one for one in found if not isinstance(one, str)]
        self.text = text
        self.quotes = any(one.quoted for one in insertions)
        self.needs_slot = any(isinstance(one.part, _OfSlot) for one in insertions)
        places = _places(text, found, windows) if self.quotes else {}
        parts = [one if isinstance(one, str) else _placed(one, places) for one in found]
        outputs = [one for one in insertions if one.part is None]
        self.trivial = parts == [_all_args]
        self._parts = parts
        self._commands = [_parse_command(one.source, one.quoted, windows) for one in outputs]
        self._output_places = [places.get(one.start) for one in outputs]
        self._seams = _seams(parts)

    def commands(self, args: str) -> tuple[str, ...]:
        """The shell commands of the ``{% %}`` parts for these arguments, in the order of the template."""
        return tuple(_render_command(pieces, args) for pieces in self._commands)

    def expand(self, args: str, outputs: Sequence[str] = (), slot: Slot = _FIRST) -> str:
        """The command of a task.

        :param args: the arguments; they appear as they are where the pattern does not quote.
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
        remaining = iter(self._quoted(outputs) if self.quotes else outputs)
        return "".join(
            part if isinstance(part, str) else next(remaining) if part is None else part(args, slot)
            for part in self._parts
        )

    def _quoted(self, outputs: Sequence[str]) -> list[str]:
        both = zip(outputs, self._output_places, strict=True)
        return [output if place is None else place((output,)) for output, place in both]


def with_quotes(text: str) -> str:
    """The template with ``:q`` in every pattern: what ``-q`` makes of it.

    :raises TemplateError: as of `Template`.
    """
    for one in reversed(_parse(text)):
        if not isinstance(one, str) and not one.quoted:
            text = f"{text[: one.end]}:q{text[one.end :]}"
    return text


_Pattern = Callable[[str, Slot], str]
_Part = str | _Pattern | None  # None: the place of a {% %} output


class _Insertion(Struct, frozen=True, gc=False):
    """A pattern. `source` is what stands between its marks, ``:q`` would stand at `end`."""

    part: _Pattern | None
    start: int
    end: int
    source: str
    quoted: bool = False
    words: Callable[[str], list[str]] | None = None
    """Of a slice: what is quoted word by word."""


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
_QUOTED = r"[ \t]*+(:q[ \t]*+)?\}"
_SLOT = rf"\{{[ \t]*+(slot(?:_count)?){_QUOTED}"
_PATH = rf"\{{[ \t]*+([./+-]*+){_QUOTED}"
_SLICE = rf"\{{[ \t]*+\[{_NUMBER}(?:(:){_NUMBER}(?::{_NUMBER})?)?\]{_QUOTED}"
_MISTYPED = rf"\{{\[[^}}]*+\}}?|\{{[./+-]++{_QUOTED}"

_HINTS = {"{//}": "{.} is the directory", "{/.}": "{/-} is the name without extension"}


def _parse(text: str) -> list[str | _Insertion]:
    parts: list[str | _Insertion] = []
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
        elif text.startswith(("%", "="), position):
            found, position = _enclosed(text, start)
            parts.append(found)
        else:
            part, position = _short_pattern(text, start)
            parts.append(part)
    parts.append(text[position:])
    return [part for part in parts if part != ""]


def _enclosed(text: str, start: int) -> tuple[_Insertion, int]:
    """The command or expression that begins at the brace, and where it ends."""
    opening, mark = text[start : start + 2], text[start + 1]
    end, quoted = text.find(mark + "}", start + 2), False
    if (earlier := text.find(mark + ":q}", start + 2)) >= 0 and (end < 0 or earlier < end):
        end, quoted = earlier, True
    if end < 0:
        raise _unusable(text, start, f"{opening} is never closed: expected {mark}}}")
    body = text[start + 2 : end].strip()
    if not body:
        raise _unusable(text, start, f"nothing between {opening} and {mark}}}")
    part = _expression(body) if mark == "=" else None
    return _Insertion(part, start, end + 1, body, quoted), end + (4 if quoted else 2)


def _short_pattern(text: str, start: int) -> tuple[str | _Insertion, int]:
    """The path, slot or slice pattern that begins at the brace, else the brace itself as a literal."""
    path = re.compile(_PATH).match(text, start)
    if path and path[1] in _PATHS:
        return _short(_PATHS[path[1]], path, 2), path.end()
    slot = re.compile(_SLOT).match(text, start)
    if slot:
        return _short(_SLOTS[slot[1]], slot, 2), slot.end()
    words = re.compile(_SLICE).match(text, start)
    if words and (words[1] or words[2]):
        if words[4] and int(words[4]) == 0:
            raise _unusable(text, start, f"the step of {words[0]} is 0")
        return _slice(words) if words[2] else _short(_index(words), words, 5), words.end()
    mistyped = re.compile(_MISTYPED).match(text, start)
    if mistyped:
        pattern = mistyped[0]
        hint = f" ({_HINTS[pattern]})" if pattern in _HINTS else ""
        raise _unusable(text, start, f"unknown template pattern {_shown(pattern)[1:-1]}{hint}")
    return "{", start + 1


def _short(
    part: _Pattern, found: re.Match[str], group: int, words: Callable[[str], list[str]] | None = None
) -> _Insertion:
    """What a match stands for; `group` holds its ``:q``."""
    quoted = found[group] is not None
    return _Insertion(part, found.start(), found.end() - 1, found[0][1:-1], quoted, words)


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


def _slice(found: re.Match[str]) -> _Insertion:
    first, last, step = (int(number) if number else None for number in found.group(1, 3, 4))
    part = slice(first, last, step)

    def words(args: str) -> list[str]:
        return args.split()[part]

    return _short(lambda args, _: " ".join(words(args)), found, 5, words)


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
# Quoting

_WAY_OUT = "put the command in a script that takes the line as an argument"


def _places(text: str, found: list[str | _Insertion], windows: bool) -> dict[int, Place]:
    """How what is quoted is written: by the start of each such pattern. The others count as a letter."""
    from hypershell.shellplaces import HOLE, Unsafe

    if HOLE in text:
        raise TemplateError(f"template {_shown(text)}: it holds a NUL byte")
    quoted = [one for one in found if not isinstance(one, str) and one.quoted]
    command = "".join(one if isinstance(one, str) else HOLE if one.quoted else "x" for one in found)
    try:
        pieces = _cut(command, windows)
    except Unsafe as error:
        raise _unsafe(text, quoted if error.hole is None else [quoted[error.hole]], error) from None
    places = [piece for piece in pieces if not isinstance(piece, str)]
    return {
        one.start: _named(place, _pattern(one)) if windows else place
        for one, place in zip(quoted, places, strict=True)
    }


def _cut(command: str, windows: bool) -> list[str | Place]:
    if windows:
        from hypershell.cmdplaces import find_places as find_places_of_cmd

        return find_places_of_cmd(command)
    from hypershell.shellplaces import find_places

    return find_places(command)


def _pattern(one: _Insertion) -> str:
    """An insertion as the user wrote it, with or without ``:q``."""
    if one.part is None:
        return f"{{% {one.source} %}}"
    text = one.source.rstrip().removesuffix(":q").rstrip()
    return f"{{{text}}}"


def _unsafe(text: str, insertions: list[_Insertion], error: Unsafe) -> TemplateError:
    names = " and ".join(_shown(_pattern(one))[1:-1] for one in insertions)
    return TemplateError(f"template {_shown(text)}: {names} cannot be quoted safely: {error}; {_WAY_OUT}")


def _named(place: Place, pattern: str) -> Place:
    """What cannot be quoted for cmd.exe fails the task, with the name of its pattern."""
    from hypershell.cmdplaces import Unquotable

    def placed(words: Sequence[str]) -> str:
        try:
            return place(words)
        except Unquotable as error:
            raise ExpansionError(f"{_shown(pattern)[1:-1]}: {error}") from None

    return placed


def _placed(one: _Insertion, places: dict[int, Place]) -> _Part:
    """What an insertion is replaced by; what a ``{% %}`` printed is placed later."""
    part, words = one.part, one.words
    if part is None or not one.quoted:
        return part
    place = places[one.start]
    if words is not None:
        return lambda args, _: place(words(args))
    return lambda args, slot: place((part(args, slot),))


# ----------------------------------------------------------------------------------------------------
# {% command %}


def _parse_command(command: str, strict: bool, windows: bool) -> Sequence[str | Place]:
    """The command cut at each ``@``, with how the line is written there.

    A command with ``@`` that we cannot follow is refused. `strict`: also where it is the name of a command.
    """
    if "@" not in command:
        return (command,)
    from hypershell.shellplaces import HOLE, Unsafe, find_places

    try:
        if not windows:
            return find_places(command, at=True, strict=strict)
        plain = re.sub("@@?", lambda found: HOLE if found[0] == "@" else "@", command)
        return [piece if isinstance(piece, str) else _named(piece, "@") for piece in _cut(plain, windows)]
    except Unsafe as error:
        way_out = "write @@ for a plain @, or put the command in a script"
        raise TemplateError(
            f"template command {_shown(command)} cannot take @ safely: {error}; {way_out}"
        ) from None


def _render_command(pieces: Sequence[str | Place], args: str) -> str:
    return "".join(piece if isinstance(piece, str) else piece((args,)) for piece in pieces)
