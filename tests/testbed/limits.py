"""Time limits of a real Slurm, which looks at them every 30 s: too slow for the suite, so ``make soak`` does it."""

from __future__ import annotations

import random
from pathlib import Path

from tests.testbed.cli import Hs
from tests.testbed.jobs import SCRIPTS, Jobs
from tests.testbed.mpi import Mpi
from tests.testbed.slurm import Slurm

__all__ = ["check_limits"]

_SRUN = 'srun --kill-on-bad-exit=1 --mpi="$HS_PMI" hs mpi tasks.in --restart --db tasks.db --walltime 0'
#: Seconds that a job of a minute may take in all, with what Slurm adds before its limit and after it.
_PATIENCE = 300.0


def check_limits(mpi: Mpi, jobs: int, folder: Path) -> str:
    """All of it; about so many `jobs` are needed for the first part. Raises ``AssertionError``."""
    slurm = Slurm()
    try:
        slurm.start()
        parts = [folder / name for name in ("resubmit", "signal", "limit", "stubborn")]
        for part in parts:
            part.mkdir()
        count = _resubmits(Jobs(slurm, Hs(parts[0]), mpi), jobs)
        _is_signalled(Jobs(slurm, Hs(parts[1]), mpi))
        _reaches_its_limit(Jobs(slurm, Hs(parts[2]), mpi))
        _is_stubborn(Jobs(slurm, Hs(parts[3]), mpi))
    finally:
        slurm.close()
    return f"{count + 5} jobs of a minute"


def _tasks(jobs: Jobs, seconds: float) -> int:
    """Tasks for three ranks that take so long together; each leaves a line in a file of its own at its end."""
    draw = random.Random(seconds)
    lines = []
    while seconds > 0:
        each = 3 * draw.random()
        seconds -= each / 3
        lines.append(f"sleep {each:.2f}; echo >>ran.{len(lines)}")
    jobs.hs.file(lines)
    return len(lines)


def _check_once(jobs: Jobs, count: int) -> None:
    lines = [len(path.read_text().splitlines()) for path in jobs.folder.glob("ran.*")]
    assert len(lines) == count, f"{len(lines)} of {count} tasks ran: {jobs.output()}"
    assert set(lines) == {1}, f"{sum(n > 1 for n in lines)} of {count} tasks that had ended ran again"
    assert jobs.states() == {"succeeded": count}


def _resubmits(jobs: Jobs, wanted: int) -> int:
    """Each job ends by itself well before its limit, and submits the next."""
    count = _tasks(jobs, 60.0 * (wanted - 1) + 10.0)  # more than one job less could do
    name = "slurm-resubmit.sh"
    text = (SCRIPTS / name).read_text()
    # What a script says of itself holds for the jobs that it submits, too.
    text = text.replace("--time=1:00:00", "--time=1").replace("--ntasks-per-node=4", "--ntasks-per-node=2")
    (jobs.folder / name).write_text(text)
    job = jobs.submit(name)
    done = 0
    while job:
        state = jobs.slurm.wait(job, _PATIENCE)
        done += 1
        assert state == ("COMPLETED", "0:0"), f"job {done} ended as {state}: {jobs.output()}"
        job = next(iter(jobs.slurm.jobs()), "")
    assert done >= wanted, f"only {done} jobs"
    _check_once(jobs, count)
    return done


def _is_signalled(jobs: Jobs) -> None:
    """Where the end is not known, a signal of Slurm some time before it does."""
    count = _tasks(jobs, 80.0)
    script = jobs.write(f"exec {_SRUN}")
    state = jobs.slurm.wait(jobs.submit(script, "--time=1", "--signal=USR1@30"), _PATIENCE)
    assert state == ("FAILED", "75:0"), f"{state}: {jobs.output()}"
    state = jobs.slurm.wait(jobs.submit(script, "--time=10"), _PATIENCE)
    assert state == ("COMPLETED", "0:0"), f"{state}: {jobs.output()}"
    _check_once(jobs, count)


def _reaches_its_limit(jobs: Jobs) -> None:
    """Nobody knows of the end: Slurm sends TERM and five seconds later KILL. What had ended is in the database."""
    count = _tasks(jobs, 150.0)
    jobs.env["HYPERSHELL_SERVER_DRAIN_TIME"] = "1"
    script = jobs.write(f"exec {_SRUN} -S 0.5")
    state = jobs.slurm.wait(jobs.submit(script, "--time=1"), _PATIENCE)
    assert state[0] == "TIMEOUT", f"{state}: {jobs.output()}"
    states = jobs.states()
    # Slurm may end a rank before it could hand back what it ran; the next job does that again.
    assert set(states) - {"dispatched"} == {"succeeded", "pending"}, f"{states}: {jobs.output()}"
    assert states.get("dispatched", 0) <= 3, f"more than the ranks could run: {states}"
    state = jobs.slurm.wait(jobs.submit(script, "--time=10"), _PATIENCE)
    assert state == ("COMPLETED", "0:0"), f"{state}: {jobs.output()}"
    _check_once(jobs, count)


def _is_stubborn(jobs: Jobs) -> None:
    """Tasks ignore INT and TERM, and ``-S`` gives them too much time: all is committed before the limit."""
    jobs.hs.file([":"] * 3 + ["trap '' INT TERM; while :; do sleep 1; done"] * 3)
    begin = "date +%s >begin"
    ended = "status=$?; date +%s >end; exit $status"
    run = _SRUN.removesuffix(" --walltime 0") + " --drain-time 10 -S 30"
    script = jobs.write(f"{begin}\n{run}\n{ended}")
    state = jobs.slurm.wait(jobs.submit(script, "--time=1"), _PATIENCE)
    assert state == ("FAILED", "75:0"), f"{state}: {jobs.output()}"
    took = int((jobs.folder / "end").read_text()) - int((jobs.folder / "begin").read_text())
    assert 30 <= took <= 60, f"ended after {took} s of 60: {jobs.output()}"
    assert jobs.states() == {"succeeded": 3, "pending": 3}, f"{jobs.states()}: {jobs.output()}"
