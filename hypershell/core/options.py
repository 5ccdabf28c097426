"""Column ``options`` of a submission, a JSON object: which keys it may have, and what they hold.

Who uses a key reads it by a struct of its own; this one says of the whole text whether all of them can. Pure.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from hypershell.core.fields import Count, Id, Natural, Real, Scalar

__all__ = ["Options", "wrong_options"]

#: Characters of the whole text. Templates and exported variables are in it.
_MOST = 16 << 20


class _Submit(Struct, frozen=True):
    """What ``hs submit`` laid over the lines."""

    template: str = "{}"
    template_raw: str | None = None
    tags: dict[str, Scalar] = {}
    group: Natural | None = None
    cores: Natural | None = None
    memory: Count | None = None
    timeout: Real | None = None
    plain: bool = False


class Options(Struct, frozen=True):
    """All keys; others are nobody's and may hold anything."""

    submit: _Submit | None = None
    update: bool = False
    keep_output: bool = False
    waited_for: bool = False
    task_timeout: Real | None = None
    capture: bool = False
    exports: dict[str, str] = {}
    exports_raw: list[str] = []
    poison: Natural | None = None
    plain: bool = False
    again: list[tuple[Id, Id]] = []
    path_raw: str | None = None
    cwd_raw: str | None = None
    template_raw: str | None = None


_decode = msgspec.json.Decoder(Options).decode


def wrong_options(text: str) -> str | None:
    """What is wrong with such a text, as ``options: ...``; None: nothing."""
    if len(text) > _MOST:
        return f"options: {len(text):,} characters, at most {_MOST:,} are taken"
    try:
        _decode(text)
        msgspec.json.encode(msgspec.json.decode(text))  # the values of other keys too, which are kept
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        return f"options: {words.replace('`$.', '`').replace(' - at `$`', '')}"[:300]
    return None
