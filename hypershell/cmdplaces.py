"""Where text stands in a command of cmd.exe, and how it is quoted there so that it stays text.

Two readers must agree: cmd.exe, for which a quotation mark begins and ends text and nothing takes its meaning away,
and the C runtime of the program, which makes its arguments of the line and for which a backslash does. What they
read differently is refused. cmd.exe replaces ``%NAME%`` between quotation marks too, so that no line with ``%`` can
be promised. Pure; the sibling of ``shellplaces``, and with its surface.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypershell.errors import HyperShellError
from hypershell.shellplaces import HOLE, Place, Unsafe

__all__ = ["Unquotable", "find_places"]


class Unquotable(HyperShellError):
    """Text that cannot be promised to stay text under cmd.exe; the message says why."""


_SAFE = r"[A-Za-z0-9_+:./\\-]+"
_BAD = r'[%"\x00-\x08\x0a-\x1f]'
_NAMES = {"%": "a per cent sign", '"': "a quotation mark", "\n": "a newline", "\r": "a carriage return"}


def _checked(text: str) -> str:
    bad = re.search(_BAD, text)
    if bad:
        name = _NAMES.get(bad[0], "a control character")
        raise Unquotable(f"{name} in the text cannot be quoted for cmd.exe (run it on another system)")
    return text


def _quoted(text: str) -> str:
    """Backslashes before the closing mark are doubled, since the program would take them as its escape."""
    checked = _checked(text)
    return f'"{checked}{_backslashes(checked)}"'


def _backslashes(text: str) -> str:
    return text[len(text.rstrip("\\")) :]


def _alone(words: Sequence[str]) -> str:
    """A word of its own; several words stay several."""
    return " ".join(word if re.fullmatch(_SAFE, word) else _quoted(word) for word in words)


def _glued(words: Sequence[str]) -> str:
    """A part of a word, or where several words would be more than one argument."""
    return _quoted(" ".join(words))


def _double(words: Sequence[str]) -> str:
    """Between quotation marks, with something behind it."""
    return _checked(" ".join(words))


def _double_end(before: str) -> Place:
    """Between `before`, which ends with all backslashes there, and the closing mark."""

    def placed(words: Sequence[str]) -> str:
        text = _checked(" ".join(words))
        return text + _backslashes(text if text.strip("\\") else before + text)

    return placed


# Patterns are text: compiled at first use.
_TOKENS = rf'\^[^"{HOLE}]?|"|[<>]|[&|()\n]|[ \t,;=]+|{HOLE}|[^\^"<>&|()\n \t,;={HOLE}]+'
#: Commands that read their arguments once more, or as commands.
_READERS = frozenset(
    {
        "call", "start", "cmd", "cmd.exe", "%comspec%", "if", "for", "else", "do", "set", "powershell",
        "powershell.exe", "pwsh", "pwsh.exe",
    }
)  # fmt: skip


def find_places(command: str) -> list[str | Place]:
    """The command cut at each `HOLE`: its text, and the places between.

    :raises Unsafe: arguments could leave a place.
    """
    for sign, what in (('\\"', 'a \\" is read differently by cmd.exe and by programs'), ('^"', '^"')):
        if sign in command:
            raise Unsafe(what)
    reader = _Reader(command)
    for token in re.compile(_TOKENS, re.DOTALL).finditer(command):
        reader.take(token.start(), token.group())
    if reader.is_quoted:
        raise Unsafe("a quotation mark is never closed")
    return reader.pieces


class _Reader:
    """One pass over a command."""

    def __init__(self, command: str) -> None:
        self.pieces: list[str | Place] = []
        self.is_quoted = False
        self._command = command
        self._holes = 0
        self._names: list[str] = []
        self._word = ""
        self._is_target = False

    def take(self, start: int, sign: str) -> None:
        if sign == HOLE:
            self._hole(start)
            return
        self.pieces.append(sign)
        if sign == '"':
            if not self.is_quoted and self._command[start - 1 : start] == '"' and self._word:
                raise Unsafe('"" inside of a word is read differently by cmd.exe and by programs')
            self.is_quoted = not self.is_quoted
            self._word += sign
        elif self.is_quoted or sign[0] == "^":
            if sign == "^" and not self.is_quoted and self._command[start + 1 : start + 2] == HOLE:
                raise Unsafe("it stands directly after ^", self._holes)
            self._word += sign
        elif sign in "<>":
            self._stop()
            self._is_target = True
        elif sign in "&|()\n":
            self._stop()
            self._names.clear()
            self._is_target = False
        elif sign[0] in " \t,;=":
            self._stop()
        else:
            self._word += sign

    def _stop(self) -> None:
        word, self._word = self._word, ""
        if word and self._is_target:
            self._is_target = False
        elif word:
            self._names.append(word.strip('"@').lower().rpartition("\\")[2])

    def _hole(self, start: int) -> None:
        before, after = self._command[:start], self._command[start + 1 : start + 2]
        if reason := self._refusal(before, after):
            raise Unsafe(reason, self._holes)
        self._holes += 1
        many = bool(self._names) and not self._is_target
        if self.is_quoted:
            place: Place = _double_end(_backslashes(before)) if after == '"' else _double
        elif before[-1:] in ("", " ", "\t") and after in ("", " ", "\t") and many:
            place = _alone
        else:
            place = _glued
        self._word += "x"
        self.pieces.append(place)

    def _refusal(self, before: str, after: str) -> str | None:
        if before.count("%") % 2:
            return "it stands behind a single %"
        if not self._is_target:
            if not self._names:
                return "it would be the name of the command, or a part of it"
            if self._names[0] in _READERS:
                return f"{self._names[0]} reads it once more"
        if self.is_quoted:
            if after in ("\\", HOLE):
                return "a backslash or another insertion stands directly behind it"
        elif before[-1:] in ("\\", '"', HOLE) or after == '"':
            return 'a backslash, a quotation mark or another insertion stands beside it (write "C:\\data\\{}")'
        return None
