"""What does a waiting rank cost, and how fast does it answer?

Starts two ranks of the MPI of this Python. Both wait in the real loop over the real transport. Measured: the share
of a core that each takes while nothing happens; the reply time (rank 0 sends, the worker answers, rank 0 has the
answer) when messages are rare; the same under steady traffic. Usage: python benchmarks/idle_rank.py [SECONDS]
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

RARE = (0.15, 150)  # mean gap in seconds, number of messages
STEADY = (0.001, 2000)
#: quantity: (unit, bar, goal); the budgets of docs/architecture.md
BUDGETS = {
    "idle_worker": ("% of a core", 1.5, 1.0),
    "idle_server": ("% of a core", 1.5, 1.0),
    "reply_median": ("ms", 5.0, 4.0),
    "reply_p99": ("ms", 12.0, 10.0),
    "steady_median": ("ms", 0.8, 0.5),
}


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Worker:
    """Waits, and answers every message."""

    def __init__(self, end: Any) -> None:
        self.end = end
        self.finished = False

    def turn(self, now: float) -> bool:
        from hypershell.proto.messages import Bye, Output

        for _, message in self.end.poll():
            if isinstance(message, Bye):
                self.finished = True
            else:
                self.end.send(0, Output(b"x", b""))
        return False

    def deadline(self, now: float) -> float:
        return now + (self.end.wait_hint(now) or 0.0)


class Server:
    """Sends one message after each gap and notes when its answer is there."""

    def __init__(self, end: Any, gaps: list[float]) -> None:
        self.end = end
        self.gaps = gaps
        self.replies: list[float] = []
        self.sent = 0.0
        self.due = 0.0
        self.finished = False
        self.waiting = False

    def turn(self, now: float) -> bool:
        from hypershell.proto.messages import OutputTaken

        for _ in self.end.poll():
            self.replies.append(time.monotonic() - self.sent)
            self.waiting = False
        if self.waiting:
            return False
        if not self.due:
            if not self.gaps:
                self.finished = True
                return False
            self.due = now + self.gaps.pop()
        if now >= self.due:
            self.sent = time.monotonic()
            self.due = 0.0
            self.waiting = True
            self.end.send(1, OutputTaken(1))
        return False

    def deadline(self, now: float) -> float:
        hint = now + (self.end.wait_hint(now) or 0.0)
        return min(hint, self.due) if self.due else hint


class Idle:
    """Waits for messages that do not come, until it is over."""

    def __init__(self, end: Any, seconds: float) -> None:
        self.end = end
        self.until = time.monotonic() + seconds
        self.finished = False

    def turn(self, now: float) -> bool:
        self.end.poll()
        self.finished = now >= self.until
        return False

    def deadline(self, now: float) -> float:
        return min(self.until, now + (self.end.wait_hint(now) or 0.0))


def rank_main(seconds: float) -> int:
    from hypershell.mpi.launch import run_mpi
    from hypershell.proto.messages import Bye
    from hypershell.reactor import Poller, run

    def idle(end: Any) -> float:
        before, start = cpu(), time.monotonic()
        run(Poller(), [Idle(end, seconds)])
        return 100 * (cpu() - before) / (time.monotonic() - start)

    def serve(world: Any, end: Any) -> int:
        drawn = random.Random(1)
        found: dict[str, Any] = {"mpi": world.library, "idle_server": idle(end)}
        for name, (gap, count) in (("reply", RARE), ("steady", STEADY)):
            server = Server(end, [drawn.uniform(0.5, 1.5) * gap for _ in range(count)])
            run(Poller(), [server])
            ordered = sorted(server.replies)
            found[f"{name}_median"] = 1e3 * ordered[len(ordered) // 2]
            found[f"{name}_p99"] = 1e3 * ordered[int(0.99 * len(ordered))]
        end.send(1, Bye())
        print(json.dumps(found), flush=True)
        return 0

    def work(world: Any, end: Any) -> int:
        print(json.dumps({"idle_worker": idle(end)}), flush=True)
        run(Poller(), [Worker(end)])
        return 0

    return run_mpi(serve, work)


def measure(seconds: float) -> dict[str, Any]:
    """What two ranks of the MPI of this Python tell."""
    from hypershell.mpi.launch import command, find_launcher
    from hypershell.mpi.world import library_version

    launcher = find_launcher(library_version())
    ranks = command(launcher, 2, [sys.executable, __file__, "--rank", str(seconds)])
    environ = {"OMPI_MCA_btl": "^ofi", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    said = subprocess.run(ranks, env=environ | os.environ, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = {}
    for line in said.splitlines():
        found.update(json.loads(line))
    return found


def show(found: dict[str, Any]) -> None:
    from report import report

    rows = [
        {
            "quantity": name.replace("_", " "),
            "unit": unit,
            "measured": round(found[name], 3),
            "bar": bar,
            "goal": goal,
            "held": found[name] <= bar,
        }
        for name, (unit, bar, goal) in BUDGETS.items()
    ]
    report(f"idle_rank_{found['mpi'].rpartition(' ')[0].replace(' ', '_').lower()}", rows)


def main() -> int:
    seconds = sys.argv[1] if len(sys.argv) > 1 else "10"
    show(measure(float(seconds)))
    other = os.environ.get("HS_TEST_OPENMPI")
    if other and not os.path.samefile(os.path.dirname(other), os.path.dirname(sys.executable)):
        said = subprocess.run(
            [other, __file__, "--measure", seconds], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        show(json.loads(said.splitlines()[-1]))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        sys.exit(rank_main(float(sys.argv[2])))
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(float(sys.argv[2]))))
        sys.exit(0)
    sys.exit(main())
