"""Who owns a submission, and whether that owner still lives.

On the same host the process table decides, at once. Of another host only the counter of its lease is seen: it is
dead when the counter has not moved for 30 s of *our* monotonic clock; wall clocks are never compared. Knows nothing
of SQL. Used by the writer, which waits, and by whoever starts a run.
"""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path

from msgspec import Struct

from hypershell.hosts import host_name
from hypershell.room import lack

__all__ = ["BEAT", "SILENCE", "Life", "Owner", "ProcessIdentity", "Watch", "this_process"]

#: Seconds between two beats of an idle owner, and seconds of silence after which one on another host is dead.
BEAT = 5.0
SILENCE = 30.0

_COMMON_NAMES = frozenset({"", "localhost", "localhost.localdomain", "localhost4", "localhost6"})


class ProcessIdentity(Struct, frozen=True):
    """One process of one boot of one machine. ``boot_id`` also names the PID namespace (containers)."""

    host: str
    boot_id: str
    pid: int
    pid_start: int


class Owner(Struct, frozen=True):
    """The lease of a run as the database shows it."""

    run: str
    host: str
    boot_id: str
    pid: int
    pid_start: int
    job: str | None
    counter: int
    ended: bool
    fenced: bool

    def describe(self) -> str:
        """The owner for a message: process, host and, where known, job."""
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on host {self.host}{job}"


class Life(Enum):
    """What is known of an owner."""

    DEAD = "dead"
    ALIVE = "alive"
    UNKNOWN = "unknown"


def _read(path: str) -> str:
    """The text of a file of proc(5); empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        if lack(error):  # a process that we cannot look at is not dead
            raise
        return ""


def process_start(pid: int) -> int | None:
    """When process `pid` started, in a unit of the machine's own; None where there is no such process.

    proc(5): field 22 of ``/proc/PID/stat``, clock ticks since boot; elsewhere psutil, milliseconds.
    """
    if sys.platform.startswith("linux"):
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else None
    import psutil

    try:
        return round(psutil.Process(pid).create_time() * 1000)
    except psutil.Error:
        return None


def this_process() -> ProcessIdentity:
    """The identity of the calling process, for its lease."""
    boot = _read("/proc/sys/kernel/random/boot_id").strip()
    if not boot and not sys.platform.startswith("linux"):
        import psutil

        boot = str(round(psutil.boot_time()))
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    pid = os.getpid()
    return ProcessIdentity(host_name(), f"{boot} {namespace}".strip(), pid, process_start(pid) or 0)


class Watch:
    """Judges owners, remembering the counters that it has seen of those on other hosts."""

    def __init__(self, here: ProcessIdentity, silence: float = SILENCE) -> None:
        self._here = here
        self._silence = silence
        #: run -> counter, since when it has been that, whether it ever moved
        self._seen: dict[str, tuple[int, float, bool]] = {}

    def life(self, owner: Owner, now: float) -> Life:
        """Whether `owner` lives, at monotonic time `now` (seconds); UNKNOWN may become clear later."""
        if owner.ended or owner.fenced:
            return Life.DEAD
        local = self._local(owner)
        if local is not None:
            return local
        counter, since, moved = self._seen.get(owner.run, (owner.counter, now, False))
        if owner.counter != counter:
            counter, since, moved = owner.counter, now, True
        self._seen[owner.run] = (counter, since, moved)
        if now - since >= self._silence:
            return Life.DEAD
        return Life.ALIVE if moved else Life.UNKNOWN

    def _local(self, owner: Owner) -> Life | None:
        """The verdict of the process table; None where that owner cannot be seen from here."""
        here = self._here
        if owner.host != here.host:
            return None
        theirs, ours = owner.boot_id.partition(" "), here.boot_id.partition(" ")
        if theirs[0] != ours[0]:
            # Two machines that both call themselves localhost prove nothing by different boots.
            return None if here.host in _COMMON_NAMES else Life.DEAD
        if theirs[2] != ours[2]:
            return None
        started = process_start(owner.pid)
        return Life.ALIVE if started is not None and started == owner.pid_start else Life.DEAD
