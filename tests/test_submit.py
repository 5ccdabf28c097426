"""``hs submit`` from outside: what becomes a task and with what, what is refused, and what is said."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.apps.submit import join_words
from hypershell.data.where import FIELDS
from tests.testbed.cli import Done, Hs
from tests.testbed.inside import run_inside

ID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
NOBODY = "INFO [hypershell.submit] No server works on this database now"
DEBUG = {"HYPERSHELL_LOGGING_LEVEL": "debug"}


def good(hs: Hs, *args: str, **more: Any) -> Done:
    done = run_inside(hs, "submit", *args, **more)
    assert (done.status, done.out) == (0, ""), done.err
    return done


def bad(hs: Hs, status: int, *args: str) -> str:
    """The only line that a refused command says."""
    done = run_inside(hs, "submit", *args)
    assert (done.status, done.out) == (status, ""), done
    assert done.err.count("\n") == 1 and done.err.startswith("CRITICAL [hypershell] ")
    return done.err.removeprefix("CRITICAL [hypershell] ").strip()


def args_of(hs: Hs) -> list[str]:
    return [row[0] for row in hs.rows("SELECT args FROM task ORDER BY id")]


def count(hs: Hs) -> int:
    """How many tasks there are; none where there is no database yet, or no table in it."""
    try:
        return int(hs.rows("SELECT count(*) FROM task")[0][0])
    except sqlite3.OperationalError:
        return 0


# -- the front page ------------------------------------------------------------------------------------------


def test_a_file_with_tags_behind_one_option(hs: Hs) -> None:
    hs.file([f"echo {n}" for n in range(20)])
    done = good(hs, "tasks.in", "--tag", "prod", "instr:B12", "site:us-west-1", "batch:12")
    lines = done.err.splitlines()
    assert lines[0].strip() == "INFO [hypershell.submit] Submitted 20 tasks"
    assert lines[1].strip().startswith(NOBODY) and "hs cluster --restart --db" in lines[1] and len(lines) == 2
    assert args_of(hs) == [f"echo {n}" for n in range(20)]
    tags = {row[0] for row in hs.rows("SELECT tag FROM task")}
    assert [json.loads(tag) for tag in tags] == [{"prod": "", "instr": "B12", "site": "us-west-1", "batch": 12}]


def test_the_rows_belong_to_nobody_and_are_whole(hs: Hs) -> None:
    hs.file(["echo 1", "echo 2"])
    good(hs, "tasks.in")
    (row,) = hs.rows("SELECT source, path, template, cwd, owner, complete, offset, lines FROM submission")
    assert row == ("file", str(hs.folder / "tasks.in"), "{}", str(hs.folder), None, 1, 14, 2)
    assert hs.rows("SELECT count(*) FROM run") == [(0,)]
    wanted = 'state, execution, attempt, "group", cores, memory, timeout, tag, submit_host'
    (only,) = set(hs.rows(f"SELECT {wanted} FROM task"))
    assert only[:-1] == ("pending", 0, 1, 0, None, None, None, "{}") and only[-1]
    assert len(set(hs.rows("SELECT submit_id FROM task UNION SELECT submit_id FROM submission"))) == 1


# -- one command ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        (["echo hello there"], "echo hello there"),
        (["echo", "hello there"], "echo 'hello there'"),
        (["echo", "a", "b"], "echo a b"),
        (["echo", "$HOME", "a|b", "it's", ""], "echo '$HOME' 'a|b' 'it'\"'\"'s' ''"),
        (["--", "ls", "-l", "--all"], "ls -l --all"),
        (["A=1 B=2 env | sort # not cut"], "A=1 B=2 env | sort # not cut"),
        (["/bin/ls"], "/bin/ls"),
        (["--", "no-such-file.txt"], "no-such-file.txt"),
        (["no-such-file"], "no-such-file"),
        (["20240101"], "20240101"),
    ],
)
def test_a_command_is_stored_as_typed(hs: Hs, words: list[str], stored: str) -> None:
    done = good(hs, *words)
    assert args_of(hs) == [stored]
    assert re.search(rf"INFO \[hypershell.submit\] Submitted task \({ID}\)\n", done.err)
    assert hs.rows("SELECT source, path, complete, owner FROM submission") == [("command", None, 1, None)]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=2, max_size=5))
def test_the_shell_sees_the_same_words(words: list[str]) -> None:
    assert shlex.split(join_words(tuple(words))) == words


def test_bytes_that_are_no_text_reach_the_command(hs: Hs) -> None:
    good(hs, os.fsdecode(b"echo \xff"))
    assert hs.rows("SELECT args, args_raw FROM task") == [("echo \\xff", b"echo \xff")]
    assert hs.run("cluster", "--restart").out.encode("utf-8", "surrogateescape") == b"\xff\n"


def test_options_and_tags_of_a_command(hs: Hs) -> None:
    tags = ["-t", "a", "n:7", "cores:2"]
    good(hs, *tags, "-g3", "-c", "8", "-m", "4G", "-W", "10m", "-t", "b:x", "--", "echo", "hi")
    assert hs.rows('SELECT args, "group", cores, memory, timeout, tag FROM task') == [
        ("echo hi", 3, 2, 4 * 1024**3, 600.0, '{"a":"","n":7,"b":"x"}')
    ]


def test_a_template_holds_for_a_command_too(hs: Hs) -> None:
    good(hs, "--template", "echo {} >{/-}.out", "--", "/a/b.txt")
    assert args_of(hs) == ["echo /a/b.txt >b.out"]


def test_an_executable_file_is_a_command(hs: Hs) -> None:
    script = hs.folder / "run.sh"
    script.write_text("#!/bin/sh\necho ran\n")
    good(hs, "./run.sh")
    assert args_of(hs) == ["#!/bin/sh", "echo ran"][1:]  # not executable yet: a FILE, whose first line is a comment
    script.chmod(0o755)
    done = good(hs, "./run.sh", env=DEBUG)
    assert args_of(hs)[-1] == "./run.sh" and "Submitted single task (explicit)" in done.err


# -- lines ---------------------------------------------------------------------------------------------------


def test_how_the_source_was_chosen_is_said(hs: Hs) -> None:
    hs.file(["echo 1", "echo 2", "echo 3"])
    done = good(hs, "tasks.in", "-b", "2", env=DEBUG)
    assert "DEBUG [hypershell.submit] Submitted from tasks.in (implicit - not executable)\n" in done.err
    assert done.err.count("DEBUG [hypershell.submit] Submitted 2 tasks\n") == 1
    assert done.err.count("DEBUG [hypershell.submit] Submitted 1 tasks\n") == 1
    assert " INFO [hypershell.submit] Submitted 3 tasks\n" in done.err
    assert len(re.findall(r"(?m)DEBUG .* Done$", done.err)) == 1
    assert "Submitted from tasks.in (explicit)" in good(hs, "-f", "tasks.in", env=DEBUG).err
    assert hs.rows("SELECT owner, complete FROM submission") == [(None, 1), (None, 1)]


@pytest.mark.parametrize("argv", [["-"], ["-f", "-"], [], ["-t", "x:1"]])
def test_standard_input(hs: Hs, argv: list[str]) -> None:
    done = hs.run("submit", *argv, input="echo 1\n\n# no\necho 2 # HYPERSHELL: y:2\n")
    assert (done.status, done.out) == (0, "") and "Submitted 2 tasks" in done.err
    assert args_of(hs) == ["echo 1", "echo 2"]
    assert hs.rows("SELECT source, complete FROM submission") == [("stdin", 1)]


def test_words_after_tags_that_could_be_tags_are_tags(hs: Hs) -> None:
    """As documented: without -- they are taken, and the lines come from stdin."""
    hs.run("submit", "-t", "a:1", "nightly", "hi", input="true\n")
    assert hs.rows("SELECT args, tag FROM task") == [("true", '{"a":1,"nightly":"","hi":""}')]


def test_a_program_behind_a_tag_is_not_taken_for_one_where_nothing_else_is_to_be_submitted(hs: Hs) -> None:
    """It was: no task, and status 0."""
    refused = bad(hs, 2, "-t", "id:5", "echo", "a")
    assert "echo behind -t/--tag is a tag, and a program too: for a command write -- before it" in refused
    good(hs, "-t", "id:5", "--", "echo", "a")
    hs.run("submit", "-t", "id:6", "echo", "-", input="true\n")
    (hs.folder / "list.in").write_text("x\n")
    good(hs, "list.in", "-t", "id:7", "echo")
    assert hs.rows("SELECT args, tag FROM task ORDER BY id") == [
        ("echo a", '{"id":5}'),
        ("true", '{"id":6,"echo":""}'),
        ("x", '{"id":7,"echo":""}'),
    ]


def test_a_template_that_quotes_is_for_the_client(hs: Hs) -> None:
    """It alone knows its shell; stored is the line, which may hold blanks only."""
    lines = "a # b\n \n\n$(touch canary)\r\n x # HYPERSHELL: y:1"
    hs.run("submit", "--quote", "--plain-lines", "--template", "printf '[%s]\n' {}", input=lines)
    assert args_of(hs) == ["a # b", " ", "$(touch canary)\r", " x # HYPERSHELL: y:1"]
    assert hs.rows("SELECT DISTINCT template FROM submission") == [("printf '[%s]\n' {:q}",)]
    done = hs.run("cluster", "--restart")
    assert sorted(done.out.split("\n")) == ["", "[ ]", "[ x # HYPERSHELL: y:1]", "[$(touch canary)\r]", "[a # b]"]
    assert not (hs.folder / "canary").exists()


def test_plain_lines_are_other_work(hs: Hs) -> None:
    (hs.folder / "list.in").write_text("a #b\n")
    good(hs, "list.in", "--plain-lines")
    told = good(hs, "list.in", "--update").err
    assert "with --plain-lines; that is other work" in told
    good(hs, "list.in", "--update", "--plain-lines")
    assert args_of(hs) == ["a #b", "a"]


def test_a_template_expands_now_and_sees_neither_directives_nor_blank_lines(hs: Hs) -> None:
    hs.file(["a.txt  # HYPERSHELL: site:b", "", "   ", "# HYPERSHELL: all:1", "x y # comment"])
    good(hs, "tasks.in", "--template", "cp {} {[-1]}.bak; {% echo '@' %} {= x.upper() =}")
    assert hs.rows("SELECT args, command, tag FROM task ORDER BY id") == [
        ("cp a.txt a.txt.bak; a.txt A.TXT", None, '{"site":"b"}'),
        ("cp x y y.bak; x y X Y", None, '{"all":1}'),
    ]
    assert hs.rows("SELECT template FROM submission") == [("{}",)]


@pytest.mark.parametrize("template", ["cp {} {slot}", "{= slot =} {}"])
def test_a_template_that_asks_for_the_slot_waits_for_it(hs: Hs, template: str) -> None:
    hs.file(["a.txt  # HYPERSHELL: site:b"])
    good(hs, "tasks.in", "--template", template)
    good(hs, "--template", template, "--", "x y")
    assert [args.split(" #")[0].strip() for args in args_of(hs)] == ["a.txt", "x y"]
    assert hs.rows("SELECT template FROM submission") == [(template,)] * 2


def test_the_closest_source_of_resources_wins(hs: Hs) -> None:
    (hs.folder / "site").mkdir()
    (hs.folder / "site" / "config.toml").write_text('[task]\ncores = 1\nmemory = "1K"\ntimeout = 9\n')
    hs.file(["a", "b # HYPERSHELL: cores:4 group:4", "# HYPERSHELL: cores:5", "c"])
    good(hs, "tasks.in", "-c", "2", "-g", "2", "-t", "cores:3", "-t", "memory:2K")
    assert hs.rows('SELECT cores, memory, timeout, "group" FROM task ORDER BY id') == [
        (3, 2048, 9.0, 2),
        (4, 2048, 9.0, 4),
        (5, 2048, 9.0, 2),
    ]


def test_bytes_of_a_line_with_a_template(hs: Hs) -> None:
    hs.file(b"\xff\n")
    good(hs, "tasks.in", "--template", "echo {}")
    assert hs.rows("SELECT args, args_raw FROM task") == [("echo \\xff", b"echo \xff")]


def test_an_empty_file_is_no_submission(hs: Hs) -> None:
    hs.file(["# nothing"])
    assert "Submitted 0 tasks" in good(hs, "tasks.in").err
    assert hs.rows("SELECT * FROM submission") == []


def test_a_pipe_in_place_of_a_file(hs: Hs) -> None:
    done = subprocess.run(
        ["sh", "-c", f"printf 'a\\nb\\n' | {shlex.join(hs.command('submit', '-f', '/dev/stdin'))}"],
        cwd=hs.folder, env=hs.environ(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Submitted 2 tasks" in done.stderr and args_of(hs) == ["a", "b"]


# -- what is refused -----------------------------------------------------------------------------------------


def test_bad_arguments_are_named(hs: Hs) -> None:
    hs.file(["a"])
    assert bad(hs, 2, "-f", "x", "y") == "Cannot specify both -f/--task-file and positional arguments"
    assert bad(hs, 2, "") == "the command is empty"
    assert bad(hs, 2, "ls", "-l").startswith("unrecognized arguments: -l (-- goes before a command")
    assert "bad tag 'a/b'" in bad(hs, 2, "tasks.in", "-t", "a/b")
    assert bad(hs, 2, "-c", "x", "ls") == "argument -c/--cores: invalid int value: 'x'"
    assert bad(hs, 2, "-m", "x", "ls").startswith("argument -m/--memory: 'x' is not a size")
    assert bad(hs, 2, "tasks.in", "--template", "{///}").startswith("template '{///}'")
    assert "the template is empty" in bad(hs, 2, "tasks.in", "--template", " ")
    assert bad(hs, 5, "-f", "none.in").startswith("FileNotFoundError: none.in: No such file or directory")
    assert "IsADirectoryError: " in bad(hs, 5, "-f", ".")
    assert count(hs) == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"x # HYPERSHELL: a/b", "bad tag 'a/b'"),
        (b"x # HYPERSHELL: timeout:soon", "bad tag 'timeout:soon'"),
        (b"x\0y", "the line holds a NUL byte"),
        (b"x" * 5_000_000, "the line has 50000"),
    ],
)
def test_a_bad_line_of_a_file_is_named_and_nothing_of_it_stays(hs: Hs, line: bytes, reason: str) -> None:
    hs.file(b"echo 1\n" * 20_000 + line + b"\necho 3\n")
    said = bad(hs, 5, "tasks.in", "-b", "500")
    assert said.startswith("tasks.in:20001: ") and reason in said and said.endswith("; nothing was submitted")
    assert count(hs) == 0


def test_a_template_that_fails_for_one_line_leaves_nothing(hs: Hs) -> None:
    hs.file([*["a b"] * 30, "c", "a b"])
    assert "tasks.in:31: {[1]}: index out of range" in bad(hs, 5, "tasks.in", "-b5", "--template", "echo {[1]}")
    said = bad(hs, 5, "tasks.in", "-b5", "--template", "{% test @ != c && echo x %}")
    assert "tasks.in:31: template command ended with status 1" in said and said.endswith("nothing was submitted")
    assert count(hs) == 0
    assert hs.rows("SELECT count(*) FROM submission UNION ALL SELECT count(*) FROM run") == [(0,), (0,)]
    assert "nothing was submitted" in bad(hs, 5, "--template", "{[5]}", "one")


def test_a_file_that_changes_meanwhile_leaves_nothing(hs: Hs) -> None:
    hs.file([str(n) for n in range(5)])
    said = bad(hs, 5, "tasks.in", "-b1", "--template", "{% echo more >>tasks.in; echo @ %}")
    assert said == "tasks.in was changed meanwhile; nothing was submitted: submit it again"
    assert count(hs) == 0


def test_a_bad_line_of_stdin_keeps_the_lines_before_it(hs: Hs) -> None:
    done = hs.run("submit", input="echo 1\necho 2\nx # HYPERSHELL: a/b\necho 3\n")
    assert done.status == 5 and done.out == ""
    assert "<stdin>:3: bad tag 'a/b'" in done.err and "; the 2 tasks before it were submitted" in done.err
    assert args_of(hs) == ["echo 1", "echo 2"]


def test_a_database_that_cannot_be_used_is_named_before_anything_is_read(hs: Hs) -> None:
    (hs.folder / "x.db").write_text("no database at all, but long enough to be looked at as one")
    assert "x.db is no SQLite database" in bad(hs, 5, "true", "--db", "x.db")


def test_initdb_makes_the_tables_first(hs: Hs) -> None:
    done = run_inside(hs, "submit", "--initdb", "-f", "none.in")
    assert done.status == 5 and "Database initialized automatically" in done.err
    assert hs.rows("SELECT count(*) FROM task") == [(0,)]


def test_alone_on_a_terminal_it_shows_its_usage(hs: Hs) -> None:
    for argv, status in (([], 1), (["-t", "a", "echo", "hi"], 2)):
        leader, follower = pty.openpty()
        process = hs.start("submit", *argv, stdin=follower)
        out, err = process.communicate(timeout=60)
        os.close(leader)
        os.close(follower)
        assert process.returncode == status
        assert out.startswith(b"usage: hs submit") if status == 1 else b"put -- in front of the command" in err


# -- hs task -------------------------------------------------------------------------------------------------


# -- the same file again ---------------------------------------------------------------------------------------


def test_the_same_file_again_is_told(hs: Hs) -> None:
    hs.file(["a", "b"])
    assert "before" not in good(hs, "tasks.in").err
    told = [line for line in good(hs, "tasks.in").err.splitlines() if "WARNING" in line]
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert len(told) == 1
    assert re.search(rf"tasks\.in was submitted before, at {time}; .*--update.*--repeat", told[0])
    assert args_of(hs) == ["a", "b", "a", "b"]
    assert "before" not in good(hs, "tasks.in", "--repeat").err
    assert count(hs) == 6
    for other in (["--template", "x {}"], ["-t", "prod", "--"]):  # other work
        assert "before" not in good(hs, "-f", "tasks.in", *other[:2]).err
    assert "before" in good(hs, "tasks.in", "-c", "3", "-W", "9").err, "how it runs is not the work"


def test_update_adds_what_is_new_however_often_it_is_said(hs: Hs) -> None:
    hs.file(["a", "b", "b"])
    assert "Submitted 3 tasks" in good(hs, "tasks.in", "--update").err, "nothing was there before"
    told = good(hs, "tasks.in", "--update").err
    assert "no new lines" in told and "Submitted 0 tasks" in told
    hs.file(["# c", "n  # HYPERSHELL: x:1", "b", "b", "b", "a"])
    told = good(hs, "tasks.in", "--update", "-b", "1").err
    assert "2 new lines of tasks.in added" in told and "Submitted 2 tasks" in told
    assert args_of(hs)[3:] == ["n", "b"]
    parts = hs.rows('SELECT complete, owner, "lines" FROM submission ORDER BY id')[1:]
    assert parts == [(1, None, 0), (1, None, 6)]
    hs.file(["b", "n  # HYPERSHELL: x:1", "z"])
    told = good(hs, "tasks.in", "--update").err
    assert "1 new line of tasks.in added, 3 tasks whose line is no longer there" in told
    assert "Submitted 0 tasks" in good(hs, "tasks.in", "--update").err
    assert hs.rows("SELECT count(*) FROM run") == [(0,)]


def test_an_update_of_other_work_says_what_differs(hs: Hs) -> None:
    hs.file(["a", "b"])
    good(hs, "tasks.in")
    told = good(hs, "tasks.in", "--update", "--template", "x {}", "--tag", "new:1").err
    assert " with another template and with other tags; that is other work, so this submits all of it\n" in told
    assert "Submitted 2 tasks" in told
    assert "before" not in good(hs, "tasks.in", "--update", "--template", "x {}", "--tag", "new:1").err
    assert count(hs) == 4


def test_after_a_repeat_an_update_looks_at_that_alone(hs: Hs) -> None:
    hs.file(["a"])
    good(hs, "tasks.in")
    good(hs, "tasks.in", "--repeat")
    hs.file(["a", "a"])
    assert "Submitted 1 tasks" in good(hs, "tasks.in", "--update").err


def test_an_update_compares_the_commands_of_the_template(hs: Hs) -> None:
    hs.file(["a", "b"])
    good(hs, "tasks.in", "--template", "run {% echo @ %}")
    hs.file(["b", "c", "a"])
    good(hs, "tasks.in", "--template", "run {% echo @ %}", "--update")
    assert args_of(hs) == ["run a", "run b", "run c"]
    hs.file(["b", "c", "a", "d"])
    words = ("tasks.in", "--template", "run {} {% echo x >>n; wc -l <n %}")
    good(hs, *words)
    hs.file(["b", "c", "a", "d", "e"])
    assert "only 0 of its new lines were submitted" in bad_last(hs, *words, "--update")


def bad_last(hs: Hs, *args: str) -> str:
    done = run_inside(hs, "submit", *args)
    assert done.status == 5
    return done.err.splitlines()[-1]


def test_an_update_of_what_is_half_submitted_is_refused(hs: Hs) -> None:
    hs.file(["a"])
    good(hs, "tasks.in")
    with closing(sqlite3.connect(hs.db)) as link, link:
        link.execute("UPDATE submission SET complete = 0")
    assert "an earlier submission of tasks.in is unfinished" in bad(hs, 5, "tasks.in", "--update")
    assert count(hs) == 1


@pytest.mark.parametrize("flag", ["--update", "--repeat"])
def test_what_is_no_file_cannot_come_again(hs: Hs, flag: str) -> None:
    for words in (["-"], ["--", "echo", "x"]):
        assert f"Using {flag} requires a FILE" in bad(hs, 2, flag, *words)
    hs.file(["a"])
    assert "Using --update with --repeat is invalid" in bad(hs, 2, "tasks.in", "--update", "--repeat")
    if flag == "--update":
        assert "only the database knows" in bad(hs, 2, "tasks.in", "--update", "-H", "nowhere")


def test_hs_task_submit_prints_the_new_id(hs: Hs) -> None:
    done = run_inside(hs, "task", "submit", "-t", "x:1", "--", "echo", "a b")
    assert done.status == 0 and re.fullmatch(ID + "\n", done.out)
    assert hs.rows("SELECT id, args, tag FROM task") == [(done.out.strip(), "echo 'a b'", '{"x":1}')]
    hs.file(["not read"])
    assert run_inside(hs, "task", "submit", "tasks.in").status == 0
    assert args_of(hs)[-1] == "tasks.in"
    for words in (["-f", "tasks.in"], [], ["-t", "x"]):
        done = run_inside(hs, "task", "submit", *words)
        assert done.status == 2 and done.out == ""


def test_hs_task_has_the_names_of_before(hs: Hs) -> None:
    task_id = run_inside(hs, "task", "submit", "true").out.strip()
    assert run_inside(hs, "task", "search", "args").out == "true\n"
    assert run_inside(hs, "task", "info", task_id, "-x", "args").out == "true\n"
    assert run_inside(hs, "task", "--list-columns").out.split() == list(FIELDS)
    assert run_inside(hs, "task", "wait", "zz").status == 2
    wrong = "CRITICAL [hypershell] unrecognized command: task nothing (see hs task --help)\n"
    assert run_inside(hs, "task", "nothing").err == wrong
    assert run_inside(hs, "task").status == 1
    assert "search" in run_inside(hs, "task", "--help").out
    assert "task" not in run_inside(hs, "--help").out.partition("commands:")[2].replace("tasks", "").split()


# -- size ----------------------------------------------------------------------------------------------------


def test_many_lines_in_many_transactions(hs: Hs, tmp_path: Path) -> None:
    """The same at a million lines is in the soak (``python -m tests.soak --only submit``)."""
    lines = 60_000
    hs.file([f"echo {n}" for n in range(lines)])
    assert f"Submitted {lines} tasks" in good(hs, "tasks.in").err
    assert hs.rows("SELECT count(*), count(DISTINCT args), min(id) < max(id) FROM task") == [(lines, lines, 1)]
    assert hs.rows("SELECT count(*), max(complete), max(owner) FROM submission") == [(1, 1, None)]
    assert hs.rows("SELECT count(*) FROM run") == [(0,)]


def test_a_bar_on_a_terminal_and_none_elsewhere() -> None:
    code = (
        "import sys; from hypershell.apps.progress import Bar; now = [0.0]\n"
        "bar = Bar('reading', 200, clock=lambda: now[0])\n"
        "for step in range(3): now[0] += 0.4; bar.update(50 * step, 10 * step)\n"
        "bar.erase()"
    )
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", code]
    subprocess.run(command, stderr=follower, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(follower)
    shown = os.read(leader, 10_000).decode()
    os.close(leader)
    assert "reading [#######" in shown and "25%" in shown and "10 tasks" in shown and shown.endswith("\x1b[2K")
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
