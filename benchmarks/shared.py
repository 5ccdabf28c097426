"""What the benchmarks share: the budgets, places to run ``hs`` in, stop watches, and ratios with their spread.

Knows no single benchmark. Times are wall-clock seconds of the monotonic clock.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "BUDGETS",
    "HS",
    "ROOT",
    "Budget",
    "Place",
    "commands",
    "compile_c",
    "judged",
    "mpi_command",
    "place",
    "plain",
    "resident",
    "timed",
    "verify",
]

ROOT = Path(__file__).resolve().parents[1]

#: ``hs`` as this Python runs it.
HS = (sys.executable, "-m", "hypershell")

#: Seconds after which a single command counts as hung.
_PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What must hold (`bar`) and what is wanted (`goal`)."""

    quantity: str
    unit: str
    bar: float
    goal: float
    more: bool = False
    """More is better."""

    def reaches(self, measured: float, limit: float) -> bool:
        return measured >= limit if self.more else measured <= limit


#: Everything that has a bar, in the order of the summary; ``docs/benchmarks.md`` says how each is measured.
BUDGETS: Mapping[str, Budget] = {
    "shell_c": Budget("short shell tasks, of a C loop of posix_spawn sh -c", "ratio", 0.85, 0.95, more=True),
    "shell_bare": Budget("short shell tasks, of a bare Python loop", "ratio", 0.90, 0.97, more=True),
    "echo_c": Budget("/bin/echo without a shell, of a C loop of sh -c of the same", "ratio", 1.4, 1.7, more=True),
    "server": Budget("server alone, every task in SQLite", "tasks/s", 15_000, 30_000, more=True),
    "net": Budget("server and client over TCP and TLS, of the loopback transport", "ratio", 0.8, 0.9, more=True),
    "export": Budget("hs export to HDF5", "rows/s", 100_000, 200_000, more=True),
    "submit": Budget("hs submit of a file", "rows/s", 30_000, 60_000, more=True),
    "submit_memory": Budget("hs submit of a file, memory", "MiB", 200, 100),
    "submit_flat": Budget("hs submit of a file, memory of that for a tenth of the lines", "ratio", 1.2, 1.1),
    "bundle_flat": Budget("choosing the next bundle, dearest number of rows, of the cheapest", "ratio", 1.1, 1.05),
    "large_head": Budget("hs list | head, big database", "s", 0.5, 0.35),
    "large_newest": Budget("hs list of the newest tasks, big database", "s", 0.5, 0.35),
    "large_info": Budget("hs info ID, big database", "s", 0.5, 0.35),
    "large_count": Budget("hs list --count, big database", "s", 2, 1),
    "large_failed": Budget("hs list -F --count, big database", "s", 1, 0.5),
    "core": Budget("core per event", "us", 20, 8),
    "core_flat": Budget("core per event, dearest of 10 to 10,000 clients, of the cheapest", "ratio", 2, 1.5),
    "metg_half": Budget("shortest tasks with which ranks are half busy", "s", 1.0, 0.35),
    "metg_most": Budget("shortest tasks with which ranks are 95 % busy", "s", 3.0, 1.0),
    "bundles": Budget("bundles that adapt, of the best fixed size", "ratio", 0.95, 1.0, more=True),
    "big_database": Budget("rate with a big database, of an empty one", "ratio", 0.9, 0.97, more=True),
    "one_task": Budget("hs cluster with one task", "s", 0.5, 0.3),
    "one_task_fresh": Budget("hs cluster with one task, in a fresh site", "s", 0.5, 0.3),
    "help": Budget("hs --help", "s", 0.2, 0.12),
    "list": Budget("hs list on an empty database", "s", 0.5, 0.35),
    "idle_worker": Budget("idle worker rank", "% of a core", 1.5, 1.0),
    "idle_server": Budget("idle server rank", "% of a core", 1.5, 1.0),
    "reply_median": Budget("reply of an idle rank, median", "ms", 5, 4),
    "reply_p99": Budget("reply of an idle rank, 99th percentile", "ms", 12, 10),
    "steady_median": Budget("reply under steady traffic, median", "ms", 0.8, 0.5),
    "rank_ms": Budget("worker rank beyond bare mpi4py: time", "ms", 80, 50),
    "rank_mib": Budget("worker rank beyond bare mpi4py: memory", "MiB", 16, 10),
    "rank_files": Budget("worker rank beyond bare mpi4py: files opened", "files", 150, 100),
    "rank0_mib": Budget("rank 0 of 64 beyond bare mpi4py: memory", "MiB", 110, 80),
    "server_memory": Budget("server memory, input of many lines", "MiB", 300, 200),
}


def judged(key: str, values: Sequence[float], note: str = "") -> dict[str, Any]:
    """The row of a budget: median and spread of `values`, one of each round."""
    budget = BUDGETS[key]
    middle = statistics.median(values)
    return {
        **_row(key, budget.quantity, budget.unit, values),
        "bar": budget.bar,
        "goal": budget.goal,
        "held": budget.reaches(middle, budget.bar),
        "note": note,
    }


def plain(key: str, quantity: str, unit: str, values: Sequence[float], note: str = "") -> dict[str, Any]:
    """A row that has no bar; without `values` it says by `note` why there are none."""
    return {**_row(key, quantity, unit, values), "bar": "", "goal": "", "held": "", "note": note}


def _row(key: str, quantity: str, unit: str, values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"key": key, "quantity": quantity, "unit": unit, "measured": "", "min": "", "max": "", "rounds": 0}
    return {
        "key": key,
        "quantity": quantity,
        "unit": unit,
        "measured": _short(statistics.median(values)),
        "min": _short(min(values)),
        "max": _short(max(values)),
        "rounds": len(values),
    }


def _short(value: float) -> float:
    """Four digits; more would be noise."""
    return float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Place:
    """An empty directory with a site of its own."""

    folder: Path

    @property
    def site(self) -> Path:
        return self.folder / "site"

    @property
    def database(self) -> Path:
        return self.site / "lib" / "main.db"

    def environ(self) -> dict[str, str]:
        """Ours without anything that would configure ``hs``, and with what the wheel of Open MPI needs."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HYPERSHELL")}
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        clean.setdefault("OMPI_MCA_btl", "^ofi")
        return {**clean, "PYTHONPATH": path, "HYPERSHELL_SITE": str(self.site)}

    def lines(self, lines: Sequence[str], name: str = "tasks.in", end: str = "\n") -> str:
        """Write a file of lines; its name."""
        (self.folder / name).write_text("".join(f"{line}{end}" for line in lines), encoding="utf-8")
        return name


@contextmanager
def place() -> Iterator[Place]:
    """A place in the temporary directory (``TMPDIR``), removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="hs-bench-") as folder:
        yield Place(Path(folder))


def timed(argv: Sequence[str], at: Place, stdin: str | None = None) -> float:
    """Run `argv` to its end; the seconds. Its stdout goes nowhere.

    :param stdin: name of a file in the place, empty by default.
    :raises SystemExit: it failed; with what it said.
    """
    with open(at.folder / stdin if stdin else os.devnull, "rb") as source:
        begun = time.perf_counter()
        done = subprocess.run(
            argv,
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=at.folder,
            env=at.environ(),
            timeout=_PATIENCE,
            check=False,
        )
        seconds = time.perf_counter() - begun
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-2000:]
        raise SystemExit(f"benchmark: {' '.join(argv)} ended with status {done.returncode}: {said}")
    return seconds


def verify(at: Place, tasks: int) -> None:
    """Stop where not exactly `tasks` tasks succeeded: a fast run that lost work is worth nothing."""
    connection = sqlite3.connect(at.database)
    states = dict(connection.execute("SELECT state, count(*) FROM task GROUP BY state").fetchall())
    connection.close()
    if states != {"succeeded": tasks}:
        raise SystemExit(f"benchmark: {tasks} tasks should have succeeded, the database says {states}")


def commands() -> set[str]:
    """The commands that this ``hs`` has."""
    from hypershell.options import COMMANDS

    return {command.name for command in COMMANDS}


def mpi_command(ranks: int, argv: Sequence[str]) -> list[str]:
    """`argv` in `ranks` ranks under the launcher of our MPI. Raises ``LaunchError`` where there is none."""
    from hypershell.mpi.launch import command, find_launcher
    from hypershell.mpi.world import library_version

    return command(find_launcher(library_version()), ranks, argv)


def compile_c(source: Path, folder: Path) -> str:
    """Compile one C file with ``cc``; the path of the program."""
    program = folder / source.stem
    subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return str(program)


def resident(name: str = "VmHWM") -> float:
    """MiB of this process by a line of proc(5) ``status``.

    ``ru_maxrss`` will not do: it keeps the size of the process that started this one.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
