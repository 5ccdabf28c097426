"""The environment of a task: the client's own, without secrets and without what the launcher set for this rank.

A task may itself be an MPI program; with half of the launcher's variables left it would attach itself to the outer
job, so they go as a whole. What the user set for a library (``OMPI_MCA_*``, ``MPIR_CVAR_*``, ``UCX_*``, ...) stays.
Called by ``executor.loop``, once per client and once per task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import json

from hypershell.core.model import ClientInfo, Scalar, Task
from hypershell.executor.places import ANYWHERE, Place
from hypershell.ostext import escaped, from_bytes, in_quotes, to_bytes
from hypershell.proto.messages import ClientSettings, Context

__all__ = ["LONGEST", "ORIGINALS", "Environment", "inherited", "scrub"]

#: The most bytes that Linux takes in one argument, or in one variable with its name (MAX_ARG_STRLEN, execve(2)).
LONGEST = 131_071

#: The variable that holds what ``scrub`` removed, as a JSON object.
ORIGINALS = "HS_LAUNCHER_ENV"

_EXPORT = b"HYPERSHELL_EXPORT_"

#: Set by a launcher for one rank; each line is one launcher. A trailing * stands for anything.
_PER_RANK = """
    PMI_* PMI2_* HYDI_* MPI_LOCALRANKID MPI_LOCALNRANKS GFORTRAN_UNBUFFERED_PRECONNECTED
    MPIR_CVAR_CH3_INTERFACE_HOSTNAME
    PMIX_* PRTE_* PRRTE_* OMPI_COMM_WORLD_* OMPI_WORLD_* OMPI_UNIVERSE_SIZE OMPI_NUM_APP_CTX OMPI_ARGV OMPI_COMMAND
    OMPI_FILE_LOCATION OMPI_TOOL_NAME OMPI_VERSION OMPI_LIBDIR_LOC OMPI_APP_CTX_NUM_PROCS OMPI_FIRST_RANKS
    OMPI_MCA_PREFIXES OMPI_MCA_mpi_ft_enable OMPI_MCA_cpu_type OMPI_MCA_initial_wdir OMPI_MCA_num_procs
    OMPI_MCA_ess OMPI_MCA_ess_* OMPI_MCA_orte_* OMPI_MCA_pmix OMPI_MCA_shmem_RUNTIME_QUERY_hint
    HYDRA_BSTRAP_* I_MPI_HYDRA_* I_MPI_INFO_* I_MPI_LOCAL* I_MPI_PMI* I_MPI_MPIRUN
    MV2_COMM_WORLD_*
    PALS_* ALPS_APP_*
    FLUX_TASK_*
"""

#: Set by srun for one step or one task of it; the variables of the job stay, inner launchers need them.
_SLURM_STEP = """
    SLURM_STEP* SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_GTIDS SLURM_TASK_PID SLURM_MPI_TYPE SLURM_PMI*
    SLURM_SRUN_COMM_* SLURM_LAUNCH_NODE_IPADDR SLURM_DISTRIBUTION SLURM_CPU_BIND* SLURM_UMASK SLURM_PRIO_PROCESS
"""

#: What a scheduler says of the whole job, for ``--task-env job``. Where its commands find their server stays.
_JOB = """
    SLURM_* SLURMD_* SRUN_* SBATCH_* SALLOC_* PBS_* LSB_* LS_JOBPID LSFUSER FLUX_* JSM_* COBALT_* OAR_*
    PE PE_HOSTFILE NSLOTS NHOSTS NQUEUES SGE_TASK_* SGE_BINDING
"""
_KEPT_OF_JOB = "SLURM_CONF SLURM_CLUSTERS SLURM_TIME_FORMAT PBS_CONF_FILE PBS_DEFAULT PBS_SERVER PBS_EXEC"

_NAMES = (
    "ID GROUP ARGS SUBMIT_ID SUBMIT_TIME SUBMIT_HOST CORES MEMORY CORES_MAX MEMORY_MAX TIMEOUT SERVER_ID "
    "SERVER_HOST SCHEDULE_TIME CLIENT_ID CLIENT_HOST COMMAND START_TIME COMPLETION_TIME EXIT_STATUS ATTEMPT "
    "RETRIED WAITED DURATION PREVIOUS_ID NEXT_ID CWD OUTPATH ERRPATH CSVPATH SLOT SLOT_COUNT CORE_LIST"
)
_OURS = frozenset(b"TASK_" + name.encode() for name in _NAMES.split())

#: Those that each task sets anew.
_OWN = frozenset(
    (b"TASK_ID", b"TASK_ARGS", b"TASK_COMMAND", b"TASK_SUBMIT_TIME", b"TASK_SCHEDULE_TIME", b"TASK_START_TIME")
)


def _pattern(names: str) -> re.Pattern[bytes]:
    escaped = (re.escape(name).replace(r"\*", ".*") for name in names.split())
    return re.compile("|".join(escaped).encode(), re.DOTALL)


def scrub(
    environ: Mapping[bytes, bytes], level: str = "rank"
) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """`environ` without the variables of a launcher, and those variables.

    In a Slurm job ``SLURM_OVERLAP=1`` is added where it is missing: else any srun inside a task waits for ever for
    the cores that the outer step holds.

    :param level: ``rank``: without those that it set for this rank; ``job``: also without those of the job;
        ``none``: with all of them.
    """
    if level == "none":
        return dict(environ), {}
    drop = _pattern(_PER_RANK + _SLURM_STEP + (_JOB if level == "job" else ""))
    stays = _pattern(_KEPT_OF_JOB)
    kept: dict[bytes, bytes] = {}
    removed: dict[bytes, bytes] = {}
    for name, value in environ.items():
        (removed if drop.fullmatch(name) and not stays.fullmatch(name) else kept)[name] = value
    if b"SLURM_JOB_ID" in kept:
        kept.setdefault(b"SLURM_OVERLAP", b"1")
    return kept, removed


def inherited(environ: Mapping[bytes, bytes], level: str = "rank") -> dict[bytes, bytes]:
    """What a task inherits: scrubbed, without ``HYPERSHELL_*`` (keys, passwords) and what an outer task was told.

    ``HYPERSHELL_EXPORT_NAME`` becomes ``NAME``, its value untouched. For `level` see `scrub`.
    """
    kept, removed = scrub(environ, level)
    removed.pop(b"OMPI_ARGV", None)  # the command line of the outer program may hold a key
    result = {
        name: value
        for name, value in kept.items()
        if not name.startswith((b"HYPERSHELL", b"TASK_TAG_")) and name not in _OURS
    }
    result.update(
        (name[len(_EXPORT) :], value)
        for name, value in kept.items()
        if name.startswith(_EXPORT) and len(name) > len(_EXPORT)
    )
    if removed:
        result[ORIGINALS.encode()] = _as_json(removed)
    return result


def _as_json(removed: Mapping[bytes, bytes]) -> bytes:
    """The removed variables as one; where they are too long for it (lists of hosts), without the longest."""
    originals = {escaped(from_bytes(name)): escaped(from_bytes(text)) for name, text in removed.items()}
    while len(text := json.encode(originals)) > LONGEST - len(ORIGINALS) - 1:
        del originals[max(originals, key=lambda name: len(originals[name]))]
    return text


class Environment:
    """Makes the environments of one client's tasks.

    :param environ: the client's own environment.
    """

    def __init__(self, environ: Mapping[bytes, bytes], settings: ClientSettings, info: ClientInfo) -> None:
        base = dict.fromkeys(_OURS - _OWN, b"null")
        base[b"TASK_RETRIED"] = b"false"
        base[b"TASK_GROUP"] = b"0"
        base[b"TASK_ATTEMPT"] = b"1"
        base[b"TASK_TAG_PART"] = b"0"
        base[b"TASK_SLOT"] = b"0"
        base[b"TASK_SLOT_COUNT"] = b"%d" % settings.slots
        base[b"TASK_CLIENT_ID"] = to_bytes(info.id)
        base[b"TASK_CLIENT_HOST"] = to_bytes(info.host)
        self._told = base
        self.base = {**inherited(environ, settings.task_env), **base}
        self._error = _too_long(self.base)
        self.of_server(settings)
        self._tag_names: dict[str, bytes] = {}
        self._seconds: dict[int, bytes] = {}
        self._times: dict[float, bytes] = {}

    def of_server(self, settings: ClientSettings) -> None:
        """Tasks that start from now on are those of this server."""
        for environ in (self._told, self.base):
            environ[b"TASK_SERVER_ID"] = to_bytes(settings.server_id)
            environ[b"TASK_SERVER_HOST"] = to_bytes(settings.server_host)
        self._shared: dict[int, tuple[Context, dict[bytes, bytes]]] = {}

    def exported(self, context: Context) -> dict[bytes, bytes]:
        """`base` with the exports of a submission, which never go before what a task is told of itself."""
        if not context.exports:
            return self.base
        return {**self.base, **context.exports, **self._told}

    def error(self, context: Context) -> str | None:
        """Why no task of a submission can start, if so."""
        return self._error or _too_long(context.exports, "; correct the export") or _too_long(_told_of(context))

    def shared(self, context: Context, cwd: str) -> dict[bytes, bytes]:
        """The part that all tasks of a submission have in common; made once."""
        known = self._shared.get(context.submission)
        if known is not None and known[0] is context:
            return known[1]
        environ = {
            **self.exported(context),
            **_told_of(context),
            b"TASK_CWD": to_bytes(cwd),
            b"PWD": to_bytes(cwd),
        }
        self._shared[context.submission] = (context, environ)
        return environ

    def of(
        self,
        task: Task,
        line: bytes,
        command: bytes,
        start: float,
        paths: tuple[str, str] | None = None,
        place: Place = ANYWHERE,
    ) -> dict[bytes, bytes]:
        """The variables of one execution, which go before those that are shared.

        :param line: the task's own line, `command` what it became.
        :param start: seconds since the epoch.
        :param paths: files of stdout and stderr where they are captured.
        :param place: the slot that it has, and its cores.
        """
        environ = {
            b"TASK_ID": task.id.encode(),
            b"TASK_ARGS": line,
            b"TASK_COMMAND": command,
            b"TASK_SUBMIT_TIME": self._known_time(task.submit_time),
            b"TASK_SCHEDULE_TIME": self._known_time(task.schedule_time),
            b"TASK_START_TIME": self._time(start),
        }
        if task.group:
            environ[b"TASK_GROUP"] = b"%d" % task.group
        if task.attempt != 1:
            environ[b"TASK_ATTEMPT"] = b"%d" % task.attempt
        if len(command) > LONGEST - 13 or len(line) > LONGEST - 10:
            _leave_out_long(environ)
        if task.timeout is not None:
            environ[b"TASK_TIMEOUT"] = _seconds(task.timeout)
        if task.cores is not None:
            environ[b"TASK_CORES"] = b"%d" % task.cores
        if task.memory is not None:
            environ[b"TASK_MEMORY"] = b"%d" % task.memory
        if task.previous_id is not None:
            environ[b"TASK_PREVIOUS_ID"] = task.previous_id.encode()
        if paths is not None:
            environ[b"TASK_OUTPATH"], environ[b"TASK_ERRPATH"] = to_bytes(paths[0]), to_bytes(paths[1])
        if place.slot:
            environ.update(self.of_slot(place.slot))
        if place.cores is not None:
            environ[b"TASK_CORE_LIST"] = place.shown
        if task.tag:
            self._add_tags(task.tag, environ)
        return environ

    def of_slot(self, slot: int) -> dict[bytes, bytes]:
        """What a process in this slot is told of it, beside what all are told."""
        return {b"TASK_SLOT": b"%d" % slot}

    def _add_tags(self, tags: dict[str, Scalar], environ: dict[bytes, bytes]) -> None:
        names = self._tag_names
        from hypershell.tags import env_name  # few tasks have tags, and every worker starts up

        for key, value in tags.items():
            name = names.get(key)
            if name is None:
                name = env_name(key).encode()
                if len(names) < 1000:
                    names[key] = name
            environ[name] = _scalar(value)

    def _known_time(self, seconds: float) -> bytes:
        """As `_time`; for times that many tasks in a row have in common."""
        text = self._times.get(seconds)
        if text is None:
            if len(self._times) >= 16:
                self._times.clear()
            text = self._times[seconds] = self._time(seconds)
        return text

    def _time(self, seconds: float) -> bytes:
        """``2026-11-22 06:26:57.254728+00:00``; the texts of a few seconds are kept, for neighbours share them.

        Rounded as in the database, so that a task and its row tell the same.
        """
        try:
            second, micros = divmod(round(seconds * 1_000_000), 1_000_000)
            text = self._seconds.get(second)
            if text is None:
                text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S").encode()
        except (ValueError, OverflowError, OSError):  # no time that a calendar has
            return b"null"
        if second not in self._seconds:
            if len(self._seconds) >= 100:
                self._seconds.clear()
            self._seconds[second] = text
        return b"%b.%06d+00:00" % (text, micros)


def _told_of(context: Context) -> dict[bytes, bytes]:
    """Who handed the tasks in."""
    return {
        b"TASK_SUBMIT_ID": to_bytes(context.submit_id),
        b"TASK_SUBMIT_HOST": to_bytes(context.submit_host),
    }


def _leave_out_long(environ: dict[bytes, bytes]) -> None:
    for name in (b"TASK_ARGS", b"TASK_COMMAND"):
        if len(name) + 1 + len(environ[name]) > LONGEST:
            del environ[name]


def _too_long(environ: dict[bytes, bytes], way_out: str = "") -> str | None:
    """Why no task can start with these variables, if so."""
    for name, value in environ.items():
        if b"\0" in name or b"\0" in value or b"=" in name or not name:
            named = in_quotes(from_bytes(name[:60]))
            return f"bad variable {named}: a NUL byte, or no usable name{way_out}"
        size = len(name) + 1 + len(value)
        if size > LONGEST:
            named = escaped(from_bytes(name[:60]))
            return f"too long: variable {named} of {size:,} bytes, the limit is {LONGEST:,}"
    return None


def _seconds(value: float) -> bytes:
    return (str(int(value)) if value.is_integer() else repr(value)).encode()


def _scalar(value: Scalar) -> bytes:
    if value is None:
        return b"null"
    if value is True:
        return b"true"
    if value is False:
        return b"false"
    return to_bytes(str(value))
