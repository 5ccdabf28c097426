"""Standard input of ``hs mpi -n``, which rank 0 reads past the launcher. Linux; elsewhere it stays the launcher's.

Launchers pass standard input on badly: MPICH's mpiexec ends the job when it runs more than 64 KiB ahead of rank 0,
Open MPI's mpirun never passes on its end (docs/decisions/0003, 0023). So it stays open under a high number in the
process that becomes the launcher, whose own is empty, and rank 0 opens it there (proc(5)). What cannot be opened a
second time goes through a pipe, filled by a process that ends with the launcher.
"""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Mapping, MutableMapping

__all__ = ["TERMINAL", "VARIABLE", "hand_over", "no_input", "take"]

#: Tells rank 0 where it is: process, descriptor, device, inode, offset, host.
VARIABLE = "HS_MPI_STDIN"

#: Its value where somebody types, into the launcher.
TERMINAL = "terminal"

#: Descriptors from here on are nobody's by habit.
_HIGH = 90

# Two processes in a group of their own: one copies, the other waits for the end of the launcher; the first that is
# done ends both. Descriptor 0: a pipe whose other end the launcher has; 3: what is read; 4: what is written.
_SCRIPT = r"""
exec 5<&0
( read -r line <&5; kill 0 ) 3<&- 4>&- &
( cat <&3 >&4 5<&-; kill 0 ) &
"""


def hand_over(environ: MutableMapping[str, str]) -> None:
    """Keep standard input open for rank 0, which `environ` will tell of it, and leave an empty one to the launcher.

    A terminal stays the launcher's: it asks the terminal for permission, and nobody types 64 KiB ahead. So does
    the input of ``salloc`` on a login node: rank 0 runs on another host. Raises ``OSError``.
    """
    environ.pop(VARIABLE, None)
    if os.isatty(0):
        environ[VARIABLE] = TERMINAL
        return
    if sys.platform != "linux" or _is_elsewhere(environ):
        return
    fd = _high(0) if _opens_again() else _piped()
    known = os.fstat(fd)
    offset = os.lseek(fd, 0, os.SEEK_CUR) if stat.S_ISREG(known.st_mode) else 0
    words = (os.getpid(), fd, known.st_dev, known.st_ino, offset, platform.node())
    environ[VARIABLE] = " ".join(map(str, words))
    no_input()


def no_input() -> None:
    """Leave an empty standard input to the launcher."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)


def take(word: str | None) -> str | None:
    """Make what `hand_over` kept the standard input of this process, rank 0; where that cannot be, the reason.

    :param word: the value of `VARIABLE`; None: the launcher's own input is the right one.
    """
    if word is None or word == TERMINAL:
        return None
    try:
        pid, fd, device, inode, offset, host = word.split(" ", 5)
        path = f"/proc/{int(pid)}/fd/{int(fd)}"
        wanted, start = (int(device), int(inode)), int(offset)
    except ValueError:
        return f"variable {VARIABLE} is damaged"
    if host != platform.node():
        return f"standard input is on {host}, rank 0 on {platform.node()}"
    try:
        new = os.open(path, os.O_RDONLY | os.O_NOCTTY)
    except OSError as error:
        return f"standard input cannot be opened ({path}: {error.strerror})"
    try:
        found = os.fstat(new)
        if (found.st_dev, found.st_ino) != wanted:
            return f"standard input is gone ({path} is another file)"
        if start:
            os.lseek(new, start, os.SEEK_SET)
        os.dup2(new, 0)
    finally:
        os.close(new)
    return None


def _is_elsewhere(environ: Mapping[str, str]) -> bool:
    """Whether a launcher of this allocation starts rank 0 on another host: Slurm names ours only on its nodes."""
    return "SLURM_JOB_ID" in environ and "SLURMD_NODENAME" not in environ


def _opens_again() -> bool:
    """Whether another process can open our standard input.

    Not a socket, and not a pipe of another user. A FIFO of a file system can be, but who opens it after the writer
    has gone waits for another one.
    """
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) and not os.readlink("/proc/self/fd/0").startswith("pipe:"):
        return False
    try:
        os.close(os.open("/proc/self/fd/0", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _high(fd: int, *, stays: bool = True) -> int:
    """The same under a high number; what we become has it too if it `stays`."""
    import fcntl

    lowest = min(_HIGH, os.sysconf("SC_OPEN_MAX") // 2)  # there may be no such number
    return fcntl.fcntl(fd, fcntl.F_DUPFD if stays else fcntl.F_DUPFD_CLOEXEC, lowest)


def _piped() -> int:
    """A pipe with all that comes from our standard input, until the end of what we become."""
    pipes = (*os.pipe(), *os.pipe())
    source, read, write, waiting, life = (_high(fd, stays=False) for fd in (0, *pipes))  # clear of 0, 3 and 4
    script = os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", _SCRIPT, "hs-input"],
        {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        file_actions=(
            (os.POSIX_SPAWN_DUP2, source, 3),
            (os.POSIX_SPAWN_DUP2, write, 4),
            (os.POSIX_SPAWN_DUP2, waiting, 0),
        ),
        setsid=True,
    )
    os.waitpid(script, 0)
    os.set_inheritable(life, True)
    os.set_inheritable(read, True)
    for fd in (*pipes, source, write, waiting):
        os.close(fd)
    return read
