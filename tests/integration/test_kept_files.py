"""What a user has is never destroyed: ``-o``, ``-e``, ``-f``, ``--status-file`` over restarts and second starts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.server_rate import NullClients
from hypershell import reactor
from hypershell.core.actions import Record
from hypershell.proto import messages as msg
from hypershell.server.run import Place, Run
from hypershell.settings import RunSettings
from hypershell.transport import Delivery
from tests.integration.test_mpi import Job
from tests.integration.test_net import client, ended, server
from tests.testbed.cli import Hs
from tests.testbed.mpi import Mpi, each_mpi, finish
from tests.testbed.postgres import PostgresHs
from tests.testbed.waiting import until

#: Waits until the test writes into the FIFO; ``up`` tells the test that it runs.
HELD = "echo held; echo up >up; read line <gate"


def text(hs: Hs, name: str) -> str:
    path = Path(hs.folder, name)
    return path.read_text() if path.exists() else ""


def names(hs: Hs) -> list[str]:
    """Files that are there, without those of the test itself."""
    mine = ("site", "tasks.in", "up", "gate")
    return sorted(path.name for path in hs.folder.iterdir() if path.name not in mine and ".db" not in path.name)


@contextmanager
def running(hs: Hs, lines: Sequence[str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """``hs WORDS`` on a FILE of `lines`, of which one is `HELD`; it goes on at the end of the block."""
    for name in ("up", "gate"):
        if not (hs.folder / name).exists():
            os.mkfifo(hs.folder / name)
    hs.file(lines)
    process = hs.start(*words)
    try:
        with open(hs.folder / "up") as up:
            assert up.readline() == "up\n"
        yield process
        (hs.folder / "gate").write_text("go\n")
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def job(hs: Hs, mpi: Mpi) -> Job:
    return Job(hs, mpi)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_hs(request: pytest.FixtureRequest) -> Hs | PostgresHs:
    """``hs`` with its tasks in each kind of database."""
    found: Hs | PostgresHs = request.getfixturevalue("hs" if request.param == "sqlite" else "pg")
    return found


def test_what_was_written_before_a_restart_stays(any_hs: Hs) -> None:
    """Killed in the middle: what is recorded is in the files once, the rest runs again on lines of its own."""
    hs = any_hs
    words = ("cluster", "tasks.in", "-N1", "-b1", "--restart", "-o", "out", "-e", "err", "--failures", "failed")
    lines = [
        "echo 1; echo e >&2",
        "echo 2; exit 3",
        "test -e again && echo 3 || { touch again; kill -9 $PPID; }",
        "echo 4",
    ]
    hs.file(lines)
    first = hs.run(*words)
    assert first.status == -signal.SIGKILL
    with open(hs.folder / "out", "a") as out:
        out.write("to")  # as a kill in the middle of a write leaves it
    before = {name: text(hs, name) for name in ("out", "err", "failed")}
    done = hs.run(*words)
    assert done.status == 7, done.err
    out_lines = text(hs, "out").splitlines()
    assert text(hs, "out").startswith(before["out"] + "\n") and {"1", "2", "3", "4"} < set(out_lines)
    assert out_lines.count("to") == out_lines.count("4") == 1
    # What ran when the server was killed may have run twice; what was recorded did not.
    assert set(text(hs, "err").split()) == {"e"} and set(text(hs, "failed").splitlines()) == {lines[1]}
    assert names(hs) == ["again", "err", "failed", "out"]


def test_a_run_that_drains_and_goes_on_has_every_line_once(any_hs: Hs) -> None:
    hs = any_hs
    lines = [*(f"echo {n}" for n in range(10)), HELD, *(f"echo {n}" for n in range(10, 20)), "exit 1"]
    words = ("cluster", "tasks.in", "-N1", "-b1", "--restart", "-o", "out", "-f", "failed")
    with running(hs, lines, *words) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.stderr is not None and b"SIGUSR1" in process.stderr.readline()
    assert process.returncode == 75
    assert text(hs, "out").split() == [*map(str, range(10)), "held"] and text(hs, "failed") == ""
    done = hs.run(*words)
    assert done.status == 7
    assert text(hs, "out").split() == [*map(str, range(10)), "held", *map(str, range(10, 20))]
    assert hs.run(*words).status == 7  # nothing is left: nothing is written
    assert text(hs, "failed") == "exit 1\n" and names(hs) == ["failed", "out"]


@pytest.mark.parametrize("words", [[], ["--restart"], ["--no-db"]])
def test_a_new_submission_keeps_an_old_file_aside(hs: Hs, words: list[str]) -> None:
    """``--restart`` that finds nothing to go on with is a new submission, too."""
    for number, name in enumerate("ab", 1):
        hs.file([f"echo {name}", f"echo {name} >&2; exit 1"], f"{name}.in")
        done = hs.run("cluster", f"{name}.in", "-o", "out", "-e", "err", "-f", "failed", *words)
        assert done.status == 7
        kept = [line for line in done.err.splitlines() if "it is kept as" in line]
        assert len(kept) == (3 if number == 2 else 0)
    assert "out was there before this run: it is kept as out.1" in done.err
    assert (text(hs, "out"), text(hs, "err"), text(hs, "failed")) == ("b\n", "b\n", "echo b >&2; exit 1\n")
    assert (text(hs, "out.1"), text(hs, "err.1"), text(hs, "failed.1")) == ("a\n", "a\n", "echo a >&2; exit 1\n")


def test_stdin_keeps_aside_and_restart_without_a_file_appends(hs: Hs) -> None:
    Path(hs.folder, "out").write_text("mine\n")
    done = hs.run("cluster", "-b1", "-o", "out", input="echo 1\ntest -e again || { touch again; kill -9 $PPID; }\n")
    assert done.status == -signal.SIGKILL and text(hs, "out.1") == "mine\n"
    assert hs.run("cluster", "--restart", "-o", "out").status == 0
    assert set(text(hs, "out").split()) == {"1"} and names(hs) == ["again", "out", "out.1"]


def test_a_second_start_changes_nothing_of_the_first(any_hs: Hs) -> None:
    """It is refused before it opens anything, whichever of the files it names, and leaves no run behind."""
    hs = any_hs
    lines = ["echo 1", HELD, "echo 2; false"]
    words = ("cluster", "tasks.in", "-N1", "-b1", "--restart")
    files = ("-o", "out", "-e", "err", "-f", "failed", "--status-file", "status.json")
    hs.file(["echo old"], "old.in")
    assert hs.run("cluster", "old.in", "-o", "other").status == 0
    with running(hs, lines, *words, *files) as first:
        until(lambda: text(hs, "out") == "1\nheld\n" and json.loads(text(hs, "status.json"))["clients"] == 1)
        before = {name: text(hs, name) for name in names(hs)}
        for more in (files, (), ("-o", "other"), ("-f", "new"), ("--status-file", "status.json"), ("-e", "./out")):
            second = hs.run(*words, *more)
            assert second.status == 5 and len(second.err.splitlines()) == 1, second.err
            assert f"process {first.pid}" in second.err
        assert {name: text(hs, name) for name in names(hs)} == before
        assert len(hs.rows("SELECT id FROM run")) == 2 and len(hs.rows("SELECT id FROM submission")) == 2
        assert "died" not in hs.run("runs").out
    assert first.returncode == 7
    assert text(hs, "out") == "1\nheld\n2\n" and text(hs, "failed") == lines[2] + "\n"
    told = json.loads(text(hs, "status.json"))
    assert (told["state"], told["exit_status"], told["succeeded"], told["failed"]) == ("ended", 7, 2, 1)


@pytest.mark.parametrize("flag", ["-o", "-e", "-f"])
def test_two_runs_of_two_databases_do_not_share_a_file(hs: Hs, flag: str) -> None:
    hs.file(["echo other >>ran"], "other.in")
    with running(hs, [HELD], "cluster", "tasks.in", "--db", "a.db", "-o", "out") as first:
        until((hs.folder / "out").exists)
        done = hs.run("cluster", "other.in", "--db", "b.db", flag, "out")
        assert done.status == 5 and len(done.err.splitlines()) == 1
        assert re.search(rf"out is being written by process {first.pid} \(.*cluster tasks.in", done.err)
        assert not (hs.folder / "b.db").exists() and not (hs.folder / "ran").exists()
    assert first.returncode == 0 and text(hs, "out") == "held\n"
    assert hs.run("cluster", "other.in", "--db", "b.db", flag, "out").status == 0
    assert text(hs, "out.1") == "held\n"


def test_a_changed_file_is_refused_without_a_trace(hs: Hs) -> None:
    hs.file(["echo 1", "false"])
    assert hs.run("cluster", "tasks.in", "--restart", "-o", "out").status == 7
    hs.file(["echo 2", "false"])
    done = hs.run("cluster", "tasks.in", "--restart", "-o", "out", "-f", "failed", "--status-file", "status.json")
    assert done.status == 5 and "has changed" in done.err and len(done.err.splitlines()) == 1
    assert names(hs) == ["out", "status.json"] and text(hs, "out") == "1\n"
    assert len(hs.rows("SELECT id FROM run")) == 1
    told = json.loads(text(hs, "status.json"))
    assert told["state"] == "ended" and told["exit_status"] == 5 and "has changed" in told["reason"]
    hs.file(["echo 1", "false"])
    assert hs.run("cluster", "tasks.in", "--restart", "-o", "out").status == 7


def test_a_refused_start_spares_the_status_file_of_a_run_that_may_live(hs: Hs) -> None:
    """Where the file system has no locks, the database says whether the run in the file lives."""
    with running(hs, [HELD], "cluster", "tasks.in", "--restart"):
        (run,) = (row[0] for row in hs.rows("SELECT id FROM run"))
        living = json.dumps({"state": "running", "run": run})
        dead = json.dumps({"state": "running", "run": "01a2"})
        for content in (living, dead):
            Path(hs.folder, "status.json").write_text(content)
            assert hs.run("cluster", "tasks.in", "--restart", "--status-file", "status.json").status == 5
            assert (text(hs, "status.json") == content) == (content == living)
    assert "being worked on by" in json.loads(text(hs, "status.json"))["reason"]


class Printing(NullClients):
    """Clients of which each task has printed its number."""

    def poll(self) -> list[Delivery]:
        found = super().poll()
        for peer, message in list(found):
            if isinstance(message, msg.Results):
                said = "".join(f"{result.id}\n" for result in message.results)
                found.append(Delivery(peer, msg.Output(said.encode(), b"")))
        return found


@pytest.mark.parametrize("no_db", [False, True])
def test_nothing_is_recorded_whose_output_is_not_written(
    hs: Hs, monkeypatch: pytest.MonkeyPatch, no_db: bool
) -> None:
    """A kill right after the commit must not lose the output: such a task does not run again."""
    settings = RunSettings(
        file=str(hs.folder / hs.file(["true"] * 50)),
        db=str(hs.folder / "my.db"),
        no_db=no_db,
        output=str(hs.folder / "out"),
    )
    poller = reactor.Poller()
    run = Run(poller, Printing(2), settings, Place("loopback", 1, 2, 1, "here"), ["cluster"])
    submit, accept = run.writer.submit, run.writer.accept
    recorded: set[str] = set()
    missing: list[str] = []
    accepted: list[set[str]] = []

    def check(record: Record) -> None:
        recorded.update(one.result.id for one in record.finished)
        if accepted:
            missing.extend(recorded - set(text(hs, "out").split()))
        submit(record)

    def accepting() -> None:
        accepted.append(recorded - set(text(hs, "out").split()))
        accept()

    monkeypatch.setattr(run.writer, "submit", check)
    monkeypatch.setattr(run.writer, "accept", accepting)
    run.start()
    reactor.run(poller, [run.server])
    assert run.close() == 0
    assert accepted == [set()] and missing == []
    assert len(recorded) == 50 and sorted(text(hs, "out").split()) == sorted(recorded)


@pytest.mark.parametrize("restart", [False, True])
def test_what_turns_out_late_refuses_without_a_trace(
    hs: Hs, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, restart: bool
) -> None:
    """The folder goes before the database is open, when the first tasks may run: nothing is recorded of them."""
    (hs.folder / "results").mkdir()
    settings = RunSettings(
        file=str(hs.folder / hs.file(["true"] * 10)),
        db=str(hs.folder / "my.db"),
        output=str(hs.folder / "results" / "out"),
        status_file=str(hs.folder / "status.json"),
        restart=restart,
    )
    poller = reactor.Poller()
    run = Run(poller, NullClients(2), settings, Place("loopback", 1, 2, 1, "here"), ["cluster"])
    (hs.folder / "results").rmdir()
    run.start()
    reactor.run(poller, [run.server])
    assert run.close() == 5 and capsys.readouterr().err == ""
    assert [line for line in caplog.messages if "results/out: No such file" in line] == caplog.messages
    for table in ("run", "task", "submission", "client"):
        assert hs.rows(f"SELECT * FROM {table}", db=hs.folder / "my.db") == []
    told = json.loads(text(hs, "status.json"))
    assert (told["state"], told["exit_status"]) == ("ended", 5) and "results/out" in told["reason"]


def test_server_and_client_keep_aside_and_refuse_too(hs: Hs) -> None:
    for name in ("out", "failed"):
        Path(hs.folder, name).write_text("mine\n")
    hs.file(["echo 1; exit 1", "read line <gate; echo 2"])
    os.mkfifo(hs.folder / "gate")
    with server(hs, "tasks.in", "-f", "failed") as process:
        first = client(hs, "-o", "out")
        until(lambda: (text(hs, "out"), text(hs, "failed")) == ("1\n", "echo 1; exit 1\n"))
        for words, named in ((("client", "--connect", "c.json", "-o", "out"), first),
                             (("cluster", "--no-db", "-f", "failed"), process)):  # fmt: skip
            done = hs.run(*words)
            assert done.status == 5 and f"is being written by process {named.pid}" in done.err
        Path(hs.folder, "gate").write_text("go\n")
        assert ended(process).status == 7
        first.communicate(timeout=60)
    assert (text(hs, "out"), text(hs, "failed")) == ("1\n2\n", "echo 1; exit 1\n")
    assert (text(hs, "out.1"), text(hs, "failed.1")) == ("mine\n", "mine\n")


@each_mpi()
def test_under_mpi_as_well(job: Job) -> None:
    hs = job.hs
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo 1", "read line <gate; echo 2", "exit 1"])
    words = ("tasks.in", "--restart", "-o", "out", "-f", "failed", "--status-file", "status.json", "-b1")
    first = job.start(2, *words)
    until(lambda: (hs.folder / "out").exists() and text(hs, "out") == "1\n")
    refused = hs.run("mpi", *words[:-3], "-b1")
    assert refused.status == 5 and "is being written by process" in refused.err
    assert text(hs, "out") == "1\n" and len(hs.rows("SELECT id FROM run")) == 1
    (hs.folder / "gate").write_text("go\n")
    done = finish(first)
    assert json.loads(text(hs, "status.json"))["exit_status"] == 7, done
    again = job.run(2, *words)
    assert json.loads(text(hs, "status.json"))["exit_status"] == 7, again
    assert (text(hs, "out"), text(hs, "failed")) == ("1\n2\n", "exit 1\n")
