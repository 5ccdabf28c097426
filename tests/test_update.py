"""``hs update`` on databases that no living server works on, and what it refuses."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hypershell.core.states import FINAL, TRANSITIONS
from hypershell.data.edits import ASSIGNABLE, EditError, read_edit
from hypershell.data.query import LAST_ATTEMPT
from hypershell.data.where import FIELDS
from hypershell.ids import IdSource
from hypershell.signal_names import signal_name, signal_number
from tests.test_query import fill
from tests.testbed.cli import Done, Hs
from tests.testbed.inside import run_inside

ID = IdSource().task()


@pytest.fixture
def alive(hs: Hs) -> Hs:
    """The six tasks of test_query: succeeded, failed and tried again, failed, dispatched, pending, pending. The run
    that has them is that of this process."""
    hs.db.parent.mkdir(parents=True)
    fill(hs.db)
    return hs


@pytest.fixture
def idle(alive: Hs) -> Hs:
    """The same, after the end of that run."""
    write(alive, "UPDATE run SET end_time = start_time")
    return alive


def write(hs: Hs, statement: str) -> None:
    link = sqlite3.connect(hs.db)
    with link:
        link.execute(statement)
    link.close()


def table(hs: Hs) -> list[dict[str, Any]]:
    """All rows, in the order of their ids."""
    link = sqlite3.connect(hs.db)
    link.row_factory = sqlite3.Row
    found = [dict(row) for row in link.execute("SELECT * FROM task ORDER BY id")]
    link.close()
    return found


def update(hs: Hs, *args: str, **more: Any) -> Done:
    done = run_inside(hs, "update", *args, **more)
    assert done.status == 0, done
    return done


def changed(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[int, set[str]]:
    """Which columns of which rows differ."""
    pairs = enumerate(zip(before, after, strict=True))
    found = {number: {key for key in old if old[key] != new[key]} for number, (old, new) in pairs}
    return {number: keys for number, keys in found.items() if keys}


# -- what is changed -----------------------------------------------------------------------------------------


def test_only_the_named_columns_of_the_selected_rows_change(idle: Hs) -> None:
    before = table(idle)
    done = update(idle, "timeout=10m", "memory=4G", "cores=none", "new:x", "--remove-tag", "n", "-g0", "-F", "-f")
    assert done.err.endswith("Updated 2 tasks\n") and str(idle.db) in done.err
    after = table(idle)
    assert changed(before, after) == {1: {"timeout", "memory", "tag"}, 2: {"timeout", "memory", "tag"}}
    assert (after[1]["timeout"], after[1]["memory"], after[1]["cores"]) == (600.0, 4 << 30, None)
    assert after[1]["tag"] == '{"site":"east","ok":false,"new":"x"}'
    assert after[2]["tag"] == '{"site":"007","part.2-a":"v","new":"x"}'


def test_all_kinds_of_change_apply_to_the_same_rows_with_a_limit(idle: Hs) -> None:
    """Defect 34: the first kind of change used up the selection."""
    before = table(idle)
    update(idle, "group=7", "a.b-c:1.5", "--remove-tag", "site", "--revert", "-l2", "-s", "exit_status", "-f")
    after = table(idle)
    found = changed(before, after)
    assert set(found) == {0, 2}  # -9 and 0; the task between them was tried again
    for number in found:
        assert after[number]["group"] == 7 and after[number]["state"] == "pending"
        assert '"a.b-c":1.5' in after[number]["tag"] and "site" not in after[number]["tag"]


@pytest.mark.parametrize(
    ("word", "text"), [("k:null", "null"), ("k:true", "true"), ("k:007", '"007"'), ("k", None)]
)
def test_tags_keep_their_type(idle: Hs, word: str, text: str | None) -> None:
    if text is None:
        assert run_inside(idle, "update", word, "-f").status == 2
        return
    update(idle, word, "-w", "args ~ case_4", "-f")
    assert table(idle)[4]["tag"] == f'{{"k":{text}}}'
    assert run_inside(idle, "list", "-c", "-t", word).out == ("6\n" if text == "null" else "1\n")


def test_args_are_replaced_with_their_bytes(idle: Hs) -> None:
    write(idle, "UPDATE task SET args_raw = x'ff'")
    update(idle, "args=echo 'a=b:c' # d", "-w", "args ~ case_4", "-f")
    row = table(idle)[4]
    assert (row["args"], row["args_raw"]) == ("echo 'a=b:c' # d", None)
    assert (
        idle.run("update", b"args=x\xff".decode("utf-8", "surrogateescape"), "-w", "args ~ a=b", "-f").status == 0
    )
    row = table(idle)[4]
    assert (row["args"], row["args_raw"]) == ("x\\xff", b"x\xff")


def test_cancel_takes_what_has_not_ended(idle: Hs) -> None:
    before = table(idle)
    assert update(idle, "--cancel", "-f").err.endswith("Updated 3 tasks\n")
    after = table(idle)
    found = changed(before, after)
    assert found == {n: {"state", "exit_status", "completion_time"} for n in (3, 4, 5)}
    assert {(after[n]["state"], after[n]["exit_status"]) for n in found} == {("cancelled", -100)}
    assert run_inside(idle, "list", "-c", "-C").out == "6\n"
    assert run_inside(idle, "list", "-c", "-X").out == "3\n"
    assert idle.run("cluster", "--restart").status in (0, 7)
    assert table(idle) == after


def test_revert_makes_the_last_attempt_pending(idle: Hs) -> None:
    before = table(idle)
    update(idle, "--revert", "-F", "-f")
    after = table(idle)
    assert set(changed(before, after)) == {2}
    row = after[2]
    assert (row["state"], row["execution"], row["attempt"]) == ("pending", 2, 2)
    empty = "schedule_time server_id client_id command start_time completion_time exit_status duration waited error"
    assert [row[name] for name in empty.split()] == [None] * 10
    assert row["user_time"] is row["max_rss"] is None and row["submit_time"] == before[2]["submit_time"]


def test_what_was_cancelled_is_selected(idle: Hs) -> None:
    update(idle, "--cancel", "-R", "-g", "1", "-f")
    assert run_inside(idle, "export", "-", "--format", "csv", "-X").out.count("\n") == 3
    assert update(idle, "--revert", "-X", "-f").err.endswith("Updated 2 tasks\n")
    assert run_inside(idle, "list", "-c", "--cancelled").out == "0\n"


@pytest.mark.parametrize(
    ("word", "name"),
    [("USR1", "USR1"), ("sigusr1", "USR1"), (str(int(signal.SIGUSR1)), "USR1"), ("9", "KILL"), ("SIGTERM", "TERM")],
)
def test_a_signal_has_one_name(word: str, name: str) -> None:
    assert signal_name(word) == name and signal_number(name) == signal.Signals[f"SIG{name}"]


def test_a_real_time_signal_has_its_number() -> None:
    number = int(signal.SIGRTMIN) + 1
    assert signal_name(str(number)) == str(number) and signal_number(str(number)) == number
    assert signal_number("NOPE") is signal_number("0") is signal_number("99") is signal_number("") is None


def test_delete_leaves_no_links(idle: Hs) -> None:
    write(idle, "UPDATE task SET previous_id = (SELECT id FROM task WHERE next_id IS NOT NULL) WHERE attempt = 2")
    assert update(idle, "--delete", "--retries", "-f").err.endswith("Deleted 1 tasks\n")
    rows = table(idle)
    assert len(rows) == 5 and [row["next_id"] for row in rows] == [None] * 5 and not any(r["retried"] for r in rows)
    update(idle, "--delete", "-f")
    assert [row["state"] for row in table(idle)] == ["dispatched"]


def test_what_was_reverted_runs_again_and_what_was_cancelled_does_not(hs: Hs) -> None:
    hs.file(["test -e ok", "echo never", "false  # HYPERSHELL: x:1"])
    assert hs.run("cluster", "tasks.in").status == 7
    (hs.folder / "ok").touch()
    update(hs, "--revert", "-F", "-w", "args ~ ^test", "-f")
    update(hs, "--revert", "args=echo again", "-t", "x:1", "-f")
    update(hs, "--revert", "-w", "args ~ never", "-f")
    update(hs, "--cancel", "-w", "args ~ never", "-f")
    done = hs.run("cluster", "--restart")
    assert (done.status, done.out) == (0, "again\n")
    assert hs.rows("SELECT state, attempt, execution, command FROM task ORDER BY id") == [
        ("succeeded", 1, 3, "test -e ok"), ("cancelled", 1, 2, None), ("succeeded", 1, 3, "echo again"),
    ]  # fmt: skip


def test_ids_and_the_old_form(idle: Hs) -> None:
    keys = [row["id"] for row in table(idle)]
    before = table(idle)
    update(idle, keys[4], keys[5].upper(), "--cancel", "-f")
    assert set(changed(before, table(idle))) == {4, 5}
    before = table(idle)
    update(idle, keys[0], "timeout", "5")
    update(idle, keys[0], "tag", "who:me")
    update(idle, keys[0], "memory", "null")
    after = table(idle)
    assert changed(before, after) == {0: {"timeout", "tag"}}
    assert after[0]["timeout"] == 5.0 and '"who":"me"' in after[0]["tag"] and '"site"' in after[0]["tag"]


# -- asking --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "does"), [("yes\n", True), ("Y\n", True), ("no\n", False), ("\n", False)])
def test_it_asks(idle: Hs, answer: str, does: bool) -> None:
    before = table(idle)
    done = update(idle, "--cancel", input=answer)
    assert done.out == "Update affects 3 tasks, continue? yes/[no]: "
    assert bool(changed(before, table(idle))) is does


def test_nobody_answers(idle: Hs) -> None:
    before = table(idle)
    done = run_inside(idle, "update", "--cancel")
    assert done.status == 5 and "--no-confirm" in done.err and table(idle) == before


def test_no_tasks_no_question(idle: Hs, tmp_path: Path) -> None:
    assert "No such tasks" in update(idle, "--cancel", "-w", "group == 99").err
    assert "No such tasks" in update(idle, "--revert", "-R").err
    other = Hs(tmp_path / "other")
    other.folder.mkdir()
    assert "No such tasks" in update(other, "--cancel").err and not other.db.exists()


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["exit_status==0"], "did you mean -w 'exit_status==0'?"),
        (["args~x"], "-w 'args~x'"),
        (["foo=1"], 'Invalid field name "foo"'),
        (["word"], "is no change"),
        (["cores=x"], "cores takes a whole number"),
        (["memory=much"], "is not a size"),
        (["timeout=-5"], "is negative"),
        (["group=null"], "group takes a whole number"),
        (["args="], "args cannot be empty"),
        (["tag=x"], "KEY:VALUE"),
        (["bad key:1"], "bad tag"),
        (["a:1", "--remove-tag", "a"], "both set and removed"),
        (["--remove-tag", "a:1"], "is no key"),
        (["--remove-tag", "cores"], "no tag but a field"),
        (["--delete", "a:1"], "Using --delete with other changes"),
        (["--cancel", "--revert"], "Using --cancel with --revert is invalid"),
        (["-F"], "nothing to change"),
        (["a:1", "--desc"], "Using --desc requires"),
        (["a:1", "-s", "id"], "requires -l/--limit"),
        ([ID, "--cancel", "-l1"], "with the id of a task"),
        (["state=pending"], "belongs to the program"),
        (["--cancel", "--signal", "NOPE"], "--signal: expected a signal as USR1, SIGUSR1 or 10, not 'NOPE'"),
        (["--cancel", "--signal", "0"], "expected a signal"),
        (["--cancel", "--signal", "99999"], "expected a signal"),
        (["--revert", "--signal", "USR1"], "Using --signal without --cancel is invalid"),
        (["--revert", "-X", "-F"], "-X/--cancelled is invalid"),
    ],
)
def test_bad_words_are_named(idle: Hs, argv: list[str], text: str) -> None:
    before = table(idle)
    done = run_inside(idle, "update", *argv, "-f")
    assert done.status == 2 and text in done.err and done.err.count("\n") == 1, done
    assert table(idle) == before


def test_only_a_few_fields_are_the_users() -> None:
    for name in FIELDS:
        if name not in (*ASSIGNABLE, "tag"):
            with pytest.raises(EditError, match=f"{name} belongs to the program"):
                read_edit([f"{name}=1"])
            with pytest.raises(EditError, match=f"{name} belongs to the program"):
                read_edit([ID, name, "1"])


def test_without_arguments_it_prints_usage(hs: Hs) -> None:
    done = run_inside(hs, "update")
    assert done.status == 1 and done.out.startswith("usage: hs update")


def test_named_tasks_must_be_there_and_fit(idle: Hs) -> None:
    rows = table(idle)
    assert {(row["state"], bool(row["next_id"])) for row in rows} >= {("failed", True), ("pending", False)}
    for key, action, text in (
        (ID, "--cancel", f"task {ID} is not in database"),
        (rows[0]["id"], "--cancel", "is succeeded: only a task that has not ended"),
        (rows[4]["id"], "--revert", "is pending: only a task that has ended"),
        (rows[3]["id"], "--delete", "is dispatched: only a task that waits or has ended"),
        (rows[1]["id"], "--revert", f"was tried again as {rows[1]['next_id']}"),
    ):
        done = run_inside(idle, "update", key, rows[5]["id"], action, "-f")
        assert done.status == 5 and text in done.err and done.err.count("\n") == 2, done
    assert table(idle) == rows and LAST_ATTEMPT.field == "next_id"


def test_a_living_server_keeps_what_it_has(alive: Hs) -> None:
    before = table(alive)
    waiting, running = ["-w", "state == pending"], ["-w", "state == dispatched"]
    for argv in (["cores=1", "-R"], ["group=1", *waiting], ["a:b", *running], ["--revert"]):
        done = run_inside(alive, "update", *argv, "-f")
        assert done.status == 5 and "a run that goes on (process" in done.err and "nothing was changed" in done.err
    assert table(alive) == before
    update(alive, "a:b", "-C", "-f")
    assert set(changed(before, table(alive))) == {0, 1, 2}


def test_everything_or_nothing(idle: Hs) -> None:
    write(
        idle,
        "CREATE TRIGGER no BEFORE UPDATE ON task WHEN new.args LIKE '%_5%' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    before = table(idle)
    done = run_inside(idle, "update", "cores=3", "a:1", "--cancel", "-f")
    assert done.status == 5 and done.err.count("\n") == 2 and table(idle) == before


def test_the_rules_are_those_of_the_table() -> None:
    for action in ("cancel", "revert", "delete"):
        edit, _ = read_edit([], action=action)
        assert set(edit.states) == {old for old, event in TRANSITIONS if event == action}
    assert not set(read_edit([], action="cancel")[0].states) & FINAL
