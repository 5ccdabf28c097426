"""From one command line to N ranks, and from a rank to its role; how a rank that fails ends the job.

`start_under_launcher` turns this process into the mpiexec of our MPI; `run_mpi` is what every rank then runs.
Knows no tasks and no options: ``apps.mpi`` hands in what rank 0 and the others are to do.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from hypershell.errors import ExitStatus, HyperShellError, LaunchError
from hypershell.mpi.environ import SECRETS, launcher_name, rank_hint
from hypershell.mpi.input import hand_over, no_input
from hypershell.mpi.launcher_end import remind_launcher
from hypershell.mpi.not_begun import OUTPUT_GRACE, leave_before_init
from hypershell.mpi.transport import MpiClientEnd, MpiServerEnd
from hypershell.mpi.world import NotBegun, World, library_version, open_world, short_name, two_wheels
from hypershell.ostext import one_line

__all__ = ["CRASH_GRACE", "Launcher", "command", "find_launcher", "run_mpi", "start_under_launcher"]

#: Seconds in which a rank that fails must have stopped its tasks and committed; then it is killed.
CRASH_GRACE = 10

#: Seconds that MPI_Finalize may take on rank 0.
FINALIZE_GRACE = 600

Serve = Callable[[World, MpiServerEnd], int]
Work = Callable[[World, MpiClientEnd], int]


class Launcher(NamedTuple):
    """An mpiexec that can start ranks of our MPI."""

    path: str
    family: str
    """``hydra`` (MPICH, Intel MPI, MVAPICH) or ``openmpi``."""


def start_under_launcher(
    ranks: int,
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    *,
    reads_input: bool = True,
    secrets: Sequence[str] = (),
) -> NoReturn:
    """Become the mpiexec of our MPI, running `argv` (a full command) in `ranks` ranks; its exit status is ours.

    With `reads_input` rank 0 gets our standard input (``mpi.input``), else nobody does. `secrets` go to the ranks
    in variable `SECRETS`, since everybody on a host can read a command line.

    Raises ``LaunchError`` inside a launcher, where no mpiexec of our MPI is found, where two MPIs share the
    environment, and where Open MPI would refuse to run as root.
    """
    environ = os.environ if environ is None else environ
    around = launcher_name(environ)
    if around is not None:
        raise LaunchError(f"already started by {around}; it decides the number of ranks, leave out -n {ranks}")
    hint = two_wheels()
    if hint is not None:
        raise LaunchError(hint)
    launcher = find_launcher(library_version(), environ)
    _check_root(launcher, environ)
    full = command(launcher, ranks, argv, exports=[SECRETS] if secrets else [])
    environ = _launch_environ(launcher, environ, secrets)
    try:
        hand_over(environ) if reads_input else no_input()
    except OSError as error:
        raise LaunchError(f"cannot keep standard input for rank 0 ({error.strerror}): give a FILE") from None
    sys.stdout.flush()
    sys.stderr.flush()
    for name in ("SIGPIPE", "SIGXFSZ"):  # ignored by Python, and exec would hand that on
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execve(launcher.path, full, environ)
    except OSError as error:
        raise LaunchError(f"cannot run {launcher.path}: {error.strerror}") from None


def find_launcher(version: str, environ: Mapping[str, str] | None = None) -> Launcher:
    """The mpiexec that belongs to the MPI with the version text `version`.

    Looks beside the Python that runs us (the wheels put it there), beside the MPI library that is loaded, and
    in ``PATH``; each is asked for its version, so that the launcher of another MPI is never taken. Raises
    ``LaunchError`` that names what was found instead.
    """
    environ = os.environ if environ is None else environ
    family = _family(version)
    if family is None:
        raise LaunchError(f"no mpiexec is known for {short_name(version)}; start hs mpi by your site's launcher")
    refused = []
    for path in _candidates(environ):
        said = _ask_version(path)
        if _family(said) == family:
            return Launcher(path, family)
        refused.append(path)
    tried = f"; these belong to another MPI: {', '.join(refused)}" if refused else ""
    raise LaunchError(
        f"no mpiexec of {short_name(version)} found{tried}; start hs mpi by the launcher of that MPI (srun, mpirun)"
    )


def command(launcher: Launcher, ranks: int, argv: Sequence[str], exports: Sequence[str] = ()) -> list[str]:
    """The command line that starts `argv` in `ranks` ranks on this node or allocation.

    Open MPI counts slots and binds ranks to cores; both are switched off, or more ranks than cores would be
    refused and tasks squeezed onto one core. It takes only the variables `exports` to ranks of other hosts.
    """
    full = [launcher.path, "-n", str(ranks)]
    if launcher.family == "openmpi":
        full += ["--map-by", "slot:OVERSUBSCRIBE", "--bind-to", "none"]
        full += [word for name in exports for word in ("-x", name)]
    if ":" in argv:  # alone it separates programs for every mpiexec
        import shlex

        return [*full, "/bin/sh", "-c", f"exec {shlex.join(argv)}"]
    return [*full, *argv]


def run_mpi(
    serve: Serve,
    work: Work,
    *,
    environ: Mapping[str, str] | None = None,
    warn: Callable[[str], None] | None = None,
) -> int:
    """Run `serve` on rank 0 and `work` on all others, end MPI in good order, and give the exit status.

    To be called once, from the main thread, after the guard process was started (no process may be forked
    once MPI runs). `warn` takes one line about a peer (default: the logger ``hypershell.mpi``).

    A ``HyperShellError`` of `serve` ends all ranks in good order and is raised again here; the workers see
    ``Lost``. Any other exception, and any exception of `work`, is printed with rank and host; then the
    callbacks of ``World.on_crash`` run and the whole job is aborted with a status that is not 0.
    Raises ``LaunchError`` where MPI is missing or the launcher is not of our MPI.
    """
    environ = os.environ if environ is None else environ
    world = _open(environ)
    say = _log_warning if warn is None else warn
    refusal: HyperShellError | None = None
    try:
        end: MpiServerEnd | MpiClientEnd
        if world.rank == 0:
            end = server_end = MpiServerEnd(world, say)
            if world.survives:
                world.on_crash(server_end.farewell)
            try:
                status = serve(world, server_end)
            except HyperShellError as error:
                refusal, status = error, error.exit_status
        else:
            end = client_end = MpiClientEnd(world, say)
            status = work(world, client_end)
        end.close()
        if world.rank and end.orphaned():
            status = _leave_alone(world)
        elif stuck := end.stuck():
            _leave_behind(world, stuck, status)
        _finalize(world)
    except BaseException as error:
        _crash(world, error)
        raise
    if refusal is not None:
        raise refusal
    return status


def _open(environ: Mapping[str, str]) -> World:
    """Start MPI. Where each process is alone in its world, only the first says why."""
    try:
        return open_world(environ)
    except NotBegun as error:
        if launcher_name(environ) is not None:
            leave_before_init(error, environ)
        raise
    except LaunchError as error:
        if rank_hint(environ):
            raise SystemExit(error.exit_status) from None
        raise


def _finalize(world: World) -> None:
    """End MPI. All ranks have agreed to; one that vanishes in this moment must not hold rank 0 for ever."""
    if world.rank == 0 and hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(FINALIZE_GRACE)
    world.finalize()
    if world.rank == 0 and hasattr(signal, "SIGALRM"):
        signal.alarm(0)


def _leave_alone(world: World) -> int:
    """Rank 0 is gone: end this rank; the exit status, where the job survives that."""
    _to_stderr(f"rank {world.rank} on {world.host}: rank 0 is gone, its tasks were stopped")
    if not world.survives:
        _abort(world, ExitStatus.UNFINISHED)
    return ExitStatus.UNFINISHED


def _leave_behind(world: World, stuck: list[int], status: int) -> None:
    """Some ranks answer no more: end the job without them, by force."""
    _run_callbacks(world)
    shown = ", ".join(map(str, stuck[:10])) + (", ..." if len(stuck) > 10 else "")
    what = f"rank {shown} does" if len(stuck) == 1 else f"{len(stuck)} ranks ({shown}) do"
    _to_stderr(f"ending the job by MPI_Abort, for {what} not answer")
    remind_launcher()
    _abort(world, status)


def _crash(world: World, error: BaseException) -> None:
    """Print, clean up within `CRASH_GRACE`, abort the job; returns only where we are alone."""
    if hasattr(signal, "SIGALRM"):
        # The default action ends us even where a callback hangs in C; the launcher then ends the others.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CRASH_GRACE)
    if world.size > 1:
        _report(world, error)
    _run_callbacks(world)
    if world.rank and world.survives:
        _die(world)
    if world.size > 1:
        _abort(world, _status_of(error))
    if hasattr(signal, "SIGALRM"):
        signal.alarm(0)


def _run_callbacks(world: World) -> None:
    for callback in world.crash_callbacks():
        try:
            callback()
        except Exception as second:
            _to_stderr(f"rank {world.rank} on {world.host}: while ending: {_one_line(second)}")


def _die(world: World) -> None:
    """End this rank alone, in a way that the others are told of: of a death by signal, not of an exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(OUTPUT_GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def _abort(world: World, status: int) -> None:
    """End the job, after the launcher had time to pass on our last line."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(OUTPUT_GRACE)
    world.abort(status)


def _report(world: World, error: BaseException) -> None:
    _to_stderr(f"rank {world.rank} on {world.host}: {_one_line(error)}")
    if not isinstance(error, (HyperShellError, KeyboardInterrupt, SystemExit)):
        import logging

        logging.getLogger("hypershell.mpi").error("rank %d on %s failed", world.rank, world.host, exc_info=error)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, HyperShellError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _status_of(error: BaseException) -> int:
    if isinstance(error, HyperShellError):
        return error.exit_status
    if isinstance(error, KeyboardInterrupt):
        return ExitStatus.INTERRUPTED
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code:
        return error.code
    return ExitStatus.UNCAUGHT


def _to_stderr(text: str) -> None:
    """One write, so that launchers do not mix it with lines of other ranks."""
    sys.stderr.write(f"hs: {one_line(text)}\n")
    sys.stderr.flush()


def _log_warning(text: str) -> None:
    import logging

    logging.getLogger("hypershell.mpi").warning(text)


def _family(text: str) -> str | None:
    """Which launchers and libraries go together, by what either prints as its version."""
    low = text.lower()
    if "open mpi" in low or "open-mpi" in low or "prrte" in low:
        return "openmpi"
    if "hydra" in low or "mpich version" in low or "intel(r) mpi" in low or "mvapich" in low:
        return "hydra"
    return None


def _candidates(environ: Mapping[str, str]) -> list[str]:
    folders = [os.path.join(sys.prefix, "bin"), *_beside_library()]
    folders += environ.get("PATH", os.defpath).split(os.pathsep)
    found: list[str] = []
    for folder in folders:
        for name in ("mpiexec", "mpirun"):
            path = os.path.join(folder, name)
            if folder and path not in found and os.access(path, os.X_OK) and os.path.isfile(path):
                found.append(path)
    return found


def _beside_library() -> list[str]:
    """The ``bin`` beside the ``lib`` of the MPI library that this process has loaded (Linux: proc(5))."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if "/libmpi" in line}
    except OSError:
        return []
    return sorted(os.path.normpath(os.path.join(os.path.dirname(path), "..", "bin")) for path in paths)


def _ask_version(path: str) -> str:
    import subprocess

    try:
        said = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (said.stdout + said.stderr).decode(errors="replace")


def _check_root(launcher: Launcher, environ: Mapping[str, str]) -> None:
    allowed = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    if launcher.family != "openmpi" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    if any(environ.get(name) != "1" for name in allowed):
        raise LaunchError(
            "Open MPI refuses to run as root; run as another user, or set "
            + " and ".join(f"{n}=1" for n in allowed)
        )


def _launch_environ(launcher: Launcher, environ: Mapping[str, str], secrets: Sequence[str]) -> dict[str, str]:
    """The wheel of Open MPI sleeps 1 s in MPI_Init for a component of one-sided traffic, which we never use."""
    result = dict(environ)
    result.pop(SECRETS, None)
    if secrets:
        import json

        result[SECRETS] = json.dumps(list(secrets))
    if launcher.family == "openmpi" and launcher.path.startswith(os.path.join(sys.prefix, "")):
        result.setdefault("OMPI_MCA_btl", "^ofi")
    return result
