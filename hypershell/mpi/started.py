"""How far a rank was when: from the begin of its process, which the kernel knows, to the end of MPI_Init."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from hypershell.proto.messages import Startup

if TYPE_CHECKING:
    from hypershell.mpi.world import World

__all__ = ["process_start", "startup_of"]


def startup_of(world: World, main: float) -> Startup:
    """The times of this rank; `main` is that of our first line."""
    imported, initialized = world.init_times
    return Startup(process_start(main), main, imported, initialized)


def process_start(otherwise: float) -> float:
    """When this process began, in seconds since the epoch, to 0.01 s; `otherwise` where no kernel tells.

    Field 22 of /proc/self/stat counts ticks since the machine was booted (proc(5)); the name before it may hold
    blanks.
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return otherwise
    return min(time.time() - age, otherwise)
