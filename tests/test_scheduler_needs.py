"""Systems and labels: which client gets which task, and what happens to tasks that nobody here can take."""

from __future__ import annotations

import pytest

from hypershell import tags
from hypershell.core import needs
from hypershell.core.model import Scalar
from hypershell.core.needs import POSIX, WINDOWS, need_of, needs_met
from tests.sim.trace import Run, running, task

WIN: dict[str, Scalar] = {"os": "windows"}
NONE_HERE = "warning: 1 tasks wait for a client that takes os:windows: none is here"


def windows(run: Run, client: int, slots: int = 1, **info: object) -> list[str]:
    return run.join(client, slots, system="win32", **info)


@pytest.mark.parametrize(
    ("tag", "takers"),
    [
        (None, "linux darwin freebsd13 cygwin"),
        ({"n": 1}, "linux darwin freebsd13 cygwin"),
        ({"os": "posix"}, "linux darwin freebsd13 cygwin"),
        ({"os": "linux"}, "linux"),
        ({"os": "macos"}, "darwin"),
        ({"os": "darwin"}, "darwin"),
        ({"os": "Windows"}, "win32"),
        ({"os": "any"}, "linux darwin freebsd13 cygwin win32"),
        ({"os": "amiga"}, "linux darwin freebsd13 cygwin"),
        ({"os": 11}, "linux darwin freebsd13 cygwin"),
    ],
)
def test_which_systems_take_a_task_of_a_posix_server(tag: dict[str, Scalar] | None, takers: str) -> None:
    need = need_of(tag, POSIX)
    found = []
    for system in ("linux", "darwin", "freebsd13", "cygwin", "win32"):
        met, usual = needs_met(system, (), POSIX)
        if (need is None and usual) or need in met:
            found.append(system)
    assert " ".join(found) == takers


def test_a_server_on_windows_gives_its_tasks_to_windows() -> None:
    assert need_of({"os": "windows"}, WINDOWS) is None
    assert needs_met("win32", (), WINDOWS)[1]
    assert not needs_met("linux", (), WINDOWS)[1]
    run = Run(family=WINDOWS)
    run.submit("a")
    run.join(1)
    assert windows(run, 2)[-1] == "send 2: a.1"


def test_a_label_is_met_by_those_that_carry_it() -> None:
    need = need_of({"label": "gpu"}, POSIX)
    assert need == ("posix", "gpu")
    assert need in needs_met("linux", ("gpu", "big"), POSIX)[0]
    assert need not in needs_met("linux", ("big",), POSIX)[0]
    assert need not in needs_met("win32", ("gpu",), POSIX)[0]
    assert need_of({"label": 7}, POSIX) == ("posix", "7")


def test_the_words_of_tags_are_those_that_are_understood() -> None:
    assert tuple(needs.SYSTEMS) == tags.SYSTEMS


def test_a_client_of_another_family_gets_nothing_by_default() -> None:
    run = Run(closed=False)
    run.submit("a b")
    assert windows(run, 2, 4) == [
        "record 2: client 2 joined",
        "warning: 2 tasks wait for a client that takes os:posix: none is here",
    ]
    assert run.join(1, 2)[-1] == "send 1: a.1 b.1"


def test_tasks_go_to_those_that_can_take_them() -> None:
    run = Run(closed=False)
    run.join(1, 4)
    windows(run, 2, 4)
    run.join(3, 4, labels=("gpu",))
    assert run.submit("a", tag={"label": "gpu"})[-1] == "send 3: a.1"
    assert run.submit("b", tag=WIN)[-1] == "send 2: b.1"
    assert run.submit("c d e f")[-1] == "send 1: c.1 d.1 e.1 f.1"


def test_the_order_of_the_input_holds_over_all_that_a_client_can_take() -> None:
    run = Run(bundlesize=1)
    run.submit("a")
    run.submit("b", tag={"os": "linux"})
    run.submit("c")
    run.submit("d", tag={"os": "any"})
    assert run.join(1)[-2:] == ["send 1: a.1", "send 1: b.1"]
    assert run.end(1, "a")[-1] == "send 1: c.1"
    assert run.end(1, "b")[-1] == "send 1: d.1"


def test_a_returned_task_goes_back_into_its_lane() -> None:
    run = Run(closed=False, poison=0)
    run.submit("a", tag=WIN)
    windows(run, 2)
    run.submit("b", tag=WIN)
    run.lose(2)
    run.join(1)
    assert windows(run, 3)[-1] == "send 3: a.2"
    assert run.end(3, "a")[-1] == "send 3: b.1"


def test_a_retry_needs_what_its_task_needed() -> None:
    for eager in (False, True):
        run = Run(closed=False, attempts=2, eager=eager)
        run.join(1)
        windows(run, 2)
        run.submit("a b", tag=WIN)
        assert run.end(2, "a", 1)[-1] == ("send 2: r1.1" if eager else "send 2: b.1")


def test_a_user_can_cancel_what_waits_for_another_system() -> None:
    run = Run(closed=False)
    run.join(1)
    run.submit("a b", tag=WIN)
    assert run.cancel("a") == ["record 3: a.1 cancelled".replace(".1", ".0")]
    assert windows(run, 2)[-1] == "send 2: b.1"


def test_the_next_group_waits_for_tasks_that_nobody_here_takes() -> None:
    run = Run(closed=False)
    run.join(1)
    run.submit("a", tag=WIN)
    run.submit("b", group=1)
    run.feed_ended()
    assert run.scheduler.inflight() == 0
    assert windows(run, 2)[-1] == "send 2: a.1"
    assert run.end(2, "a")[-1] == "load group 1, 4096"
    assert run.load([task("b", 1)], group=1)[-1] == "send 1: b.1"


def test_a_lower_group_goes_on_where_nobody_here_takes_what_the_current_one_has() -> None:
    run = running("a", 1, closed=True)
    run.submit("b", tag=WIN, group=1)
    run.end(1, "a")
    run.load([task("b", 1, tag=WIN)], group=1)
    assert run.submit("c") == [
        "record 5: insert c",
        "info: Task group 1 waits - going on with task group 0",
        "load group 0, 4096",
    ]
    assert run.load([task("c")])[-1] == "send 1: c.1"
    run.feed_ended()
    assert run.end(1, "c")[1:] == [
        "info: Completed task group 0 - starting task group 1",
        "load group 1, 4096, again",
    ]
    assert run.load([task("b", 1, tag=WIN)], group=1)[-1] == "drain [1]"
    assert run.durable()[-1] == "finish no clients left: 2 good, 0 bad, 0 held, 1 left"


def test_what_nobody_here_takes_is_said_once() -> None:
    run = Run(closed=False)
    run.join(1)
    assert run.submit("a", tag=WIN)[-1] == NONE_HERE
    assert run.submit("b", tag=WIN) == ["record 3: insert b"]
    assert run.submit("c", tag={"os": "any", "label": "gpu"})[-1] == (
        "warning: 1 tasks wait for a client that takes os:any label:gpu: none is here"
    )


def test_nothing_is_said_while_others_run() -> None:
    run = running("a", 1, closed=False)
    assert run.submit("b", tag=WIN) == ["record 3: insert b"]
    assert run.end(1, "a")[-1] == NONE_HERE


def test_a_job_that_nobody_can_join_ends_without_them() -> None:
    run = running("a", 1)
    run.submit("b", tag=WIN)
    run.feed_ended()
    assert run.end(1, "a") == ["record 4: a.1 succeeded", NONE_HERE, "drain [1]"]
    assert run.durable()[-1] == "finish no clients left: 1 good, 0 bad, 0 held, 1 left"


def test_a_job_with_an_open_door_waits_for_them() -> None:
    run = running("a", 1, door=True)
    run.submit("b", tag=WIN)
    run.feed_ended()
    run.end(1, "a")
    assert run.durable() == []
    windows(run, 100, outlives=True)
    assert run.durable() == ["send 100: b.1"]


def test_a_window_full_of_tasks_for_others_does_not_block() -> None:
    """Window 8: two of the six are kept in memory, four stay in the store, and what is behind them comes."""
    run = Run(closed=False, window=8)
    run.join(1)
    run.submit("a b c d e f", tag=WIN)
    assert run.submit("x y") == ["record 3: insert x y"]
    rows = [task(name, tag=WIN) for name in "cdef"]
    assert run.load([*rows, task("x"), task("y")])[-1] == "send 1: x.1"
    assert run.end(1, "x")[-1] == "send 1: y.1"
    assert run.end(1, "y")[-1] == "warning: 6 tasks wait for a client that takes os:windows: none is here"
    assert run.scheduler.unfinished() == 6
    assert windows(run, 2, 2) == [
        "record 7: client 2 joined, dispatch a.1>2 b.1>2",
        "send 2: a.1 b.1",
        "load group 0, 8, again",
    ]
    assert run.load(rows) == []
    for name in "abcd":
        run.end(2, name)
    assert run.end(2, "e") == ["record 12: e.1 succeeded"]
    run.feed_ended()
    run.end(2, "f")
    assert run.durable()[-1] == "finish complete: 8 good, 0 bad, 0 held, 0 left"


def test_when_the_last_client_of_a_kind_leaves_its_tasks_make_room() -> None:
    run = Run(closed=False, window=7)
    windows(run, 2)
    run.submit("a b c d e f g h", tag=WIN)
    run.submit("x")
    assert run.join(1) == ["record 4: client 1 joined"]
    assert run.leave(2) == ["record 5: client 2 left, a.1 back", "load group 0, 7, again"]
    rows = [task(name, tag=WIN) for name in "bcdefgh"]
    assert run.load([*rows, task("x")])[-1] == "send 1: x.1"
    assert run.scheduler.unfinished() == 9


def test_while_nobody_is_here_anything_may_be_wanted() -> None:
    run = Run(closed=False, window=4)
    run.submit("a b c d", tag=WIN)
    assert windows(run, 2, 4)[-1] == "send 2: a.1 b.1 c.1 d.1"


def test_the_feed_of_a_store_in_memory_is_braked_by_what_is_wanted() -> None:
    run = Run(closed=False, window=4, brake=True)
    run.join(1)
    assert "pause" not in run.submit("a b c d", tag=WIN)
    assert run.submit("x1 x2 x3 x4 x5 x6")[-1] == "pause"


def test_where_nobody_else_can_come_the_rest_of_the_feed_is_read() -> None:
    """16 windows full wait for a client that cannot come: what is behind them may still run."""
    run = Run(closed=True, window=2, brake=True)
    run.join(1)
    for number in range(40):
        told = run.submit(f"w{number}", tag=WIN)
        assert "pause" not in told
        if any(line.startswith("load") for line in told):
            run.load([task(f"w{number}", tag=WIN)])
    run.submit("x")
    run.load([task("x")])
    run.feed_ended()
    assert run.end(1, "x")[-1] == "drain [1]"
    assert run.durable()[-1] == "finish no clients left: 1 good, 0 bad, 0 held, 40 left"
