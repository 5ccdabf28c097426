"""Closed standard streams, outputs that would overwrite what is read, Ctrl-C at the very start."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.testbed.cli import Hs
from tests.testbed.mpi import ROOT


@pytest.fixture
def hs(tmp_path: Path) -> Hs:
    return Hs(tmp_path)


def shell(hs: Hs, *args: str, redirect: str) -> subprocess.CompletedProcess[bytes]:
    line = f"{shlex.join(hs.command(*args))} {redirect}"
    return subprocess.run(
        ["sh", "-c", line],
        cwd=hs.folder,
        env=hs.environ(),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.mark.parametrize("command", ["cluster", pytest.param("mpi", marks=pytest.mark.mpi)])
def test_a_closed_stdin_is_an_empty_one(hs: Hs, command: str) -> None:
    done = shell(hs, command, redirect="<&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_run_needs_no_open_stream(hs: Hs, redirect: str) -> None:
    hs.file(["echo x; echo y >&2; echo z > z"])
    assert shell(hs, "cluster", "tasks.in", redirect=redirect).returncode == 0
    assert hs.states() == {"succeeded": 1}
    assert (hs.folder / "z").read_text() == "z\n"


@pytest.mark.parametrize("flag", ["-o", "-e", "-f"])
@pytest.mark.parametrize("name", ["tasks.in", "./tasks.in", "link"])
def test_the_input_is_never_overwritten(hs: Hs, flag: str, name: str) -> None:
    hs.file(["echo x", "false"])
    (hs.folder / "link").symlink_to("tasks.in")
    done = hs.run("cluster", "tasks.in", flag, name)
    assert done.status == 2 and f"Using {flag} {name} would overwrite FILE" in done.err
    assert (hs.folder / "tasks.in").read_text() == "echo x\nfalse\n"


@pytest.mark.parametrize("flag", ["-o", "-e", "-f"])
def test_the_database_is_never_overwritten(hs: Hs, flag: str) -> None:
    hs.file(["echo x"])
    assert hs.run("cluster", "tasks.in", "--db", "new.db", flag, "new.db").status == 2
    assert not (hs.folder / "new.db").exists()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_lies_beside_the_database_is_never_renamed(hs: Hs, suffix: str) -> None:
    hs.file(["echo x"])
    done = hs.run("cluster", "tasks.in", "--db", "new.db", "-o", f"new.db{suffix}")
    assert done.status == 2 and f"-o new.db{suffix} would overwrite the database" in done.err


def test_both_streams_may_go_to_one_file(hs: Hs) -> None:
    hs.file(["echo out; echo err >&2"])
    assert hs.run("cluster", "tasks.in", "-o", "both", "-e", "both").status == 0
    assert sorted((hs.folder / "both").read_text().splitlines()) == ["err", "out"]
    assert hs.run("cluster", "tasks.in", "-o", "both", "-f", "both").status == 2


def test_the_last_line_lists_just_the_failures_that_it_counts(hs: Hs) -> None:
    hs.file(["false", "true"])
    hs.run("cluster", "tasks.in")
    done = hs.run("cluster", "tasks.in", "-r", "2")
    command = done.err.splitlines()[-1].partition("list them with: hs ")[2].partition("); ")[0]
    listed = hs.run(*shlex.split(command), "args", "attempt")
    assert listed.out == "false\t3\n"


def test_an_empty_template_is_refused(hs: Hs) -> None:
    hs.file(["true"])
    done = hs.run("cluster", "tasks.in", "-t", "")
    assert done.status == 2 and "the template is empty" in done.err


def test_a_copy_for_each_rank_is_warned_of(hs: Hs) -> None:
    hs.file(["true"])
    done = hs.run("cluster", "tasks.in", env={"PMI_RANK": "0", "PMI_SIZE": "4"})
    assert done.status == 0 and "started 4 of us, and each runs the whole input: use hs mpi" in done.err
    assert "started 4 of us" not in hs.run("cluster", "tasks.in", env={"PMI_RANK": "1", "PMI_SIZE": "4"}).err


@pytest.mark.parametrize(
    ("args", "env", "status", "said"),
    [
        (("-w", "-1"), {}, 2, "argument -w/--bundlewait: '-1' is negative"),
        ((), {"HYPERSHELL_LOGGING_FORMAT": "%(bogus)s"}, 3, "HYPERSHELL_LOGGING_FORMAT: '%(bogus)s' cannot"),
        (("-t", "echo {% false @ %}"), {}, 7, "{% false x %} ended with status 1"),
    ],
)
def test_what_is_wrong_is_named(hs: Hs, args: tuple[str, ...], env: dict[str, str], status: int, said: str) -> None:
    hs.file(["x"])
    done = hs.run("cluster", "tasks.in", *args, env=env)
    assert done.status == status and said in done.err


def test_ctrl_c_at_the_very_start_shows_no_traceback(hs: Hs) -> None:
    folder = hs.folder / "modules"
    folder.mkdir()
    (folder / "argparse.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    process = hs.start("list", env={"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])})
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (4, b"CRITICAL [hypershell] keyboard-interrupt: stopped\n")
