"""Real processes with few descriptors or processes: every task runs, or one line says why nothing can."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_net import client, ended, server
from tests.testbed.cli import Done, Hs
from tests.testbed.limited import descriptors, few_processes, set_limit
from tests.testbed.mpi import Mpi, clean_environ, each_mpi

PLENTY = 400


def run(hs: Hs, words: list[str]) -> Done:
    """Run `words`, which start ``hs`` in some way, to the end."""
    done = subprocess.run(
        words, cwd=hs.folder, env=hs.environ(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_soft_limit_limits_tasks_and_not_us(hs: Hs) -> None:
    hs.file(["sleep 0.2; ulimit -Sn"] * 60)
    done = run(hs, descriptors(hs.command("cluster", "tasks.in", "-N", "50"), 64, PLENTY))
    assert done == Done(0, "64\n" * 60, "")


@pytest.mark.parametrize("capture", [False, True])
def test_a_cluster_with_few_descriptors_runs_fewer_at_a_time(hs: Hs, capture: bool) -> None:
    hs.file(["sleep 0.1; echo x"] * 60)
    more = ["--capture", "--keep-output"] if capture else []
    done = run(hs, descriptors(hs.command("cluster", "tasks.in", "-N", "50", *more), 64, 64))
    assert (done.status, done.out.count("x")) == (0, 0 if capture else 60)
    assert hs.rows("SELECT exit_status, attempt, count(*) FROM task GROUP BY 1, 2") == [(0, 1, 60)]
    assert done.err.count("\n") == 1 and " of 50 slots until there is room for more: cannot " in done.err
    assert done.err.endswith(": Too many open files\n")


def test_expansions_wait_for_room_too(hs: Hs) -> None:
    hs.file(["x"] * 60)
    words = hs.command("cluster", "tasks.in", "-N", "50", "-t", "echo {}{% sleep 0.1; echo y %}")
    done = run(hs, descriptors(words, 64, 64))
    assert (done.status, done.out) == (0, "xy\n" * 60)


def test_what_one_client_has_no_room_for_another_runs(hs: Hs) -> None:
    hs.file([f"sleep 0.02; echo {n}" for n in range(300)])
    with server(hs, "tasks.in") as process:
        poor = subprocess.Popen(
            descriptors(hs.command("client", "--connect", "c.json", "-N", "50"), 32, 32),
            cwd=hs.folder, env=hs.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        rich = client(hs, "-N", "4")
        done, lines = ended(process), [*ended(poor).out.split(), *ended(rich).out.split()]
    assert (done.status, done.err) == (0, "")
    assert sorted(map(int, lines)) == list(range(300))
    assert hs.states() == {"succeeded": 300}


def test_slots_come_back_when_there_is_room(hs: Hs) -> None:
    process = hs.start("cluster", "-N", "4", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(b"echo first\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"first\n"
    set_limit(process, 4)
    process.stdin.write(b"echo second\necho third\n")
    process.stdin.close()
    said = process.stderr.readline().decode()
    assert "No task can be started until there is room: cannot make a pipe: Too many open files" in said
    set_limit(process, PLENTY)
    assert sorted(process.stdout.readlines()) == [b"second\n", b"third\n"]
    assert process.stderr.read() == b"" and process.wait(60) == 0
    process.stdout.close()
    process.stderr.close()


@pytest.fixture
def theirs() -> Iterator[Hs]:
    """``hs`` in a folder that can be given to another user: pytest's own lies in one of ours alone."""
    with tempfile.TemporaryDirectory() as name:
        yield Hs(Path(name))


def test_a_machine_without_processes_runs_fewer_at_a_time(theirs: Hs) -> None:
    hs = theirs
    hs.file(["/bin/sleep 0.1"] * 40)  # a shell would need a second process for each
    done = run(hs, few_processes(hs.command("cluster", "tasks.in", "-N", "50"), 12, hs.folder))
    assert done.status == 0, done.err
    assert " of 50 slots until there is room for more: cannot start a process: Resource temp" in done.err
    assert hs.states() == {"succeeded": 40}


@pytest.mark.parametrize("more", [1, 2])
def test_without_threads_or_a_guard_one_line_says_so(theirs: Hs, more: int) -> None:
    hs = theirs
    hs.file(["true"])
    done = run(hs, few_processes(hs.command("cluster", "tasks.in"), more, hs.folder))
    assert (done.status, done.out) == (5, "")
    beginnings = tuple(f"CRITICAL [hypershell] {text}" for text in ("cannot start ", "no thread can be started: "))
    assert done.err.startswith(beginnings) and done.err.count("\n") == 1
    assert "(ulimit -u)" in done.err


@pytest.mark.parametrize("command", ["cluster", "server", "client", "mpi"])
def test_with_hardly_any_descriptors_nothing_begins(hs: Hs, command: str) -> None:
    hs.file(["true"])
    words = ["--connect", "c.json"] if command == "client" else ["tasks.in"]
    done = run(hs, descriptors(hs.command(command, *words), 16, 16))
    assert (done.status, done.out) == (5, "")
    assert done.err.startswith("CRITICAL [hypershell] too few file descriptors: ") and done.err.count("\n") == 1
    assert not hs.db.exists()


@each_mpi()
@pytest.mark.parametrize("hard", [64, PLENTY])
def test_ranks_with_few_descriptors_run_fewer_at_a_time(hs: Hs, mpi: Mpi, hard: int) -> None:
    hs.file(["sleep 0.1; ulimit -Sn"] * 150)
    words = mpi.command(3, ["-m", "hypershell", "mpi", "tasks.in", "-N", "50"])
    environ = clean_environ({"HYPERSHELL_SITE": str(hs.site)})
    done = subprocess.run(
        descriptors(words, 64, hard), cwd=hs.folder, env=environ, capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stdout) == (0, "64\n" * 150), done.stderr
    assert hs.states() == {"succeeded": 150}
    assert done.stderr.count("until there is room") == (3 if hard == 64 else 0)


def test_a_soft_limit_that_is_too_low_does_not_matter(hs: Hs) -> None:
    hs.file(["ulimit -Sn"])
    done = run(hs, descriptors(hs.command("cluster", "tasks.in"), 28, PLENTY))
    assert done == Done(0, "28\n", "")
