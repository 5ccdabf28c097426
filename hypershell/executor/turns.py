"""Short turns on the processor for the thread that starts tasks (Linux 6.12 or later; elsewhere nothing happens).

A thread that asks for short turns interrupts others as soon as it wakes (EEVDF, sched(7)). Ours works for some
microseconds between two tasks; where it waits until a running task has had its usual turn of milliseconds, a slot
and often a processor are empty meanwhile. Tasks themselves start with the usual turns. Called by ``executor.jobs``.
"""

from __future__ import annotations

import os
import struct
import sys

__all__ = ["SLICE", "take_short_turns"]

#: Nanoseconds of one turn; the kernel takes no less (sched_setattr(2)).
SLICE = 100_000

#: sched_setattr(2), for which most C libraries have no function.
_NUMBERS = {"x86_64": 314, "aarch64": 274}

_NORMAL = 0
_RESET_ON_FORK = 1

#: struct sched_attr, version 0: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


def take_short_turns() -> bool:
    """Ask for them, for the calling thread alone; whether the kernel agreed.

    A thread of another policy, or one that was made more important than usual, stays as it is: what it starts would
    no longer inherit that.
    """
    if sys.platform != "linux":
        return False
    number = _NUMBERS.get(os.uname().machine)
    if number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if os.sched_getscheduler(0) != os.SCHED_OTHER or nice < 0:
        return False
    try:
        import ctypes

        call = ctypes.CDLL(None).syscall
    except (ImportError, AttributeError, OSError):
        return False
    asked = _ATTRIBUTES.pack(_ATTRIBUTES.size, _NORMAL, _RESET_ON_FORK, nice, 0, SLICE, 0, 0)
    done: int = call(ctypes.c_long(number), ctypes.c_int(0), asked, ctypes.c_uint(0))
    return done == 0
