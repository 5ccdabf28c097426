"""A host that crashes or is cut off during ``hs mpi``: used by the suite for a few cases, by the soak for all."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.testbed.mpi import Mpi
from tests.testbed.mpi_hosts import MpiHosts

__all__ = ["ALL", "Case", "lose_host", "sick_host"]


class Case(NamedTuple):
    """What happens to which host; rank 0 and the launcher are on h1."""

    fault: str
    victim: str
    survive: bool
    """The launcher is asked to let the job go on (ULFM)."""


ALL = tuple(
    Case(fault, victim, survive)
    for fault, victim in (("cut", "h3"), ("cut", "h1"), ("crash", "h3"))
    for survive in (False, True)
)

TASKS = 40
_EVICT = "2"
#: Seconds in which everything is over, whatever happens.
_LIMIT = 90.0


def lose_host(mpi: Mpi, folder: Path, case: Case) -> None:
    """Run a job over three hosts and lose one of them: it ends, nothing is lost, and a restart does the rest."""
    fault, victim, survive = case
    net, work = folder / "net", folder / "work"
    net.mkdir()
    work.mkdir()
    # A task that comes to h3 stays there; the others are quick, once there is one.
    line = (
        'test "$(hostname)" = h3 && touch there && echo h3 && exec sleep 2000; '
        "until test -e there; do sleep 0.05; done\n"
    )
    (work / "tasks.in").write_text(line * TASKS)
    with MpiHosts(net) as hosts:
        process = _start(hosts, mpi, ["h1", "h2", "h3"], work, survive)
        assert process.stdout is not None
        assert "h3\n" in iter(process.stdout.readline, "")
        getattr(hosts, fault)(victim)
        status, said = _finish(hosts, process)
        if fault == "cut":
            # Whether it was cut off or the others were: without rank 0's beat it stops its task, and itself.
            hosts.wait_gone("h3", "sleep 2000")
            hosts.wait_gone("h3", "hypershell mpi")
            hosts.wait_gone("h2", "hypershell mpi")
        goes_on = fault == "cut" and victim == "h3"
        if goes_on:
            words = r"^hs: 1 rank was lost with \d tasks?, which (was|were) taken back: rank 2 on h3$"
            assert re.search(words, said, re.MULTILINE), said
            assert _states(work) == {"succeeded": TASKS}
            if mpi.name == "mpich":
                assert status == 0
        elif fault == "cut":
            assert status != 0 and "2 ranks were lost" in said, said
            hosts.mend(victim)
        before = dict(_rows(work, "SELECT id, completion_time FROM task WHERE state = 'succeeded'"))
        status, said = _finish(hosts, _start(hosts, mpi, ["h1", "h2"], work, survive))
        assert status == 0, said
        assert _states(work) == {"succeeded": TASKS}
        after = dict(_rows(work, "SELECT id, completion_time FROM task"))
        assert all(after[key] == when for key, when in before.items())
        assert _rows(work, "SELECT count(*) FROM task WHERE attempt > 1") == [(0,)]


def sick_host(mpi: Mpi, folder: Path) -> None:
    """Everything fails on one host of two: it gets no more after a few tasks, and the other does the rest."""
    net, work = folder / "net", folder / "work"
    net.mkdir()
    work.mkdir()
    # Nobody is done before all four clients are there.
    line = (
        "touch is-$TASK_CLIENT_ID; until test $(ls is-* | wc -l) -ge 4; do sleep 0.05; done; "
        'test "$(hostname)" != h2\n'
    )
    (work / "tasks.in").write_text(line * 200)
    with MpiHosts(net) as hosts:
        names = ["h1", "h2", "h2", "h3", "h3"]
        status, said = _finish(hosts, _start(hosts, mpi, names, work, False, "--quarantine", "6"))
    assert status == 7, said
    assert re.search(r"Node h2 gets no more tasks: the last \d+ of its 2 clients failed within a second each", said)
    assert "set aside, for all that ran there failed at once: node h2 (2 clients)" in said
    states = _states(work)
    # Six are enough; more only where one of the two ranks was slow.
    assert 6 <= states["failed"] <= 20 and states["succeeded"] == 200 - states["failed"]


def _start(
    hosts: MpiHosts, mpi: Mpi, names: list[str], work: Path, survive: bool, *more: str
) -> subprocess.Popen[str]:
    words = ["-m", "hypershell", "mpi", "tasks.in", "--restart", "-b1", "--evict", _EVICT, *more]
    return hosts.start_mpi(mpi, names, words, {"HYPERSHELL_SITE": str(work / "site")}, work, survive)


def _finish(hosts: MpiHosts, process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status of a launcher, and what was said on stderr."""
    try:
        _, said = process.communicate(timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        hosts.close()  # nothing else would close our pipes
        _, said = process.communicate()
        raise AssertionError(f"not over after {_LIMIT:g} s: {said}") from None
    return process.returncode, said


def _rows(work: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(work / "site" / "lib" / "main.db")) as connection:
        return connection.execute(query).fetchall()


def _states(work: Path) -> dict[str, int]:
    return dict(_rows(work, "SELECT state, count(*) FROM task GROUP BY state"))
