"""Rounds of what must never destroy a file of the user: second starts, and restarts after kills and time limits."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from pathlib import Path

from tests.testbed.cli import Hs
from tests.testbed.waiting import until

__all__ = ["restarts", "second_starts"]

_PATIENCE = 300.0


def second_starts(folder: Path, rounds: int, draw: random.Random) -> int:
    """Three starts of one command at about the same time, `rounds` times: one runs, the others change nothing.

    Returns how many were refused.
    """
    refused = 0
    for number in range(rounds):
        hs = Hs(folder / f"round-{number}")
        hs.folder.mkdir()
        _second_start(hs, draw, with_status=number % 3 == 0)
        refused += 2
    return refused


def _second_start(hs: Hs, draw: random.Random, with_status: bool) -> None:
    out, failed = hs.folder / "out", hs.folder / "failed"
    lines = [*(f"echo {n}" for n in range(50)), "until test -e go; do sleep 0.05; done; echo last; exit 1"]
    hs.file(lines)
    for path in (out, failed):
        path.write_text("old\n")
    words = ["cluster", "tasks.in", "-N2", "--restart", "--poison", "0", "-o", "out", "-f", "failed"]
    words += ["--status-file", "status.json"] if with_status else []
    started = []
    for _ in range(3):
        started.append(hs.start(*words))
        if draw.random() < 0.5:
            until(lambda: out.exists() and out.read_text() != "old\n", _PATIENCE)
    losers: list[subprocess.Popen[bytes]] = []

    def are_all_but_one_out() -> bool:
        losers[:] = [process for process in started if process.poll() is not None]
        return len(losers) >= 2

    until(are_all_but_one_out, _PATIENCE)
    (hs.folder / "go").touch()
    for process in losers:
        _, err = process.communicate()
        assert process.returncode == 5 and err.count(b"\n") == 1, (hs.folder.name, process.returncode, err)
    (winner,) = set(started) - set(losers)
    _, err = winner.communicate(timeout=_PATIENCE)
    assert winner.returncode == 7, (hs.folder.name, err)
    assert Counter(out.read_text().split()) == Counter([*map(str, range(50)), "last"]), hs.folder.name
    assert failed.read_text() == f"{lines[-1]}\n", hs.folder.name
    assert [(hs.folder / f"{name}.1").read_text() for name in ("out", "failed")] == ["old\n"] * 2, hs.folder.name
    runs = hs.rows("SELECT id, pid FROM run")
    assert [pid for _, pid in runs] == [winner.pid], (hs.folder.name, runs)
    if with_status:
        told = json.loads((hs.folder / "status.json").read_text())
        assert (told["run"], told["state"], told["exit_status"]) == (runs[0][0], "ended", 7), (hs.folder.name, told)


def restarts(folder: Path, rounds: int, draw: random.Random) -> tuple[int, int]:
    """One FILE, run in pieces that kills and time limits end; each result that was recorded has its line once.

    A task that was out when its server was killed may run and print again, as long as its result is not recorded.
    Returns how many kills and time limits there were.
    """
    hs = Hs(folder)
    count = 150 * rounds
    hs.file([f"echo {n} {'x' * (n % 200 + 1)} end; test $(({n} % 10)) -gt 0" for n in range(count)])
    words = ("cluster", "tasks.in", "-N2", "--restart", "--poison", "0", "-o", "out", "-f", "failed")
    seen, settled = {"out": Counter[str](), "failed": Counter[str]()}, Counter[str]()
    kills = limits = 0
    while True:
        limited = draw.random() < 0.3
        process = hs.start(*words, *(("--walltime", "3s") if limited else ()))
        try:
            process.wait(_PATIENCE if limited or kills >= rounds else draw.uniform(0.3, 2.0))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        _, err = process.communicate()
        assert process.returncode in (-9, 7, 75), err
        limits += process.returncode == 75
        before = {name: Counter(lines) for name, lines in seen.items()}
        seen = {name: _lines(folder / name) for name in seen}
        for number in settled:  # recorded after the piece before: they do not run again
            for name in seen:
                assert seen[name][number] == before[name][number], (name, number)
        states = _states(hs)
        settled = Counter(states)
        assert all(seen["out"][number] >= 1 for number in states), "a result without its output"
        assert all(seen["failed"][number] >= 1 for number, state in states.items() if state == "failed")
        if process.returncode == 7:
            break
        if process.returncode == 75 and not kills:
            assert max(seen["out"].values(), default=1) == 1
    assert len(states) == count and sorted(seen["out"], key=int) == [str(n) for n in range(count)]
    assert set(seen["failed"]) == {str(n) for n in range(0, count, 10)}
    again = sum(seen["out"].values()) - count
    assert again <= kills * 64, f"{again} tasks ran again after {kills} kills"
    assert [path.name for path in folder.iterdir() if path.name.startswith(("out.", "failed."))] == []
    return kills, limits


def _lines(path: Path) -> Counter[str]:
    """How often the line of each task is there; a line that a kill has torn is none."""
    if not path.exists():
        return Counter()
    lines = [line.removeprefix("echo ").split(" ") for line in path.read_text().splitlines()]
    return Counter(words[0] for words in lines if len(words) > 2 and words[2] in ("end", "end;"))


def _states(hs: Hs) -> dict[str, str]:
    """How each task ended of which that is recorded; by its number."""
    if not hs.db.exists():
        return {}
    rows = hs.rows("SELECT args, state FROM task WHERE state IN ('succeeded', 'failed')")
    return {args.split(" ")[1]: state for args, state in rows}
