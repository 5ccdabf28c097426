"""What every transport must do, as pairs of programs: one for the server's end, one for each client's.

A program is a generator that yields whenever it waits, so that both can run in one process (loopback) or each
in a rank of its own (MPI). A broken promise is an ``AssertionError``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from hypershell.core.model import Task
from hypershell.errors import ProtocolError
from hypershell.proto.codec import decode_client, decode_server, encode
from hypershell.proto.messages import Bye, Leave, Output, OutputTaken, Work
from hypershell.transport import SERVER, Delivery, Endpoint, Lost
from tests.testbed.fuzz import OF_CLIENTS, OF_SERVERS, broken

Program = Iterator[None]
Raw = Callable[[int, bytes], None]


class Case(NamedTuple):
    server: Callable[..., Program]
    client: Callable[..., Program]
    bytes_only: bool = False
    """The case sends bytes that are no message; a transport without bytes cannot run it."""
    losses: bool = False
    """A peer ends without a word; loopback, whose ends die together, cannot tell."""


SIZES = (0, 1, 2047, 2048, 2049, 65_535, 65_537, 1 << 20, 5, 8 << 20, 3)
MANY = 2000
#: Messages with one wrong field that each side says to each of the others.
BROKEN = int(os.environ.get("HS_TEST_BROKEN", "20"))
JUNK = (b"", b"\xc1", b"\x00", b"\x93\x01", bytes(range(256)) * 40, encode(Output(b"x", b""))[:-1])


def receive(end: Endpoint, count: int) -> Generator[None, None, list[Delivery]]:
    """Poll until `count` messages are in; the generator's value is their list. The end of a peer is none."""
    got: list[Delivery] = []
    while len(got) < count:
        more = end.poll()
        got += [delivery for delivery in more if not isinstance(delivery.message, Lost)]
        if not more:
            yield
    assert len(got) == count, f"{len(got)} deliveries where {count} were sent"
    return got


def pattern(size: int, salt: int) -> bytes:
    return (bytes((i * 7 + salt) & 255 for i in range(251)) * (size // 251 + 1))[:size]


def work(text: str) -> Work:
    message = Work([Task("id", text, 1)])
    assert decode_server(encode(message)) == message
    return message


def order_server(end: Endpoint, peers: list[int]) -> Program:
    got = yield from receive(end, MANY * len(peers))
    for peer in peers:
        mine = [int(d.message.out) for d in got if d.peer == peer]
        assert mine == list(range(MANY)), f"order of peer {peer} broken"
    for peer in peers:
        for number in range(MANY):
            end.send(peer, OutputTaken(number))


def order_client(end: Endpoint, number: int) -> Program:
    for count in range(MANY):
        end.send(SERVER, Output(b"%d" % count, b""))
    got = yield from receive(end, MANY)
    assert [d.message.size for d in got] == list(range(MANY))


def sizes_server(end: Endpoint, peers: list[int]) -> Program:
    got = yield from receive(end, len(SIZES) * len(peers))
    for peer in peers:
        mine = [d.message.out for d in got if d.peer == peer]
        assert [len(data) for data in mine] == list(SIZES)
        assert all(data == pattern(len(data), peer) for data in mine), "bytes changed on their way"
        for size in SIZES:
            end.send(peer, work("y" * size))


def sizes_client(end: Endpoint, number: int) -> Program:
    for size in SIZES:
        message = Output(pattern(size, number), b"")
        assert decode_client(encode(message)) == message
        end.send(SERVER, message)
    got = yield from receive(end, len(SIZES))
    assert [len(d.message.tasks[0].args) for d in got] == list(SIZES)


def crossing_server(end: Endpoint, peers: list[int]) -> Program:
    for peer in peers:
        for count in range(60):
            end.send(peer, work("z" * (count * 1500)))
        end.send(peer, work("z" * (8 << 20)))
    got = yield from receive(end, 61 * len(peers))
    for peer in peers:
        assert [len(d.message.out) for d in got if d.peer == peer] == [*(c * 1500 for c in range(60)), 8 << 20]


def crossing_client(end: Endpoint, number: int) -> Program:
    for count in range(60):
        end.send(SERVER, Output(b"a" * (count * 1500), b""))
    end.send(SERVER, Output(b"a" * (8 << 20), b""))
    got = yield from receive(end, 61)
    assert [len(d.message.tasks[0].args) for d in got] == [*(c * 1500 for c in range(60)), 8 << 20]


def flush_server(end: Endpoint, peers: list[int]) -> Program:
    for peer in peers:
        for _ in range(300):
            end.send(peer, work("w" * 20_000))
    while not end.flush():
        end.poll()
        yield


def flush_client(end: Endpoint, number: int) -> Program:
    got = yield from receive(end, 300)
    assert all(len(d.message.tasks[0].args) == 20_000 for d in got)
    assert end.flush()


def nothing_server(end: Endpoint, peers: list[int]) -> Program:
    assert end.poll() == []
    hint = end.wait_hint(0.0)
    assert hint is None or hint >= 0.0
    end.expect(True)
    end.send(max(peers) + 7, OutputTaken(1))
    for peer in peers:
        end.send(peer, OutputTaken(2))
    yield


def nothing_client(end: Endpoint, number: int) -> Program:
    end.expect(False)
    got = yield from receive(end, 1)
    assert got == [Delivery(SERVER, OutputTaken(2))]
    assert all(isinstance(delivery.message, Lost) for delivery in end.poll()), "the server may have ended by now"


def wrong(kinds: tuple[Any, ...], decode: Callable[[bytes], Any], seed: int) -> tuple[list[bytes], list[Any]]:
    """Bytes of messages with one wrong field that are taken all the same, the last is not; and these messages."""
    draw = random.Random(seed)
    sent: list[bytes] = []
    taken: list[Any] = []
    while len(sent) < BROKEN:
        data = broken(draw, kinds)
        try:
            message = decode(data)
        except ProtocolError:
            continue
        if not isinstance(message, (Bye, Leave)):
            sent.append(data)
            taken.append(message)
    return [*sent, JUNK[seed % len(JUNK)]], taken


def until_refused(end: Any, peers: list[int], lost: dict[int, list[Any]]) -> Program:
    """Poll until each peer is lost; `lost` gets what it said before."""
    heard: dict[int, list[Any]] = {peer: [] for peer in peers}
    while len(lost) < len(peers):
        for delivery in end.poll():
            if isinstance(delivery.message, Lost):
                assert "bad message" in delivery.message.reason
                lost[delivery.peer] = heard[delivery.peer]
            else:
                heard[delivery.peer].append(delivery.message)
        yield
    assert end.rejected == len(peers)


def junk_server(end: Any, peers: list[int], raw: Raw) -> Program:
    for peer in peers:
        for data in (*wrong(OF_SERVERS, decode_server, peer)[0], encode(OutputTaken(1))):
            raw(peer, data)
    lost: dict[int, list[Any]] = {}
    yield from until_refused(end, peers, lost)
    for peer in peers:
        assert repr(lost[peer]) == repr(wrong(OF_CLIENTS, decode_client, peer)[1])
        end.drop(peer, "once more")
    assert not [d for d in end.poll() if isinstance(d.message, Lost)], "nobody is lost twice"


def junk_client(end: Any, number: int, raw: Raw) -> Program:
    lost: dict[int, list[Any]] = {}
    yield from until_refused(end, [SERVER], lost)
    assert repr(lost[SERVER]) == repr(wrong(OF_SERVERS, decode_server, number)[1])
    for data in (*wrong(OF_CLIENTS, decode_client, number)[0], encode(Output(b"after", b""))):
        raw(SERVER, data)


def close_server(end: Endpoint, peers: list[int]) -> Program:
    got = yield from receive(end, len(peers))
    assert all(d.message == Leave("done") for d in got)
    for peer in peers:
        end.send(peer, Bye())


def close_client(end: Endpoint, number: int) -> Program:
    end.send(SERVER, Leave("done"))
    got = yield from receive(end, 1)
    assert got == [Delivery(SERVER, Bye())]


def until_lost(end: Endpoint, peers: list[int]) -> Program:
    lost: list[int] = []
    while sorted(lost) != peers:
        for delivery in end.poll():
            assert isinstance(delivery.message, Lost) and delivery.message.reason
            lost.append(delivery.peer)
        yield
    end.send(peers[0], OutputTaken(1))


def dropped_server(end: Endpoint, peers: list[int]) -> Program:
    yield from receive(end, len(peers))
    bad, *good = peers
    end.drop(bad, "it lies")
    end.drop(bad, "it lies")
    for peer in good:
        end.send(peer, OutputTaken(1))
    lost: list[Delivery] = []
    others: list[Delivery] = []
    while not lost or len(others) < len(good):
        for delivery in end.poll():
            (lost if delivery.peer == bad else others).append(delivery)
        yield
    assert [type(one.message) for one in lost] == [Lost] and "it lies" in lost[0].message.reason
    assert [one.message for one in others if not isinstance(one.message, Lost)] == [Output(b"2", b"")] * len(good)


def dropped_client(end: Endpoint, number: int) -> Program:
    end.send(SERVER, Output(b"1", b""))
    while not (got := end.poll()):
        yield
    first = got[0].message
    if isinstance(first, OutputTaken):
        end.send(SERVER, Output(b"2", b""))
        while not end.flush():
            yield
        return
    end.send(SERVER, Output(b"nobody hears it", b""))
    assert isinstance(first, Bye | Lost), first


def client_gone_client(end: Endpoint, number: int) -> Program:
    return iter(())


def server_gone_server(end: Endpoint, peers: list[int]) -> Program:
    return iter(())


def server_gone_client(end: Endpoint, number: int) -> Program:
    return until_lost(end, [SERVER])


CASES = {
    "order": Case(order_server, order_client),
    "sizes": Case(sizes_server, sizes_client),
    "crossing": Case(crossing_server, crossing_client),
    "flush": Case(flush_server, flush_client),
    "nothing": Case(nothing_server, nothing_client),
    "junk": Case(junk_server, junk_client, bytes_only=True),
    "close": Case(close_server, close_client),
    "dropped": Case(dropped_server, dropped_client),
    "client_gone": Case(until_lost, client_gone_client, losses=True),
    "server_gone": Case(server_gone_server, server_gone_client, losses=True),
}
