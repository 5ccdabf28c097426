"""Small files that are read whole: configuration, keys, certificates, connect and status files.

Each has a most that it may have, so that no file, however it came to its place, costs memory or time. What TOML
costs does not only depend on that: a dotted key of a thousand parts takes the parser of the standard library a
square of them, and brackets in brackets its stack. `check_toml` looks at them first, in one pass.
"""

from __future__ import annotations

import os
import re

from hypershell.errors import ConfigError

__all__ = ["MOST_TOML", "TooLarge", "check_toml", "read_small"]

#: Bytes of a configuration file.
MOST_TOML = 64 << 10
#: Parts of a dotted key, and brackets in brackets; ours have three and one.
_DEEPEST = 32

_PIECE = 1 << 16
#: Strings of TOML 1.0 and comments; what has no end ends with the text, so that nothing is looked at twice.
_OPAQUE = (
    r'(?s:"""(?:\\.|[^\\])*?(?:"{3,5}|\Z)' r"|'''.*?(?:'{3,5}|\Z)"
    r'|"(?:\\.|[^"\\\n])*"?' r"|'[^'\n]*'?" r"|#[^\n]*)"
)  # fmt: skip
_DOTTED = rf"(?<![\w-])[\w-]++(?:[ \t]*+\.[ \t]*+[\w-]++){{{_DEEPEST}}}"


class TooLarge(ConfigError):
    """A file is longer than one of its kind."""


def read_small(fd: int, path: str, what: str, most: int) -> bytes:
    """All that there is to read, to the end.

    :param path: what `fd` is, and `what` what it should be, for the error.
    :raises TooLarge: it is more than `most` bytes, of which no more than that were read.
    :raises OSError: as ``read(2)``.
    """
    data = bytearray()
    while piece := os.read(fd, min(_PIECE, most + 1 - len(data))):
        data += piece
        if len(data) > most:
            raise TooLarge(f"{path} is longer than {most:,} bytes: it is no {what}")
    return bytes(data)


def check_toml(text: str) -> None:
    """Raise ``ValueError`` where a text is one that no parser should begin with."""
    if max(text.count(".") + 1, text.count("[") + text.count("{")) <= _DEEPEST:
        return  # as nearly every file
    bare = re.sub(_OPAQUE, lambda found: "" if found[0][0] == "#" else "q", text)
    if (found := re.search(_DOTTED, bare)) is not None:
        line = bare.count("\n", 0, found.start()) + 1
        raise ValueError(f"a key of more than {_DEEPEST} parts (near line {line})")
    depth = 0
    for bracket in re.finditer(r"[][{}]", bare):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        if depth > _DEEPEST:
            raise ValueError(f"brackets in more than {_DEEPEST} brackets")
