"""What the scheduler of a machine (Slurm, PBS, LSF, Flux) says of the job around us: its end, and its restarts.

Variables of the environment where they tell it, else one command of the scheduler, which runs in a helper thread
and may fail or hang without harm. Knows nothing of runs; called by ``server.run`` and ``apps``.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import subprocess

__all__ = ["Asking", "Question", "end_from_environ", "question", "restarts"]

Environ = Mapping[str, str]

#: Seconds that a command of a scheduler may take.
_PATIENCE = 20.0
_MOST_ANSWER = 1 << 20

_CLOCK = re.compile(r"(?:(\d{1,6})-)?(?:(\d{1,6}):)?(\d{1,6}):(\d{1,2})")


class Question(NamedTuple):
    """A command that tells when the job ends, and how its answer is read."""

    command: list[str]
    read: Callable[[str, float], float | None]
    """Its output and the time (seconds since the epoch) to the end of the job; infinity: it has no limit, None: the
    output says nothing of it."""


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


class Asking:
    """Asks in a thread of its own, which calls `told` with what ``Question.read`` made of the answer.

    Where there is no answer, as of a controller that is busy, it asks again after `PAUSES` seconds.
    """

    PAUSES = (5.0, 60.0)

    def __init__(self, asked: Question, told: Callable[[float | None], None]) -> None:
        import threading

        self._asked = asked
        self._told = told
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = self._missing = False
        threading.Thread(target=self._ask, name="scheduler", daemon=True).start()

    def stop(self) -> None:
        """Nobody wants to know any more: end the command, if it still runs."""
        self._stopped = True
        process = self._process
        if process is not None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except OSError:
                pass  # it has ended

    def _ask(self) -> None:
        end = self._answer()
        for pause in self.PAUSES:
            if end is not None or self._missing or self._stopped:
                break
            time.sleep(pause)
            end = self._answer()
        try:
            self._told(end)
        except OSError:
            pass  # nobody listens any more

    def _answer(self) -> float | None:
        import subprocess

        # No variable of a rank: some commands are MPI programs to their libraries.
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "OMPI_", "PRTE_"))}
        try:
            self._process = process = subprocess.Popen(
                self._asked.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=environ, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError):
            self._missing = True  # there is no such command
            return None
        if self._stopped:
            self.stop()
        try:
            output, _ = process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.stop()
            return None
        finally:
            self._process = None
        # The status says nothing: whoever waits for all children may have taken it.
        return self._asked.read(output[:_MOST_ANSWER].decode("utf-8", "replace"), time.time())


def _read_squeue(text: str, now: float) -> float | None:
    """``[days-][hours:]minutes:seconds``, or a word such as UNLIMITED."""
    word = text.strip().partition("\n")[0].strip()
    left = inf if word == "UNLIMITED" else _clock(word)
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
        return inf if any(name.startswith("Resource_List.") for name in fields) else None
    for name in ("stime", "start_time"):
        try:
            return time.mktime(time.strptime(fields.get(name, ""), "%a %b %d %H:%M:%S %Y")) + limit
        except (ValueError, OverflowError):
            pass
    used = _clock(fields.get("resources_used.walltime", ""))
    return now + limit - (used or 0.0)


def _read_bjobs(text: str, now: float) -> float | None:
    """``hours:minutes`` and L; with E it is an estimate, and X is past one: neither is a limit."""
    if text.strip() == "-":
        return inf
    match = re.fullmatch(r"(\d{1,7}):(\d{2})(?:\s+L)?", text.strip())
    return None if match is None else now + int(match[1]) * 3600 + int(match[2]) * 60


def _read_flux(text: str, now: float) -> float | None:
    """Seconds, or ``infinity``."""
    if text.strip() == "infinity":
        return inf
    match = re.fullmatch(r"(\d{1,9})(?:\.\d+)?s?", text.strip())
    return None if match is None else now + int(match[1])


def _clock(text: str) -> float | None:
    """Seconds of ``[D-][[H:]M:]S`` as Slurm and PBS print them."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
