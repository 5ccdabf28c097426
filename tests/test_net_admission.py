"""Who is served next and who gives way, by a clock of the tests: fair between addresses, kind to slow crowds."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.net.addresses import origin
from hypershell.net.admission import Admission, Stage

PATIENCE = 10.0


def admission(places: int = 4096, quota: int = 2048, served: int = 256, young: float = 1.5) -> Admission[str]:
    return Admission[str](places, quota, served, young, PATIENCE)


def come(door: Admission[str], who: str, address: str, now: float = 0.0, *, speaks: bool = True) -> str | None:
    loser = door.come(who, address, now)
    if loser is not None:
        door.leave(loser)
    if speaks:
        door.speak(who, now)
    return loser


def serve(door: Admission[str], now: float) -> tuple[str | None, str | None]:
    """Who is served, and who left for it."""
    chosen = door.serve(now)
    if chosen is None:
        return None, None
    if chosen[1] is not None:
        door.leave(chosen[1])
    return chosen


def test_addresses_take_turns_and_the_first_of_each_is_first() -> None:
    door = admission()
    for number in range(1000):
        come(door, f"a{number}", "a")
    for number in range(2):
        come(door, f"b{number}", "b")
    assert [serve(door, 0.0)[0] for _ in range(6)] == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_who_says_nothing_is_never_served_and_is_late_in_time() -> None:
    door = admission()
    come(door, "silent", "a", 1.0, speaks=False)
    assert door.serve(5.0) is None and not door.ready(5.0)
    assert door.deadline() == 11.0 and door.late(10.9) is None and door.late(11.0) == "silent"


def test_time_in_which_a_stranger_waits_for_us_is_not_its_own() -> None:
    door = admission(served=1, young=100.0)
    come(door, "first", "a", 0.0)
    serve(door, 0.0)
    door.come("second", "a", 0.0)
    door.speak("second", 3.0)
    assert door.late(9.9) is None and door.late(10.0) == "first", "but not the one that waits"
    door.leave("first")
    assert door.late(20.0) is None
    assert serve(door, 20.0) == ("second", None)
    assert door.late(26.9) is None and door.late(27.0) == "second", "three seconds were its own before"


def test_an_address_beyond_its_share_gives_up_its_own_and_nobody_elses() -> None:
    door = admission(places=8, quota=4)
    for number in range(3):
        assert come(door, f"b{number}", "b") is None
    lost = [come(door, f"a{number}", "a", speaks=number % 2 == 0) for number in range(5)]
    assert lost == [None, None, None, None, "a4"], "all are young: the newcomer"
    assert come(door, "a5", "a", 1.0, speaks=False) == "a1", "the oldest that has said nothing"
    assert come(door, "a6", "a", 1.0, speaks=False) == "a3"
    assert come(door, "a7", "a", 2.0) == "a5"
    assert come(door, "a8", "a", 2.0) == "a6"
    assert come(door, "a9", "a", 9.0) == "a9", "who waits for us is not sent away"
    assert sum(who.startswith("b") for who in door.all()) == 3


def test_when_all_places_are_taken_the_most_crowded_address_gives_way() -> None:
    door = admission(places=6, quota=4)
    for who in ("a0", "a1", "a2", "a3", "b0", "b1"):
        come(door, who, who[0])
    assert come(door, "c0", "c") == "a3", "of those that wait the last"
    assert come(door, "d0", "d", speaks=False) == "a2"
    assert come(door, "e0", "e") in ("a1", "b1")
    assert len(door) == 6


def test_a_stranger_of_another_address_is_served_at_once_however_young_the_others_are() -> None:
    door = admission(served=4)
    for number in range(9):
        come(door, f"a{number}", "a")
    assert [serve(door, 0.0)[0] for _ in range(5)] == ["a0", "a1", "a2", "a3", None]
    come(door, "b0", "b")
    come(door, "b1", "b")
    come(door, "b2", "b")
    assert [serve(door, 0.0) for _ in range(3)] == [("b0", "a1"), ("b1", "a2"), (None, None)], "halves are fair"
    assert door.deadline() == 1.5
    assert serve(door, 1.5)[0] is not None, "then the oldest has had its time"


class Server:
    """A simulated one: the cost of a handshake passes on its clock. Connections are numbered."""

    def __init__(self, cost: float) -> None:
        self.door = admission()
        self.cost = cost
        self.now = 0.0
        self.count = 0
        self.hostile: set[str] = set()
        self.lost: list[str] = []

    def reopen(self, address: str = "flood") -> None:
        """A hostile connection, or another one for one that was closed."""
        self.count += 1
        who = f"hostile {self.count}"
        self.hostile.add(who)
        self.come(who, address)

    def come(self, who: str, address: str) -> None:
        loser = come(self.door, who, address, self.now)
        if loser is not None:
            self.close(loser)

    def close(self, who: str) -> None:
        self.door.leave(who)
        self.lost.append(who)
        if who in self.hostile:
            self.hostile.discard(who)
            self.reopen()

    def step(self) -> str | None:
        """Serve one, or let time pass until something may happen; who is served."""
        while (tardy := self.door.late(self.now)) is not None:
            self.close(tardy)
        chosen = self.door.serve(self.now)
        if chosen is None:
            due = self.door.deadline()
            assert due is not None and due > self.now
            self.now = due
            return None
        if chosen[1] is not None:
            self.close(chosen[1])
        self.now += self.cost
        return chosen[0]


@pytest.mark.parametrize("before", [0.0, 30.0], ids=["a fresh server", "a long flood"])
@pytest.mark.parametrize(("address", "limit"), [("other", 2.0), ("flood", 5.0)])
def test_the_handshake_of_an_honest_peer_begins_in_time_under_2000_that_never_answer(
    address: str, limit: float, before: float
) -> None:
    """Each says a word that costs us a millisecond, then nothing, and comes again when it is closed."""
    server = Server(0.001)
    for _ in range(2000):
        server.reopen()
    while server.now < before:
        server.step()
    begin = server.now
    server.come("honest", address)
    while server.step() != "honest":
        assert "honest" not in server.lost
    assert server.now - begin < (0.1 if address == "other" else limit - 0.5)


@pytest.mark.parametrize("rate", [1000.0, 300.0, 180.0])
def test_a_slow_crowd_of_ours_is_not_taken_for_a_flood(rate: float) -> None:
    """2,000 of one address whose processor answers so many in a second, in the order in which they were served."""
    server = Server(0.0005)
    for number in range(2000):
        server.come(f"c{number}", "crowd")
    answering: deque[str] = deque()
    proved, next_answer = 0, 0.0
    while proved < 2000:
        assert server.now < 2000 / rate + 20
        if not answering:
            next_answer = server.now + 1 / rate
        elif server.now >= next_answer:
            server.door.leave(answering.popleft(), proved=True)
            proved, next_answer = proved + 1, next_answer + 1 / rate
            continue
        chosen = server.door.serve(server.now)
        if chosen is None:
            server.now = next_answer
            continue
        assert chosen[1] is None, "somebody was pushed out"
        answering.append(chosen[0])
        server.now += server.cost
    assert server.lost == [] and len(server.door) == 0


EVENTS = st.tuples(st.sampled_from(["come", "speak", "leave", "prove", "serve", "late"]), st.integers(0, 40))


@given(st.lists(EVENTS, max_size=200), st.integers(1, 12), st.integers(1, 8), st.integers(1, 6))
def test_bounds_and_counts_hold_whatever_happens(
    events: list[tuple[str, int]], places: int, quota: int, served: int
) -> None:
    door = admission(places, quota, served)
    present: dict[str, str] = {}
    now, number = 0.0, 0
    for event, drawn in events:
        now += drawn / 20
        some = list(present)[drawn % len(present)] if present else None
        if event == "come":
            number += 1
            address = "abcde"[drawn % 5]
            present[str(number)] = address
            loser = come(door, str(number), address, now, speaks=False)
            if loser is not None:
                lost = present.pop(loser)
                counts = Counter([*present.values(), lost])
                assert counts[lost] > quota or counts[lost] == max(counts.values())
        elif event == "speak" and some is not None:
            door.speak(some, now)
        elif event in ("leave", "prove") and some is not None:
            door.leave(some, proved=event == "prove")
            del present[some]
        elif event == "serve":
            waiting = any(door._all[who].stage is Stage.WAITING for who in present)
            ready = door.ready(now)
            who, loser = serve(door, now)
            assert ready == (who is not None) and (waiting or who is None)
            if loser is not None:
                del present[loser]
        elif event == "late" and (tardy := door.late(now)) is not None:
            door.leave(tardy)
            del present[tardy]
        assert set(door.all()) == set(present) and len(door) <= places
        assert all(count <= quota for count in Counter(present.values()).values())
        assert sum(door._all[who].stage in (Stage.SERVED, Stage.SAMPLED) for who in present) <= served


def test_what_left_is_not_remembered() -> None:
    """A flood that comes and goes for hours leaves nothing behind."""
    door = admission()
    for number in range(10_000):
        come(door, str(number), f"10.0.{number % 250}.1", speaks=number % 2 == 0)
        door.leave(str(number))
    assert len(door._dues) < 100 and not door._of and not door._turns and door.deadline() is None


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("2001:db8:1:3::9", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
    ],
)
def test_an_ipv6_network_is_one_place(host: str, place: str) -> None:
    assert origin(host) == place
