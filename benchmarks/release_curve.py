"""Draw docs/images/release.svg: tasks in flight over time for 10,000 ranks under three release plans.

    python benchmarks/release_curve.py [OUT.svg]

The scheduler is the real one; ranks and the network are simulated in virtual time, so the picture is the same on
every machine: 250 nodes of 40 ranks, three tasks for each rank of 20 to 40 s, a message takes 1 ms.
"""

from __future__ import annotations

import sys
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.model import ClientInfo, Result, Task
from hypershell.core.scheduler import Policy, Scheduler

__all__ = ["PLANS", "draw", "in_flight"]

#: Name in the picture -> choices of the policy.
PLANS: dict[str, dict[str, Any]] = {
    "--release-rate 0": {"release_rate": 0.0},
    "by itself": {"release_rate": None},
    "--delay-start=-60": {"delay_start": -60.0, "release_rate": None},
}
_COLOURS = ("#b04040", "#2060a0", "#308050")
_LATENCY = 0.001
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 300, 60, 20


def in_flight(plan: dict[str, Any], ranks: int = 10_000, each: int = 3) -> list[int]:
    """How many tasks run at each full second of a run under `plan`, until all has ended."""
    random = Random(1)
    names = count()
    scheduler = Scheduler(Policy(expected=ranks, window=1 << 20, **plan), lambda: f"r{next(names)}")
    order = count()
    coming: list[tuple[float, int, ev.Event]] = []
    changes: list[tuple[float, int]] = []

    def at(when: float, event: ev.Event) -> None:
        heappush(coming, (when, next(order), event))

    def told(event: ev.Event, now: float) -> None:
        for action in scheduler.handle(event, now):
            if isinstance(action, act.Record):
                at(now + _LATENCY, ev.Durable(action.seq))
            elif isinstance(action, act.SendTasks):
                begin = now + _LATENCY  # one slot each, and tasks too long for a queue: all start at once
                for task in action.tasks:
                    end = begin + 20.0 + 20.0 * random.random()
                    changes.extend([(begin, 1), (end, -1)])
                    result = Result(task.id, task.execution, 0, begin, end)
                    at(end + _LATENCY, ev.ResultsReceived(action.client, [result]))

    for number in range(1, ranks + 1):
        at(0.0, ev.ClientJoined(number, ClientInfo(f"c{number}", f"node{number // 40}", number, 1, "", "linux")))
    at(0.0, ev.TasksSubmitted([Task(f"t{number:08}", "./simulate", 1) for number in range(ranks * each)]))
    at(0.0, ev.FeedEnded())
    while not scheduler.finished:
        due = scheduler.deadline()
        if due is not None and (not coming or due <= coming[0][0]):
            told(ev.TimePassed(), due)
        else:
            when, _, event = heappop(coming)
            told(event, when)
    return _each_second(sorted(changes))


def _each_second(changes: list[tuple[float, int]]) -> list[int]:
    running, counts, done = 0, [], 0
    while done < len(changes):
        while done < len(changes) and changes[done][0] <= len(counts):
            running += changes[done][1]
            done += 1
        counts.append(running)
    return counts


def draw(curves: dict[str, list[int]], ranks: int) -> str:
    """The picture, as SVG."""
    longest = max(map(len, curves.values()))
    seconds = -(-longest // 20) * 20

    def point(second: float, running: float) -> str:
        return f"{_LEFT + _WIDTH * second / seconds:.1f},{_TOP + _HEIGHT * (1 - running / ranks):.1f}"

    width, height = _WIDTH + _LEFT + 20, _HEIGHT + _TOP + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for second in range(0, seconds + 1, 20):
        x = point(second, 0).split(",")[0]
        parts.append(f'<path d="M{point(second, 0)} L{point(second, ranks)}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{second}</text>')
    for part in range(5):
        running = ranks * part // 4
        y = float(point(0, running).split(",")[1]) + 4
        parts.append(f'<path d="M{point(0, running)} L{point(seconds, running)}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y:.1f}" text-anchor="end">{running:,}</text>')
    for place, (name, counts) in enumerate(curves.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        path = " ".join(point(second, running) for second, running in enumerate([*counts, 0]))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = _LEFT + _WIDTH - 150, _TOP + 20 + 18 * place
        parts.append(f'<text x="{x}" y="{y}" fill="{colour}" font-weight="bold">{name}</text>')
    parts.append(
        f'<text x="{_LEFT + _WIDTH / 2}" y="{height - 10}" text-anchor="middle">'
        f"seconds (tasks in flight, {ranks:,} ranks)</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Draw it with 10,000 ranks."""
    ranks = 10_000
    out = (
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else Path(__file__).resolve().parents[1] / "docs" / "images" / "release.svg"
    )
    out.write_text(draw({name: in_flight(plan, ranks) for name, plan in PLANS.items()}, ranks), encoding="utf-8")


if __name__ == "__main__":
    main()
