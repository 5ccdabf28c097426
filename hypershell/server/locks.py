"""Who writes a file now: an advisory lock (flock(2)) that ends with the process, and who holds it.

A file system without locks, and Windows, let everybody in. Knows nothing of what is written.
"""

from __future__ import annotations

import os
import shlex

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["ARE_THERE", "holder", "is_at", "take", "would_give"]

#: Whether this system has such locks at all.
ARE_THERE = fcntl is not None

#: Characters of a command that are shown.
_SHOWN = 120


def take(fd: int) -> bool:
    """Lock the file of `fd` until it is closed; False where somebody else has it. Never waits."""
    return _lock(fd, 0 if fcntl is None else fcntl.LOCK_EX)


def would_give(fd: int) -> bool:
    """Whether nobody has the file that `fd` reads; others that ask so too do no harm."""
    return _lock(fd, 0 if fcntl is None else fcntl.LOCK_SH)


def _lock(fd: int, kind: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system that cannot lock (ENOSYS, ENOLCK, EOPNOTSUPP, of NFS also EBADF)
    return True


def is_at(fd: int, path: str) -> bool:
    """Whether `path` still is the file of `fd`: whoever held the lock before may have renamed it."""
    try:
        there, ours = os.stat(path), os.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def holder(fd: int) -> str:
    """Who has the file of `fd` locked, for a message: process and command, where they can be seen."""
    pid = _pid_of(os.fstat(fd))
    if pid is None:
        return "another process, perhaps on another host"
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
    except OSError:
        words = []
    text = shlex.join(word.decode("utf-8", "backslashreplace") for word in words)
    command = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    if len(command) > _SHOWN:
        command = f"{command[:_SHOWN]}..."
    return f"process {pid} ({command})" if command else f"process {pid}"


def _pid_of(file: os.stat_result) -> int | None:
    """Who holds a lock on this file, as the table of the kernel says (proc(5), /proc/locks).

    A line of it is ``1: FLOCK ADVISORY WRITE 4242 08:01:123 0 EOF``. Some file systems (overlays, subvolumes) have
    another device there than stat(2) tells; then the number of the file has to do.
    """
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as table:
            lines = [line.split() for line in table]
    except OSError:
        return None
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    found = {}
    for words in lines:  # of who waits for a lock the second word is an arrow
        if len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{file.st_ino}"):
            found[words[5].rpartition(":")[0]] = int(words[4])
    pid = found.get(device, next(iter(found.values()), 0))
    return pid if pid > 0 else None  # 0, -1: a process of another host or container
