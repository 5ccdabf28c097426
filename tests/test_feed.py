"""The feed: bytes to tasks, line by line, and going on where an earlier reading stopped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypershell.core.model import FeedMark, Task
from hypershell.errors import InputError
from hypershell.ids import IdSource
from hypershell.reactor import Poller
from hypershell.server.feed import MAX_LINE, Feed, open_file
from hypershell.tags import Directives

Make = Callable[..., Feed]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(data: bytes, name: str = "tasks.in", **more: Any) -> Feed:
        path = tmp_path / name
        path.write_bytes(data)
        return Feed(open_file(str(path)), str(path), 7, IdSource().task, lambda: 1000.0, **more)

    return build


def drain(feed: Feed, limit: int = 3) -> tuple[list[Task], list[tuple[Task, str]], FeedMark]:
    tasks: list[Task] = []
    rejected: list[tuple[Task, str]] = []
    while not feed.ended:
        batch = feed.read(limit)
        if batch is not None:
            tasks += batch.tasks
            rejected += batch.rejected
    return tasks, rejected, feed.mark(complete=True)


def test_lines_become_tasks_in_order(make: Make) -> None:
    data = b"echo 1\n\n  # comment\necho 2 \r\necho 3"
    tasks, rejected, mark = drain(make(data))
    assert [task.args for task in tasks] == ["echo 1", "echo 2", "echo 3"]
    assert not rejected
    assert [task.id for task in tasks] == sorted(task.id for task in tasks)
    assert (mark.offset, mark.lines, mark.complete) == (len(data), 5, True)
    assert mark.digest == hashlib.sha256(data).hexdigest()


def test_directives_and_global_directive(make: Make) -> None:
    data = b"a # HYPERSHELL: x:1\n# HYPERSHELL: site:b group:2 timeout:10m\nb\nc # HYPERSHELL: site:c group:3\n"
    a, b, c = drain(make(data))[0]
    assert (a.tag, a.group, a.timeout) == ({"x": 1}, 0, None)
    assert (b.tag, b.group, b.timeout) == ({"site": "b"}, 2, 600.0)
    assert (c.tag, c.group, c.timeout) == ({"site": "c"}, 3, 600.0)


def test_plain_lines_are_data_whole(make: Make) -> None:
    lines = ["# HYPERSHELL: site:b", "a # HYPERSHELL: bad:tag:x", " b #1 ", "it's \t", "x\r", " ", "\ufeffend"]
    data = "\n".join(["\ufefffirst", "", *lines]).encode() + b"\xff"
    tasks, rejected, _ = drain(make(data, plain=True))
    assert [task.args for task in tasks] == ["\ufefffirst", *lines[:-1], lines[-1] + "\\xff"]
    assert tasks[-1].raw == lines[-1].encode() + b"\xff"
    assert not rejected and {(task.tag, task.group, task.timeout) for task in tasks} == {(None, 0, None)}


def test_plain_lines_have_what_options_say_and_no_nul(make: Make) -> None:
    feed = make(b"x" * 9000 + b"\n\0\n #\n", plain=True, defaults=Directives({"a": 1}, 3))
    tasks, rejected, _ = drain(feed)
    assert [(task.args[:2], task.tag, task.group) for task in tasks] == [("xx", {"a": 1}, 3), (" #", {"a": 1}, 3)]
    assert [reason for _, reason in rejected] == ["the line holds a NUL byte"]


def test_a_restart_learns_nothing_from_plain_lines(make: Make) -> None:
    data = b"# HYPERSHELL: site:b\nx\n"
    first = make(data, plain=True)
    first.read(1)
    rest = make(data, plain=True)
    rest.resume(first.mark())
    assert [(task.args, task.tag) for task in drain(rest)[0]] == [("x", None)]


def test_byte_order_mark_is_no_part_of_the_first_line(make: Make) -> None:
    assert [task.args for task in drain(make(b"\xef\xbb\xbfecho 1\necho 2\n"))[0]] == ["echo 1", "echo 2"]
    assert [task.args for task in drain(make(b"\xef\xbb\xbfx # HYPERSHELL: a\n", "b"))[0]] == ["x"]


def test_bytes_that_are_not_utf8_survive(make: Make) -> None:
    tasks = drain(make(b"echo \xff\xfe # HYPERSHELL: t:1\necho \xc3\xa9\n"))[0]
    assert (tasks[0].args, tasks[0].raw, tasks[0].tag) == ("echo \\xff\\xfe", b"echo \xff\xfe", {"t": 1})
    assert (tasks[1].args, tasks[1].raw) == ("echo \u00e9", None)


def test_bad_lines_are_named_and_the_rest_goes_on(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    data = b"x" * 9000 + b"\necho a\0b\nok\nbad # HYPERSHELL: a/b:c\nend\n"
    tasks, rejected, _ = drain(make(data))
    assert [task.args for task in tasks][1:] == ["ok", "end"]
    assert [task.args for task, _ in rejected] == ["echo a\\0b", "bad # HYPERSHELL: a/b:c"]
    assert "NUL" in rejected[0][1] and "a/b" in rejected[1][1]
    assert "tasks.in:2:" in caplog.text and "tasks.in:4:" in caplog.text


def test_a_line_beyond_the_cap_is_rejected_and_counted(make: Make) -> None:
    length = MAX_LINE + 600_000
    data = b"first\n" + b"y" * length + b"\nlast\n"
    tasks, rejected, mark = drain(make(data))
    assert [task.args for task in tasks] == ["first", "last"]
    assert len(rejected) == 1 and str(length + 1) in rejected[0][1]
    assert (mark.offset, mark.lines) == (len(data), 3)
    assert mark.digest == hashlib.sha256(data).hexdigest()


def test_a_line_beyond_the_cap_without_end(make: Make) -> None:
    data = b"y" * (MAX_LINE + 300_000)
    tasks, rejected, mark = drain(make(data))
    assert not tasks and len(rejected) == 1
    assert mark.digest == hashlib.sha256(data).hexdigest()


def test_a_long_line_below_the_cap_is_a_task(make: Make) -> None:
    tasks = drain(make(b"echo " + b"z" * (1 << 20) + b"\necho 2\n"))[0]
    assert [len(task.args) for task in tasks] == [(1 << 20) + 5, 6]


def test_empty_and_comments_only(make: Make) -> None:
    assert drain(make(b""))[0] == []
    assert drain(make(b"# a\n\n   \n#b", "c"))[0] == []


def test_binary_is_refused_before_anything_runs(make: Make) -> None:
    feed = make(b"\x7fELF\x02\x01\x01\0\0\0")
    with pytest.raises(InputError, match=r"tasks.in is no text file \(byte 7 is NUL\)"):
        feed.read(10)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"FileNotFoundError: .*nothing: No such file .*; .* or - for stdin$"):
        open_file(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"IsADirectoryError: .*; name another FILE, or - for stdin$"):
        open_file(str(tmp_path))


def test_resume_goes_on_behind_the_mark(make: Make) -> None:
    data = b"# HYPERSHELL: site:x\na\nb\nc\n"
    first = make(data)
    batch = first.read(2)
    assert batch is not None and [task.args for task in batch.tasks] == ["a"]
    again = make(data)
    again.resume(msgspec.structs.replace(batch.mark, submission=5))
    tasks, _, mark = drain(again)
    assert {task.submission for task in tasks} == {mark.submission} == {5}
    assert [(task.args, task.tag) for task in tasks] == [("b", {"site": "x"}), ("c", {"site": "x"})]
    assert mark.digest == hashlib.sha256(data).hexdigest() and mark.lines == 4


def test_resume_refuses_a_changed_file(make: Make) -> None:
    mark = drain(make(b"a\nb\n"))[2]
    with pytest.raises(InputError, match="has changed"):
        make(b"a\nc\n").resume(mark)
    with pytest.raises(InputError, match="is shorter"):
        make(b"a\n").resume(mark)
    with pytest.raises(InputError, match="has grown"):
        make(b"a\nb\nc\n").verify(mark)
    make(b"a\nb\n").verify(mark)


def test_a_pipe_is_read_as_it_comes() -> None:
    read, write = os.pipe()
    poller = Poller()
    feed = Feed(read, "pipe", 1, IdSource().task, lambda: 0.0)
    assert not feed.ready(poller)
    os.write(write, b"echo 1\nech")
    poller.wait(5)
    assert feed.ready(poller)
    batch = feed.read(10)
    assert batch is not None and [task.args for task in batch.tasks] == ["echo 1"]
    assert not feed.ready(poller)
    os.write(write, b"o 2\n")
    os.close(write)
    poller.wait(5)
    assert feed.ready(poller)
    assert [task.args for task in drain(feed)[0]] == ["echo 2"]
    os.close(read)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=0, max_size=40), max_size=30), st.integers(1, 7), st.integers(0, 12))
def test_any_bytes_and_any_stop(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], step: int, stop: int
) -> None:
    """Whatever the bytes and wherever a restart falls, the same lines come out, and offset and digest agree."""
    data = b"ok\n" + b"\n".join(line.replace(b"\0", b"") for line in lines)
    path = tmp_path_factory.mktemp("feed") / "f"
    path.write_bytes(data)
    whole = Feed(open_file(str(path)), "f", 1, IdSource().task, lambda: 0.0)
    tasks, rejected, mark = drain(whole, step)
    assert mark.offset == len(data) and mark.digest == hashlib.sha256(data).hexdigest()
    part = Feed(open_file(str(path)), "f", 1, IdSource().task, lambda: 0.0)
    seen = []
    at = part.mark()
    for _ in range(stop):
        batch = part.read(step)
        if batch is not None:
            seen += [task.args for task in batch.tasks] + [task.args for task, _ in batch.rejected]
            at = batch.mark
    rest = Feed(open_file(str(path)), "f", 1, IdSource().task, lambda: 0.0)
    rest.resume(at)
    more, bad, end = drain(rest, step)
    seen += [task.args for task in more] + [task.args for task, _ in bad]
    assert sorted(seen) == sorted([task.args for task in tasks] + [task.args for task, _ in rejected])
    assert end == mark
    for feed in (whole, part, rest):
        feed.close()
