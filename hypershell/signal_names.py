"""Names of signals: from what a user types to a word that every system understands, and back to a number.

Numbers of one signal differ between systems (USR1 is 10 on Linux, 30 on macOS): the name is stored and sent.
"""

from __future__ import annotations

import re

__all__ = ["signal_name", "signal_number"]

#: Those that stop a task everywhere; the module signal of Windows lacks KILL.
_EVERYWHERE = {"INT": 2, "KILL": 9, "TERM": 15}


def signal_name(word: str) -> str:
    """The name without ``SIG`` of a name or number; of a number without a name (real-time signals) the number.

    :raises ValueError: there is no such signal here.
    """
    name = word.strip().upper().removeprefix("SIG")
    number = int(name) if re.fullmatch(r"[0-9]{1,4}", name) else signal_number(name)
    if number is not None:
        for known in (*_EVERYWHERE, *_names()):
            if signal_number(known) == number:
                return known
        if _is_signal(number):
            return str(number)
    raise ValueError(f"expected a signal as USR1, SIGUSR1 or 10, not {word!r} (kill -l lists them)")


def signal_number(name: str) -> int | None:
    """The number that a word of `signal_name` has on this system; None: it has no such signal."""
    import signal

    if name in _EVERYWHERE:
        return _EVERYWHERE[name]
    if name.isdecimal() and name.isascii() and len(name) < 4:
        return int(name) if _is_signal(int(name)) else None
    found = signal.Signals.__members__.get(f"SIG{name}")
    return None if found is None else int(found)


def _names() -> list[str]:
    import signal

    return [name.removeprefix("SIG") for name in signal.Signals.__members__]


def _is_signal(number: int) -> bool:
    import signal

    return number in signal.valid_signals()
