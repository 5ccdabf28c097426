"""Restart and ownership: who gets which submission, and what is said meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hypershell.core.actions import Dispatch, Finish, Finished, Record
from hypershell.core.events import Durable, StoreFailed, TasksLoaded, WorkFound
from hypershell.core.model import FeedMark, Result, Submission, Task
from hypershell.data.lease import SILENCE, process_start
from hypershell.data.notices import Adopted, Notice, Opened, Plan, Told, Waiting
from hypershell.data.recover import Recovery
from hypershell.data.store import Owned, RunInfo, Store, describe_run, sqlite_store
from hypershell.data.tally import Difference, Tally
from hypershell.errors import StoreError
from hypershell.ids import IdSource
from hypershell.server.feed import Feed
from hypershell.server.revision import Revision

NOW = 1_795_345_284.25
IDS = IdSource()


def new_run(**changes: Any) -> RunInfo:
    words: dict[str, Any] = {"transport": "loopback", "command": "hs", "cwd": "/"}
    return replace(describe_run(IDS.task(), ranks=1, slots=1, start_time=NOW, job="4711", **words), **changes)


def new_submission(path: str = "/in/tasks") -> Submission:
    return Submission(IDS.submission(), "file", path, "{}", "{}", "/", "me", "here", NOW)


def dead_process() -> dict[str, Any]:
    """Number and start of a process of this host that is gone."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(child.pid)
    child.communicate(b"\n")
    return {"pid": child.pid, "pid_start": start}


class Run:
    """One server's view: its store, and what its start said. `clock` stands still unless somebody waits."""

    def __init__(self, path: Path, run: RunInfo | None = None) -> None:
        self.store: Store = sqlite_store(path)()
        self.run = run or new_run()
        self.store.open()
        self.store.begin_run(self.run)
        self.said: list[Notice] = []
        self.now = 0.0
        self.waits = 0
        self.while_waiting: Callable[[], None] = lambda: None
        self.interrupted = False

    def start(self, plan: Plan) -> Run:
        self.recovery = Recovery(self.store, self.run, plan, lambda: self.now)
        self.recovery.start(self.said.append, self._pause, lambda step: step())
        return self

    def _pause(self, seconds: float) -> bool:
        self.now += seconds
        self.waits += 1
        self.while_waiting()
        return self.interrupted

    def look(self) -> list[Notice]:
        self.said.clear()
        self.now += 1.0
        self.recovery.look(self.said.append)
        return self.said

    def put(self, submission: Submission, count: int) -> list[Task]:
        tasks = [Task(IDS.task(), f"echo {n}", submission.id, submit_time=NOW) for n in range(count)]
        self.store.apply([Record(1, inserted=tasks)])
        return tasks

    def one(self, kind: type[Any]) -> Any:
        (found,) = [notice for notice in self.said if isinstance(notice, kind)]
        return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "main.db"


def left_by_the_dead(path: Path, submission: Submission, count: int = 4, **changes: Any) -> list[Task]:
    """Tasks of a server that is gone: one succeeded, one was in flight."""
    gone = Run(path, new_run(**(changes or dead_process()))).start(Plan(submission))
    tasks = gone.put(submission, count)
    ended = Finished(1, "succeeded", NOW, Result(tasks[0].id, 1, 0, NOW, NOW), None, tasks[0])
    sent = [Dispatch(task.id, 1, 1, NOW) for task in tasks[:2]]
    mark = FeedMark(submission.id, 99, count, "cafe", complete=True)
    gone.store.apply([Record(2, dispatched=sent, finished=[ended], mark=mark)])
    gone.store.close()
    return tasks


def test_restart_of_a_file_takes_what_is_unfinished(path: Path) -> None:
    submission = new_submission()
    tasks = left_by_the_dead(path, submission)
    run = Run(path).start(Plan(new_submission(), restart=True))
    assert run.one(WorkFound).pending == {0: 3}
    opened = run.one(Opened)
    assert opened.submissions == [submission]
    assert opened.resumed == FeedMark(submission.id, 99, 4, "cafe", complete=True)
    loaded, exhausted = run.store.load(0, 10)
    assert ([task.id for task in loaded], exhausted) == ([task.id for task in tasks[1:]], True)
    assert run.waits == 0


def test_the_first_restart_of_a_file_submits_it(path: Path) -> None:
    submission = new_submission()
    opened = Run(path).start(Plan(submission, restart=True)).one(Opened)
    assert (opened.submissions, opened.resumed) == ([submission], None)


def test_restart_of_another_file_leaves_it_alone_and_says_so(path: Path) -> None:
    left_by_the_dead(path, new_submission())
    run = Run(path).start(Plan(new_submission("/in/other"), restart=True))
    assert run.one(Opened).left_alone == 3
    assert run.store.load(0, 10) == ([], True)


def test_a_plain_run_begins_anew_and_says_what_was_left(path: Path) -> None:
    left_by_the_dead(path, new_submission())
    submission = new_submission()
    run = Run(path).start(Plan(submission))
    told = run.one(Told).text
    assert re.match(r"/in/tasks was run before \(submission \d+ of 2026-\S+ \S+ \S+; unfinished\); this run", told)
    assert told.endswith("does all of it once more (--restart goes on with that instead)")
    assert (run.one(Opened).left_alone, run.one(Opened).submissions) == (3, [submission])


def test_what_a_failed_group_holds_back_is_not_said_to_be_runnable(path: Path) -> None:
    submission = new_submission()
    gone = Run(path, new_run(**dead_process())).start(Plan(submission))
    first, same, later = (Task(IDS.task(), "x", submission.id, group=group, submit_time=NOW) for group in (0, 0, 1))
    bad = Finished(1, "failed", NOW, Result(first.id, 0, 1, NOW, NOW), None, first)
    gone.store.apply([Record(1, inserted=[first, same, later], finished=[bad])])
    gone.store.close()
    assert Run(path).start(Plan(new_submission("/in/other"))).one(Opened).left_alone == 1


def test_a_plain_run_beside_a_living_one_of_the_same_file_says_so(path: Path) -> None:
    submission = new_submission()
    Run(path).start(Plan(submission)).put(submission, 2)
    run = Run(path).start(Plan(new_submission()))
    assert re.search(r"is being worked on by process \d+ .*; this run does all of it once more", run.one(Told).text)


def test_a_live_owner_is_named(path: Path) -> None:
    submission = new_submission()
    Run(path).start(Plan(submission)).put(submission, 2)
    with pytest.raises(Owned, match=r"/in/tasks is being worked on by process \d+ on host .*, job 4711: wait"):
        Run(path).start(Plan(new_submission(), restart=True))
    with pytest.raises(Owned):
        Run(path).start(Plan(new_submission(), restart=True, take_over=True))


def test_an_owner_on_another_host_is_watched_then_taken(path: Path) -> None:
    left_by_the_dead(path, new_submission(), host="elsewhere")
    run = Run(path).start(Plan(new_submission(), restart=True))
    assert "process" in run.one(Waiting).text
    assert "elsewhere" in run.one(Waiting).text
    assert SILENCE <= run.now < SILENCE + 1
    assert run.one(WorkFound).pending == {0: 3}


def test_an_owner_on_another_host_that_moves_is_alive(path: Path) -> None:
    submission = new_submission()
    owner = Run(path, new_run(host="elsewhere")).start(Plan(submission))
    owner.put(submission, 2)
    run = Run(path)
    run.while_waiting = owner.store.beat
    with pytest.raises(Owned, match="elsewhere"):
        run.start(Plan(new_submission(), restart=True))
    assert run.waits == 1
    owner.store.beat()


def test_take_over_does_not_wait(path: Path) -> None:
    left_by_the_dead(path, new_submission(), host="elsewhere")
    run = Run(path).start(Plan(new_submission(), restart=True, take_over=True))
    assert run.waits == 0
    assert run.one(WorkFound).pending == {0: 3}


def test_waiting_can_be_ended(path: Path) -> None:
    left_by_the_dead(path, new_submission(), host="elsewhere")
    run = Run(path)
    run.interrupted = True
    run.start(Plan(new_submission(), restart=True))
    assert [type(notice) for notice in run.said] == [Waiting]


def test_restart_without_a_file_takes_all_that_nobody_works_on(path: Path) -> None:
    mine, theirs, ended = new_submission("/a"), new_submission("/b"), new_submission("/c")
    left_by_the_dead(path, mine)
    Run(path).start(Plan(theirs)).put(theirs, 5)
    third = Run(path).start(Plan(ended))
    third.put(ended, 2)
    third.store.end_run(Finish(0, 0, 0, 2, "drained"))
    run = Run(path).start(Plan(restart=True))
    opened = run.one(Opened)
    assert {one.id for one in opened.submissions} == {mine.id, ended.id}
    assert (opened.resumed, opened.left_alone) == (None, 0)
    assert {mark.submission: mark.complete for mark in opened.marks} == {mine.id: True, ended.id: False}
    assert run.one(WorkFound).pending == {0: 5}


def test_a_finished_submission_is_resumed_with_nothing_to_do(path: Path) -> None:
    submission = new_submission()
    first = Run(path).start(Plan(submission))
    (task,) = first.put(submission, 1)
    ended = Finished(1, "succeeded", NOW, Result(task.id, 1, 0, NOW, NOW), None, task)
    first.store.apply([Record(2, finished=[ended], mark=FeedMark(submission.id, 5, 1, "aa", complete=True))])
    first.store.end_run(Finish(1, 0, 0, 0, "complete"))
    run = Run(path).start(Plan(new_submission(), restart=True))
    assert run.one(Opened).resumed.complete
    assert not [notice for notice in run.said if isinstance(notice, WorkFound)]


def test_forever_adopts_what_becomes_free(path: Path) -> None:
    run = Run(path).start(Plan(forever=True))
    assert run.one(Opened).submissions == []
    assert run.look() == []
    submission = new_submission()
    left_by_the_dead(path, submission)
    run.look()
    assert run.one(Adopted).submissions == [submission]
    assert run.one(WorkFound).pending == {0: 3}
    assert run.look() == []


def test_forever_leaves_the_living_alone_until_they_end(path: Path) -> None:
    submission = new_submission()
    run = Run(path).start(Plan(forever=True))
    owner = Run(path).start(Plan(submission))
    owner.put(submission, 2)
    assert run.look() == []
    owner.store.end_run(Finish(0, 0, 0, 2, "drained"))
    run.look()
    assert run.one(Adopted).submissions == [submission]


def test_forever_notices_a_death_that_writes_nothing(path: Path) -> None:
    submission = new_submission()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Run(path, new_run(pid=child.pid, pid_start=process_start(child.pid))).start(Plan(submission))
    owner.put(submission, 2)
    owner.store.close()
    run = Run(path).start(Plan(forever=True))
    assert run.look() == []
    child.communicate(b"\n")
    run.look()
    assert run.one(Adopted).submissions == [submission]


def test_a_server_that_was_taken_over_ends_itself(path: Path) -> None:
    """The whole way: a stopped server on another host, a restart that takes over, the first one wakes up."""
    from hypershell.data.notices import Tuning
    from hypershell.data.store import Fenced
    from hypershell.data.writer import Writer

    submission = new_submission()
    waked = threading.Event()
    writer = Writer(sqlite_store(path), new_run(host="elsewhere"), Plan(submission), waked.set, Tuning())
    writer.start()
    writer.submit(Record(1, inserted=[Task(IDS.task(), "true", submission.id, submit_time=NOW)]))
    heard: list[Notice] = []
    while not any(isinstance(notice, Durable) for notice in heard):
        assert waked.wait(30)
        waked.clear()
        heard += writer.poll()
    run = Run(path).start(Plan(new_submission(), restart=True, take_over=True))
    assert run.one(WorkFound).pending == {0: 1}
    writer.submit(Record(2, inserted=[Task(IDS.task(), "true", submission.id, submit_time=NOW)]))
    assert writer.join(30)
    heard = writer.poll()
    assert isinstance(writer.error, Fenced)
    assert [type(notice) for notice in heard] == [StoreFailed]
    assert not [notice for notice in heard if isinstance(notice, TasksLoaded)]


def revision(file: Path) -> Revision:
    def feed(fd: int, submission: int, new_id: Callable[[], str]) -> Feed:
        return Feed(fd, str(file), submission, new_id, lambda: NOW, quiet=True)

    return Revision(os.open(file, os.O_RDONLY), str(file), feed)


def test_the_end_of_a_run_ends_the_comparison_with_its_file(path: Path, tmp_path: Path) -> None:
    """Nothing is half done: the next one begins the comparison anew."""
    file = tmp_path / "tasks"
    file.write_text("echo 0\necho new\n")
    left_by_the_dead(path, new_submission())
    run = Run(path)
    run.interrupted = True
    run.start(Plan(new_submission(), restart=True, revision=revision(file)))
    assert not [notice for notice in run.said if isinstance(notice, Opened | WorkFound)]
    run.store.end_run(Finish(0, 0, 0, 0, "drained"))
    again = Run(path).start(Plan(new_submission(), restart=True, revision=revision(file)))
    assert again.one(Opened).resumed.complete and again.one(Opened).resumed.lines == 2
    assert again.one(WorkFound).pending == {0: 4}
    assert "1 new line of" in again.said[1].text and "3 tasks whose line is no longer there" in again.said[1].text  # type: ignore[union-attr]


def test_a_file_that_changes_while_it_is_compared_is_named(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tasks"
    file.write_text("echo 0\necho new\n")
    left_by_the_dead(path, new_submission())
    settle = Tally.settle

    def late(self: Tally) -> Difference:
        file.write_text("echo 0\necho new\necho later\n")
        return settle(self)

    monkeypatch.setattr(Tally, "settle", late)
    with pytest.raises(StoreError, match="was changed meanwhile: run again with --restart --update"):
        Run(path).start(Plan(new_submission(), restart=True, revision=revision(file)))
