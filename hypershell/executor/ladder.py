"""The signals that stop a task, and when each is due. Pure; used by ``machine``."""

from __future__ import annotations

__all__ = ["HURRY", "INT", "KILL", "TERM", "ladder"]

# Numbers of POSIX, the same on every system that has these signals; Windows' module signal lacks SIGKILL.
INT, KILL, TERM = 2, 9, 15

#: Seconds from TERM to KILL of a client that must end now: a launcher kills its ranks soon after it warned them.
HURRY = 0.1


def ladder(grace: float, hurry: bool, now: float, first: int | None = None) -> list[tuple[float, int]]:
    """Signals with their times, the first one last.

    :param grace: seconds from one signal to the next; 0: KILL at once.
    :param hurry: TERM, and KILL after `HURRY`.
    :param first: a signal before INT, TERM and KILL; one of these begins there.
    """
    if hurry:
        return [(now + HURRY, KILL), (now, TERM)]
    numbers = [INT, TERM, KILL] if grace > 0 else [KILL]
    if first is not None:
        numbers = numbers[numbers.index(first) :] if first in numbers else [first, *numbers]
    return [(now + step * max(grace, 0.0), number) for step, number in enumerate(numbers)][::-1]
