"""Each benchmark runs, at sizes at which numbers mean nothing, and answers the budgets that it is asked for."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as suite
from benchmarks import report as reports
from benchmarks.shared import BUDGETS, Place, judged, plain, timed, verify
from benchmarks.summary import SOURCES, as_markdown, as_table, lines, read


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that takes the place of ``benchmarks/results``."""
    folder = tmp_path / "results"
    monkeypatch.setattr(reports, "RESULTS", folder)
    return folder


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "rows": rows}))


#: What cannot be made small by arguments.
TINY = {"core_rate": {"ROUNDS": 1, "LEAST_TASKS": 100}}


# idle_rank is left out: it waits for rare messages, which takes half a minute however few they are.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in suite.SUITE if name != "idle_rank"])
def test_each_benchmark_answers_its_budgets(name: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *suite.SUITE[name]])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "report", reports)  # those that also run as a file import it so
    module = importlib.import_module(f"benchmarks.{name}")
    for constant, value in TINY.get(name, {}).items():
        monkeypatch.setattr(module, constant, value)
    if name == "server_rate":  # takes its size as an argument of the function
        module.main(*(int(word) for word in suite.SUITE[name]))
    else:
        assert module.main() in (None, 0)
    found = read(results)
    assert found and all(found.values())
    for key, (source, find) in SOURCES.items():
        if source == name:
            answer = find(key, found[name])
            assert answer is not None and math.isfinite(answer.value), key


def test_every_budget_has_a_source_and_a_line() -> None:
    assert set(SOURCES) == set(BUDGETS)
    assert {source for source, _ in SOURCES.values()} <= set(suite.SUITE)
    told = lines({})
    assert [line.quantity for line in told] == [budget.quantity for budget in BUDGETS.values()]
    assert {(line.measured, line.holds) for line in told} == {("not measured", "")}


@pytest.mark.parametrize(
    ("key", "value", "holds"),
    [
        ("shell_c", 0.96, "goal"), ("shell_c", 0.95, "goal"), ("shell_c", 0.9, "bar"), ("shell_c", 0.84, "NO"),
        ("help", 0.11, "goal"), ("help", 0.12, "goal"), ("help", 0.2, "bar"), ("help", 0.21, "NO"),
    ],
)  # fmt: skip
def test_verdicts(key: str, value: float, holds: str) -> None:
    row = judged(key, [value, value / 2, value * 2])
    assert (row["measured"], row["min"], row["max"], row["rounds"]) == (value, value / 2, value * 2, 3)
    assert row["held"] is (holds != "NO")
    source = SOURCES[key][0]
    line = next(line for line in lines({source: [row]}) if line.quantity == BUDGETS[key].quantity)
    assert line.holds == holds
    assert line.measured.startswith(f"{value:g}") and f"({value / 2:g} to {value * 2:g})" in line.measured


def test_rates_are_judged_at_their_worst_number_of_clients() -> None:
    def row(clients: int, rate: float, store: str = "SQLite") -> dict[str, Any]:
        return {"store": store, "clients": clients, "tasks/s": rate}

    rows = [row(1, 40_000), row(1, 50_000), row(1, 60_000), row(100, 20_000), row(10, 5, "memory")]
    rows.append(row(100, 16_000))
    line = next(line for line in lines({"server_rate": rows}) if line.quantity.startswith("server alone"))
    assert line.quantity.endswith("(100 clients, the worst of 1, 100)")
    assert (line.measured, line.holds) == ("18,000 tasks/s (16,000 to 20,000)", "bar")


def test_the_core_is_judged_by_its_dearest_case_and_by_its_flatness() -> None:
    rows = [
        {"what": "few", "measured": 5.0, "unit": "us/event"},
        {"what": "many", "measured": 21.0, "unit": "us/event"},
        {"what": "flatness", "measured": 4.2, "unit": "ratio"},
    ]
    told = [line for line in lines({"core_rate": rows}) if line.holds]
    assert [(line.measured, line.holds) for line in told] == [("21 us", "NO"), ("4.2", "NO")]
    assert "(many, the worst of 2)" in told[0].quantity


def test_each_mpi_has_its_line() -> None:
    rows = [{"quantity": "idle worker", "measured": 0.9}]
    told = [line for line in lines({"idle_rank_mpich": rows, "idle_rank_open_mpi": rows}) if line.holds]
    assert [line.quantity for line in told] == ["idle worker rank (mpich)", "idle worker rank (open mpi)"]


def test_a_trial_leaves_no_results_and_a_run_leaves_its_own(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "SUITE", {"scale": suite.SUITE["scale"]})
    write(results, "server_rate", [])
    assert suite.main(["--quick"]) == 0
    assert "5,000 lines" in capsys.readouterr().out
    assert [path.name for path in results.iterdir()] == ["server_rate.json"]
    write(tmp_path, "scale", [judged("server_memory", [9.0])])
    suite.keep(tmp_path)
    assert set(read(results)) == {"server_rate", "scale"}


def test_what_was_not_measured_says_why_and_answers_nothing() -> None:
    row = plain("echo_c", "echo", "ratio", [], "not installed")
    assert (row["measured"], row["note"], row["rounds"]) == ("", "not installed", 0)
    assert {line.measured for line in lines({"throughput": [row]})} == {"not measured"}


def test_tables() -> None:
    told = lines({"startup": [judged("help", [0.1])]})
    markdown = as_markdown(told).splitlines()
    assert markdown[0] == "| quantity | measured | bar | goal | holds |"
    assert "| hs --help | 0.1 s | 0.2 s | 0.12 s | goal |" in markdown
    assert len(markdown) == len(BUDGETS) + 2
    table = as_table(told).splitlines()
    assert len(table) == len(BUDGETS) + 1 and table[0].split() == ["quantity", "measured", "bar", "goal", "holds"]
    assert len({line.index("0.2 s") for line in table if "0.2 s" in line}) == 1


def test_markdown_runs_nothing(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(results, "startup", [judged("help", [0.1])])
    assert suite.main(["--markdown"]) == 0
    assert "| hs --help | 0.1 s |" in capsys.readouterr().out
    assert len(list(results.iterdir())) == 1


def test_a_benchmark_that_fails_is_named(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "SUITE", {"no_such_benchmark": ()})
    assert suite.main([]) == 1
    said = capsys.readouterr()
    assert "failed: no_such_benchmark" in said.err and said.out.count("not measured") == len(BUDGETS)


def test_a_command_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"status 3: why\n"):
        timed(["/bin/sh", "-c", "echo why >&2; exit 3"], Place(tmp_path))


def test_lost_tasks_end_the_benchmark(tmp_path: Path) -> None:
    at = Place(tmp_path)
    at.lines([":", ":"])
    timed([sys.executable, "-m", "hypershell", "cluster", "tasks.in"], at)
    verify(at, 2)
    with pytest.raises(SystemExit, match="3 tasks should have succeeded"):
        verify(at, 3)
