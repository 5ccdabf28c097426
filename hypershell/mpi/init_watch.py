"""Rank 0 while MPI_Init waits for the other ranks: somebody has to say so, and to obey a signal.

In MPI_Init no line of Python runs, nor does another thread of it. A small process outside of MPI looks at this one
instead. It also sees that a signal has come, by the descriptor into which the interpreter writes each of them
(signal.set_wakeup_fd). When MPI_Init does not end soon after a signal, it ends rank 0; the launcher ends the rest.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hypershell.mpi.environ import expected_size, launcher_name, rank_hint

__all__ = ["watched_init"]

#: Seconds after which rank 0 says what it waits for.
PATIENCE = 30

#: Seconds that MPI_Init has to end after a signal, which is obeyed then.
SIGNAL_PATIENCE = 10

# $1 is the rank's process, $2 its descriptor for signals, $3 and $4 the two patiences, $5 and $6 what is said.
# A process that waits holds neither the rank's output nor its input.
_SCRIPT = r"""
trap '' INT TERM HUP USR1 USR2
waited=0 signalled=0
while [ -e "/proc/$1/fd/$2" ]; do
  [ -s "/proc/$1/fd/$2" ] && signalled=$((signalled + 1))
  if [ "$signalled" -gt "$4" ]; then
    printf '%s\n' "$6" >&2
    exec kill -KILL "$1"
  fi
  [ "$waited" -eq "$3" ] && printf '%s\n' "$5" >&2
  sleep 1 <&- >/dev/null 2>&1
  waited=$((waited + 1))
done
"""


@contextmanager
def watched_init(
    environ: Mapping[str, str], patience: int = PATIENCE, signal_patience: int = SIGNAL_PATIENCE
) -> Iterator[None]:
    """While it lasts, rank 0 of a job of several is watched (Linux: proc(5)); others are left to their launcher.

    :param patience, signal_patience: whole seconds.
    """
    lonely = launcher_name(environ) is None or (expected_size(environ) or 2) == 1
    if lonely or rank_hint(environ) != 0 or not hasattr(os, "memfd_create"):
        yield
        return
    signals = os.memfd_create("signals")
    os.set_blocking(signals, False)
    before = signal.set_wakeup_fd(signals, warn_on_full_buffer=False)
    watcher = _start(signals, patience, signal_patience)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(signals)
        if watcher is not None:
            os.kill(watcher, signal.SIGKILL)
            os.waitpid(watcher, 0)


def _start(signals: int, patience: int, signal_patience: int) -> int | None:
    """The process that watches; None where there can be none."""
    waits = (
        f"hs: rank 0 on {os.uname().nodename} has waited {patience} s in MPI_Init for other ranks: look whether "
        "all of them were started, and what the first of them said"
    )
    ended = "hs: rank 0 was signalled while it waited in MPI_Init for other ranks: ending the job, nothing was run"
    words = [str(os.getpid()), str(signals), str(patience), str(signal_patience), waits, ended]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    sys.stderr.flush()
    try:
        return os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", _SCRIPT, "hs-init-watch", *words],
            {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)],
            setsid=True,
        )
    except OSError:
        return None
    finally:
        os.close(null)
