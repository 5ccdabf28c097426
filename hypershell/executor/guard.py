"""The guard: a small process that ends what a client leaves behind, however the client dies.

It holds the reading end of a pipe whose other end only the client has. When that closes, by exit or kill -9, it
looks for processes that carry ``TASK_CLIENT_ID=<id>`` in their environment and ends them. One that has removed
the variable (``env -u TASK_CLIENT_ID daemon``) is left alone. To be started before MPI_Init.
"""

from __future__ import annotations

import os
import signal
import sys

from hypershell.errors import LaunchError
from hypershell.executor.spawn import seal_descriptors

__all__ = ["Guard", "start_guard"]

# Waits for the end of its stdin; then TERM, and KILL for what is left after half a second, until nothing is found.
# A stopped process takes TERM only when it continues. The wait is a whole second where sleep takes no fractions.
_SCRIPT = r"""
trap '' INT TERM HUP QUIT USR1 USR2 PIPE
while read -r line; do :; done
for how in TERM KILL KILL KILL KILL KILL; do
  found=$(find_all)
  [ -n "$found" ] || exit 0
  kill -"$how" $found
  kill -CONT $found
  for wait in 1 2 3 4 5; do
    sleep 0.1 || sleep 1
    [ -n "$(find_all)" ] || exit 0
  done
done
"""

# The environments of processes of others cannot be read, those of ended ones are empty.
_FIND_LINUX = r"""
find_all() {
  grep -Fls "TASK_CLIENT_ID=$id" /proc/[0-9]*/environ | while IFS= read -r path; do
    path=${path#/proc/}
    printf '%s\n' "${path%/environ}"
  done
}
"""

_FIND_OTHER = r"""
find_all() {
  ps -Eww -ax -o pid=,command= | while read -r pid line; do
    case " $line " in *" TASK_CLIENT_ID=$id "*) printf '%s\n' "$pid" ;; esac
  done
}
"""


_WAY_OUT = "allow more descriptors (ulimit -n) or processes (ulimit -u)"


class Guard:
    """A running guard; `pid` is its process."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self.pid, self._pipe = _start(client_id)

    def revive(self) -> None:
        """Start another one in the place of one that has died. Raises ``LaunchError``."""
        if self._pipe >= 0:
            self.close()
            self.pid, self._pipe = _start(self._client_id)

    def close(self) -> None:
        """Let it look around one last time and end; does not wait for it."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def start_guard(client_id: str) -> Guard:
    """Start the guard of the client `client_id`.

    Nothing that this process has inherited above descriptor 2 is passed on, now or later: a guard that held a
    launcher's socket would keep the launcher waiting.

    :raises LaunchError: the process cannot be started.
    """
    return Guard(client_id)


def _start(client_id: str) -> tuple[int, int]:
    """The process, and the end of the pipe to it that only we have."""
    seal_descriptors()
    opened: list[int] = []
    try:
        opened += os.pipe()
        opened.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        for fd in opened:
            os.close(fd)
        raise LaunchError(f"cannot start the guard process: {error.strerror}; {_WAY_OUT}") from None
    read, write, null = opened
    find = _FIND_LINUX if sys.platform == "linux" else _FIND_OTHER
    script = f"id=$1\n{find}{_SCRIPT}"
    blocked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # for the moments before the script has its traps
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", script, "hs-guard", client_id],
            {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            file_actions=(
                (os.POSIX_SPAWN_DUP2, read, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
            ),
            setsid=True,
            setsigmask=blocked,
        )
    except (OSError, NotImplementedError) as error:
        os.close(write)
        raise LaunchError(f"cannot start the guard process: {error}; {_WAY_OUT}") from None
    finally:
        os.close(read)
        os.close(null)
    return pid, write
