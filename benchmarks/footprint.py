"""What does a worker rank cost beyond ``python -c "from mpi4py import MPI"``: time, memory, files?

With 10,000 ranks on a shared file system each of these is paid 10,000 times. Two ranks are started by the launcher
of our MPI, once bare and once as ``hs mpi``, in turns; rank 1 looks at itself (``benchmarks/probe.py``). Told are
the differences of each pair: until the worker has said Hello, and until its first result has left. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import report
from benchmarks.shared import judged, mpi_command, place, plain, timed, verify

_PROBE = Path(__file__).resolve().parent / "probe.py"

Stage = dict[str, Any]


def look(kind: str) -> dict[str, Stage]:
    """Rank 1 of two ranks, by stage: ``ready``, and for a worker ``worked``."""
    with place() as at:
        out = at.folder / "seen.json"
        argv = [sys.executable, str(_PROBE), str(out), kind]
        if kind == "worker":
            argv.append(at.lines([": 1"]))
        timed(mpi_command(2, argv), at)
        if kind == "worker":
            verify(at, 1)
        seen = json.loads(out.read_text(encoding="utf-8"))
    stages: dict[str, Stage] = seen["stages"]
    for stage in stages.values():
        stage["files"] = stage["opened"] + stage["libraries"]
        stage["count"] = len(stage["modules"])
    return stages


def differences(pairs: Sequence[tuple[Stage, Stage]], what: str) -> list[float]:
    """`what` of the second minus the first of each pair."""
    return [float(more[what] - less[what]) for less, more in pairs]


def rows(bare: Sequence[Stage], ready: Sequence[Stage], worked: Sequence[Stage]) -> list[dict[str, Any]]:
    begun = list(zip(bare, ready, strict=True))
    done = list(zip(bare, worked, strict=True))
    hello, result = "until its Hello", "until its first result"
    return [
        judged("rank_ms", differences(begun, "ms"), hello),
        judged("rank_mib", differences(done, "rss"), f"RSS, {result}"),
        judged("rank_files", differences(done, "files"), result),
        plain("cpu", "CPU time", "ms", differences(begun, "cpu_ms"), hello),
        plain("first_result", "to the first result, rank 0 ready too", "ms", differences(done, "ms"), result),
        plain("rss_hello", "RSS", "MiB", differences(begun, "rss"), hello),
        plain("pss", "PSS", "MiB", differences(done, "pss"), result),
        plain("uss", "USS", "MiB", differences(done, "uss"), result),
        plain("files_hello", "files opened", "files", differences(begun, "files"), hello),
        plain("stats", "stat calls of the importer", "calls", differences(done, "stats"), result),
        plain("modules_hello", "modules", "modules", differences(begun, "count"), hello),
        plain("modules", "modules", "modules", differences(done, "count"), result),
        plain("bare_ms", "bare rank: time", "ms", [stage["ms"] for stage in bare]),
        plain("bare_rss", "bare rank: RSS", "MiB", [stage["rss"] for stage in bare]),
        plain("bare_files", "bare rank: files opened", "files", [stage["files"] for stage in bare]),
    ]


def packages(bare: Stage, worked: Stage) -> list[dict[str, Any]]:
    """The modules that a worker has and a bare rank has not, by top package."""
    more = set(worked["modules"]) - set(bare["modules"])
    count = Counter(name.partition(".")[0] for name in more)
    return [{"package": name, "modules": number} for name, number in count.most_common()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of launches (default: %(default)s)")
    given = parser.parse_args(argv)
    if sys.platform != "linux":
        raise SystemExit("footprint: reads /proc, which only Linux has")
    bare: list[Stage] = []
    ready: list[Stage] = []
    worked: list[Stage] = []
    for number in range(given.rounds):
        for kind in ("bare", "worker") if number % 2 == 0 else ("worker", "bare"):
            stages = look(kind)
            if kind == "bare":
                bare.append(stages["ready"])
            else:
                ready.append(stages["ready"])
                worked.append(stages["worked"])
    report("footprint", rows(bare, ready, worked))
    report("footprint_modules", packages(bare[-1], worked[-1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
