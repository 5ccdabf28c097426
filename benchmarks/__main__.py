"""All benchmarks in order, then one table of every budget: ``python -m benchmarks``.

Each runs in a process of its own (``python -m benchmarks.NAME``) and leaves JSON in ``benchmarks/results/``; a
trial (``--quick``) leaves none, because its numbers mean nothing. ``--markdown`` runs nothing and prints the
summary of what is there as a table for a page.
"""

from __future__ import annotations

import argparse
import compileall
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import report as reports
from benchmarks.shared import ROOT
from benchmarks.summary import as_markdown, as_table, lines, read

#: Name of the module: arguments of a trial, in which numbers mean nothing and all must work.
SUITE: Mapping[str, tuple[str, ...]] = {
    "core_rate": ("1",),
    "server_rate": ("2000",),
    "metg": ("--shape", "10", "--per-slot", "2", "--steps", "0"),
    "bundles": ("--per-slot", "3", "--quick"),
    "net_rate": ("--tasks", "2000", "--rounds", "1"),
    "writer_rate": ("--rows", "2000", "--rounds", "1"),
    "export_rate": ("--rows", "2000", "--rounds", "1"),
    "submit_rate": ("--lines", "5000", "--rounds", "1"),
    "large": ("--rows", "5000", "--rounds", "1", "--loads", "1"),
    "spawn_rate": ("--tasks", "50", "--rounds", "1"),
    "throughput": ("--tasks", "50", "--rounds", "1"),
    "startup": ("--rounds", "1"),
    "idle_rank": ("2",),
    "footprint": ("--rounds", "1"),
    "crowded": ("--ranks", "3", "--tasks", "50", "--rounds", "1"),
    "scale": ("--lines", "5000", "--tasks", "1000", "--rounds", "1"),
}


#: Runs a module as ``python -m`` does, with another folder for its results. Modules that also run as a file import
#: ``report`` by that name alone.
_REDIRECTED = """
import pathlib, runpy, sys
from benchmarks import report
sys.modules["report"] = report
report.RESULTS = pathlib.Path(sys.argv.pop(1))
sys.argv[0] = sys.argv[1].rpartition(".")[2]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=False)
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SUITE), metavar="NAME", help=", ".join(SUITE))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: tries out the scripts, measures nothing")
    parser.add_argument("--full", action="store_true", help="10 million rows and lines; needs 5 GB of disk")
    parser.add_argument("--markdown", action="store_true", help="run nothing, print the last results for a page")
    given = parser.parse_args(argv)
    if given.markdown:
        print(as_markdown(lines(read(reports.RESULTS))), end="")
        return 0
    compileall.compile_dir(ROOT / "hypershell", quiet=1)  # as an installer does, and an editable install does not
    failed = []
    with tempfile.TemporaryDirectory(prefix="hs-bench-") as folder:
        fresh = Path(folder)
        for name in given.only or SUITE:
            extra = SUITE[name] if given.quick else ("--full",) if given.full and name == "scale" else ()
            if not run(name, extra, fresh):
                failed.append(name)
            if not given.quick:
                keep(fresh)  # at once: a long run may be interrupted
        print(as_table(lines(read(fresh))), end="")
    if failed:
        print(f"benchmarks: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, args: Sequence[str], results: Path) -> bool:
    """Run one benchmark, its JSON into `results`; whether it succeeded."""
    sys.stdout.flush()
    argv = [sys.executable, "-c", _REDIRECTED, str(results), f"benchmarks.{name}", *args]
    done = subprocess.run(argv, cwd=ROOT, check=False)
    print(flush=True)
    return done.returncode == 0


def keep(results: Path) -> None:
    """Copy what was found to where the last results are."""
    reports.RESULTS.mkdir(exist_ok=True)
    for path in results.glob("*.json"):
        shutil.copy(path, reports.RESULTS)


if __name__ == "__main__":
    sys.exit(main())
