"""A client whose machine has no room for what it should start: tasks wait, slots shrink and come back."""

from __future__ import annotations

import errno
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.core.model import Room, Special
from hypershell.executor.headroom import LONGEST_PAUSE, PAUSE, SHARED_PAUSE, Headroom
from hypershell.executor.machine import PROOF, Machine
from hypershell.executor.spawn import not_started
from hypershell.executor.vocabulary import (
    Action,
    CancelOrdered,
    DrainOrdered,
    Event,
    Expand,
    Expanded,
    Lack,
    Report,
    ServerAway,
    ServerBack,
    ServerReached,
    SignalTask,
    Start,
    StartFailed,
    TimePassed,
    Warn,
)
from hypershell.proto.messages import ClientSettings
from tests.test_executor_machine import SETTINGS, exited, results, returned, started, work

LACK = Lack("cannot make a pipe: Too many open files")
PROCESSES = Lack("cannot start a process: Resource temporarily unavailable", shared=True)


class Client:
    """A machine on a host that has room for `capacity` tasks."""

    def __init__(self, capacity: int, slots: int = 8, lack: Lack = LACK, reconnect: float | None = None) -> None:
        settings = ClientSettings(**{**SETTINGS, "slots": slots})
        self.machine = Machine(settings, epoch=1000.0, reconnect=reconnect)
        self.capacity = capacity
        self.lack = lack
        self.now = 0.0
        self.running: list[str] = []
        self.attempts = 0
        self.actions: list[Action] = []

    def tell(self, event: Event) -> list[Action]:
        """One event, and those that follow from it at once; all actions."""
        todo, done = [event], list[Action]()
        while todo:
            actions = self.machine.handle(todo.pop(0), self.now)
            done += actions
            for action in actions:
                if not isinstance(action, Start):
                    continue
                self.attempts += 1
                if len(self.running) < self.capacity:
                    self.running.append(action.task.id)
                else:
                    todo.append(StartFailed(action.task.id, "no room for it", 1.0, self.lack))
        self.actions += done
        return done

    def end(self, id: str) -> list[Action]:
        self.running.remove(id)
        return self.tell(exited(id))

    def wait(self, seconds: float) -> list[Action]:
        """Time goes by; the machine is woken whenever it wants to be."""
        end, done = self.now + seconds, list[Action]()
        while (due := self.machine.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            done += self.tell(TimePassed())
        self.now = end
        return done


def rooms(actions: list[Action]) -> list[Room]:
    return [action.room for action in actions if isinstance(action, Report) and action.room is not None]


def warnings(actions: list[Action]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Warn)]


# What is whose fault


@pytest.mark.parametrize(
    ("code", "lacks", "shared"),
    [
        *((code, True, False) for code in (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)),
        *((code, True, True) for code in (errno.EAGAIN, errno.ENOMEM)),
        *((code, False, False) for code in (errno.E2BIG, errno.ENOENT, errno.EACCES, errno.EROFS, errno.EIO)),
    ],
)
def test_what_the_machine_lacks_is_not_the_fault_of_the_command(code: int, lacks: bool, shared: bool) -> None:
    error = not_started("cannot create /x/a.out", OSError(code, os.strerror(code)), "cannot create files")
    assert str(error) == f"cannot create /x/a.out: {os.strerror(code)}"
    assert error.lack == (Lack(f"cannot create files: {os.strerror(code)}", shared) if lacks else None)


def test_the_fault_of_the_command_is_final() -> None:
    client = Client(8)
    client.tell(work("a"))
    assert results(client.machine.handle(StartFailed("a", "too long", 1.0), 1.0)) == [("a", Special.NOT_STARTED)]


# Fewer at a time


def test_what_does_not_start_waits_in_its_order_and_costs_nothing() -> None:
    client = Client(2, slots=4)
    actions = client.tell(work("a", "b", "c", "d", "e"))
    assert client.running == ["a", "b"]
    assert (results(actions), returned(actions)) == ([], [])
    actions = client.end("a")
    assert client.running == ["b", "c"] and results(actions) == [("a", 0)]
    client.end("b")
    client.end("c")
    assert client.running == ["d", "e"]


def test_the_server_and_the_user_are_told_once_when_all_was_tried() -> None:
    client = Client(2, slots=4)
    assert rooms(client.tell(work("a", "b", "c", "d", "e"))) == []
    actions = client.wait(0.0)
    assert rooms(actions) == [Room(2, False, LACK.reason)]
    assert warnings(actions) == [f"Running tasks in 2 of 4 slots until there is room for more: {LACK.reason}"]
    client.wait(60.0)
    assert len(warnings(client.actions)) == 1


def test_slots_come_back_when_there_is_room_again() -> None:
    client = Client(2, slots=8)
    client.tell(work(*"abcdefghijklmnop"))
    client.wait(0.0)
    client.capacity = 8
    actions = client.wait(30.0)
    assert len(client.running) == 8
    assert [room.slots for room in rooms(actions)] == [3, 5, 8]
    assert client.machine.deadline() is None


def test_a_shortage_that_lasts_costs_few_attempts() -> None:
    client = Client(3, slots=100)
    client.tell(work(*(f"t{n}" for n in range(300))))
    before = client.attempts
    client.wait(600.0)
    assert client.attempts - before <= 600.0 / LONGEST_PAUSE + 5
    assert len(client.running) == 3


def test_room_that_nobody_uses_is_not_tried() -> None:
    client = Client(2, slots=4)
    client.tell(work("a", "b", "c"))
    client.end("a")
    client.end("b")
    client.wait(0.0)
    assert client.running == ["c"] and client.machine.deadline() is None


def test_half_is_left_to_tasks_where_they_need_of_it_too() -> None:
    client = Client(6, slots=20, lack=PROCESSES)
    client.tell(work(*(f"t{n}" for n in range(40))))
    assert len(client.running) == 6
    client.wait(0.0)
    for id in client.running[:4]:
        client.end(id)
    assert len(client.running) == 3
    attempts = client.attempts
    client.wait(SHARED_PAUSE / 2)
    assert client.attempts == attempts


def test_expansions_that_cannot_be_started_wait_too() -> None:
    client = Client(8, slots=1)
    actions = client.tell(work("a", template="{% date %}"))
    assert isinstance(actions[0], Expand)
    actions = client.machine.handle(Expanded("a", error="no pipe", lack=LACK), client.now)
    assert results(actions) == [] and returned(actions) == [("a", 1)]  # nothing runs here: others may have it


# Nothing at all


def test_a_client_that_can_start_nothing_keeps_nothing() -> None:
    client = Client(0, slots=3)
    actions = client.tell(work("a", "b", "c", "d"))
    assert returned(actions) == [("a", 1), ("b", 1), ("c", 1), ("d", 1)] and results(actions) == []
    assert rooms(actions) == [Room(0, True, LACK.reason)]
    assert warnings(actions) == [f"No task can be started until there is room: {LACK.reason}"]
    assert rooms(client.wait(PAUSE)) == [Room(1, True, LACK.reason)]
    actions = client.tell(work("a", execution=2))
    assert (returned(actions), rooms(actions)) == ([("a", 2)], [Room(0, True, LACK.reason)])
    assert warnings(actions) == []


def test_what_crosses_its_word_goes_back_with_it() -> None:
    client = Client(0, slots=3)
    client.tell(work("a"))
    actions = client.tell(work("b", "c"))
    assert (returned(actions), started(actions)) == ([("b", 1), ("c", 1)], [])
    assert rooms(actions) == [Room(0, True, LACK.reason)]


@pytest.mark.parametrize("slots", [1, 3])
def test_the_server_hears_that_something_runs_again(slots: int) -> None:
    client = Client(0, slots=slots)
    client.tell(work("a"))
    client.capacity = 3
    client.wait(PAUSE)
    client.tell(work("a", execution=2))
    assert client.running == ["a"]
    assert rooms(client.wait(PROOF)) == [Room(1, False, LACK.reason)]


def test_results_do_not_wait_where_nothing_can_be_started() -> None:
    client = Client(1, slots=3)
    client.machine.settings = ClientSettings(**{**SETTINGS, "slots": 3, "bundlesize": 100})
    client.tell(work("a", "b"))
    client.capacity = 0
    assert results(client.end("a")) == [("a", 0)]
    assert returned(client.actions) == [("b", 1)]


# Beside other things


def test_draining_gives_back_what_could_not_start() -> None:
    client = Client(1, slots=2)
    client.tell(work("a", "b"))
    assert returned(client.tell(DrainOrdered())) == [("b", 1)]
    assert client.machine.deadline() is None or client.wait(100.0) is not None
    assert client.running == ["a"]


def test_a_user_cancels_what_could_not_start() -> None:
    client = Client(1, slots=2)
    client.tell(work("a", "b"))
    actions = client.tell(CancelOrdered([("b", 1)]))
    assert results(actions) == [("b", Special.CANCELLED)]
    assert not [action for action in actions if isinstance(action, SignalTask)]


def test_a_server_that_comes_back_hears_it_again() -> None:
    client = Client(1, slots=2, reconnect=100.0)
    client.tell(work("a", "b"))
    client.wait(0.0)
    client.tell(ServerAway("gone"))
    client.tell(ServerReached())
    assert rooms(client.tell(ServerBack(client.machine.settings))) == [Room(1, False, LACK.reason)]


def test_a_task_with_a_limit_has_all_of_it_after_it_waited() -> None:
    client = Client(1, slots=2)
    client.tell(work("a", "b", timeout=5.0))
    client.now = 4.0
    client.end("a")
    assert client.running == ["b"]
    assert client.machine._due == {"b": 9.0}


@given(st.integers(0, 2**32))
def test_every_task_has_one_answer_under_any_shortage(seed: int) -> None:
    draw = random.Random(seed)
    client = Client(draw.randint(0, 4), slots=draw.randint(1, 6), lack=draw.choice([LACK, PROCESSES]))
    ids = [f"t{n}" for n in range(draw.randint(1, 20))]
    client.tell(work(*ids))
    for _ in range(draw.randint(0, 40)):
        client.capacity = draw.randint(0, 6)
        if client.running and draw.random() < 0.6:
            client.end(draw.choice(client.running))
        client.wait(draw.choice([0.0, 0.1, 1.0, 10.0]))
    client.capacity = 6
    while client.running:
        client.end(client.running[0])
        client.wait(100.0)
    answered = [id for id, _ in results(client.actions)] + [id for id, _ in returned(client.actions)]
    assert sorted(answered) == sorted(ids)
    assert client.machine.held == {}


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 20.0)), max_size=60), st.integers(1, 50))
def test_there_are_never_more_slots_than_there_were(events: list[tuple[bool, float]], slots: int) -> None:
    headroom, now = Headroom(slots), 0.0
    for fails, seconds in events:
        now += seconds
        if fails:
            headroom.falls(max(0, headroom.usable - 1), LACK, now)
        else:
            headroom.grows(headroom.usable, now)
        assert 0 <= headroom.usable <= slots
