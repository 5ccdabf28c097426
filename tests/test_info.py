"""``hs info`` and ``hs wait`` from outside, on tasks that ran, failed, were tried again, or never ran."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.apps.one import full_form, status_for, value_as
from hypershell.data.where import FIELDS
from hypershell.errors import UsageError
from tests.testbed.cli import Done, Hs
from tests.testbed.inside import run_inside

#: A command with everything that quoting could mangle.
ODD = "printf '%s\\n' \"a 'b'\" '\"q\"' \\$x; printf '\\377\\0' >&2 # é 😀\ttab\nexit 3"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Hs:
    """A site in which tasks ran with --capture, one of them twice, and one never ran."""
    hs = Hs(tmp_path_factory.mktemp("info"))
    run_inside(hs, "submit", "-t", "site:west", "n:1", "on", "1:x", "--", ODD)
    run_inside(hs, "submit", "false")
    run_inside(hs, "submit", "true")
    assert hs.run("cluster", "--restart", "--capture", "-r1").status == 7
    run_inside(hs, "submit", "echo never")
    return hs


def id_of(hs: Hs, args: str, attempt: int = 1) -> str:
    return str(hs.rows("SELECT id FROM task WHERE args = ? AND attempt = ?", args, attempt)[0][0])


def info(hs: Hs, *args: str) -> str:
    done = run_inside(hs, "info", *args)
    assert (done.status, done.err) == (0, ""), done
    return done.out


def refused(hs: Hs, status: int, command: str, *args: str) -> str:
    done = run_inside(hs, command, *args)
    assert (done.status, done.out, done.err.count("\n")) == (status, "", 1), done
    return done.err.removeprefix("CRITICAL [hypershell] ").rstrip("\n")


# -- formats -------------------------------------------------------------------------------------------------


def test_the_block_is_that_of_list(ran: Hs) -> None:
    task_id = id_of(ran, ODD)
    listed = run_inside(ran, "list", "-w", f"id == {task_id}").out
    assert "---\n" + info(ran, task_id) == listed and f"          id: {task_id}\n" in listed
    assert info(ran, task_id, "-f", "normal") == info(ran, task_id)


def test_json_has_all_fields_in_order(ran: Hs) -> None:
    text = info(ran, id_of(ran, ODD), "--json")
    task = json.loads(text)
    assert list(task) == list(FIELDS) and text.startswith('{\n    "id": ')
    assert (task["args"], task["exit_status"], task["attempt"]) == (ODD, 3, 1)
    assert task["tag"] == {"site": "west", "n": 1, "on": "", "1": "x"}
    assert text == info(ran, id_of(ran, ODD), "-f", "json")


def test_yaml_has_all_fields_in_order(ran: Hs) -> None:
    lines = info(ran, id_of(ran, ODD), "--yaml").splitlines()
    names = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert names == list(FIELDS)
    tags = lines[lines.index("tag:") + 1 :][:4]
    assert tags == ['    "site": "west"', '    "n": 1', '    "on": ""', '    "1": "x"']
    args = next(line for line in lines if line.startswith("args: ")).removeprefix("args: ")
    assert "\\U0001f600" in args and "\\u00e9" in args and "\\u000a" in args and args.isascii()
    assert "command: null" in info(ran, id_of(ran, "echo never"), "--yaml").splitlines()
    assert "tag: {}" in info(ran, id_of(ran, "true"), "--yaml").splitlines()


def unescaped(text: str) -> str:
    """What YAML says about double quotes, written from its specification (5.7), for the escapes that we use."""
    assert text[0] == text[-1] == '"' and text[1:-1].isascii() and text.isprintable()
    return re.sub(
        r'\\(?:u([0-9a-f]{4})|U([0-9a-f]{8})|(["\\]))',
        lambda m: m[3] or chr(int(m[1] or m[2], 16)),
        text[1:-1],
    )


@given(st.text())
def test_every_text_survives_yaml(text: str) -> None:
    assert unescaped(value_as(text, "yaml").rstrip("\n")) == text


def test_numbers_of_yaml_are_numbers_for_old_readers_too() -> None:
    """YAML 1.1 takes ``1e-05`` for a text: it wants a point."""
    shown = [value_as(value, "yaml").strip() for value in (1e-05, 1e16, 2.5, 3, True, None, {})]
    assert shown == ["1.0e-05", "1.0e+16", "2.5", "3", "true", "null", "{}"]


def test_a_single_field_is_exactly_its_value(ran: Hs) -> None:
    """Defect 33: quotes are those of the command."""
    task_id = id_of(ran, ODD)
    assert info(ran, task_id, "-x", "args") == ODD + "\n"
    assert info(ran, task_id, "-x", "exit_status") == "3\n"
    assert info(ran, task_id, "-x", "retried") == "true\n"
    assert info(ran, task_id, "-x", "error") == "null\n"
    assert info(ran, task_id, "-x", "tag") == "site:west n:1 on 1:x\n"
    assert json.loads(info(ran, task_id, "-x", "tag", "--json")) == {"site": "west", "n": 1, "on": "", "1": "x"}
    assert json.loads(info(ran, task_id, "-x", "args", "--json")) == ODD
    assert info(ran, task_id, "-x", "tag", "--yaml") == '"site": "west"\n"n": 1\n"on": ""\n"1": "x"\n'
    assert 'Invalid field name "x"' in refused(ran, 2, "info", task_id, "-x", "x")


# -- which task ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [str, str.upper, lambda text: text.replace("-", ""), lambda text: text[:-1]])
def test_forms_of_an_id(ran: Hs, change: type[str]) -> None:
    task_id = id_of(ran, "true")
    assert info(ran, change(task_id), "-x", "id") == task_id + "\n"


def test_a_beginning_that_several_have(ran: Hs) -> None:
    said = refused(ran, 5, "info", "0")
    assert said.startswith("6 tasks have an id that begins with 0 (") and said.endswith(", ...): give more of it")
    assert id_of(ran, ODD) in said


@pytest.mark.parametrize("word", ["xyz", "", "-", "0" * 33, "0123é", "%"])
def test_a_word_that_no_id_begins_with(ran: Hs, word: str) -> None:
    assert refused(ran, 2, "info", "--", word).endswith(" (hs list id args shows the ids of tasks)")
    assert refused(ran, 2, "wait", "--", word).startswith("Bad UUID: ")


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(1, 32))
def test_a_beginning_without_dashes_is_one_with_dashes(digits: str, length: int) -> None:
    whole = full_form(digits)
    assert [len(part) for part in whole.split("-")] == [8, 4, 4, 4, 12]
    assert whole.startswith(full_form(digits[:length]))
    with pytest.raises(UsageError):
        full_form(digits + "0")


def test_what_is_not_there(ran: Hs, hs: Hs, tmp_path: Path) -> None:
    nothing = "ffffffff-ffff-7fff-8fff-ffffffffffff"
    for command in ("info", "wait"):
        assert refused(ran, 5, command, nothing).startswith(f"there is no task {nothing} in {ran.db}")
        assert "none.db" in refused(ran, 5, command, nothing, "--db", "none.db")
        assert run_inside(hs, "initdb", "--yes").status == 0
        assert refused(hs, 5, command, nothing).startswith("there is no task")
    assert not (tmp_path / "none.db").exists() and not (ran.folder / "none.db").exists()


def test_bad_arguments_are_named(ran: Hs) -> None:
    for command in ("info", "wait"):
        assert run_inside(ran, command).out.startswith(f"usage: hs {command} ")
        assert run_inside(ran, command).status == 1
        assert refused(ran, 2, command, "--json") == "the following arguments are required: ID"
        way_out = f"see hs {command} --help"
        assert refused(ran, 2, command, "--json", "0", "1") == f"unrecognized arguments: 1 ({way_out})"
        assert refused(ran, 2, command, "0", "--json", "--yaml") == "Using --json with --yaml is invalid"
    assert refused(ran, 2, "info", "0", "--stdout", "-x", "id") == "Using -x/--extract with --stdout is invalid"
    assert refused(ran, 2, "info", "0", "--stdout", "--json").startswith("Using --stdout with -f/--format")
    assert refused(ran, 2, "wait", "0", "-s", "-r") == "Using -s/--status with -r/--return is invalid"
    assert refused(ran, 2, "wait", "0", "--json") == "Using -f/--format requires -i/--info"


# -- output --------------------------------------------------------------------------------------------------


def test_captured_output_comes_byte_for_byte(ran: Hs) -> None:
    task_id = id_of(ran, ODD)
    assert info(ran, task_id, "--stdout") == "a 'b'\n\"q\"\n$x\n"
    done = run_inside(ran, "info", task_id, "--stderr")
    assert (done.status, done.out, done.err.encode("utf-8", "surrogateescape")) == (0, "", b"\xff\0")
    process = ran.start("info", task_id, "--stderr")
    assert process.communicate() == (b"", b"\xff\0")


def test_output_that_is_not_here_is_explained(ran: Hs, hs: Hs) -> None:
    assert "was not kept: the task is pending" in refused(ran, 5, "info", id_of(ran, "echo never"), "--stdout")
    assert hs.run("cluster", "--capture", input="echo x\n").status == 0
    task_id = id_of(hs, "echo x")
    path = Path(info(hs, task_id, "-x", "outpath").strip())
    path.unlink()
    assert refused(hs, 5, "info", task_id, "--stdout").endswith(
        f"{path} is not there any more (--keep-output keeps it in the database too)"
    )
    hs.rows("SELECT 1")
    _sql(hs, "UPDATE task SET client_host = 'elsewhere'")
    assert f"{path} is on host elsewhere, not on this one (" in refused(hs, 5, "info", task_id, "--stdout")
    path.mkdir()
    assert "is not opened: it is no regular file" in refused(hs, 5, "info", task_id, "--stdout")
    assert hs.run("cluster", input="echo y\n").status == 0
    said = refused(hs, 5, "info", id_of(hs, "echo y"), "--stderr")
    assert said.endswith("that are submitted or run with --keep-output, and by a run with --capture")


def _sql(hs: Hs, statement: str) -> None:
    import sqlite3

    connection = sqlite3.connect(hs.db)
    with connection:
        connection.execute(statement)
    connection.close()


# -- wait ----------------------------------------------------------------------------------------------------


def wait(hs: Hs, args: str, *options: str) -> Done:
    return run_inside(hs, "wait", id_of(hs, args), *options)


def test_a_task_that_has_ended(ran: Hs) -> None:
    done = wait(ran, "true")
    assert (done.status, done.out) == (0, "")
    assert done.err == f"    INFO [hypershell.task] Completed task ({id_of(ran, 'true')})\n"
    assert (wait(ran, "true", "-r").status, wait(ran, "true", "-s").out) == (0, "0\n")


def test_a_task_that_was_tried_again_is_over_with_its_last_attempt(ran: Hs) -> None:
    last = id_of(ran, "false", 2)
    done = wait(ran, "false", "-r")
    assert (done.status, done.out) == (1, "")
    assert done.err == f" WARNING [hypershell.task] Non-zero exit status (1) for task ({last})\n"
    assert json.loads(wait(ran, "false", "-i", "--json").out)["id"] == last
    assert f"          id: {last}\n" in wait(ran, "false", "-i").out
    assert wait(ran, ODD, "-r").status == 3


def test_it_ends_with_the_task(hs: Hs) -> None:
    task_id = run_inside(hs, "task", "submit", "kill -9 $$").out.strip()
    waiting = {options: hs.start("wait", task_id, *options) for options in (("-s",), ("-r",), ("-i", "--json"))}
    for process in waiting.values():
        assert process.stderr is not None
        assert process.stderr.readline() == f"    INFO [hypershell.task] Waiting for task ({task_id})\n".encode()
    assert hs.run("cluster", "--restart").status == 7
    ended = {options: process.communicate(timeout=60)[0] for options, process in waiting.items()}
    assert (ended["-s",], ended["-r",]) == (b"-9\n", b"")
    assert json.loads(ended["-i", "--json"])["exit_status"] == -9
    assert [process.returncode for process in waiting.values()] == [0, 247, 0]


def test_a_task_that_is_removed_meanwhile(hs: Hs) -> None:
    task_id = run_inside(hs, "task", "submit", "true").out.strip()
    run_inside(hs, "submit", "false")
    process = hs.start("wait", task_id, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.readline()
    _sql(hs, "DELETE FROM task WHERE args = 'true'")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5 and f"task {task_id} was removed from {hs.db}".encode() in err


def test_a_cancelled_task_has_ended(hs: Hs) -> None:
    run_inside(hs, "submit", "true")
    _sql(hs, "UPDATE task SET state = 'cancelled', exit_status = -100")
    assert wait(hs, "true", "-r").status == 156
    assert "Non-zero exit status (-100)" in wait(hs, "true").err


@pytest.mark.parametrize(
    ("exit_status", "state", "expected"),
    [(0, "succeeded", 0), (3, "failed", 3), (-9, "failed", 247), (-103, "failed", 153), (256, "failed", 7),
     (0, "failed", 7), (-100, "cancelled", 156), (0, "cancelled", 7), (None, "pending", 7)],
)  # fmt: skip
def test_only_success_is_0(exit_status: int | None, state: str, expected: int) -> None:
    """A task that was stopped at its limit may itself end with 0."""
    assert status_for(exit_status, state) == expected
