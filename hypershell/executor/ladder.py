"""The signals that stop a task, and when each is due. Pure; used by ``machine``."""

from __future__ import annotations

__all__ = ["HURRY", "INT", "KILL", "TERM", "ladder"]

# Numbers of POSIX, the same on every system that has these signals; Windows' module signal lacks SIGKILL.
INT, KILL, TERM = 2, 9, 15

#: Seconds from TERM to KILL of a client that must end now: a launcher kills its ranks soon after it warned them.
HURRY = 0.1


def ladder(grace: float, hurry: bool, now: float) -> list[tuple[float, int]]:
    """Signals with their times, the first one last.

    :param grace: seconds from INT to TERM and from there to KILL; 0: KILL at once.
    :param hurry: TERM, and KILL after `HURRY`.
    """
    if hurry:
        return [(now + HURRY, KILL), (now, TERM)]
    if not grace > 0:
        return [(now, KILL)]
    return [(now + 2 * grace, KILL), (now + grace, TERM), (now, INT)]
