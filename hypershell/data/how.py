"""Column ``options`` of a submission: how its tasks are run, and what of it is work.

How they are run (time limit, captured or kept output, exported variables) may be another with each start. What
``hs submit`` laid over the lines (key ``submit``) made the tasks what they are, so it is part of the work; so is
whether lines were taken whole (key ``plain``). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from hypershell.ostext import escaped, from_bytes, raw_of

__all__ = ["How", "encoded", "exports_options", "is_plain", "merged", "plain_option", "work_in"]


class How(Struct, frozen=True):
    """How the tasks of a submission are run; a key that is missing in old rows is as here."""

    task_timeout: float | None = None
    capture: bool = False
    exports: dict[str, str] = {}
    exports_raw: list[str] = []

    @classmethod
    def of_options(cls, text: str) -> How:
        """What column ``options`` says of it; its exports are as the system has them."""
        found = msgspec.json.decode(text, type=cls)
        if not found.exports_raw:
            return found
        exports = _true_exports(found.exports, found.exports_raw)
        return msgspec.structs.replace(found, exports=exports, exports_raw=[])


def encoded(options: Mapping[str, Any]) -> str:
    """The text of column ``options``."""
    return msgspec.json.encode(options, order="sorted").decode()


def exports_options(exports: Mapping[str, str]) -> dict[str, object]:
    """The keys for column ``options`` that tell of exports; those that are not UTF-8 are there as bytes too."""
    shown = {escaped(name): escaped(text) for name, text in exports.items()}
    pairs = (f"{name}={text}" for name, text in exports.items())
    raws = [raw.hex() for pair in pairs if (raw := raw_of(pair)) is not None]
    return {"exports": shown, **({"exports_raw": raws} if raws else {})}


def _true_exports(shown: Mapping[str, str], raws: list[str]) -> dict[str, str]:
    """What `exports_options` was made of. Bytes that stand for no variable that is shown are not believed."""
    found = dict(shown)
    for raw in raws:
        try:
            name, equals, text = from_bytes(bytes.fromhex(raw)).partition("=")
        except ValueError:
            continue
        if equals and shown.get(escaped(name)) == escaped(text):
            found.pop(escaped(name), None)
            found[name] = text
    return found


def merged(text: str, given: Mapping[str, Any]) -> str:
    """Column ``options`` after a start that says `given`: what it does not say stays, exports one by one."""
    if not given:
        return text
    options = msgspec.json.decode(text, type=dict[str, Any])
    exports = {**How.of_options(text).exports, **given.get("exports", {})}
    options |= given
    options.pop("exports_raw", None)
    if exports:
        options |= exports_options(exports)
    return encoded(options)


def work_in(text: str) -> Any:
    """What in column ``options`` makes other tasks of the same lines; None for a submission of a run.

    Of a run that is how lines are read: `is_plain`.
    """
    return msgspec.json.decode(text, type=dict[str, Any]).get("submit")


def plain_option(plain: bool) -> dict[str, bool]:
    """The key for column ``options`` of a run whose lines are taken whole; none, as before, where they are not."""
    return {"plain": True} if plain else {}


def is_plain(text: str) -> bool:
    """Whether column ``options`` says that lines are taken whole, be it of a run or of ``hs submit``."""
    options = msgspec.json.decode(text, type=dict[str, Any])
    return bool(options.get("plain") or (options.get("submit") or {}).get("plain"))
