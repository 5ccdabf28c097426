"""Sizes and durations as people write them, to numbers and back.

Owns the accepted forms and their error. Knows nothing of options, tags or tasks. Called by ``tags`` (inline
``memory:`` and ``timeout:``), by the option table, the configuration and everything that prints a size or a time.
"""

from __future__ import annotations

import re

from hypershell.errors import UsageError
from hypershell.ostext import in_quotes

__all__ = ["MAX_DURATION", "UnitError", "format_duration", "format_size", "parse_duration", "parse_size", "shown"]

MAX_SIZE = 2**63 - 1  # what a 64-bit column of a database holds

MAX_DURATION = 36_525 * 86_400  # a hundred years: from now there is such a date

_SIZE_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
_SIZE_FORMS = "a count of bytes, or a number with K, M, G, T or P (powers of 1024): 4G, 512M, 1.5GB, 10KiB"
_DURATION_FORMS = "seconds (90, 1.5), units (10m, 2h, 1h30m, 1d) or clock time (30:00, 2:00:00, 1-12:00:00)"

# ASCII with IGNORECASE: without it the Kelvin sign is a K, and any script's digits are digits.
_SIZE = re.compile(r"([0-9]{1,30})(?:\.([0-9]{1,30}))?[ \t]*(?:([KMGTP])(?:I?B)?|B)?", re.ASCII | re.IGNORECASE)
_NUMBER = r"[0-9]{1,30}(?:\.[0-9]{1,9})?"
_SECONDS = re.compile(_NUMBER)
_PARTS = re.compile(
    rf"(?:({_NUMBER})D ?)?(?:({_NUMBER})H ?)?(?:({_NUMBER})M ?)?(?:({_NUMBER})S)?", re.ASCII | re.IGNORECASE
)
_CLOCK = re.compile(r"(?:([0-9]{1,30})-)?([0-9]{1,30}(?::[0-9]{1,2}){0,2})")


class UnitError(UsageError):
    """A text that is no size or no duration; the message shows the text and the accepted forms."""


def shown(text: str, limit: int = 60) -> str:
    """The text as an error message shows it: quoted, on one line, at most about `limit` characters."""
    return in_quotes(text if len(text) <= limit else text[: limit - 3] + "...")


def parse_size(text: str) -> int:
    """Bytes of a size such as ``4G``, ``512M``, ``1.5GB``, ``10KiB`` or ``1048576``.

    Letters may be small. All units are powers of 1024 and the whole text counts. A fraction of a byte is dropped.

    :raises UnitError: another form (negative numbers and NaN have none), or more than 2**63 - 1 bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{shown(text)} is not a size: expected {_SIZE_FORMS}")
    whole, fraction, unit = match[1], match[2] or "", match[3]
    scale = 1024 ** (" KMGTP".index(unit.upper()) if unit else 0)
    size: int = int(whole + fraction) * scale // 10 ** len(fraction)  # integers: a float is wrong above 2**53
    if size > MAX_SIZE:
        raise UnitError(f"{shown(text)} is too large for a size: at most {MAX_SIZE} bytes")
    return size


def format_size(size: float) -> str:
    """A size in bytes with three significant digits: ``0.00B``, ``999B``, ``0.977KB``, ``3.39MB``, ``64.0MB``.

    The next unit is taken from 1000 of the smaller one, as people read sizes, though a unit is 1024 of it.
    """
    sign, value, unit = "-" if size < 0 else "", float(abs(size)), 0
    while value >= 999.5 and unit < len(_SIZE_UNITS) - 1:  # 999.5 would print as 1000
        value /= 1024
        unit += 1
    if 0 < value < 0.9995:
        digits = 3
    else:
        digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{sign}{value:.{digits}f}{_SIZE_UNITS[unit]}"


def parse_duration(text: str) -> float:
    """Seconds of a duration: ``90``, ``1.5``, ``10m``, ``2h``, ``1h30m``, ``1d``, or a clock form of Slurm.

    Clock forms (``man sbatch``, ``--time``): ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M``, ``D-H:M:S``. The one
    difference is a plain number: minutes for Slurm, seconds here.

    :raises UnitError: another form, a field after the first that is not below 60 (hours after days: 24), or more
        than a hundred years.
    """
    word = text.strip()
    seconds = float(word) if _SECONDS.fullmatch(word) else _clock_seconds(word)
    if seconds is None:
        seconds = _unit_seconds(word)
    if seconds is None:
        if word.startswith("-"):
            raise UnitError(f"{shown(text)} is negative: a duration is 0 or more")
        raise UnitError(f"{shown(text)} is not a duration: expected {_DURATION_FORMS}")
    if seconds > MAX_DURATION:
        raise UnitError(f"{shown(text)} is too long for a duration: at most {MAX_DURATION} s, a hundred years")
    return seconds


def _clock_seconds(word: str) -> float | None:
    match = _CLOCK.fullmatch(word)
    if match is None:
        return None
    fields = [int(field) for field in match[2].split(":")]
    if any(field >= 60 for field in fields[1:]):
        return None
    padding = [0] * (3 - len(fields))
    if match[1] is None:
        hours, minutes, seconds = padding + fields
        return float(hours * 3600 + minutes * 60 + seconds)
    hours, minutes, seconds = fields + padding
    if hours >= 24:
        return None
    return float(int(match[1]) * 86400 + hours * 3600 + minutes * 60 + seconds)


def _unit_seconds(word: str) -> float | None:
    match = _PARTS.fullmatch(word)
    if match is None or not word:
        return None
    parts = zip(match.groups(), (86400, 3600, 60, 1), strict=True)
    return sum(float(number) * scale for number, scale in parts if number)


def format_duration(seconds: float) -> str:
    """A duration in seconds as ``H:MM:SS``; parts of a second are dropped and hours may pass 24."""
    if seconds != seconds or seconds in (float("inf"), float("-inf")):
        return str(seconds)
    minutes, second = divmod(int(abs(seconds)), 60)
    hour, minute = divmod(minutes, 60)
    sign = "-" if seconds <= -1 else ""
    return f"{sign}{hour}:{minute:02d}:{second:02d}"
