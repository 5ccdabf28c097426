"""One line for each budget: measured, bar, goal, and whether it holds, out of the JSON that the benchmarks wrote.

Knows which benchmark answers which budget, and runs none. Called by ``benchmarks.__main__``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared import BUDGETS, Budget

__all__ = ["SOURCES", "Found", "Line", "as_markdown", "as_table", "lines", "read"]

_HEAD = ("quantity", "measured", "bar", "goal", "holds")

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured for a budget: the value, its spread where there is one, and of what."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the summary, all text."""

    quantity: str
    measured: str
    bar: str
    goal: str
    holds: str

    def cells(self) -> tuple[str, ...]:
        return self.quantity, self.measured, self.bar, self.goal, self.holds


def read(folder: Path) -> dict[str, Rows]:
    """The rows of each result in `folder` by its name."""
    results: dict[str, Rows] = {}
    for path in sorted(folder.glob("*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        results[told["name"]] = told["rows"]
    return results


def lines(results: Mapping[str, Rows]) -> list[Line]:
    """Every budget, measured or not; one that was measured under several MPIs has a line for each."""
    return [line for key, budget in BUDGETS.items() for line in _of_budget(key, budget, results)]


def _of_budget(key: str, budget: Budget, results: Mapping[str, Rows]) -> Iterable[Line]:
    name, find = SOURCES[key]
    matching = [result for result in results if result == name or (name in _PER_MPI and result.startswith(name))]
    found = [(result, answer) for result in matching if (answer := find(key, results[result])) is not None]
    if not found:
        yield Line(budget.quantity, "not measured", *_limits(budget), "")
    for result, answer in found:
        where = result.removeprefix(name).strip("_").replace("_", " ")
        note = ", ".join(filter(None, [where, answer.note]))
        yield Line(
            f"{budget.quantity} ({note})" if note else budget.quantity,
            _measured(answer, budget.unit),
            *_limits(budget),
            _verdict(budget, answer.value),
        )


def _verdict(budget: Budget, value: float) -> str:
    if budget.reaches(value, budget.goal):
        return "goal"
    return "bar" if budget.reaches(value, budget.bar) else "NO"


def _limits(budget: Budget) -> tuple[str, str]:
    return _text(budget.bar, budget.unit), _text(budget.goal, budget.unit)


def _measured(found: Found, unit: str) -> str:
    text = _text(found.value, unit)
    if found.low is None or found.high is None or found.low == found.high:
        return text
    return f"{text} ({_number(found.low)} to {_number(found.high)})"


def _text(value: float, unit: str) -> str:
    if unit == "ratio":
        return _number(value)
    return f"{_number(value)}{'' if unit.startswith('%') else ' '}{unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


# -- who answers what ----------------------------------------------------------------------------------------


def _by_key(key: str, rows: Rows) -> Found | None:
    """The benchmarks that write `shared.judged` rows."""
    for row in rows:
        if row["key"] == key and row["rounds"]:
            return Found(row["measured"], row["min"], row["max"], row["note"])
    return None


def _idle(key: str, rows: Rows) -> Found | None:
    """``idle_rank`` names its rows by the same keys, with blanks."""
    for row in rows:
        if row["quantity"] == key.replace("_", " "):
            return Found(row["measured"])
    return None


def _slowest(key: str, rows: Rows) -> Found | None:
    """``server_rate``: the lowest among the medians of each number of clients."""
    by_clients: dict[int, list[float]] = {}
    for row in rows:
        if row["store"] == "SQLite":
            by_clients.setdefault(row["clients"], []).append(row["tasks/s"])
    if not by_clients:
        return None
    slowest = min(by_clients, key=lambda clients: statistics.median(by_clients[clients]))
    rates = by_clients[slowest]
    note = f"{slowest:,} clients, the worst of {', '.join(f'{count:,}' for count in by_clients)}"
    return Found(statistics.median(rates), min(rates), max(rates), note)


def _dearest(unit: str) -> Callable[[str, Rows], Found | None]:
    """``core_rate``: the highest among the rows of one unit, each of them a median."""

    def find(key: str, rows: Rows) -> Found | None:
        costs = {str(row["what"]): float(row["measured"]) for row in rows if row["unit"] == unit}
        if not costs:
            return None
        what = max(costs, key=lambda name: costs[name])
        return Found(costs[what], note=f"{what}, the worst of {len(costs)}" if len(costs) > 1 else "")

    return find


def _granularity(share: str) -> Callable[[str, Rows], Found | None]:
    """``metg``: the row of the most ranks, the only one with a bar."""

    def find(key: str, rows: Rows) -> Found | None:
        for row in rows:
            if row[f"bar {share}"] != "":
                return Found(row[f"metg {share} (s)"], note=f"{row['ranks']:,} ranks, simulated")
        return None

    return find


def _worst_bundles(key: str, rows: Rows) -> Found | None:
    """``bundles``: the lowest ratio, with what it belongs to."""
    if not rows:
        return None
    worst = min(rows, key=lambda row: float(row["ratio"]))
    ratios = [float(row["ratio"]) for row in rows]
    note = f"{worst['tasks']}, mean {worst['mean s']:g} s, the worst of {len(rows)}"
    return Found(min(ratios), min(ratios), max(ratios), note)


#: Results that are written once for each MPI, its name appended.
_PER_MPI = ("idle_rank",)

SOURCES: Mapping[str, tuple[str, Callable[[str, Rows], Found | None]]] = {
    **dict.fromkeys(("shell_c", "shell_bare", "echo_c"), ("throughput", _by_key)),
    "server": ("server_rate", _slowest),
    "net": ("net_rate", _by_key),
    "export": ("export_rate", _by_key),
    **dict.fromkeys(("submit", "submit_memory", "submit_flat"), ("submit_rate", _by_key)),
    **dict.fromkeys(
        ("bundle_flat", "large_head", "large_newest", "large_info", "large_count", "large_failed"),
        ("large", _by_key),
    ),
    "core": ("core_rate", _dearest("us/event")),
    "core_flat": ("core_rate", _dearest("ratio")),
    "bundles": ("bundles", _worst_bundles),
    "metg_half": ("metg", _granularity("50%")),
    "metg_most": ("metg", _granularity("95%")),
    **dict.fromkeys(("big_database", "server_memory"), ("scale", _by_key)),
    **dict.fromkeys(("one_task", "one_task_fresh", "help", "list"), ("startup", _by_key)),
    **dict.fromkeys(
        ("idle_worker", "idle_server", "reply_median", "reply_p99", "steady_median"), ("idle_rank", _idle)
    ),
    **dict.fromkeys(("rank_ms", "rank_mib", "rank_files"), ("footprint", _by_key)),
    "rank0_mib": ("crowded", _by_key),
}


# -- how it looks --------------------------------------------------------------------------------------------


def as_table(told: Sequence[Line]) -> str:
    """Columns for a terminal."""
    table = [_HEAD, *(line.cells() for line in told)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEAD))]
    rows = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
    return "".join(f"{row.rstrip()}\n" for row in rows)


def as_markdown(told: Sequence[Line]) -> str:
    """A table for a page."""
    rows = [_HEAD, ("---",) * len(_HEAD), *(line.cells() for line in told)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
