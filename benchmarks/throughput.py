"""How fast are short tasks, beside the fastest that this machine can do and beside other tools?

Each contender runs TASKS tasks in two slots, and one task; the difference is free of its start-up. All contenders
take turns, round after round, in alternating order, and ratios are made within a round, so that a machine that is
slower for a while is so for both. ``hs`` runs as a user runs it, with its database, in a fresh site.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import report
from benchmarks.shared import HS, Place, compile_c, judged, mpi_command, place, plain, timed, verify
from hypershell.errors import LaunchError

SLOTS = 2
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to run tasks: `run` takes a place and a number of tasks and gives seconds."""

    key: str
    label: str
    run: Callable[[Place, int], float]
    share: int = 1
    """It gets only one in so many tasks, because it is slow."""


def hs_cluster(line: str) -> Callable[[Place, int], float]:
    """``hs cluster`` with tasks ``LINE N``."""

    def run(at: Place, tasks: int) -> float:
        name = at.lines([f"{line} {n}" for n in range(tasks)])
        seconds = timed([*HS, "cluster", name, "-N", str(SLOTS)], at)
        verify(at, tasks)
        return seconds

    return run


def hs_mpi(at: Place, tasks: int) -> float:
    """``mpirun -n 3 hs mpi``: rank 0 serves, two ranks work."""
    name = at.lines([f": {n}" for n in range(tasks)])
    seconds = timed(mpi_command(1 + SLOTS, [*HS, "mpi", name]), at)
    verify(at, tasks)
    return seconds


def xargs(at: Place, tasks: int) -> float:
    name = at.lines([f": {n}" for n in range(tasks)], end="\0")
    return timed(["xargs", "-0", "-n1", f"-P{SLOTS}", "/bin/sh", "-c"], at, stdin=name)


def gnu_parallel(at: Place, tasks: int) -> float:
    name = at.lines([f": {n}" for n in range(tasks)])
    return timed(["parallel", f"-j{SLOTS}"], at, stdin=name)


def c_loop(program: str, line: str) -> Callable[[Place, int], float]:
    """``spawn_loop.c``, compiled, running `line`."""
    return lambda at, tasks: timed([program, str(tasks), str(SLOTS), line], at)


def bare_loop(at: Place, tasks: int) -> float:
    """The loop of ``benchmarks.spawn_rate``, in a process of its own as all others are."""
    code = f"from benchmarks.spawn_rate import bare_loop; bare_loop(': 1', True, {tasks}, {SLOTS})"
    return timed([sys.executable, "-c", code], at)


def contenders(folder: Path) -> tuple[list[Contender], dict[str, str]]:
    """All that can run here, those that are compared with each other side by side; and why others cannot."""
    loop = compile_c(_HERE / "spawn_loop.c", folder)
    found = [
        Contender("bare", "bare Python loop", bare_loop),
        Contender("hs", "hs cluster", hs_cluster(":")),
        Contender("c", "C loop of posix_spawn sh -c", c_loop(loop, ": 1")),
        Contender("echo", "hs cluster, /bin/echo without a shell", hs_cluster("/bin/echo")),
        Contender("c_echo", "C loop of posix_spawn sh -c '/bin/echo 1'", c_loop(loop, "/bin/echo 1")),
    ]
    absent: dict[str, str] = {}
    if shutil.which("xargs"):
        found.append(Contender("xargs", f"xargs -P{SLOTS}", xargs))
    else:
        absent[f"xargs -P{SLOTS}"] = "not installed"
    try:
        mpi_command(1, [])
        found.append(Contender("mpi", f"mpirun -n {1 + SLOTS} hs mpi", hs_mpi))
    except LaunchError as error:
        absent[f"mpirun -n {1 + SLOTS} hs mpi"] = str(error)
    if _is_gnu_parallel():
        found.append(Contender("parallel", f"GNU parallel -j{SLOTS}", gnu_parallel, share=5))
    else:
        absent[f"GNU parallel -j{SLOTS}"] = "not installed"
    return found, absent


def _is_gnu_parallel() -> bool:
    """Another program of that name is in moreutils."""
    path = shutil.which("parallel")
    if path is None:
        return False
    said = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout
    return b"GNU parallel" in said


def rate(contender: Contender, tasks: int) -> float:
    """Tasks per second, start-up subtracted."""
    count = max(2, tasks // contender.share)
    with place() as at:
        one = contender.run(at, 1)
    with place() as at:
        whole = contender.run(at, count)
    # A handful of tasks, in a trial, can be lost in the noise of the start-up.
    return (count - 1) / (whole - one) if whole > one else count / whole


def measure(found: Sequence[Contender], tasks: int, rounds: int) -> dict[str, list[float]]:
    """Rates by contender, one of each round; every second round goes backwards."""
    rates: dict[str, list[float]] = {contender.key: [] for contender in found}
    for number in range(rounds):
        for contender in found if number % 2 == 0 else reversed(found):
            rates[contender.key].append(rate(contender, tasks))
    return rates


def ratios(rates: dict[str, list[float]], above: str, below: str) -> list[float]:
    return [one / other for one, other in zip(rates[above], rates[below], strict=True)]


def rows(found: Sequence[Contender], absent: dict[str, str], rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    told = [
        judged("shell_c", ratios(rates, "hs", "c")),
        judged("shell_bare", ratios(rates, "hs", "bare")),
        judged("echo_c", ratios(rates, "echo", "c_echo")),
    ]
    others = (("mpi", "hs mpi with two worker ranks, of the C loop"), ("xargs", "xargs -P2, of the C loop"))
    told += [plain(f"{key}_c", label, "ratio", ratios(rates, key, "c")) for key, label in others if key in rates]
    told += [plain(f"rate_{one.key}", one.label, "tasks/s", rates[one.key]) for one in found]
    return told + [plain("absent", label, "tasks/s", [], reason) for label, reason in absent.items()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--tasks", type=int, default=5000, help="tasks of one run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="pairs for each ratio (default: %(default)s)")
    given = parser.parse_args(argv)
    with place() as at:
        found, absent = contenders(at.folder)
        rates = measure(found, given.tasks, given.rounds)
    report("throughput", rows(found, absent, rates))
    return 0


if __name__ == "__main__":
    sys.exit(main())
