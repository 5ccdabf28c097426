"""``--restart FILE`` where FILE has changed: refused, or brought up to date, or run again as a new submission."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.test_half_read import die_half_way
from tests.integration.test_mpi import Job
from tests.testbed.cli import Hs
from tests.testbed.mpi import ROOT, Mpi, each_mpi


def restart(hs: Hs, *more: str) -> list[str]:
    """Restart tasks.in; what ran."""
    done = hs.run("cluster", "tasks.in", "--restart", *more)
    assert done.status == 0, done.err
    return sorted(done.out.split())


def mark(hs: Hs) -> tuple[object, ...]:
    return hs.rows("SELECT offset, lines, complete FROM submission ORDER BY id DESC")[0]


def test_a_changed_file_is_refused_with_the_choices(hs: Hs) -> None:
    hs.file(["echo a", "echo b"])
    assert restart(hs) == ["a", "b"]
    for what, lines in {"changed": "xb", "shorter": "a", "grown": "abc"}.items():
        hs.file([f"echo {letter}" for letter in lines])
        done = hs.run("cluster", "tasks.in", "--restart")
        assert done.status == 5 and what in done.err and len(done.err.splitlines()) == 1
        assert "--update" in done.err and "--repeat" in done.err and "restore it" in done.err


def test_update_runs_just_the_new_lines(hs: Hs) -> None:
    """Moved, equal, appended and inserted ones; then the FILE is what was submitted."""
    hs.file(["echo a", "echo b", "echo b", "echo c"])
    assert restart(hs, "--update") == ["a", "b", "b", "c"]
    hs.file(["echo c", "echo new", "# a comment", "echo b", "echo b", "echo b", "echo a", "echo end"])
    assert restart(hs, "--update") == ["b", "end", "new"]
    assert mark(hs) == ((hs.folder / "tasks.in").stat().st_size, 8, 1)
    assert restart(hs) == restart(hs, "--update") == []
    assert hs.states() == {"succeeded": 7} and hs.rows("SELECT count(*) FROM submission") == [(1,)]


def test_how_lines_are_read_and_quoted_is_part_of_the_work(hs: Hs) -> None:
    hs.file(["a #b", "$(touch canary)"])
    words = ("cluster", "tasks.in", "--restart", "-t", "echo {}")
    assert hs.run(*words, "-q", "--plain-lines").out.splitlines() == ["a #b", "$(touch canary)"]
    assert hs.run(*words, "-q", "--plain-lines").out == ""
    hs.file(["a #b", "$(touch canary)", "c #d"])
    assert hs.run(*words, "-q", "--plain-lines", "--update").out == "c #d\n"
    done = hs.run(*words, "-q")
    assert "with lines read otherwise: '--plain-lines' there, 'comments and directives' here" in done.err
    assert done.out.splitlines() == ["a", "$(touch canary)", "c"]
    assert not (hs.folder / "canary").exists()
    done = hs.run(*words)
    assert "with another template: 'echo {:q}' there, 'echo {}' here" in done.err
    assert (hs.folder / "canary").exists()


def test_plain_lines_stay_plain_where_a_half_read_file_is_read_on(hs: Hs) -> None:
    hs.file(["a #b", "c #d"])
    assert hs.run("cluster", "tasks.in", "--plain-lines", "-q", "-t", "echo {}").out == "a #b\nc #d\n"
    first = (5, 1, hashlib.sha256(b"a #b\n").hexdigest())
    with closing(sqlite3.connect(hs.db)) as link, link:
        link.execute("UPDATE submission SET offset = ?, lines = ?, digest = ?, complete = 0", first)
        link.execute("DELETE FROM task WHERE args = 'c #d'")
    assert hs.run("cluster", "--restart").out == "c #d\n"


def test_what_is_not_there_any_more_is_left_alone_and_counted(hs: Hs) -> None:
    hs.file(["echo a", "echo b", "echo c"])
    restart(hs)
    hs.file(["echo c", "echo d"])
    done = hs.run("cluster", "tasks.in", "--restart", "--update")
    assert done.out == "d\n" and len(done.err.splitlines()) == 1
    assert "1 new line of tasks.in added, 2 tasks whose line is no longer there left alone" in done.err
    assert hs.states() == {"succeeded": 4}


def test_what_waits_still_runs_beside_the_new_lines(hs: Hs) -> None:
    hs.file(["echo up; exec sleep 1000", "echo left"])
    process = hs.start("cluster", "tasks.in", "--restart", "-b1")
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.kill()
    process.communicate()
    hs.file(["echo left", "echo new"])
    assert hs.run("update", "--cancel", "-f", "-w", "args ~ sleep").status == 0
    assert restart(hs, "--update") == ["left", "new"]


def test_directives_and_tags_of_new_lines_hold(hs: Hs) -> None:
    hs.file(["# HYPERSHELL: site:a", "echo 1", "echo 2 # HYPERSHELL: x:1"])
    restart(hs)
    hs.file([
        "echo 0", "# HYPERSHELL: site:b group:2 memory:1G", "echo 1", "echo 3 # HYPERSHELL: x:3 timeout:60",
        "# HYPERSHELL: group:1", "echo 2 # HYPERSHELL: x:1", "echo 4",
    ])  # fmt: skip
    done = hs.run("cluster", "tasks.in", "--restart", "--update")
    assert done.out.split() == ["0", "4", "3"], "groups are barriers for new lines too"
    assert "2 tasks whose line has other tags or resources now" in done.err
    query = 'SELECT args, "group", memory, timeout, tag FROM task ORDER BY id'
    assert hs.rows(query)[2:] == [
        ("echo 0", 0, None, None, "{}"),
        ("echo 3", 2, 1024**3, 60.0, '{"site":"b","x":3}'),
        ("echo 4", 1, 1024**3, None, '{"site":"b"}'),
    ]


def test_a_line_whose_task_was_changed_otherwise_is_not_new(hs: Hs) -> None:
    """Tags and fields of ``hs update`` are no reason to run a line again; a retry is no second line."""
    hs.file(["echo a", "test -e ok || { touch ok; false; }"])
    restart(hs, "-r1")
    assert hs.run("update", "-f", "memory=8G", "prio:1").status == 0
    hs.file(["echo a", "test -e ok || { touch ok; false; }", "echo b"])
    assert restart(hs, "--update") == ["b"]


def test_a_bad_new_line_is_a_failed_task_and_known_the_next_time(hs: Hs) -> None:
    hs.file(["echo a", "echo # HYPERSHELL: group:x"])
    assert hs.run("cluster", "tasks.in", "--restart").status == 7
    hs.file(["echo # HYPERSHELL: group:x", "echo a", "echo b # HYPERSHELL: group:y"])
    for _ in range(2):
        done = hs.run("cluster", "tasks.in", "--restart", "--update")
        assert done.status == 7 and done.out == ""
    assert hs.rows("SELECT state, count(*) FROM task GROUP BY state") == [("failed", 2), ("succeeded", 1)]


@each_mpi()
def test_over_mpi(hs: Hs, mpi: Mpi) -> None:
    job = Job(hs, mpi)
    for lines, new, words in (("ab", "ab", []), ("bca", "c", ["--update"]), ("bd", "bd", ["--repeat"])):
        hs.file([f"echo {letter}" for letter in lines])
        done = job.run(2, "tasks.in", "--restart", *words)
        assert done.status == 0 and sorted(done.stdout.split()) == list(new), done.stderr


def test_repeat_runs_a_changed_file_again_and_goes_on_with_one_that_is_not(hs: Hs) -> None:
    hs.file(["echo a", "echo b"])
    assert restart(hs, "--repeat") == ["a", "b"]
    assert restart(hs, "--repeat") == []
    hs.file(["echo a", "echo c"])
    assert restart(hs, "--repeat") == ["a", "c"]
    assert restart(hs, "--repeat") == restart(hs) == []
    assert hs.rows("SELECT count(*) FROM submission") == [(2,)]


def test_repeat_says_what_it_leaves(hs: Hs) -> None:
    hs.file(["echo up; exec sleep 1000"])
    process = hs.start("cluster", "tasks.in", "--restart")
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    other = hs.run("cluster", "tasks.in", "--restart", "--repeat")
    assert other.status == 5 and str(process.pid) in other.err, "one that runs is not repeated beside it"
    process.kill()
    process.communicate()
    hs.file(["echo a"])
    done = hs.run("cluster", "tasks.in", "--restart", "--repeat")
    assert done.out == "a\n" and "tasks.in was changed since it was run before" in done.err
    assert "unfinished; its tasks are left alone" in done.err


def test_rotated_tasks_are_not_new(hs: Hs) -> None:
    hs.file(["echo a", "echo b"])
    restart(hs)
    assert hs.run("initdb", "--rotate", "--yes").status == 0
    assert hs.states() == {}
    hs.file(["echo b", "echo c", "echo a"])
    assert restart(hs, "--update") == ["c"]
    (hs.db.parent / "main.1.db").rename(hs.folder / "elsewhere.db")
    hs.file(["echo b", "echo c", "echo a", "echo d"])
    done = hs.run("cluster", "tasks.in", "--restart", "--update")
    assert done.status == 5 and "partition 1" in done.err and done.out == ""


def test_what_was_not_read_may_change(tmp_path: Path) -> None:
    """Of a half-read FILE the part that was read counts; with --update that may differ too."""
    file, db = tmp_path / "tasks.in", tmp_path / "main.db"
    die_half_way(file, db)
    hs = Hs(tmp_path)
    (read,) = hs.rows("SELECT lines FROM submission", db=db)[0]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:read], "true last\n"]))
    assert serve(hs, db, "--restart") == 0
    assert hs.rows("SELECT count(*), count(DISTINCT args) FROM task", db=db) == [(read + 1, read + 1)]


def test_a_half_read_file_that_changed_is_brought_up_to_date(tmp_path: Path) -> None:
    file, db = tmp_path / "tasks.in", tmp_path / "main.db"
    die_half_way(file, db)
    lines = ["true first", *file.read_text().splitlines()]
    file.write_text("".join(f"{line}\n" for line in lines))
    hs = Hs(tmp_path)
    assert serve(hs, db, "--restart") == 5
    assert serve(hs, db, "--restart", "--update") == 0
    assert hs.rows("SELECT count(*), count(DISTINCT args), max(state) FROM task", db=db) == [
        (len(lines), len(lines), "succeeded")
    ]


SERVER = """
import os, signal, sys
from tests.integration.test_changed import serve_here
serve_here(sys.argv[1], sys.argv[2:])
"""

#: Rows of a transaction, so that a short FILE needs several.
FEW = 40


def serve_here(db: str, words: list[str]) -> None:
    """A server whose clients finish every task at once; it dies at the commit that ``HS_TEST_DIE`` says."""
    from benchmarks.server_rate import NullClients
    from hypershell import reactor
    from hypershell.data.sql import SqlStore
    from hypershell.errors import HyperShellError
    from hypershell.server import revision
    from hypershell.server.run import Place, Run
    from hypershell.settings import RunSettings

    file = str(Path(db).with_name("tasks.in"))
    if os.path.getsize(file) < 1_000_000:
        revision._ROWS = FEW
    when, left = os.environ.get("HS_TEST_DIE", "never:0").split(":")
    commits = [int(left)]
    apply = SqlStore.apply

    def dying(self: SqlStore, records: object) -> None:
        commits[0] -= 1
        if commits[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        apply(self, records)  # type: ignore[arg-type]
        if commits[0] == 0 and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    SqlStore.apply = dying  # type: ignore[method-assign]
    poller = reactor.Poller()
    words = [word.removeprefix("--") for word in words]
    settings = RunSettings(file=file, db=db, site=str(Path(db).parent), **dict.fromkeys(words, True))  # type: ignore[arg-type]
    try:
        run = Run(poller, NullClients(4), settings, Place("loopback", 1, 4, 1, "null"), ["cluster"])
        run.start()
        reactor.run(poller, [run.server])
        status = run.close()
    except HyperShellError as error:
        print(error, file=sys.stderr)
        status = error.exit_status
    sys.exit(status)


def serve(hs: Hs, db: Path, *words: str, die: str = "never:0", stop: float | None = None) -> int:
    """The exit status of such a server; `stop`: seconds after which it is killed."""
    command = [sys.executable, "-c", SERVER, str(db), *words]
    process = subprocess.Popen(command, cwd=ROOT, env=hs.environ({"HS_TEST_DIE": die}))
    try:
        process.wait(stop)
    except subprocess.TimeoutExpired:
        process.kill()
    return process.wait()


def expect(hs: Hs, db: Path, wanted: Counter[str]) -> None:
    found = Counter(dict(hs.rows("SELECT args, count(*) FROM task GROUP BY args", db=db)))
    assert found == wanted
    assert hs.rows("SELECT DISTINCT state FROM task", db=db) == [("succeeded",)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_commit_of_an_update_the_next_one_finishes_it(tmp_path: Path, when: str) -> None:
    """No line is lost and none is there twice; in between nothing but an update goes on with the FILE."""
    hs, db = Hs(tmp_path), tmp_path / "main.db"
    file = tmp_path / "tasks.in"
    lines = [f"true {n}" for n in range(30)]
    for count in range(1, 6):
        file.write_text("".join(f"{line}\n" for line in lines))
        if count == 1:
            assert serve(hs, db, "--restart") == 0
        # Before what is there, between, behind; some of it equal.
        fresh = [f"true new {count} {n % 60}" for n in range(130)]
        lines = [*fresh[:50], *lines[::-1], *fresh[50:]]
        file.write_text("".join(f"{line}\n" for line in lines))
        assert serve(hs, db, "--restart", "--update", die=f"{when}:{count}") == -signal.SIGKILL
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        done = hs.rows("SELECT digest FROM submission", db=db) == [(digest,)]
        assert serve(hs, db, "--restart") == (0 if done else 5)
        assert serve(hs, db, "--restart", "--update") == 0
        expect(hs, db, Counter(lines))
        assert serve(hs, db, "--restart") == 0


def test_killed_at_random_moments_of_an_update(tmp_path: Path) -> None:
    hs, db = Hs(tmp_path), tmp_path / "main.db"
    file = tmp_path / "tasks.in"
    seed = int(os.environ.get("HS_TEST_SEED", time.time_ns() % 10**6))
    draw = random.Random(seed)
    lines: list[str] = []
    for turn in range(4):
        lines += [f"true {turn} {n % 1500}" for n in range(2000)]
        draw.shuffle(lines)
        file.write_text("".join(f"{line}\n" for line in lines))
        status = -1
        while status:
            status = serve(hs, db, "--restart", "--update", stop=draw.uniform(0.3, 1.5) if status == -1 else None)
            assert status in (0, -signal.SIGKILL), seed
    expect(hs, db, Counter(lines))
