"""The transport inside one process (what all transports must do is in ``tests/conformance``)."""

from __future__ import annotations

from hypershell.loopback import loopback
from hypershell.proto.messages import Bye, Drain, Leave, Output
from hypershell.transport import SERVER, Delivery


def test_messages_go_both_ways_in_their_order_by_reference() -> None:
    server, client = loopback()
    first, second, answer = Output(b"a", b""), Leave("done"), Drain()
    client.send(SERVER, first)
    client.send(SERVER, second)
    server.send(1, answer)
    assert server.poll() == [Delivery(1, first), Delivery(1, second)]
    assert server.poll() == []
    [delivery] = client.poll()
    assert delivery.peer == SERVER
    assert delivery.message is answer


def test_to_nobody_nothing_is_sent() -> None:
    server, client = loopback()
    server.send(2, Bye())
    client.send(1, Bye())
    assert client.poll() == []
    assert server.poll() == []


def test_it_wants_to_be_polled_only_when_something_is_there() -> None:
    server, client = loopback()
    assert server.wait_hint(0.0) is None
    client.send(SERVER, Bye())
    assert client.flush()
    assert server.wait_hint(0.0) == 0.0
    assert client.wait_hint(0.0) is None
    server.poll()
    assert server.wait_hint(0.0) is None


def test_a_closed_end_has_nothing_to_say() -> None:
    server, client = loopback()
    client.send(SERVER, Bye())
    server.close()
    server.close()
    assert server.poll() == []
    client.send(SERVER, Bye())
    client.expect(True)
    client.close()
