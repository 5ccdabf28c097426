"""Attacks over real sockets: each ends with a line that names it, a closed connection, and nobody else disturbed.

The pure parts of the same attacks are in ``test_net_session.py``.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypershell.errors import ProtocolError
from hypershell.net import tls
from hypershell.net.auth import Key
from hypershell.net.dialer import Dialer, Patience
from hypershell.net.listener import Limits
from hypershell.proto import session as s
from hypershell.proto.codec import decode_client, encode
from hypershell.proto.framing import HANDSHAKE, HANDSHAKE_LIMIT, MAX_FRAME, MESSAGE, Frame, FrameDecoder, frame
from hypershell.proto.messages import Hello, Leave, Output, OutputTaken, Results
from hypershell.transport import SERVER, Cut, Lost
from tests.testbed.flood import KINDS, Flood, first_word
from tests.testbed.net import KEY, LONG, Net, client_side, hello, net, server_side, welcome
from tests.testbed.relay import Relay


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def wire(request: pytest.FixtureRequest) -> Iterator[Net]:
    with net(secure=request.param) as made:
        yield made


def refused(wire: Net, dialer: Dialer) -> str:
    """Turn until the dialer has given up; why it did. Nobody was let in."""
    before = wire.listener.admitted
    wire.until(lambda: wire.heard[dialer])
    (lost,) = wire.heard[dialer]
    assert isinstance(lost, Lost) and "\n" not in lost.reason
    assert wire.listener.admitted == before and not dialer.connected
    return str(lost.reason)


# -- the key -----------------------------------------------------------------------------------------------


def test_a_wrong_key(wire: Net, caplog: pytest.LogCaptureFixture) -> None:
    wrong = Key("another-key-of-this-test")
    reason = refused(wire, wire.dial(target=lambda: wire.target(key=wrong)))
    assert "the proof of the key is wrong" in reason
    wire.until(lambda: wire.listener.rejected == 1)
    assert "Rejected connection from 127.0.0.1: the proof of the key is wrong" in caplog.text
    for secret in (wrong.reveal(), KEY.reveal()):
        assert secret not in caplog.text + reason


def test_a_server_that_does_not_know_the_key() -> None:
    """It takes everybody in order to hear them: the client says nothing before it has proven itself."""
    with Impostor() as impostor, net() as wire:
        dialer = wire.dial(target=lambda: wire.target(port=impostor.port))
        dialer.send(SERVER, hello("client"))
        assert "does not know the key" in refused(wire, dialer)
        assert MESSAGE not in [one.kind for one in impostor.frames]


class Impostor:
    """A TLS server that says yes to every proof, with a proof of its own that is noise."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self._listening.accept()
        with server_side().context.wrap_socket(client, server_side=True) as sock:
            decoder = FrameDecoder(MAX_FRAME)
            answers = [
                s._encode(s.Challenge(s.PROTOCOL_VERSION, "1", b"n" * s.NONCE_SIZE)),
                s._encode(s.Accepted(bytes(32))),
            ]
            while data := sock.recv(4096):
                decoder.feed(data)
                while (one := decoder.next()) is not None:
                    self.frames.append(one)
                    if answers:
                        sock.sendall(frame(HANDSHAKE, answers.pop(0)))

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.close()


# -- between the two ---------------------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path) -> tls.ServerTls:
    """The certificate of the man in the middle, for the same names as ours."""
    return tls.server_tls(tls.ensure_certificate(str(tmp_path / "theirs"), "localhost"))


def test_a_man_in_the_middle(theirs: tls.ServerTls, caplog: pytest.LogCaptureFixture) -> None:
    """TLS ends at somebody else, who passes everything on: the proof names another certificate."""
    with net() as wire, Relay(wire.port, outer=theirs.context, inner=client_side().context) as middle:
        dialer = wire.dial(target=lambda: wire.target(port=middle.port))
        dialer.send(SERVER, hello("client"))
        reason = refused(wire, dialer)
        assert "somebody between us with their own certificate" in reason
        assert middle.up, "it did pass through him"
        seen = b"".join(middle.up + middle.down)
        assert KEY.reveal().encode() not in seen and b"host" not in seen, "he heard the handshake and nothing else"


def test_a_man_in_the_middle_who_never_asks_the_server(theirs: tls.ServerTls) -> None:
    """With the fingerprint pinned the client does not even say its first word."""
    pinned = tls.client_tls(pin=server_side().digest)
    with net() as wire, Relay(wire.port, outer=theirs.context, inner=client_side().context) as middle:
        dialer = wire.dial(target=lambda: wire.target(port=middle.port, tls=pinned))
        assert re.search("certificate is SHA256:.*, not SHA256:.* as expected", refused(wire, dialer))
        assert not middle.up
        wire.join("pinned", target=lambda: wire.target(tls=pinned))


def test_an_authority_of_the_user(theirs: tls.ServerTls, tmp_path: Path) -> None:
    ca = str(tmp_path / "theirs" / "server.pem")
    with net(tls=theirs) as wire:
        wire.join("trusts", target=lambda: wire.target(tls=tls.client_tls(cafile=ca, server_name="localhost")))
    with net() as wire:
        dialer = wire.dial(target=lambda: wire.target(tls=tls.client_tls(cafile=ca)))
        assert "the server's certificate is not trusted" in refused(wire, dialer)


def test_bytes_that_are_changed_on_their_way(caplog: pytest.LogCaptureFixture) -> None:
    """Without TLS as well nobody gets in under another name."""

    def rename(data: bytes) -> bytes:
        return data.replace(b"\xa6client\xa6client", b"\xa6client\xa6attack")

    with net(secure=False) as wire, Relay(wire.port, up=rename) as middle:
        reason = refused(wire, wire.dial(target=lambda: wire.target(port=middle.port)))
        assert "the proof of the key is wrong" in reason
        assert rename(middle.up[0]) != middle.up[0]


def test_bytes_of_tls_that_are_changed_end_the_connection() -> None:
    flip = [False]

    def damage(data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if flip[0] else data

    with net() as wire, Relay(wire.port, up=damage) as middle:
        dialer, peer = wire.join(target=lambda: wire.target(port=middle.port))
        flip[0] = True
        dialer.send(SERVER, Output(b"x", b""))
        wire.until(lambda: isinstance(wire.messages(peer)[-1], Lost))
        assert Output not in map(type, wire.messages(peer))


def test_a_reflection(wire: Net) -> None:
    """Whoever sends the client's own bytes back to it gets a rejection and learns nothing."""
    listening = socket.create_server(("127.0.0.1", 0))

    def mirror() -> None:
        sock, _ = listening.accept()
        with contextlib.suppress(OSError):
            if wire.secure:
                sock = server_side().context.wrap_socket(sock, server_side=True)
            while data := sock.recv(4096):
                sock.sendall(data)
        sock.close()

    threading.Thread(target=mirror, daemon=True).start()
    port = listening.getsockname()[1]
    dialer = wire.dial(target=lambda: wire.target(port=port))
    assert "out of order: Greet while waiting for Challenge" in refused(wire, dialer)
    listening.close()


def test_a_replay_of_recorded_bytes(wire: Net) -> None:
    """All that a client ever sent, again: below TLS, and for a server without TLS inside of it as well."""
    with Relay(wire.port) as recorder:
        dialer, peer = wire.join("me", target=lambda: wire.target(port=recorder.port))
        dialer.send(SERVER, Results([], [("task", 1)]))
        wire.until(lambda: Results([], [("task", 1)]) in wire.messages(peer))
        recorded = b"".join(recorder.up)
    rejected, admitted = wire.listener.rejected, wire.listener.admitted
    with socket.create_connection(("127.0.0.1", wire.port)) as thief:
        thief.sendall(recorded)
        wire.until(lambda: wire.listener.rejected > rejected)
    assert wire.listener.admitted == admitted
    assert sum(message == Results([], [("task", 1)]) for message in wire.messages(peer)) == 1


def test_a_replay_inside_of_tls() -> None:
    """With the server's own key in an attacker's hands the old proof is still worth nothing."""
    with net() as wire, Relay(wire.port, outer=server_side().context, inner=client_side().context) as recorder:
        dialer, _ = wire.join("me", target=lambda: wire.target(port=recorder.port))
        recorded = b"".join(recorder.up)
        assert b"hypershell" not in recorded and len(recorded) > 100
        admitted = wire.listener.admitted
        thief = Raw(wire)
        thief.send(recorded)
        assert "the proof of the key is wrong" in thief.rejection()
        assert wire.listener.admitted == admitted and dialer.connected


# -- downgrades --------------------------------------------------------------------------------------------


def test_a_client_without_tls_at_a_server_with_tls() -> None:
    with net() as wire:
        reason = refused(wire, wire.dial(target=lambda: wire.target(tls=None)))
        assert "--no-tls" in reason and "TLS" in reason


def test_a_client_with_tls_at_a_server_without(caplog: pytest.LogCaptureFixture) -> None:
    with net(secure=False) as wire:
        reason = refused(wire, wire.dial(target=lambda: wire.target(tls=client_side())))
        assert "the other side speaks no TLS: --no-tls must be said on both sides" in reason
        wire.until(lambda: "it speaks TLS here" in caplog.text)


def test_somebody_who_takes_tls_away(theirs: tls.ServerTls) -> None:
    """TLS towards the server, none towards a client of --no-tls: its proof says that it saw none."""
    with net() as wire, Relay(wire.port, inner=client_side().context) as middle:
        reason = refused(wire, wire.dial(target=lambda: wire.target(port=middle.port, tls=None)))
        assert "the proof of the key is wrong" in reason
    with net(secure=False) as wire, Relay(wire.port, outer=theirs.context) as middle:
        reason = refused(wire, wire.dial(target=lambda: wire.target(port=middle.port, tls=client_side())))
        assert "the proof of the key is wrong" in reason


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1])
def test_an_old_version_of_tls(version: ssl.TLSVersion, tmp_path: Path) -> None:
    own = tls.ensure_certificate(str(tmp_path / "tls"), "localhost")
    minimum = "TLSv1.3" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.2"
    old = tls.client_tls()
    with contextlib.suppress(ssl.SSLError):
        old.context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.context.minimum_version = old.context.maximum_version = version
    with net(tls=tls.server_tls(own, minimum=minimum)) as wire:
        reason = refused(wire, wire.dial(target=lambda: wire.target(tls=old)))
        assert "no version of TLS that both sides allow" in reason
        wire.join("new")


# -- hostile bytes -----------------------------------------------------------------------------------------


class Raw:
    """A socket to the listener whose bytes we choose; with TLS where the listener wants it."""

    def __init__(self, wire: Net) -> None:
        self.wire = wire
        self.decoder = FrameDecoder(MAX_FRAME)
        self.open = True
        sock = socket.create_connection(("127.0.0.1", wire.port))
        sock.setblocking(False)
        self.sock = sock
        if wire.secure:
            self.sock = client_side().context.wrap_socket(sock, do_handshake_on_connect=False)
            wire.until(self._shaken)

    def _shaken(self) -> bool:
        try:
            self.sock.do_handshake()  # type: ignore[attr-defined]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def next(self) -> Frame | None:
        """The next frame of the server; None: it has closed."""
        box: list[Frame | None] = []

        def look() -> bool:
            while True:
                one = self.decoder.next()
                if one is not None:
                    box.append(one)
                    return True
                try:
                    data = self.sock.recv(65536)
                except (ssl.SSLWantReadError, BlockingIOError):
                    return False
                except OSError:
                    data = b""
                if not data:
                    box.append(None)
                    return True
                self.decoder.feed(data)

        self.wire.until(look)
        return box[0]

    def rejection(self) -> str:
        """Why the server rejects us: its last word."""
        last = None
        while (one := self.next()) is not None:
            last = one
        assert last is not None and last.kind == HANDSHAKE
        word = s._words.decode(last.payload)
        assert isinstance(word, s.Reject)
        return word.reason

    def authenticate(self, ident: str) -> None:
        """Get in by the rules."""
        session = s.ClientSession(
            KEY.prove,
            s.Binding(True, server_side().digest) if self.wire.secure else s.Binding.none(),
            random.randbytes(s.NONCE_SIZE),
            "1.0",
            decode_client,
            role=s.CLIENT,
            ident=ident,
        )
        self.send(session.start())
        while not session.authenticated:
            one = self.next()
            assert one is not None
            self.send(session.receive(one).reply)

    def close(self) -> None:
        self.sock.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (frame(MESSAGE, encode(hello("x"))), "out of order: message before authentication"),
        (frame(3), "out of order: sign of life before authentication"),
        (frame(HANDSHAKE, b""), "bad handshake"),
        (frame(HANDSHAKE, b"\xc1"), "bad handshake"),
        (frame(HANDSHAKE, s._encode(s.Proof(bytes(32)))), "out of order: Proof while waiting for Greet"),
        (b"\0\0\0\0", "frame without a kind"),
        (b"\0\0\0\1\x77", "frame of unknown kind 119"),
        ((HANDSHAKE_LIMIT + 2).to_bytes(4, "big"), f"no more than {HANDSHAKE_LIMIT}"),
        (b"\xff\xff\xff\xff", "no more than"),
        (b"GET / HTTP/1.1\r\n\r\n", "no more than"),
    ],
)
def test_what_a_stranger_may_not_say(wire: Net, data: bytes, words: str) -> None:
    raw = Raw(wire)
    raw.send(data)
    assert words in raw.rejection()
    assert wire.listener.strangers == 0 and wire.got == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (frame(MESSAGE, b"\xc1"), "bad message from a client"),
        (frame(MESSAGE, b""), "bad message from a client"),
        (frame(MESSAGE, encode(Output(b"x", b""))[:-1]), "bad message from a client"),
        (frame(MESSAGE, encode(OutputTaken(1))), "bad message from a client"),
        (frame(MESSAGE, b"\x91" * 5000), "bad message from a client"),
        (frame(MESSAGE, encode(hello("me"))), "out of order: a second Hello"),
        (frame(HANDSHAKE, s._encode(s.Proof(bytes(32)))), "out of order: Proof while open"),
        (frame(3, b"x"), "sign of life with something in it"),
        ((MAX_FRAME + 2).to_bytes(4, "big"), f"no more than {MAX_FRAME}"),
        (frame(9), "unknown kind 9"),
    ],
)
def test_what_a_client_may_not_say(wire: Net, data: bytes, words: str) -> None:
    raw = Raw(wire)
    raw.authenticate("me")
    raw.send(frame(MESSAGE, encode(hello("me"))))
    raw.send(frame(MESSAGE, encode(Results([], [("before", 1)]))))
    raw.send(data + frame(MESSAGE, encode(Results([], [("behind", 1)]))))
    assert words in raw.rejection()
    kinds = [type(message) for message in wire.messages(1)]
    assert kinds == [Hello, Results, Lost], "what came before counts, what came behind does not"
    assert wire.messages(1)[-1].reason.startswith("rejected: ")
    assert len(wire.listener) == 0


def test_a_first_message_that_is_no_hello(wire: Net) -> None:
    raw = Raw(wire)
    raw.authenticate("me")
    raw.send(frame(MESSAGE, encode(Results([]))))
    assert "out of order: Results before Hello" in raw.rejection()
    raw = Raw(wire)
    raw.authenticate("me")
    raw.send(frame(MESSAGE, encode(hello("somebody else"))))
    assert "Hello of another client" in raw.rejection()


def test_a_server_that_says_what_no_server_says(wire: Net) -> None:
    dialer, peer = wire.join()
    wire.listener.send(peer, Leave("a client's message"))
    wire.until(lambda: isinstance(wire.heard[dialer][-1], Lost))
    assert "bad message from the server" in wire.heard[dialer][-1].reason


def test_two_that_do_not_understand_each_other_meet_ever_more_seldom(wire: Net) -> None:
    patience = Patience(reconnect=600.0, shortest=0.02, linger=0.0)
    dialer, peer = wire.join("me", patience=patience, draw=lambda: 0.0)
    pauses: list[float] = []
    for _ in range(4):
        wire.listener.send(peer, Leave("a client's message"))
        wire.until(lambda: sum(isinstance(one, Cut) for one in wire.heard[dialer]) > len(pauses))
        pauses.append(dialer.pause)
        wire.until(lambda: dialer.connected)
        dialer.send(SERVER, hello("me"))
        peer = wire.welcomed(dialer, "me", peer)
    assert pauses == [0.02, 0.04, 0.08, 0.16]


def test_a_thousand_hostile_inputs_and_another_client_notices_nothing(
    wire: Net, caplog: pytest.LogCaptureFixture
) -> None:
    """A quarter of them after authentication. After each the other client says something and gets an answer."""
    caplog.set_level(logging.CRITICAL, "hypershell.net")
    rng = random.Random(7)
    other, peer = wire.join("other")
    good = [
        frame(HANDSHAKE, s._encode(s.Greet(s.PROTOCOL_VERSION, "1", "client", "x", 0, bytes(32)))),
        frame(HANDSHAKE, s._encode(s.Proof(bytes(32)))),
        frame(MESSAGE, encode(hello("x"))),
        frame(MESSAGE, encode(welcome())),
        frame(MESSAGE, encode(Output(b"x" * 100, b""))),
        frame(3),
    ]
    answered = 0
    inside: Raw | None = None
    for number in range(500):
        if number % 4 == 0:
            raw = Raw(wire)
            raw.authenticate(f"bad {number}")
            inside = raw
        else:
            raw = Raw(wire) if number % 4 == 1 else Bare(wire)
            inside = None
        data = bytearray(rng.choice(good) + rng.choice(good) if number % 3 else rng.randbytes(rng.randrange(300)))
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        raw.send(bytes(data[: rng.randrange(len(data) + 1)] if number % 5 == 0 else data))
        raw.close()
        other.send(SERVER, Results([], [("still here", number)]))
        wire.until(lambda n=number: Results([], [("still here", n)]) in wire.got[-1:][0])
        wire.listener.send(peer, OutputTaken(number))
        wire.until(lambda n=number: OutputTaken(n) in wire.heard[other][-1:])
        answered += 1
        wire.got = wire.got[-1:]
    assert answered == 500 and other.connected and inside is None
    wire.until(lambda: len(wire.listener) == 1 and wire.listener.strangers == 0)
    assert wire.listener.rejected > 100


class Bare(Raw):
    """Bytes below TLS."""

    def __init__(self, wire: Net) -> None:
        self.sock = socket.create_connection(("127.0.0.1", wire.port))


# -- those who only hold on --------------------------------------------------------------------------------


def test_peers_that_say_nothing_shut_nobody_out(wire: Net) -> None:
    """Slow loris: more silent connections than an address has places; a client gets in among them."""
    limits = Limits(strangers=16, handshake=60.0, young=0.06, linger=0.0)
    with net(secure=wire.secure, limits=limits) as crowded:
        silent = [socket.create_connection(("127.0.0.1", crowded.port)) for _ in range(40)]
        crowded.until(lambda: crowded.listener.rejected == 32)
        assert crowded.listener.strangers == 8, "half of the places"
        assert len(crowded.listener._door.strangers) == 0, "and no handshake has begun"
        crowded.join("honest")
        for sock in silent:
            sock.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["127.0.0.2", "127.0.0.1"])
def test_a_flood_keeps_nobody_out(source: str, kind: str) -> None:
    """From another address a client is in after a few turns, from its own soon; turns are counted, not seconds."""
    with net(limits=Limits(strangers=128, handshakes=24, young=0.5, linger=0.0)) as wire:
        flood = Flood(wire.port, 200, source, first_word(kind))
        wire.until(lambda: flood.turn(0) or flood.opened > 250)
        patience = Patience(reconnect=0.0, linger=0.0, busy=LONG, hung_up=LONG, shortest=0.01, longest=0.05)
        dialer = wire.dial("honest", patience=patience)
        turns = 0

        def is_in() -> bool:
            nonlocal turns
            turns += 1
            flood.turn(0)
            return dialer.connected

        wire.until(is_in)
        assert wire.listener.strangers <= 128 and len(wire.listener._door.strangers) <= 24
        if source == "127.0.0.2":
            assert turns < 60 and dialer._rounds == 0, "at the first attempt"
        flood.close()


def test_a_byte_now_and_then_does_not_keep_a_stranger(wire: Net) -> None:
    """The time to authenticate is one for all of it: a byte each second keeps nobody longer than ten."""
    ahead = [0.0]
    with net(secure=wire.secure, clock=lambda: time.monotonic() + ahead[0]) as strict:
        sock = socket.create_connection(("127.0.0.1", strict.port))
        strict.until(lambda: strict.listener.strangers)
        beginning = b"\x16\x03\x01\x02\x00\x01" if wire.secure else b"\0\0\0\x40\1"
        for number in range(9):
            sock.sendall((beginning + bytes(10))[number : number + 1])
            ahead[0] += 1.0
            strict.turn()
        assert strict.listener.strangers == 1 and strict.listener.rejected == 0
        ahead[0] += 1.0
        strict.until(lambda: strict.listener.strangers == 0)
        assert strict.listener.rejected == 1
        if not wire.secure:  # before the TLS handshake is over nothing can be said
            assert b"not authenticated within 10 seconds" in sock.recv(1000)
        sock.close()


def test_a_stalled_peer_does_not_stop_the_next(wire: Net) -> None:
    """Defect 45: accepting and shaking hands wait for nobody."""
    stalled = socket.create_connection(("127.0.0.1", wire.port))
    half = socket.create_connection(("127.0.0.1", wire.port))
    half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01" if wire.secure else b"\0\0\0\x50\1")
    wire.until(lambda: wire.listener.strangers == 2)
    wire.join("next")
    assert wire.listener.strangers == 2
    stalled.close()
    half.close()


def test_what_a_stranger_can_make_us_keep(wire: Net) -> None:
    raw = Raw(wire)
    raw.send(HANDSHAKE_LIMIT.to_bytes(4, "big") + b"\1" + b"x" * (HANDSHAKE_LIMIT - 2))
    wire.until(lambda: wire.listener.strangers)
    (stranger,) = wire.listener._door.strangers
    wire.until(lambda: stranger._decoder.held > HANDSHAKE_LIMIT)
    assert stranger._decoder.held <= HANDSHAKE_LIMIT + 5 and stranger.queued == 0
    raw.send(b"x" * 100_000)
    wire.until(lambda: wire.listener.strangers == 0)


def test_the_pure_decoder_and_the_wire_agree_on_the_error() -> None:
    with pytest.raises(ProtocolError):
        decode_client(b"\xc1")
