"""What the scheduler of a machine (Slurm, PBS, LSF, Flux) says of the job around us: its end, and its restarts.

Variables of the environment where they tell it, else one command of the scheduler, which runs in a helper thread
and may fail or hang without harm. Knows nothing of runs; called by ``server.run`` and ``apps``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["Question", "ask_scheduler", "end_from_environ", "question", "restarts"]

Environ = Mapping[str, str]

#: Seconds that a command of a scheduler may take.
_PATIENCE = 20.0
_MOST_ANSWER = 1 << 20

_CLOCK = re.compile(r"(?:(\d{1,6})-)?(?:(\d{1,6}):)?(\d{1,6}):(\d{1,2})")


class Question(NamedTuple):
    """A command that tells when the job ends, and how its answer is read."""

    command: list[str]
    read: Callable[[str, float], float | None]
    """Its output and the time (seconds since the epoch) to the end of the job, None where it says none."""


def end_from_environ(environ: Environ) -> float | None:
    """When the job ends (seconds since the epoch), where the environment says so: Slurm 23.02 and later."""
    text = environ.get("SLURM_JOB_END_TIME", "")
    if "SLURM_JOB_ID" in environ and text.isascii() and text.isdecimal() and len(text) < 12:
        return float(text) or None
    return None


def question(environ: Environ) -> Question | None:
    """How to ask the scheduler around us; None outside of any that can tell."""
    if job := environ.get("SLURM_JOB_ID"):
        return Question(["squeue", "--noheader", "--jobs", job, "--format", "%L"], _read_squeue)
    if job := environ.get("PBS_JOBID"):
        return Question(["qstat", "-f", job], _read_qstat)
    if job := environ.get("LSB_JOBID"):
        index = environ.get("LSB_JOBINDEX", "0")
        name = job if index in ("", "0") else f"{job}[{index}]"
        return Question(["bjobs", "-noheader", "-o", "time_left", name], _read_bjobs)
    if environ.get("FLUX_JOB_ID"):
        return Question(["flux", "job", "timeleft"], _read_flux)
    return None


def restarts(environ: Environ) -> str | None:
    """The variable by which a scheduler says that it starts this job again; None where it does not."""
    count = environ.get("SLURM_RESTART_COUNT", "")
    if count.isascii() and count.isdecimal() and int(count) > 0:
        return "SLURM_RESTART_COUNT"
    if environ.get("LSB_RESTART") == "Y":
        return "LSB_RESTART"
    # Grid Engine has it for every job, and nobody else has both.
    if environ.get("RESTARTED") == "1" and "SGE_ROOT" in environ:
        return "RESTARTED"
    return None


def ask_scheduler(asked: Question, told: Callable[[float | None], None]) -> None:
    """Ask in a thread of its own, which ends with the process; `told` is called there with the end of the job."""
    import threading

    threading.Thread(target=lambda: told(_answer(asked)), name="scheduler", daemon=True).start()


def _answer(asked: Question) -> float | None:
    import subprocess

    # No variable of a rank: some commands are MPI programs to their libraries.
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "OMPI_", "PRTE_"))}
    try:
        done = subprocess.run(
            asked.command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, env=environ
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    # The status says nothing: whoever waits for all children may have taken it.
    return asked.read(done.stdout[:_MOST_ANSWER].decode("utf-8", "replace"), time.time())


def _read_squeue(text: str, now: float) -> float | None:
    """``[days-][hours:]minutes:seconds``, or a word such as UNLIMITED."""
    left = _clock(text.strip().splitlines()[0].strip()) if text.strip() else None
    return None if left is None else now + left


def _read_qstat(text: str, now: float) -> float | None:
    """PBS Professional, OpenPBS and Torque: the walltime asked for, counted from the start where that is told."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition(" = ")
        if equals:
            fields.setdefault(name, value.strip())
    limit = _clock(fields.get("Resource_List.walltime", ""))
    if limit is None:
        return None
    for name in ("stime", "start_time"):
        try:
            return time.mktime(time.strptime(fields.get(name, ""), "%a %b %d %H:%M:%S %Y")) + limit
        except (ValueError, OverflowError):
            pass
    used = _clock(fields.get("resources_used.walltime", ""))
    return now + limit - (used or 0.0)


def _read_bjobs(text: str, now: float) -> float | None:
    """``hours:minutes`` and L; with E it is an estimate, and X is past one: neither is a limit."""
    match = re.fullmatch(r"(\d{1,7}):(\d{2})(?:\s+L)?", text.strip())
    return None if match is None else now + int(match[1]) * 3600 + int(match[2]) * 60


def _read_flux(text: str, now: float) -> float | None:
    """Seconds, or ``infinity``; a job without a limit may also have a very large number."""
    match = re.fullmatch(r"(\d{1,9})(?:\.\d+)?s?", text.strip())
    return None if match is None else now + int(match[1])


def _clock(text: str) -> float | None:
    """Seconds of ``[D-][[H:]M:]S`` as Slurm and PBS print them."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
