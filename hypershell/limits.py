"""How many descriptors this process may have: raised to what is allowed, lowered for its tasks, some kept free.

The soft limit (``ulimit -Sn``) is what a program gets, the hard one what it may take. Many programs count on the
usual soft limit of 1024 (select(2)), so we take more for ourselves and hand our tasks what the user had. Windows
has no such limit. Why it is done so: ``docs/decisions/0017-room.md``.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hypershell.errors import LaunchError
from hypershell.room import descriptor_limit

__all__ = [
    "ENOUGH",
    "ENOUGH_FOR_MPI",
    "NO_ROOM",
    "RESERVE",
    "lowered",
    "move_above",
    "raise_descriptors",
    "require_descriptors",
]

#: Errors that say that the machine, or what we may have of it, is used up; not that anything is wrong.
NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})

#: Descriptors that tasks leave free: for the database, the log, a connection, a module that is imported late.
RESERVE = 8

#: Free descriptors without which no command begins that runs tasks or serves them: what it opens itself, the
#: reserve and those of one task.
ENOUGH = 32

#: The same before MPI_Init, which opens some itself; without them it ends the job in its own words.
ENOUGH_FOR_MPI = 40

#: We never ask for more: some libraries walk over all numbers that could be in use.
_MOST = 1 << 20

#: What is asked for where the hard limit cannot be had (macOS calls it infinite and refuses it).
_LESS = (_MOST, 65_536, 10_240)

#: Below this limit it is tried whether there are enough; with more there are.
_PLENTY = 1024


def raise_descriptors() -> int | None:
    """Raise the soft limit of descriptors to the hard one; what it was before, None where it stays."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in _LESS:
        new = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if soft == resource.RLIM_INFINITY or new <= soft:
            return None
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (new, hard))
        except (OSError, ValueError):
            continue
        return soft
    return None


@contextmanager
def lowered(soft: int | None) -> Iterator[None]:
    """While it lasts this process has the soft limit `soft`, which what it starts inherits; None: as it is.

    Nothing that is open is touched. Other threads can open something as long as a number below `soft` is free,
    which ``move_above`` sees to.
    """
    if soft is None or sys.platform == "win32":
        yield
        return
    import resource

    now, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, hard))


def move_above(fd: int, soft: int | None) -> int:
    """`fd` under a number above `soft` where half of those below are in use, else as it is.

    Raises ``OSError`` where there is none; `fd` stays open then.
    """
    if soft is None or fd < soft // 2 or sys.platform == "win32":
        return fd
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, soft)
    os.close(fd)
    return moved


def require_descriptors(count: int) -> None:
    """Raise ``LaunchError`` where not even so many are free: nothing that needs them is begun then."""
    most = descriptor_limit()
    if most is None or most >= _PLENTY:
        return
    taken: list[int] = []
    try:
        while len(taken) < count:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        way_out = "allow more (ulimit -n 256)"
        text = f"too few file descriptors: {len(taken)} of {most} are free, {count} are needed; {way_out}"
        raise LaunchError(text) from None
    finally:
        for fd in taken:
            os.close(fd)
