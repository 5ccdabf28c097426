"""Listener and dialer over real sockets: coming, going, coming back, silence, queues, crowds."""

from __future__ import annotations

import logging
import resource
import socket
import threading
import time
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from hypershell.core.model import Task
from hypershell.errors import ConfigError, ProtocolError, TransportError
from hypershell.net.addresses import advertised, bind, is_loopback, resolve, shown
from hypershell.net.dialer import Dialer, Patience, Target
from hypershell.net.door import VESTIBULE
from hypershell.net.listener import Limits, Listener, Visit
from hypershell.proto.framing import MAX_FRAME
from hypershell.proto.messages import Bye, Hello, Leave, Output, OutputTaken, Work
from hypershell.reactor import Poller
from hypershell.transport import SERVER, Again, Cut, Lost
from tests.testbed.net import EASY, KEY, STRICT, Net, hello, net, server_side, welcome
from tests.testbed.relay import Relay
from tests.testbed.room import descriptors

STUBBORN = Patience(reconnect=60.0, shortest=0.01, longest=0.05, linger=0.0)


def kinds(messages: list[Any]) -> list[type]:
    return [type(message) for message in messages]


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def wire(request: pytest.FixtureRequest) -> Iterator[Net]:
    with net(secure=request.param) as made:
        yield made


def test_a_client_comes_and_goes(wire: Net) -> None:
    dialer, peer = wire.join("me")
    assert peer == 1 and len(wire.listener) == 1 and dialer.connected
    who = wire.listener.peer(peer)
    assert who is not None and (who.role, who.ident, who.connection) == ("client", "me", 0)
    dialer.send(SERVER, Output(b"text", b""))
    dialer.send(SERVER, Leave("done"))
    wire.until(lambda: wire.messages(peer)[-1:] == [Leave("done")])
    dialer.close()
    wire.until(lambda: len(wire.listener) == 0)
    assert kinds(wire.messages(peer)) == [Hello, Output, Leave], "after its goodbye it is no loss"
    assert wire.join("me")[1] == 2, "numbers are never used again"


def test_numbers_begin_where_they_should() -> None:
    with net(first=100) as wire:
        assert wire.join("a")[1] == 100


def test_a_client_without_goodbye_is_lost_at_once(wire: Net) -> None:
    dialer, peer = wire.join()
    dialer.close()
    wire.until(lambda: kinds(wire.messages(peer)) == [Hello, Lost])
    lost = wire.messages(peer)[-1]
    assert "closed" in lost.reason
    assert lost.outside, "it is none of the clients with which a run begins"


def test_a_dismissed_client_sees_no_loss(wire: Net) -> None:
    dialer, peer = wire.join()
    wire.listener.send(peer, Bye())
    wire.until(lambda: Bye() in wire.heard[dialer])
    wire.listener.close()
    for _ in range(20):
        dialer.poll()
    assert wire.heard[dialer][-1] == Bye() and dialer.lost is None


@pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
def test_the_last_words_arrive_although_both_close(secure: bool) -> None:
    """The server closes right after Bye, with messages of the client unread: no reset may overtake it."""
    client_saw: list[Any] = []
    with net(secure=secure, limits=Limits()) as wire:
        dialled = Dialer(Poller(), wire.target, "far", patience=Patience(reconnect=0.0))
        far = threading.Thread(target=_serve_until_bye, args=(dialled, client_saw))
        far.start()
        wire.until(lambda: any(isinstance(d.message, Hello) for d in wire.got))
        wire.listener.send(1, welcome())
        wire.listener.send(1, Work([Task("id", "x" * 3_000_000, 1)]))
        wire.listener.send(1, Bye())
        wire.until(wire.listener.flush)
        wire.listener.close()
        far.join(60)
    assert not far.is_alive()
    assert kinds(client_saw)[-2:] == [Work, Bye]


def _serve_until_bye(dialer: Dialer, saw: list[Any]) -> None:
    dialer.send(SERVER, hello("far"))
    end = time.monotonic() + 60
    poller = dialer._poller
    while not any(isinstance(message, (Bye, Lost)) for message in saw) and time.monotonic() < end:
        saw += [delivery.message for delivery in dialer.poll()]
        if dialer.connected:
            dialer.send(SERVER, Output(b"o" * 100, b""))
        dialer.flush()
        poller.wait(min(0.01, dialer.wait_hint(time.monotonic()) or 0.0))
    dialer.close()
    poller.close()


# -- addresses ---------------------------------------------------------------------------------------------


def loopback_has(family: int, where: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((where, 0))
        return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not loopback_has(socket.AF_INET6, "::1"), reason="no IPv6 here")


@ipv6
@pytest.mark.parametrize("host", ["", "*", "::"])
def test_all_addresses_of_both_families_on_one_port(host: str) -> None:
    with net(host=host) as wire:
        wire.join("four", target=lambda: wire.target(hosts=("127.0.0.1",)))
        wire.join("six", target=lambda: wire.target(hosts=("::1",)))


@ipv6
def test_ipv6_alone() -> None:
    with net(host="::1") as wire:
        dialer, _ = wire.join()
        assert dialer.address == f"[::1]:{wire.port}"
        assert wire.listener.addresses == ("::1",)


def test_localhost_by_name() -> None:
    with net(host="localhost") as wire:
        wire.join()


def test_a_busy_port_is_one_clear_line() -> None:
    (held,) = bind("127.0.0.1", 0)
    port = held.getsockname()[1]
    with pytest.raises(TransportError, match=f"^port {port} of 127.0.0.1 is in use: --port names") as caught:
        bind("127.0.0.1", port)
    assert "\n" not in str(caught.value)
    held.close()
    bind("127.0.0.1", port)[0].close()


def test_addresses_that_are_not_ours() -> None:
    with pytest.raises(TransportError, match=r"cannot listen on '192\.0\.2\.1'"):
        bind("192.0.2.1", 0)
    with pytest.raises(TransportError, match=r"cannot listen on 'no host at all'"):
        bind("no host at all", 0)
    with pytest.raises(TransportError, match="no host 'no host at all'"):
        resolve("no host at all", 1)


def test_what_others_are_told() -> None:
    sockets = bind("0.0.0.0", 0)
    assert advertised(sockets)[0] == socket.gethostname()
    sockets[0].close()
    assert shown("::1", 5) == "[::1]:5" and shown("host", 5) == "host:5"
    assert is_loopback("localhost") and is_loopback("127.1.2.3") and is_loopback("::1")
    assert not is_loopback("0.0.0.0") and not is_loopback("node7")


# -- dialling ----------------------------------------------------------------------------------------------


@cache
def refusing() -> socket.socket:
    """A socket that holds a port and does not listen."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


def closed_port() -> int:
    return int(refusing().getsockname()[1])


def test_nobody_there_is_said_at_once(wire: Net) -> None:
    dialer = wire.dial(target=lambda: wire.target(port=closed_port()))
    wire.until(lambda: wire.heard[dialer])
    (lost,) = wire.heard[dialer]
    assert isinstance(lost, Lost) and dialer.lost == lost.reason
    assert lost.reason.startswith("cannot reach the server: 127.0.0.1:")
    assert lost.reason.endswith("Connection refused (does it run? -H, -p and --connect say where)")


def test_an_unknown_name_is_said() -> None:
    with net() as wire:
        dialer = wire.dial(target=lambda: wire.target(hosts=("no host at all",)))
        wire.until(lambda: wire.heard[dialer])
        assert "no host 'no host at all'" in wire.heard[dialer][0].reason


def test_the_second_address_is_tried_too() -> None:
    with net() as wire:
        wire.join(target=lambda: wire.target(hosts=("no host at all", "127.0.0.3", "127.0.0.1")))


def test_a_server_that_comes_later_is_waited_for() -> None:
    patience = Patience(first=60.0, shortest=0.01, longest=0.05, linger=0.0)
    with net() as wire:
        rounds: list[int] = []

        def target() -> Target:
            rounds.append(1)
            return wire.target(port=wire.port if len(rounds) > 3 else closed_port())

        dialer, _ = wire.join(target=target, patience=patience)
        assert len(rounds) == 4 and Cut not in kinds(wire.heard[dialer])


def test_a_target_that_cannot_be_read_ends_the_first_attempt_with_its_reason() -> None:
    def unreadable() -> Target:
        raise ConfigError("cannot read the connect file x")

    with net() as wire:
        dialer = wire.dial(target=unreadable, patience=STUBBORN)
        wire.until(lambda: wire.heard[dialer])
        assert wire.heard[dialer][0].reason.endswith("cannot read the connect file x")


def restarted(wire: Net, **options: Any) -> None:
    """A new server in the old one's place."""
    wire.listener.close()
    options = {"limits": EASY, **options}
    wire.listener = Listener(
        wire.poller, bind("127.0.0.1", 0), KEY, server_side() if wire.secure else None, **options
    )
    wire.port = wire.listener.port


def test_a_server_that_comes_back_elsewhere_is_found(wire: Net) -> None:
    dialer, _ = wire.join("me", patience=STUBBORN)
    restarted(wire, first=50)
    wire.until(lambda: Cut in kinds(wire.heard[dialer]))
    dialer.send(SERVER, Output(b"said to nobody", b""))
    assert dialer.flush()
    wire.until(lambda: Again in kinds(wire.heard[dialer]))
    assert dialer.connections == 2 and dialer.lost is None
    dialer.send(SERVER, hello("me"))
    peer = wire.welcomed(dialer, "me")
    assert peer == 50 and wire.messages(50) == [hello("me")]
    who = wire.listener.peer(50)
    assert who is not None and who.connection > 0, "the server can tell that it came back"


def test_looking_for_a_lost_server_ends() -> None:
    with net() as wire:
        patience = Patience(reconnect=0.2, shortest=0.01, longest=0.05, linger=0.0)
        dialer, _ = wire.join(patience=patience)
        wire.listener.close()
        wire.until(lambda: Lost in kinds(wire.heard[dialer]))
        assert kinds(wire.heard[dialer])[-2:] == [Cut, Lost]
        assert dialer.lost is not None and dialer.lost.startswith("no server for 0.2 seconds: 127.0.0.1:")
        assert dialer.wait_hint(0.0) is None


def test_pauses_grow_and_are_drawn() -> None:
    """With a clock of its own: how long it waits between rounds."""
    now = [0.0]
    port = closed_port()
    poller = Poller()
    patience = Patience(first=1000.0, shortest=1.0, longest=16.0)
    draws = iter([0.0, 1.0, 0.0, 1.0, 0.5, 0.0, 0.0])
    target = Target(("127.0.0.1",), port, KEY, None)
    begun: list[float] = []

    def find() -> Target:
        begun.append(now[0])
        return target

    dialer = Dialer(poller, find, "me", patience=patience, clock=lambda: now[0], draw=lambda: next(draws))
    while len(begun) < 7:
        dialer.poll()
        hint = dialer.wait_hint(now[0])
        if dialer._round is not None and dialer._round.over and hint:
            now[0] += hint
        else:
            poller.wait(1.0)
    pauses = [round(after - before, 6) for before, after in pairwise(begun)]
    assert pauses == [0.5, 2.0, 2.0, 8.0, 12.0, 8.0]
    dialer.close()
    poller.close()


def test_the_same_client_twice_is_refused_and_a_returning_one_replaces_itself() -> None:
    with net() as wire:
        first, peer = wire.join("me")
        twin = wire.dial("me")
        wire.until(lambda: wire.heard[twin])
        assert "client me is already connected" in wire.heard[twin][0].reason
        assert first.connected
        back = wire.dial("me")
        back._greetings = 1  # what its counter says after a connection that only the server still believes in
        back.send(SERVER, hello("me"))
        number = wire.welcomed(back, "me", after=peer)
        assert kinds(wire.messages(peer)) == [Hello, Lost]
        assert "came back" in wire.messages(peer)[1].reason
        order = [(d.peer, type(d.message)) for d in wire.got if d.peer in (peer, number)]
        assert order == [(peer, Hello), (peer, Lost), (number, Hello)], "the loss comes before the return"


# -- silence -----------------------------------------------------------------------------------------------


def test_beats_keep_a_quiet_connection() -> None:
    limits = Limits(beat=0.05, silence=30.0, linger=0.0)
    patience = Patience(reconnect=0.0, beat=0.05, silence=30.0, linger=0.0)
    with net(limits=limits) as wire, Relay(wire.port) as relay:
        dialer, peer = wire.join(target=lambda: wire.target(port=relay.port), patience=patience)
        heard = len(relay.up), len(relay.down)
        wire.until(lambda: len(relay.up) >= heard[0] + 10 and len(relay.down) >= heard[1] + 10)
        assert kinds(wire.messages(peer)) == [Hello] and dialer.connected


def test_a_server_with_little_patience_keeps_a_client_with_much() -> None:
    """The client would say something every 300 seconds; asked by the server's signs of life it says more."""
    limits = Limits(beat=0.05, silence=0.5, linger=0.0)
    patience = Patience(reconnect=0.0, beat=600.0, silence=600.0, linger=0.0)
    with net(limits=limits) as wire, Relay(wire.port) as relay:
        dialer, peer = wire.join(target=lambda: wire.target(port=relay.port), patience=patience)
        begun, heard = time.monotonic(), len(relay.up)
        wire.until(lambda: time.monotonic() > begun + 1.5 and len(relay.up) > heard)
        assert kinds(wire.messages(peer)) == [Hello] and dialer.connected


@pytest.mark.parametrize("side", ["server", "client"])
def test_a_half_open_connection_is_lost_by_silence(side: str) -> None:
    """The cable is cut: nobody is told anything, either side finds out by itself."""
    short = {name: 0.5 if name == side else 600.0 for name in ("server", "client")}
    limits = Limits(beat=0.1, silence=short["server"], linger=0.0)
    patience = msgspec.structs.replace(STUBBORN, beat=0.1, silence=short["client"], handshake=1.0)
    with net(limits=limits) as wire, Relay(wire.port) as relay:
        dialer, peer = wire.join("me", target=lambda: wire.target(port=relay.port), patience=patience)
        relay.passing.clear()
        if side == "server":
            wire.until(lambda: kinds(wire.messages(peer)) == [Hello, Lost])
            assert "nothing was heard of it" in wire.messages(peer)[1].reason
        else:
            wire.until(lambda: Cut in kinds(wire.heard[dialer]))
            assert "nothing was heard of it" in wire.heard[dialer][-1].reason
        relay.passing.set()
        wire.until(lambda: Again in kinds(wire.heard[dialer]))


def test_a_reset_is_noticed_at_once() -> None:
    with net() as wire, Relay(wire.port) as relay:
        dialer, peer = wire.join("me", target=lambda: wire.target(port=relay.port), patience=STUBBORN)
        relay.cut()
        wire.until(lambda: kinds(wire.messages(peer)) == [Hello, Lost] and Cut in kinds(wire.heard[dialer]))


def test_nobody_is_judged_by_a_sleep_of_our_own() -> None:
    """Stopped for an hour and resumed: what has come meanwhile is read first."""
    ahead = [0.0]

    def clock() -> float:
        return time.monotonic() + ahead[0]

    patience = Patience(reconnect=0.0, linger=0.0)
    with net(clock=clock) as wire:
        dialer, peer = wire.join(clock=clock, patience=patience)
        ahead[0] += 3600.0
        wire.turn()
        wire.turn()
        assert dialer.connected and kinds(wire.messages(peer)) == [Hello]
        wire.until(lambda: dialer._connection.heard >= clock() - 60)  # type: ignore[union-attr]
        assert dialer.connected and len(wire.listener) == 1


# -- queues ------------------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_lost_and_no_other_is_touched() -> None:
    with net(limits=Limits(queued=4 << 20, linger=0.0)) as wire:
        _, deaf = wire.join("deaf")
        other, peer = wire.join("other")
        wire.dialers = [other]
        message = Work([Task("id", "x" * 500_000, 1)])
        for _ in range(40):
            wire.listener.send(deaf, message)
            wire.listener.flush()
        wire.until(lambda: kinds(wire.messages(deaf)) == [Hello, Lost])
        assert "does not take its messages" in wire.messages(deaf)[1].reason
        wire.listener.send(peer, OutputTaken(1))
        wire.until(lambda: OutputTaken(1) in wire.heard[other])


def test_a_server_that_does_not_read_is_lost() -> None:
    with net() as wire:
        dialer, _ = wire.join(patience=msgspec.structs.replace(STRICT, queued=1 << 20))
        for _ in range(40):
            dialer.send(SERVER, Output(b"x" * 500_000, b""))
            dialer.flush()
        wire.until(lambda: Lost in kinds(wire.heard[dialer]))
        assert "does not take our messages" in wire.heard[dialer][-1].reason


def test_a_dismissed_client_that_takes_nothing_does_not_hold_the_end() -> None:
    with net(limits=Limits(farewell=0.1, linger=0.0)) as wire:
        _, deaf = wire.join("deaf")
        wire.dialers = []
        for _ in range(20):
            wire.listener.send(deaf, Work([Task("id", "x" * 1_000_000, 1)]))
        wire.listener.send(deaf, Bye())
        assert not wire.listener.flush()
        wire.until(wire.listener.flush)
        assert Lost not in kinds(wire.messages(deaf)), "it was dismissed"


def test_a_message_that_is_too_long_is_an_error_of_ours(wire: Net) -> None:
    dialer, peer = wire.join()
    with pytest.raises(TransportError, match=f"no more than {MAX_FRAME}"):
        wire.listener.send(peer, Work([Task("id", "x" * (MAX_FRAME + 1), 1)]))
    with pytest.raises(TransportError, match=f"no more than {MAX_FRAME}"):
        dialer.send(SERVER, Output(b"x" * (MAX_FRAME + 1), b""))
    assert dialer.connected


# -- other roles -------------------------------------------------------------------------------------------


class Question(msgspec.Struct, array_like=True, tag=101):
    text: str


class Reply(msgspec.Struct, array_like=True, tag=102):
    text: str


def decoder(kind: type) -> Any:
    made = msgspec.msgpack.Decoder(kind)

    def decode(data: bytes) -> Any:
        try:
            return made.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"bad message: {error}") from None

    return decode


def test_other_roles_have_a_queue_of_their_own(wire: Net) -> None:
    with net(secure=wire.secure, visitors={"status": decoder(Question)}) as wire:
        _, client = wire.join("worker")
        asking = wire.dial("asker", role="status", decode=decoder(Reply))
        asking.send(SERVER, Question("how far?"))
        visits: list[Visit] = []
        wire.until(lambda: visits.extend(wire.listener.visits()) or visits)
        (visit,) = visits
        assert visit == Visit(visit.peer, "status", Question("how far?")) and visit.peer != client
        wire.listener.send(visit.peer, Reply("half"))
        wire.until(lambda: wire.heard[asking] == [Reply("half")])
        asking.close()
        wire.until(lambda: visits.extend(wire.listener.visits()) or len(visits) == 2)
        assert isinstance(visits[1].message, Lost)
        assert all(delivery.peer == client for delivery in wire.got)


def test_a_role_that_nobody_serves_is_refused(wire: Net) -> None:
    asking = wire.dial("asker", role="submit", decode=decoder(Reply), patience=STUBBORN)
    wire.until(lambda: wire.heard[asking])
    assert "rejected: role 'submit' is not served here" in wire.heard[asking][0].reason


# -- crowds ------------------------------------------------------------------------------------------------


def test_a_storm_of_200_clients() -> None:
    """All at once, with 16 handshakes at a time: the others wait, nobody is turned away, and all get in."""
    with net(limits=Limits(handshakes=16, handshake=60.0, young=60.0, linger=0.0)) as wire:
        dialers = [wire.dial(f"client {number}", patience=STUBBORN) for number in range(200)]
        for number, dialer in enumerate(dialers):
            dialer.send(SERVER, hello(f"client {number}"))
        most = served = 0

        def all_in() -> bool:
            nonlocal most, served
            most = max(most, wire.listener.strangers)
            served = max(served, len(wire.listener._door.strangers))
            return sum(isinstance(d.message, Hello) for d in wire.got) == 200

        wire.until(all_in)
        assert len(wire.listener) == 200 and wire.listener.rejected == 0
        assert 1 < served <= 16 < most <= 200
        for peer in sorted({delivery.peer for delivery in wire.got}):
            wire.listener.send(peer, welcome())
        wire.until(lambda: all(wire.heard[dialer] for dialer in dialers))


def test_a_server_that_hangs_up_before_it_lets_us_in_is_tried_again() -> None:
    """It may have too many strangers; a client that would wait for no server at all still gets in."""
    with net() as wire, socket.create_server(("127.0.0.1", 0)) as rude:
        calls = 0

        def target() -> Target:
            nonlocal calls
            calls += 1
            return wire.target(port=rude.getsockname()[1]) if calls == 1 else wire.target()

        dialer = wire.dial(target=target)
        rude.setblocking(False)
        wire.poller.add(rude.fileno(), lambda: rude.accept()[0].close())
        wire.until(lambda: dialer.connected)
        wire.poller.remove(rude.fileno())
        assert calls == 2 and dialer.connections == 1


def test_no_more_peers_than_allowed_and_those_who_wait_get_in_later() -> None:
    with net(limits=Limits(peers=2, linger=0.0)) as wire:
        first, _ = wire.join("a")
        wire.join("b")
        third = wire.dial("c", patience=STUBBORN)
        third.send(SERVER, hello("c"))
        wire.until(lambda: wire.listener.rejected)
        first.close()
        wire.until(lambda: third.connected and len(wire.listener) == 2)


def test_descriptors_that_run_out_stop_nobody_who_is_in(caplog: pytest.LogCaptureFixture) -> None:
    with net() as wire:
        dialer, peer = wire.join("in")
        waiting = [socket.create_connection(("127.0.0.1", wire.port)) for _ in range(4)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno() + 2, hard))
        try:
            wire.until(lambda: "No more connections for now" in caplog.text)
            dialer.send(SERVER, Output(b"still here", b""))
            wire.until(lambda: Output(b"still here", b"") in wire.messages(peer))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            lowest_free.close()
        wire.until(lambda: wire.listener.strangers == 4)
        for sock in waiting:
            sock.close()


def test_the_last_descriptors_are_for_no_client_but_for_those_who_submit(caplog: pytest.LogCaptureFixture) -> None:
    with net(visitors={"submit": msgspec.msgpack.decode}) as wire:
        inside, _ = wire.join("in")
        with descriptors(VESTIBULE + 1):  # one is that of the dialer, in this process too
            refused = wire.dial("late", patience=Patience(reconnect=0.0, busy=0.0, linger=0.0))
            wire.until(lambda: refused.lost)
            assert refused.lost is not None and "no room for more clients" in refused.lost
            assert "ulimit -n is" in refused.lost and inside.connected
            refused.close()
            visitor = wire.dial("visitor", role="submit", decode=msgspec.msgpack.decode)
            wire.until(lambda: visitor.connected)
        late = wire.dial("later")
        wire.until(lambda: late.connected)
        assert len(wire.listener) == 3
    assert caplog.text.count("No more connections for now") == 1


def test_nobody_comes_in_before_the_door_is_opened() -> None:
    with net() as wire:
        wire.listener.hold()
        dialer = wire.dial("early")
        for _ in range(5):
            wire.turn()
        knock = wire.listener.wait_hint(time.monotonic())
        assert len(wire.listener) == 0 and wire.listener.strangers == 0 and knock is not None and knock > 0
        wire.listener.admit()
        wire.until(lambda: dialer.connected)


def test_lines_about_strangers_are_few(caplog: pytest.LogCaptureFixture) -> None:
    with net(secure=False) as wire:
        for _ in range(50):
            sock = socket.create_connection(("127.0.0.1", wire.port))
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            rejected = wire.listener.rejected
            wire.until(lambda before=rejected: wire.listener.rejected > before)
            sock.close()
        with caplog.at_level(logging.WARNING):
            wire.listener.close()
    lines = [record for record in caplog.records if record.getMessage().startswith("Rejected")]
    assert len(lines) <= 20
    assert "30 more messages like these were left out" in caplog.text


def test_close_is_idempotent_and_leaves_nothing(wire: Net) -> None:
    dialer, _ = wire.join()
    for _ in range(2):
        dialer.close()
        wire.listener.close()
    assert wire.listener.poll() == [] and dialer.poll() == []
    assert wire.listener.wait_hint(0.0) is None and dialer.wait_hint(0.0) is None
    wire.listener.send(1, OutputTaken(1))
    dialer.send(SERVER, Leave("late"))
    assert not wire.poller._callbacks
