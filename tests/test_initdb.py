"""``hs initdb`` from outside: questions, messages, statuses, and what other commands see afterwards."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
from pathlib import Path

import pytest

from tests.testbed.cli import Done, Hs

ACTIONS = [["--vacuum"], ["--backup", "copy.db"], ["--rotate"], ["--truncate"], ["--upgrade"], []]


@pytest.fixture
def ran(hs: Hs) -> Hs:
    """A site in which five tasks ran, two of which failed."""
    assert hs.run("cluster", "-t", "test {} -lt 4", input="1\n2\n3\n4\n5\n").status == 7
    return hs


def initdb(hs: Hs, *args: str) -> Done:
    return hs.run("initdb", *args)


def test_nobody_to_ask_is_an_error_for_every_action(ran: Hs) -> None:
    for action in ACTIONS:
        done = initdb(ran, *action)
        assert (done.status, done.out) == (5, "")
        text = "RuntimeError: Non-interactive prompt cannot confirm (see --yes)."
        assert done.err == f"CRITICAL [hypershell.data] {text}\n"
    assert not (ran.folder / "copy.db").exists() and ran.states() == {"succeeded": 3, "failed": 2}


@pytest.mark.parametrize(
    ("answer", "left"), [("no", 5), ("n", 5), ("x", 5), ("yes", 0), ("", 0), ("Y", 0), ("\x04", 5)]
)
def test_truncate_asks_on_a_terminal(ran: Hs, answer: str, left: int) -> None:
    master, side = pty.openpty()
    process = ran.start("initdb", "-t", stdin=side, stdout=side)
    os.close(side)
    shown = b""
    while b"no: " not in shown and select.select([master], [], [], 20)[0]:
        shown += os.read(master, 4096)
    assert shown.decode().startswith(f"Truncate database {ran.db}? [Y]es/no: ")
    os.write(master, f"{answer}\n".encode())
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read().count(b"Nothing was done")) == (0, left // 5)
    process.stderr.close()
    os.close(master)
    assert len(ran.rows("SELECT id FROM task")) == left


@pytest.mark.parametrize(
    "pair", [("-v", "-r"), ("-t", "-r"), ("--upgrade", "-t"), ("-b", "x", "-v"), ("-b", "x", "--upgrade")]
)
def test_actions_exclude_each_other(ran: Hs, pair: tuple[str, ...]) -> None:
    done = initdb(ran, *pair, "-y")
    assert done.status == 2 and re.fullmatch(r"CRITICAL \[hypershell\] Using .* with .* is invalid\n", done.err)
    assert len(ran.rows("SELECT id FROM task")) == 5


def test_vacuum(ran: Hs) -> None:
    done = initdb(ran, "-vy")
    assert done.status == 0
    freed = re.fullmatch(r" *INFO \[hypershell\.data\] Freed \S+B, \d+ bytes \((.*)\)\n", done.err)
    assert freed is not None and freed[1] == str(ran.db)


def test_backup(ran: Hs) -> None:
    done = initdb(ran, "-b", "copy.db", "--yes")
    assert done.status == 0 and f"Backup of {ran.db}: {ran.folder / 'copy.db'} (" in done.err
    assert ran.run("list", "-c", "--db", "copy.db").out == "5\n"
    again = initdb(ran, "-b", "copy.db", "--yes")
    assert again.status == 5 and again.err.count("\n") == 1
    assert "copy.db exists already, nothing was written; name another file" in again.err


def test_a_database_that_is_not_there_is_not_made(hs: Hs) -> None:
    for action in ACTIONS[:-1]:
        done = initdb(hs, *action, "-y")
        assert done.status == 5 and "does not exist" in done.err
    assert not hs.site.exists()


def test_rotate_and_what_the_others_see(ran: Hs) -> None:
    before = ran.run("list", "id", "args", "exit_status").out
    done = initdb(ran, "-ry")
    first = ran.db.with_name("main.1.db")
    assert done.status == 0 and done.err.endswith(f"Rotated 5 tasks into partition 1 ({first})\n")
    assert ran.states() == {} and first.exists()
    assert ran.run("list", "id", "args", "exit_status").out == before
    assert ran.run("list", "-i", "id").out == "" and ran.run("list", "-ic").out == "0\n"
    assert ran.run("list").out.count("\n") == 5 and ran.run("list", "-i").out == ""
    assert ran.run("list", "-F", "-t", "part:1", "args").out == "4\n5\n"
    assert ran.run("list", "--tag-keys").out == "part\n" and ran.run("list", "--tag-values", "part").out == "1\n"
    assert json.loads(ran.run("list", "--json", "tag", "-l1").out) == [{"tag": {"part": 1}}]
    nothing = initdb(ran, "--rotate", "--yes")
    assert nothing.status == 0 and "Nothing to rotate" in nothing.err
    # The run is remembered, and the next one finds a usable database.
    assert len(ran.run("runs").out.splitlines()) == 1
    assert ran.run("cluster", "-t", "true", input="6\n").status == 0
    assert ran.run("list", "args").out.split() == ["1", "2", "3", "4", "5", "6"]
    assert ran.run("list", "args", "-s", "args", "--desc", "-l2").out.split() == ["6", "5"]


def test_restart_after_a_rotation_runs_what_is_left_and_nothing_twice(hs: Hs) -> None:
    """The failure of the group before holds the next one back, before the rotation and after it."""
    lines = ["false  # HYPERSHELL: group:0", "true  # HYPERSHELL: group:0", "echo held  # HYPERSHELL: group:1"]
    name = hs.file(lines)
    assert hs.run("cluster", name, "-N1").status != 0
    before = hs.run("cluster", name, "--restart")
    assert initdb(hs, "-ry").status == 0
    after = hs.run("cluster", name, "--restart")
    assert (after.status, after.out) == (before.status, before.out) and "held" not in after.out
    assert sorted(hs.run("list", "args", "state").out.splitlines()) == sorted(
        ["false\tfailed", "true\tsucceeded", "echo held\tpending"]
    )


@pytest.mark.parametrize("action", ["--rotate", "--truncate"])
def test_a_living_server_is_no_time_for_it(hs: Hs, action: str, tmp_path: Path) -> None:
    process = hs.start("cluster", "-N1", "-t", "echo {}; exec sleep 1000", hs.file(["1"]))
    assert process.stdout is not None and process.stdout.readline() == b"1\n"
    # The first task may start before its run is in the database.
    assert any("running" in hs.run("runs").out for _ in range(100))
    done = initdb(hs, action, "-y")
    assert done.status == 5 and done.err.count("\n") == 1
    assert re.search(rf"in use by process {process.pid} on host \S+ \(run \S+\): wait for its end, or", done.err)
    assert initdb(hs, "--vacuum", "-y").status == 0 and initdb(hs, "-yb", str(tmp_path / "b.db")).status == 0
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = initdb(hs, action, "-y")
    assert done.status == 0, done.err
