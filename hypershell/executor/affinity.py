"""The cores that tasks may use: those of the whole node share, not the one to which a launcher bound the rank.

Open MPI and Intel MPI bind each rank to a core or two; a child inherits that, and all tasks of a rank would crowd
there. Called by the MPI driver before the first task.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["widen_affinity"]


def widen_affinity(environ: Mapping[str, str]) -> str | None:
    """Let this process, and with it its tasks, run on all cores that the kernel allows it.

    A cpuset (cgroups(7)) stays in force: the kernel cuts the request down to it (sched_setaffinity(2)). In a Slurm
    job without one, where more cores would come out than the job has on this node, the binding stays.

    :param environ: where ``SLURM_CPUS_ON_NODE`` is looked up.
    :returns: a warning for the log where tasks remain bound, else None.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, range(os.cpu_count() or max(before) + 1))
    except OSError as error:
        return _warning(before, error.strerror or str(error))
    after = os.sched_getaffinity(0)
    share = environ.get("SLURM_CPUS_ON_NODE", "")
    if share.isdigit() and len(after) > int(share):
        os.sched_setaffinity(0, before)
        if len(before) < int(share):
            return _warning(before, f"the job has {share} of {len(after)} cores here and no cpuset says which")
    return None


def _warning(cores: set[int], reason: str) -> str:
    return (
        f"All tasks of this rank share {len(cores)} core{'s' * (len(cores) != 1)} ({reason}); "
        "start with --bind-to none or --cpu-bind=none"
    )
