"""Column ``options`` of a submission: how its tasks are run, and what of it is work.

How they are run (time limit, captured or kept output, exported variables) may be another with each start. What
``hs submit`` laid over the lines (key ``submit``) made the tasks what they are, so it is part of the work. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["How", "encoded", "merged", "work_in"]


class How(Struct, frozen=True):
    """How the tasks of a submission are run; a key that is missing in old rows is as here."""

    task_timeout: float | None = None
    capture: bool = False
    exports: dict[str, str] = {}

    @classmethod
    def of_options(cls, text: str) -> How:
        """What column ``options`` says of it."""
        return msgspec.json.decode(text, type=cls)


def encoded(options: Mapping[str, Any]) -> str:
    """The text of column ``options``."""
    return msgspec.json.encode(options, order="sorted").decode()


def merged(text: str, given: Mapping[str, Any]) -> str:
    """Column ``options`` after a start that says `given`: what it does not say stays, exports one by one."""
    if not given:
        return text
    options = msgspec.json.decode(text, type=dict[str, Any])
    exports = {**options.get("exports", {}), **given.get("exports", {})}
    options |= given
    if exports:
        options["exports"] = exports
    return encoded(options)


def work_in(text: str) -> Any:
    """What in column ``options`` makes other tasks of the same lines; None for a submission of a run."""
    return msgspec.json.decode(text, type=dict[str, Any]).get("submit")
