"""The handshake, pure: who gets in, who does not and why, and that no bytes at all do anything else."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hypershell.core.model import ClientInfo, Task
from hypershell.errors import ProtocolError
from hypershell.proto import session as s
from hypershell.proto.codec import decode_client, decode_server, encode
from hypershell.proto.framing import (
    BEAT,
    HANDSHAKE,
    HANDSHAKE_LIMIT,
    MAX_FRAME,
    MESSAGE,
    Frame,
    FrameDecoder,
    frame,
)
from hypershell.proto.messages import PROTOCOL_VERSION, Bye, Hello, Leave, Output, OutputTaken, Results, Work
from tests.testbed.net import welcome

CERTIFICATE = s.Binding(True, hashlib.sha256(b"certificate").digest())
NONCES = itertools.count(1)


def prover(key: bytes = b"a key that both sides know") -> s.Prove:
    return lambda data: hmac.digest(key, data, "sha256")


def nonce() -> bytes:
    return next(NONCES).to_bytes(s.NONCE_SIZE, "big")


def server(prove: s.Prove | None = None, binding: s.Binding = CERTIFICATE, **options: Any) -> s.ServerSession:
    roles = options.pop("roles", {s.CLIENT: decode_client})
    return s.ServerSession(prove or prover(), binding, options.pop("nonce", None) or nonce(), "1.0", roles)


def client(prove: s.Prove | None = None, binding: s.Binding = CERTIFICATE, **options: Any) -> s.ClientSession:
    number = options.pop("nonce", None) or nonce()
    role = options.pop("role", s.CLIENT)
    return s.ClientSession(
        prove or prover(), binding, number, "1.0", decode_server, role=role, ident="me", **options
    )


def frames(data: bytes) -> list[Frame]:
    decoder = FrameDecoder(MAX_FRAME)
    decoder.feed(data)
    return list(iter(decoder.next, None))


def word(data: bytes) -> Frame:
    (one,) = frames(data)
    return one


def meet(dialling: s.ClientSession, serving: s.ServerSession) -> None:
    """Carry the handshake to and fro; raises what either side raises."""
    challenge = serving.receive(word(dialling.start())).reply
    proof = dialling.receive(word(challenge)).reply
    accepted = serving.receive(word(proof)).reply
    assert dialling.receive(word(accepted)) == s.Answer()


def hello(ident: str = "me") -> Frame:
    return Frame(MESSAGE, encode(Hello(PROTOCOL_VERSION, ClientInfo(ident, "host", 1, 1, "1.0", "linux"))))


def opened() -> tuple[s.ClientSession, s.ServerSession]:
    dialling, serving = client(), server()
    meet(dialling, serving)
    serving.receive(hello())
    dialling.receive(Frame(MESSAGE, encode(welcome())))
    return dialling, serving


def refused(session: s.Session, one: Frame) -> s.Refusal:
    with pytest.raises(s.Refusal) as caught:
        session.receive(one)
    assert session.state is s.State.CLOSED
    return caught.value


def test_two_that_know_the_key_meet() -> None:
    dialling, serving = client(connection=3), server()
    assert (dialling.limit, serving.limit) == (HANDSHAKE_LIMIT, HANDSHAKE_LIMIT)
    meet(dialling, serving)
    assert serving.peer == s.Peer(s.CLIENT, "me", 3, "1.0")
    assert serving.authenticated and dialling.authenticated
    assert serving.receive(hello()).message.info.id == "me"
    assert dialling.receive(Frame(MESSAGE, encode(welcome()))).message == welcome()
    assert serving.receive(Frame(BEAT, b"")) == s.Answer()
    assert serving.receive(Frame(MESSAGE, encode(Leave("x")))).message == Leave("x")
    assert (dialling.limit, serving.limit) == (MAX_FRAME, MAX_FRAME)


def test_the_whole_handshake_fits_into_what_a_stranger_may_cost() -> None:
    dialling, serving = client(), server()
    first = dialling.start()
    challenge = serving.receive(word(first)).reply
    proof = dialling.receive(word(challenge)).reply
    accepted = serving.receive(word(proof)).reply
    assert max(map(len, (first, challenge, proof, accepted))) < 200


def test_the_key_is_never_on_the_wire() -> None:
    key = b"a key that both sides know"
    dialling, serving = client(prover(key)), server(prover(key))
    spoken = [dialling.start()]
    spoken.append(serving.receive(word(spoken[-1])).reply)
    spoken.append(dialling.receive(word(spoken[-1])).reply)
    spoken.append(serving.receive(word(spoken[-1])).reply)
    assert key not in b"".join(spoken)


@pytest.mark.parametrize(
    "other",
    [
        client(prover(b"another key than the server's")),
        client(binding=s.Binding(True, hashlib.sha256(b"of the man in the middle").digest())),
        client(binding=s.Binding.none()),
        client(binding=s.Binding(False, CERTIFICATE.digest)),
    ],
    ids=["key", "certificate", "no TLS here", "no TLS, digest copied"],
)
def test_whoever_proves_something_else_is_refused(other: s.ClientSession) -> None:
    serving = server()
    challenge = serving.receive(word(other.start())).reply
    proof = other.receive(word(challenge)).reply
    refusal = refused(serving, word(proof))
    assert refusal.code == s.Code.KEY and "wrong" in str(refusal)
    assert serving.peer is None


def test_a_server_without_the_key_is_refused_by_the_client() -> None:
    for digest in (bytes(32), prover(b"guess")(b"x")):
        dialling = client()
        dialling.receive(word(server().receive(word(dialling.start())).reply))
        refusal = refused(dialling, Frame(HANDSHAKE, msgspec.msgpack.encode(s.Accepted(digest))))
        assert refusal.code == s.Code.KEY and "server does not know the key" in str(refusal)


def test_what_a_side_said_cannot_be_said_back_to_it() -> None:
    """Reflection: the client's own greeting, proof and nonce are of no use against it."""
    dialling, serving = client(), server()
    first = dialling.start()
    assert refused(client(), word(first)).code == s.Code.PROTOCOL
    own = client(nonce=bytes(32))
    assert "our own nonce" in str(
        refused(own, Frame(HANDSHAKE, msgspec.msgpack.encode(s.Challenge(PROTOCOL_VERSION, "1.0", bytes(32)))))
    )
    proof = msgspec.msgpack.decode(word(dialling.receive(word(serving.receive(word(first)).reply)).reply).payload)
    echoed = Frame(HANDSHAKE, msgspec.msgpack.encode([4, proof[1]]))  # as the server's Accepted
    assert refused(dialling, echoed).code == s.Code.KEY
    assert "our own nonce" in str(refused(server(nonce=bytes(32)), word(client(nonce=bytes(32)).start())))


def test_what_was_recorded_opens_nothing_later() -> None:
    dialling, serving = client(), server()
    first = dialling.start()
    challenge = serving.receive(word(first)).reply
    proof = dialling.receive(word(challenge)).reply
    accepted = serving.receive(word(proof)).reply
    again = server()
    again.receive(word(first))
    assert refused(again, word(proof)).code == s.Code.KEY
    victim = client()
    victim.receive(word(challenge))
    assert refused(victim, word(accepted)).code == s.Code.KEY


@pytest.mark.parametrize("field", ["role", "ident", "connection", "version"])
def test_nothing_of_the_greeting_can_be_changed_on_its_way(field: str) -> None:
    dialling, serving = client(), server(roles={s.CLIENT: decode_client, s.SUBMIT: decode_client})
    greet = msgspec.convert(msgspec.msgpack.decode(word(dialling.start()).payload), s.Greet)
    value = {"role": s.SUBMIT, "ident": "somebody", "connection": 7, "version": "9"}[field]
    changed = msgspec.structs.replace(greet, **{field: value})
    challenge = serving.receive(Frame(HANDSHAKE, msgspec.msgpack.encode(changed))).reply
    assert refused(serving, word(dialling.receive(word(challenge)).reply)).code == s.Code.KEY


def test_another_version_is_refused_by_name() -> None:
    greet = s.Greet(PROTOCOL_VERSION + 1, "9.9", s.CLIENT, "me", 0, nonce())
    refusal = refused(server(), Frame(HANDSHAKE, msgspec.msgpack.encode(greet)))
    assert refusal.code == s.Code.VERSION
    assert f"client speaks protocol {PROTOCOL_VERSION + 1} (hypershell 9.9), we speak" in str(refusal)
    later = msgspec.msgpack.encode([1, PROTOCOL_VERSION + 1, "9.9", "client", "me", 0, nonce(), "new", [1, 2]])
    assert refused(server(), Frame(HANDSHAKE, later)).code == s.Code.VERSION
    older = s.Greet(6, "0.6", s.CLIENT, "me", 0, nonce())
    refusal = refused(server(), Frame(HANDSHAKE, msgspec.msgpack.encode(older)))
    assert "client speaks protocol 6 (hypershell 0.6), we speak" in str(refusal), "not a wrong key"
    challenge = s.Challenge(PROTOCOL_VERSION - 1, "0.1", nonce())
    refusal = refused(client(), Frame(HANDSHAKE, msgspec.msgpack.encode(challenge)))
    assert "server speaks protocol" in str(refusal) and "same version on both" in str(refusal)


@pytest.mark.parametrize("text", ["a\nb", "a\n", "\x1b[31m", "\u2028", "x" * 101])
def test_names_in_a_greeting_cannot_forge_log_lines(text: str) -> None:
    for fields in ({"ident": text}, {"role": text}, {"version": text}):
        whole = {"protocol": PROTOCOL_VERSION, "version": "1", "role": s.CLIENT, "ident": "me", **fields}
        greet = s.Greet(connection=0, nonce=nonce(), **whole)  # type: ignore[arg-type]
        refusal = refused(server(), Frame(HANDSHAKE, msgspec.msgpack.encode(greet)))
        assert "bad handshake" in str(refusal) and str(refusal).isprintable()


def test_a_role_that_is_not_served_is_refused() -> None:
    refusal = refused(server(), word(client(role=s.STATUS).start()))
    assert refusal.code == s.Code.ROLE and "'status'" in str(refusal)


def test_who_has_proven_everything_may_still_be_refused_before_anything_is_said() -> None:
    def full(peer: s.Peer) -> None:
        raise s.Refusal(s.Code.BUSY, f"no room for {peer.ident}")

    roles = {s.CLIENT: decode_client}
    dialling, serving = client(), s.ServerSession(prover(), CERTIFICATE, nonce(), "1", roles, full)
    proof = dialling.receive(word(serving.receive(word(dialling.start())).reply)).reply
    assert str(refused(serving, word(proof))) == "no room for me" and serving.peer is None


def test_other_roles_have_their_own_messages_and_no_hello() -> None:
    serving = server(roles={s.SUBMIT: lambda data: ("decoded", data)})
    meet(client(role=s.SUBMIT), serving)
    assert serving.receive(Frame(MESSAGE, b"anything")).message == ("decoded", b"anything")


def test_the_server_learns_why_it_is_rejected_and_so_does_the_client() -> None:
    for session in (client(), server(), opened()[0]):
        with pytest.raises(s.Rejected) as caught:
            session.receive(word(s.reject_frame(s.Code.BUSY, "full\x1b[31m\n" + "x" * 300)))
        assert session.state is s.State.CLOSED
        assert caught.value.code == s.Code.BUSY
        assert str(caught.value).startswith("full?[31m?xxx") and len(str(caught.value)) <= 200


WORDS: dict[str, Callable[[], Frame]] = {
    "greet": lambda: word(client().start()),
    "challenge": lambda: Frame(HANDSHAKE, msgspec.msgpack.encode(s.Challenge(PROTOCOL_VERSION, "1", nonce()))),
    "proof": lambda: Frame(HANDSHAKE, msgspec.msgpack.encode(s.Proof(bytes(32)))),
    "accepted": lambda: Frame(HANDSHAKE, msgspec.msgpack.encode(s.Accepted(bytes(32)))),
    "hello": hello,
    "results": lambda: Frame(MESSAGE, encode(Results([]))),
    "welcome": lambda: Frame(MESSAGE, encode(welcome())),
    "work": lambda: Frame(MESSAGE, encode(Work([Task("i", "a", 1)]))),
    "beat": lambda: Frame(BEAT, b""),
}


def at(state: str) -> s.Session:
    """A session that has come as far as `state`."""
    dialling, serving = client(), server()
    if state == "server greeting":
        return serving
    if state == "client challenge":
        return dialling
    challenge = serving.receive(word(dialling.start())).reply
    if state == "server proving":
        return serving
    proof = dialling.receive(word(challenge)).reply
    if state == "client decision":
        return dialling
    dialling.receive(word(serving.receive(word(proof)).reply))
    if state == "server first":
        return serving
    if state == "client first":
        return dialling
    serving.receive(hello())
    dialling.receive(WORDS["welcome"]())
    return serving if state == "server open" else dialling


#: What is taken in which state; a proof that is wrong is in its order.
EXPECTED = {
    "server greeting": {"greet"},
    "server proving": {"proof"},
    "server first": {"hello", "beat"},
    "server open": {"results", "beat"},
    "client challenge": {"challenge"},
    "client decision": {"accepted"},
    "client first": {"welcome", "beat"},
    "client open": {"work", "beat"},
}


@pytest.mark.parametrize("state", EXPECTED)
@pytest.mark.parametrize("name", WORDS)
def test_what_may_come_in_which_state(state: str, name: str) -> None:
    session = at(state)
    if name in ("proof", "accepted") and name in EXPECTED[state]:
        assert refused(session, WORDS[name]()).code == s.Code.KEY
    elif name in EXPECTED[state]:
        session.receive(WORDS[name]())
    else:
        refusal = refused(session, WORDS[name]())
        assert refusal.code == s.Code.PROTOCOL
        assert "out of order" in str(refusal) or "bad message" in str(refusal)
        assert "out of order" in str(refused(session, WORDS[name]())), "a closed session stays closed"


def test_hello_is_of_the_client_that_was_let_in() -> None:
    assert "another client" in str(refused(at("server first"), hello("somebody")))


def test_a_beat_is_empty() -> None:
    assert "something in it" in str(refused(at("server open"), Frame(BEAT, b"x")))


def test_a_client_answers_a_beat_and_a_server_does_not() -> None:
    """Or the two would never stop."""
    assert at("client open").receive(Frame(BEAT, b"")) == (frame(BEAT), None)
    assert at("server open").receive(Frame(BEAT, b"")) == (b"", None)


def hostile(rng: random.Random, good: list[bytes]) -> bytes:
    """Bytes that somebody could send: noise, true messages that were damaged, lies about lengths."""
    choice = rng.randrange(7)
    data = bytearray(rng.choice(good))
    if choice == 0:
        return rng.randbytes(rng.randrange(60))
    if choice == 1:
        return frame(rng.randrange(1, 4), rng.randbytes(rng.randrange(80)))
    if choice == 2 and len(data) > 5:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(4, len(data))] = rng.randrange(256)
    elif choice == 3:
        data = data[: rng.randrange(len(data))]
    elif choice == 4:
        data[:4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\x08\x02", b"\x04\0\0\1"])
    elif choice == 5:
        lies = [b"\x91" * 900, b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff"]
        return frame(rng.randrange(1, 3), rng.choice(lies))
    else:
        data += rng.choice(good)
    return bytes(data)


def test_twenty_thousand_hostile_inputs() -> None:
    """Half of them before authentication, half after; each side. Only the two named errors ever come out."""
    rng = random.Random(20260101)
    good = [frame(one.kind, one.payload) for one in (make() for make in WORDS.values())]
    good += [frame(MESSAGE, encode(Output(b"o" * 30, b"e"))), frame(MESSAGE, encode(OutputTaken(3)))]
    good += [frame(MESSAGE, encode(Bye())), s.reject_frame(1, "no")]
    states = list(EXPECTED)
    outcomes = {"refused": 0, "rejected": 0, "taken": 0, "waiting": 0}
    for number in range(20_000):
        session = at(states[number % len(states)])
        was_in = session.authenticated
        decoder = FrameDecoder(session.limit)
        decoder.feed(hostile(rng, good))
        try:
            outcome = "waiting"
            while True:
                decoder.limit = session.limit
                one = decoder.next()
                if one is None:
                    break
                session.receive(one)
                outcome = "taken"
        except s.Rejected:
            outcome = "rejected"
        except ProtocolError:
            outcome = "refused"
        outcomes[outcome] += 1
        assert session.authenticated <= was_in, "nobody gets in by chance"
    assert all(outcomes.values()), outcomes
