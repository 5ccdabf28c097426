"""One line of a task file: the arguments, the comment that is cut, and the directive that is read.

Owns where a comment begins and what a ``# HYPERSHELL:`` directive is. Knows nothing of files, encodings, line
numbers or templates. Called once per line by whatever reads tasks; a plain line costs little more than a strip.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hypershell.tags import Directives, parse_tags

__all__ = ["Line", "parse_line"]

# Only these: a no-break space or a control character at the end of a line may belong to a file name.
_BLANKS = " \t\r\n"
_BREAKS = " \t;&|()<>"  # a word, and so a comment, can begin after each of these
_MARK = re.compile(r"""['"`\\#()}]|\$[({]""")
_DIRECTIVE = re.compile(r"(?<![^ \t;&|()<>])#[ \t]*HYPERSHELL(?::|(?=[ \t\r\n])|$)")
_BACKQUOTED = re.compile(r"(?:[^`\\]|\\.)*+`", re.DOTALL)


class Line(NamedTuple):
    """What a line says. `args` is '' for a global directive, which holds for the lines after it."""

    args: str
    directives: Directives | None = None


def parse_line(text: str) -> Line | None:
    """The task or directive of a line; ``None`` for a blank line and for one that is only a comment.

    Blanks at both ends go, the CR of CRLF with them. A ``#`` begins a comment only where sh sees one: unquoted,
    unescaped, at the start of a word. Text in front of a directive is kept whole, earlier comments included. In
    a line whose quotes do not balance (no shell syntax, but fine as input of a template) only a directive at the
    end is cut. Surrogate escapes pass untouched.

    :raises TagError: a directive holds a word that is no valid tag.
    """
    text = text.strip(_BLANKS)
    if "#" not in text:
        return Line(text) if text else None
    comment, unclosed = _scan(text)
    if comment == 0:
        directive = _DIRECTIVE.match(text)
        return _with_directive(text, directive) if directive else None
    if comment > 0:
        directive = _DIRECTIVE.search(text, comment)
        return _with_directive(text, directive) if directive else Line(text[:comment].rstrip(_BLANKS))
    if unclosed >= 0:
        last_quote = max(unclosed, *(text.rfind(quote) for quote in "'\"`"))
        directive = _DIRECTIVE.search(text, last_quote)
        return _with_directive(text, directive) if directive else Line(text)
    return Line(text)


def _with_directive(text: str, directive: re.Match[str]) -> Line:
    return Line(text[: directive.start()].rstrip(_BLANKS), parse_tags(text[directive.end() :].split()))


def _scan(text: str) -> tuple[int, int]:
    """Where the first comment begins, and where the outermost quote or expansion that never ends begins; else -1.

    One pass over the marks that matter (POSIX, "Shell Command Language", 2.2 and 2.3). ``$( )``, ``${ }`` and back
    quotes are passed over whole: a comment in one cannot end on the same line.
    """
    closers: list[str] = []
    outermost = -1
    position = 0
    solid = -1  # end of the last quoted piece: a # right after it is inside a word
    while mark := _MARK.search(text, position):
        start, sign = mark.start(), mark.group()
        position = mark.end()
        inside = closers[-1] if closers else ""
        opens = ""
        if sign == "#":
            if not closers and start != solid and (start == 0 or text[start - 1] in _BREAKS):
                return start, -1
        elif sign == "\\":
            position = solid = start + 2
        elif sign == inside:
            closers.pop()
            solid = position
        elif sign == "'":
            if inside == '"' or closers[-2:] == ['"', "}"]:
                continue  # an ordinary character between double quotes
            position = solid = text.find("'", position) + 1
        elif sign == "`":
            end = _BACKQUOTED.match(text, position)
            position = solid = end.end() if end else 0
        elif sign == '"':
            opens = '"'
        elif sign == "$(" or (sign == "(" and inside == ")"):
            opens = ")"
        elif sign == "${":
            opens = "}"
        if position == 0:
            return -1, outermost if closers else start
        if opens:
            if not closers:
                outermost = start
            closers.append(opens)
    return (-1, outermost) if closers else (-1, -1)
