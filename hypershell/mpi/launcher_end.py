"""Open MPI's launcher waits for ever for a node that is cut off: it gets an end of its own.

After MPI_Abort everything on nodes that can be reached is killed, but ``mpirun`` then waits for the word of a
daemon that cannot answer. A small process outside of the job reminds it, first by TERM, in the end by KILL, and
ends the ssh(1) that it left behind: that would hold the job's output open.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container
from typing import NamedTuple

__all__ = ["PATIENCE", "Ancestor", "find_ancestor", "remind_launcher", "stop_launcher"]

#: Seconds that the launcher has to end the job by itself.
PATIENCE = 10

_LAUNCHERS = ("mpirun", "mpiexec", "prterun", "prte", "prted", "orterun", "orted")

#: Shells and wrappers that may stand between a launcher and us.
_GENERATIONS = 8

# The number of the launcher may belong to another process by now: its start time tells.
_SCRIPT = r"""
trap '' HUP INT TERM
agents=
here() { [ "$(cut -d' ' -f22 <"/proc/$1/stat" 2>/dev/null)" = "$2" ]; }
for how in TERM TERM KILL; do
  left=$3
  while [ "$left" -gt 0 ]; do
    here "$1" "$2" || break 2
    sleep 1
    left=$((left - 1))
  done
  agents=$(cat /proc/"$1"/task/*/children 2>/dev/null)
  here "$1" "$2" && kill -"$how" "$1"
  set -- "$1" "$2" 2
done
for agent in $agents; do
  case $(cat /proc/"$agent"/comm 2>/dev/null) in ssh | rsh) kill "$agent" ;; esac
done
"""


class Ancestor(NamedTuple):
    """A process that we descend from, and its command line."""

    pid: int
    words: list[str]


def find_ancestor(programs: Container[str], process: int | None = None) -> Ancestor | None:
    """The nearest process above `process` (this one's parent) that runs one of `programs` (Linux: proc(5))."""
    pid = os.getppid() if process is None else process
    for _ in range(_GENERATIONS):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as command, open(f"/proc/{pid}/stat", "rb") as stat:
                words = command.read().decode("utf-8", "replace").split("\0")
                parent = int(stat.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return None
        if os.path.basename(words[0]) in programs:
            return Ancestor(pid, words)
        pid = parent
    return None


def stop_launcher() -> None:
    """Tell the launcher's process on this node to end the job."""
    found = find_ancestor(_LAUNCHERS)
    if found is not None:
        try:
            os.kill(found.pid, signal.SIGTERM)
        except OSError:
            pass  # another user's, or gone


def remind_launcher(patience: int = PATIENCE) -> int | None:
    """Let the Open MPI launcher that started this process be ended, if it has not after `patience` seconds.

    The process that does so; None where our parent is no such launcher, or cannot be told (Linux only). Starts it
    without fork, for MPI runs.
    """
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/stat", "rb") as file:
            stat = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    if name not in _LAUNCHERS or len(rest.split()) < 20:
        return None
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", _SCRIPT, "hs-reminder", str(parent), rest.split()[19], str(patience)],
            {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            file_actions=[(os.POSIX_SPAWN_DUP2, null, target) for target in (0, 1, 2)],
            setsid=True,
        )
    except OSError:
        return None
    finally:
        os.close(null)
