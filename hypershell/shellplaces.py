"""Where text stands in a command of sh, and how it is quoted there so that it stays text.

Owns the quoting of sh (POSIX, "Shell Command Language", 2.2 to 2.6; what dash and bash make of it). Arguments must
not be able to leave their place, so a command that cannot be followed is refused. Pure; called by ``template`` for
``@`` in ``{% %}`` and for insertions with ``q``. Its sibling for cmd.exe is ``cmdplaces``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hypershell.errors import HyperShellError
from hypershell.shellwords import HOLE, Words

__all__ = ["HOLE", "Place", "Unsafe", "find_places"]

#: The words of one insertion (most have one) as they are written at their place.
Place = Callable[[Sequence[str]], str]


class Unsafe(HyperShellError):
    """No place of a command can be promised to hold arguments, or not this one; the message says why.

    `hole` counts the holes before the one that is meant; None: all of them.
    """

    def __init__(self, reason: str, hole: int | None = None) -> None:
        super().__init__(reason)
        self.hole = hole


# ----------------------------------------------------------------------------------------------------
# Places

_SAFE = r"[A-Za-z0-9_@%+=:,./-]+"
_ACTIVE = r'[\\"$`]'


def _inner(text: str) -> str:
    return text.replace("'", "'\"'\"'")


def _alone(words: Sequence[str]) -> str:
    """A word of its own; several words stay several."""
    return " ".join(word if re.fullmatch(_SAFE, word) else f"'{_inner(word)}'" for word in words)


def _joined(words: Sequence[str]) -> str:
    """A word of its own where several would be more than one argument."""
    return _alone((" ".join(words),))


def _glued(words: Sequence[str]) -> str:
    """Part of an unquoted word, or next to an operator: 2 in 2>x would become a descriptor."""
    return f"'{_inner(' '.join(words))}'"


def _single(words: Sequence[str]) -> str:
    """Between '...'."""
    return _inner(" ".join(words))


def _double(words: Sequence[str]) -> str:
    """Between "...". No backslash is written: to a shell that reads Shift-JIS it may be half a character."""
    text = " ".join(words)
    if text.isascii() and not re.search(_ACTIVE, text):
        return text
    return f"\"'{_inner(text)}'\""


# ----------------------------------------------------------------------------------------------------
# Reading a command

_ENDS = " \t\n"

# Patterns are text: compiled at first use, as most ranks need none. HH stands for the sign that marks a place.
# What matters to a reader of sh in each context. Substitutions other than $( ) are taken whole and only if simple.
_WHOLE = r"`[^`\\HH]*`|\$\(\([^()'\"\\`HH]*\)\)|\$\{[^{}()'\"\\`HH]*\}"
_ACTIVE_IN_DOUBLE = rf"\\.|{_WHOLE}|`|\$\(\(|\$[({{\[]|\""
_UNQUOTED = rf"{_ACTIVE_IN_DOUBLE}|\$'|<<|\(\(|[()']|(?<![^ \t\n;&|()<>])#[^\n]*"
_CASE = r"\bcase\b"

_CLOSING = {"": "", "(": ")", "$(": ")", '"': '"', "'": "'"}


def _contexts(unquoted: str, double: str, single: str) -> dict[str, str]:
    return {"": unquoted, "(": unquoted, "$(": unquoted, '"': double, "'": single}


def _with(sign: str, first: str, last: str, pattern: str) -> str:
    return first + pattern.replace("HH", sign) + last


#: ``@`` in a command of ``{% %}``; ``@@`` is a plain one.
_AT = _contexts(
    _with("@", "", r"|\$@(?!@)|@@?", _UNQUOTED), _with("@", "", r"|\$@(?!@)|@@?", _ACTIVE_IN_DOUBLE), "'|@@?"
)
_HOLES = _contexts(
    _with(HOLE, rf"[\\$]{HOLE}|\$\"|", f"|{HOLE}", _UNQUOTED),
    _with(HOLE, rf"[\\$]{HOLE}|", f"|{HOLE}", _ACTIVE_IN_DOUBLE),
    f"'|{HOLE}",
)

# Signs after which quoting is not that of a plain command, so that arguments could leave their place.
_REFUSED = {
    "`": "SIGN or \\ between back quotes (use $( ) instead)",
    "$((": "SIGN or nesting in $(( )) (use {= =} instead)",
    "((": "(( )) (use {= =} instead)",
    "$[": "$[ ] (use {= =} instead)",
    "${": "SIGN or quotes in ${ }",
    "$@": "$@, which is empty here",
    "$'": "$'...', which is not sh",
    "<<": "a here-document",
    "\\" + HOLE: "it stands directly after a backslash",
    "$" + HOLE: "it stands directly after $",
    '$"': '$"...", which is not sh',
}


def find_places(command: str, *, at: bool = False, strict: bool = True) -> list[str | Place]:
    """The command cut at each hole: its text, and the places between.

    :param at: holes are written ``@``, and ``@@`` is a plain ``@``; else they are `HOLE`.
    :param strict: refuse places too where the shell takes even quoted text for a command (``shellwords``).
    :raises Unsafe: arguments could leave a place.
    """
    if "$(" in command and re.search(_CASE, command):
        raise Unsafe("'case' beside $( )")
    return _Reader(command, at, strict).read()


class _Reader:
    """One pass over a command."""

    def __init__(self, command: str, at: bool, strict: bool) -> None:
        self._command = command
        self._sign = "@" if at else "it"
        self._tokens = _AT if at else _HOLES
        self._strict = strict
        self._pieces: list[str | Place] = []
        self._holes = 0
        self._contexts = [""]  # what opened each of the nested contexts
        self._words = [Words()]  # the simple command that is being read in each of them
        self._joined = -1  # end of the last quoted piece: a # right after it is inside a word

    def read(self) -> list[str | Place]:
        command, position = self._command, 0
        while token := re.compile(self._tokens[self._contexts[-1]], re.DOTALL).search(command, position):
            start, sign = token.start(), token.group()
            self._literal(command[position:start])
            position = token.end()
            if sign in _REFUSED:
                reason = _REFUSED[sign].replace("SIGN", self._sign)
                raise Unsafe(reason, self._holes if HOLE in sign else None)
            if sign in ("@", HOLE):
                self._hole(start)
            elif sign == "@@":
                self._literal("@")
            elif sign[0] == "#":
                position = self._comment(sign, start, position)
            else:
                self._other(sign, position)
        if len(self._contexts) > 1:
            raise Unsafe(f"{self._contexts[-1]} is never closed")
        self._literal(command[position:])
        return self._pieces

    def _literal(self, text: str) -> None:
        if not text:
            return
        self._pieces.append(text)
        if self._contexts[-1] in ('"', "'"):
            self._words[-1].add(text)
        else:
            self._words[-1].feed(text)

    def _comment(self, sign: str, start: int, position: int) -> int:
        if start == self._joined:
            self._literal("#")
            return start + 1
        if self._sign == "@" and "@" in sign:
            raise Unsafe("@ in a comment")
        if HOLE in sign:
            raise Unsafe("it stands in a comment", self._holes)
        self._pieces.append(sign)
        return position

    def _other(self, sign: str, position: int) -> None:
        """A quotation mark, a parenthesis, or something that is taken whole."""
        contexts, words = self._contexts, self._words
        self._pieces.append(sign)
        if sign == _CLOSING[contexts[-1]]:
            opened = contexts.pop()
            words.pop()
            if opened == "(":
                words[-1].end()
            else:
                self._joined = position
        elif sign in _CLOSING:
            contexts.append(sign)
            if sign == "(":
                words[-1].stop()
            else:
                words[-1].add("" if sign in ('"', "'") else "$")
            words.append(Words() if sign in ("(", "$(") else words[-1])
        elif sign == ")":  # of a pattern of case
            words[-1].end()
        else:
            words[-1].add(sign[1:] if sign[0] == "\\" else "$")
            self._joined = position

    def _hole(self, start: int) -> None:
        context, words = self._contexts[-1], self._words[-1]
        words.add("")
        reasons = [reason for one in self._words if (reason := one.refusal())] if self._strict else []
        if reasons:
            raise Unsafe(reasons[-1], self._holes)
        words.add(HOLE)
        self._holes += 1
        self._pieces.append(self._place(context, start, words))

    def _place(self, context: str, start: int, words: Words) -> Place:
        if context == "'":
            return _single
        if context == '"':
            return _double
        before, after = self._command[max(start - 1, 0) : start], self._command[start + 1 : start + 2]
        if before not in _ENDS or after not in _ENDS:  # '' at an end of the command is in it, too
            return _glued
        return _alone if words.takes_many() else _joined
