"""How long do short commands take, whole process, and which packages take the time?

Commands take turns, round after round. Where the time goes is asked separately, by ``python -X importtime``, which
slows the imports down: its shares are right, its sums are not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import report
from benchmarks.shared import HS, Place, commands, judged, place, plain, timed, verify

_TASK = "tasks.in"
#: Packages told for each command; the rest is summed.
_TOP = 12


@dataclass(frozen=True, slots=True)
class Case:
    """A command: its arguments, how to prepare its place, what must be true after it."""

    key: str
    label: str
    args: tuple[str, ...]
    prepare: Callable[[Place], None]
    check: Callable[[Place], None]
    python: tuple[str, ...] = HS

    def run(self, at: Place) -> float:
        self.prepare(at)
        seconds = timed([*self.python, *self.args], at)
        self.check(at)
        return seconds


def nothing(at: Place) -> None:
    """Any place will do, and nothing is to be checked."""


def one_line(at: Place) -> None:
    at.lines([": 1"], _TASK)


def with_database(at: Place) -> None:
    one_line(at)
    timed([*HS, "initdb", "--yes"], at)


def one_done(at: Place) -> None:
    verify(at, 1)


def exists(at: Place) -> None:
    if not at.database.exists():
        raise SystemExit("benchmark: hs initdb made no database")


def cases() -> list[Case]:
    found = [
        Case("help", "hs --help", ("--help",), nothing, nothing),
        Case("one_task", "hs cluster, one task", ("cluster", _TASK, "-N1"), with_database, one_done),
        Case("one_task_fresh", "hs cluster, one task, fresh site", ("cluster", _TASK, "-N1"), one_line, one_done),
        Case("initdb", "hs initdb in a fresh site", ("initdb", "--yes"), nothing, exists),
        Case("python", "python -c pass, for comparison", ("-c", "pass"), nothing, nothing, (sys.executable,)),
    ]
    if "list" in commands():
        found.insert(1, Case("list", "hs list", ("list",), with_database, nothing))
    return found


def measure(found: Sequence[Case], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {case.key: [] for case in found}
    for _ in range(rounds):
        for case in found:
            with place() as at:
                seconds[case.key].append(case.run(at))
    return seconds


def imports(case: Case) -> list[dict[str, Any]]:
    """Milliseconds and modules of each top package in one run of `case`, the largest first."""
    with place() as at:
        case.prepare(at)
        argv = [case.python[0], "-X", "importtime", *case.python[1:], *case.args]
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=at.folder,
            env=at.environ(),
            text=True,
            check=True,
        )
    spent, modules = Counter[str](), Counter[str]()
    for line in done.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            top = parts[2].strip().partition(".")[0]
            spent[top] += int(parts[0])
            modules[top] += 1
    largest = [name for name, _ in spent.most_common(_TOP)]
    told = [(name, modules[name], spent[name]) for name in largest]
    rest = [name for name in spent if name not in largest]
    told.append((f"{len(rest)} others", sum(modules[name] for name in rest), sum(spent[name] for name in rest)))
    told.append(("all", sum(modules.values()), sum(spent.values())))
    return [
        {"command": case.label, "package": name, "modules": count, "ms": round(us / 1000, 1)}
        for name, count, us in told
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each command (default: %(default)s)")
    given = parser.parse_args(argv)
    found = cases()
    seconds = measure(found, given.rounds)
    budgeted = ("help", "list", "one_task", "one_task_fresh")
    report(
        "startup",
        [
            judged(case.key, seconds[case.key])
            if case.key in budgeted
            else plain(case.key, case.label, "s", seconds[case.key])
            for case in found
        ],
    )
    told = [row for case in found if case.python == HS for row in imports(case)]
    report("startup_imports", told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
