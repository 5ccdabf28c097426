"""Programs that may have less than we do: descriptors, processes."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["descriptors", "few_processes", "set_limit"]

#: A user whose processes are counted, as those of root are not.
_NOBODY = 65_534


def descriptors(words: Sequence[str], soft: int, hard: int | None = None) -> list[str]:
    """The words that start `words` with these limits of descriptors; `hard` is that of this process."""
    ulimit = f"ulimit -Sn {soft}" if hard is None else f"ulimit -Sn {soft} && ulimit -Hn {hard}"
    return ["/bin/sh", "-c", f'{ulimit} && exec "$@"', "sh", *words]


def few_processes(words: Sequence[str], more: int, folder: Path) -> list[str]:
    """The words that start `words` with a limit of so many `more` processes and threads than their user has now.

    In place of root another user runs them, who owns `folder` then, and may read where only root may.
    """
    if os.geteuid():
        return ["prlimit", f"--nproc={_threads(os.geteuid()) + more}", *words]
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY)
    may_read = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    who = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    return ["setpriv", *who, *may_read, "prlimit", f"--nproc={_threads(_NOBODY) + more}", *words]


def _threads(user: int) -> int:
    """How many processes, with their threads, a user has."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        with contextlib.suppress(OSError):
            count += path.stat().st_uid == user
    return count


def set_limit(process: subprocess.Popen[bytes], soft: int) -> None:
    """Change the soft limit of descriptors of a running process."""
    hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
