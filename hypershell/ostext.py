"""Text of what the operating system has as bytes, and back: names of files and folders, variables, arguments.

The one place that knows how bytes that are not UTF-8 are held. In memory such text is as Python has it: each of
these bytes is a lone surrogate (PEP 383), which no encoder of messages, JSON, SQL or terminals takes. What leaves
the process is either the bytes (`to_bytes`), or what people see (`escaped`) with the bytes beside it (`raw_of`,
`beside`). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = [
    "behind_margin",
    "beside",
    "cut_beside",
    "escaped",
    "escaped_pattern",
    "from_bytes",
    "in_quotes",
    "joined",
    "one_line",
    "printable",
    "quoted",
    "raw_of",
    "to_bytes",
]

#: Lone surrogates that stand for bytes.
_BYTES = re.compile("[\udc80-\udcff]+")
#: What ``repr`` makes of one; a backslash of the text itself it doubles.
_HALF = re.compile(r"(?<!\\)((?:\\\\)*)\\udc([89a-f][0-9a-f])")
_HEX_DIGIT = re.compile("[0-9a-fA-F]")
#: What a terminal obeys or hides, and no line of ours holds as it is: control characters (of C1 too) but the tab,
#: separators of lines, the marks and overrides that turn the direction of text (Unicode Standard Annex 9), the BOM.
_OBEYED = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
#: Patterns, which `re` keeps: to compile them takes longer than all other work at import.
_IN_A_LINE = f"[\n\r{_OBEYED}]"
_IN_LINES = f"[{_OBEYED}]|\r(?!\n)"
_SHORT = {"\n": "\\n", "\r": "\\r"}
_RAW = "_raw"


def from_bytes(data: bytes | bytearray) -> str:
    """The text that stands for these bytes; `to_bytes` gives them back."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes that the system knows this text by. Never fails."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a pair that stands for no byte: a name of Windows, chr(0xD800) in a template
        return text.encode("utf-8", "surrogatepass")


def escaped(text: str) -> str:
    """The text as people and every encoder take it: bytes that are not UTF-8 are written as ``\\xNN``."""
    return text if text.isascii() else to_bytes(text).decode("utf-8", "backslashreplace")


def in_quotes(text: str) -> str:
    """The text as ``repr`` shows it, where bytes that are not UTF-8 are written as ``\\xNN``."""
    return repr(text) if text.isascii() else _HALF.sub(r"\1\\x\2", repr(from_bytes(to_bytes(text))))


def one_line(text: str) -> str:
    """Text from outside as a part of one line, of a log or on a terminal: nothing in it ends the line or is obeyed.

    Control characters but tabs, and what turns the direction of text, are written in the form of JSON (``\\n``,
    ``\\u001b``); bytes that are not UTF-8 as by `escaped`. Quotes and backslashes stay: a command that is copied
    from a list is the command.
    """
    return text if text.isprintable() else re.sub(_IN_A_LINE, _json_form, escaped(text))


def printable(text: str) -> str:
    """Lines of text as a terminal may have them: as `one_line`, but ends of lines stay."""
    return re.sub(_IN_LINES, _json_form, escaped(text))


def behind_margin(text: str) -> str:
    """Lines of text that may be of anybody, such as a traceback, so that none looks like a line of ours."""
    return "\n".join(f"  | {one_line(line)}" for line in text.splitlines())


def _json_form(found: re.Match[str]) -> str:
    return _SHORT.get(found[0], f"\\u{ord(found[0]):04x}")


def raw_of(text: str) -> bytes | None:
    """The bytes of a text that `escaped` changes; None where the text says it all."""
    if text.isascii():
        return None
    data = to_bytes(text)
    return None if _is_utf8(data) else data


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def escaped_pattern(pattern: str) -> str:
    """A regular expression that finds in escaped text what `pattern` means by its bytes."""
    return _BYTES.sub(lambda found: re.escape(escaped(found[0])), pattern)


# -- in JSON ---------------------------------------------------------------------------------------------


def beside(texts: Mapping[str, str]) -> dict[str, str]:
    """Texts for a JSON object: each as people see it, and in hex as ``NAME_raw`` where that is not all."""
    found = {name: escaped(text) for name, text in texts.items()}
    found.update((name + _RAW, raw.hex()) for name, text in texts.items() if (raw := raw_of(text)) is not None)
    return found


def cut_beside(fields: dict[str, object], texts: Mapping[str, str]) -> dict[str, str]:
    """The `texts` as they were before `beside`; their ``NAME_raw`` are taken out of `fields`.

    What somebody has changed so that it is no hex, or stands for another text, is not believed.
    """
    found = {}
    for name, text in texts.items():
        raw = fields.pop(name + _RAW, None)
        try:
            true = from_bytes(bytes.fromhex(raw)) if isinstance(raw, str) else text
        except ValueError:
            true = text
        found[name] = true if escaped(true) == text else text
    return found


# -- words of a command line -----------------------------------------------------------------------------


def quoted(word: str) -> str:
    """A word for the command lines that we show; one with bytes that are not UTF-8 as bash, ksh and zsh read it."""
    import shlex  # only where a command is shown; every worker rank starts up

    raw = raw_of(word)
    if raw is None:
        return shlex.quote(escaped(word))
    parts = []
    for place, piece in enumerate(re.split("([\udc80-\udcff]+)", from_bytes(raw))):
        if place % 2:
            parts.append(escaped(piece))
        else:
            # A hex digit right behind \xNN could be read as part of it.
            apart = "'$'" if place and _HEX_DIGIT.match(piece) else ""
            parts.append(apart + piece.replace("\\", r"\\").replace("'", r"\'"))
    return f"$'{''.join(parts)}'"


def joined(words: Iterable[str]) -> str:
    """The words as one command line."""
    return " ".join(map(quoted, words))
