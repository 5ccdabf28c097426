"""Who is there: the handshake of a connection as a table of states, for either side. Pure.

Both sides prove that they know the key, by HMAC-SHA256 over all that both have said and over the certificate of the
channel; nobody shows the key itself. The client proves first, so that a stranger gets nothing that a guess could be
checked against. Afterwards a session knows which message may come when. ``docs/protocol.md`` is the table in words.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, Struct

from hypershell.errors import ProtocolError, TransportError
from hypershell.proto.framing import BEAT, HANDSHAKE, HANDSHAKE_LIMIT, MAX_FRAME, MESSAGE, Frame, frame
from hypershell.proto.messages import PROTOCOL_VERSION, Bye, Hello, Welcome

__all__ = [
    "CLIENT",
    "NONCE_SIZE",
    "ROLES",
    "STATUS",
    "SUBMIT",
    "Accepted",
    "Answer",
    "Binding",
    "Challenge",
    "ClientSession",
    "Code",
    "Decode",
    "Greet",
    "Peer",
    "Proof",
    "Prove",
    "Refusal",
    "Reject",
    "Rejected",
    "ServerSession",
    "Session",
    "State",
    "reject_frame",
]

#: What a peer wants to be: one that executes tasks, hands them in, or looks.
CLIENT, SUBMIT, STATUS = "client", "submit", "status"
ROLES = (CLIENT, SUBMIT, STATUS)

NONCE_SIZE = 32
_DIGEST_SIZE = 32
_MOST_TEXT = 200

Nonce: TypeAlias = Annotated[bytes, Meta(min_length=NONCE_SIZE, max_length=NONCE_SIZE)]
Digest: TypeAlias = Annotated[bytes, Meta(min_length=_DIGEST_SIZE, max_length=_DIGEST_SIZE)]
#: Goes into log lines: printable ASCII, and not much of it.
Short: TypeAlias = Annotated[str, Meta(max_length=100, pattern=r"^[ -~]*\Z")]
Number: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]

#: HMAC-SHA256 of some bytes under the key; the session never sees the key.
Prove = Callable[[bytes], bytes]
#: Bytes of a peer to a message; raises ``ProtocolError``.
Decode = Callable[[bytes], Any]


class Code:
    """Why a peer is rejected, as a number for programs."""

    VERSION, KEY, ROLE, BUSY, PROTOCOL, LATE = range(1, 7)
    #: Trying again may help, with nothing changed.
    PASSING = frozenset({BUSY, LATE})


# Greet and Reject keep their first fields in all versions to come: versions that differ must understand them.


class Greet(Struct, array_like=True, frozen=True, tag=1):
    """The client's first word."""

    protocol: Number
    version: Short
    role: Short
    ident: Short
    """The client's id, the same in all of its connections."""
    connection: Number
    """How many connections this client made before this one."""
    nonce: Nonce


class Challenge(Struct, array_like=True, frozen=True, tag=2):
    """The server's answer to ``Greet``."""

    protocol: Number
    version: Short
    nonce: Nonce


class Proof(Struct, array_like=True, frozen=True, tag=3):
    """The client knows the key."""

    digest: Digest


class Accepted(Struct, array_like=True, frozen=True, tag=4):
    """The server knows the key too, and takes the client."""

    digest: Digest


class Reject(Struct, array_like=True, frozen=True, tag=5):
    """The last word before the connection is closed."""

    code: Number
    reason: Annotated[str, Meta(max_length=1000)]


_Word: TypeAlias = Greet | Challenge | Proof | Accepted | Reject
_words: msgspec.msgpack.Decoder[_Word] = msgspec.msgpack.Decoder(_Word)
_encode = msgspec.msgpack.Encoder().encode


class Refusal(ProtocolError):
    """We reject the peer; the text is for both sides."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(_printable(reason))
        self.code = code


class Rejected(TransportError):
    """The peer rejects us."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(_printable(reason))
        self.code = code


class Binding(Struct, frozen=True):
    """The channel below: SHA-256 of the DER of the server's certificate, zeros without TLS."""

    tls: bool
    digest: bytes

    @classmethod
    def none(cls) -> Binding:
        """No TLS: the proof vouches for the peers and for nothing that follows."""
        return cls(False, bytes(_DIGEST_SIZE))


class Peer(NamedTuple):
    """Who was let in."""

    role: str
    ident: str
    connection: int
    version: str


class Answer(NamedTuple):
    """What a frame led to: bytes to send back, and the message it held."""

    reply: bytes = b""
    message: Any = None


class State(Enum):
    GREETING = "waiting for Greet"
    CHALLENGE = "waiting for Challenge"
    PROVING = "waiting for Proof"
    DECISION = "waiting for Accepted"
    FIRST = "waiting for the first message"
    OPEN = "open"
    CLOSED = "closed"


_AUTHENTICATED = (State.FIRST, State.OPEN)


class Session:
    """What both sides share. Every frame that is not expected ends the session with a ``Refusal``."""

    #: Who we speak with, for texts.
    other = "peer"
    #: What is answered to a sign of life.
    life = b""

    def __init__(self, state: State, prove: Prove, binding: Binding, nonce: bytes, version: str) -> None:
        self.state = state
        self._prove = prove
        self._binding = binding
        self._nonce = nonce
        self._version = version

    @property
    def authenticated(self) -> bool:
        return self.state in _AUTHENTICATED

    @property
    def limit(self) -> int:
        """The longest payload that the next frame may have, bytes."""
        return MAX_FRAME if self.authenticated else HANDSHAKE_LIMIT

    def receive(self, one: Frame) -> Answer:
        """Take a frame. Raises ``Refusal`` where we reject the peer, ``Rejected`` where it rejects us."""
        try:
            if one.kind == HANDSHAKE:
                return self._word(one.payload)
            if not self.authenticated:
                raise Refusal(Code.PROTOCOL, f"out of order: {_KIND[one.kind]} before authentication")
            if one.kind == BEAT:
                if one.payload:
                    raise Refusal(Code.PROTOCOL, "sign of life with something in it")
                return Answer(self.life)
            return Answer(message=self._message(one.payload))
        except (Refusal, Rejected):
            self.state = State.CLOSED
            raise
        except ProtocolError as error:
            self.state = State.CLOSED
            raise Refusal(Code.PROTOCOL, str(error)) from None

    def _word(self, payload: bytes) -> Answer:
        try:
            word = _words.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal(Code.PROTOCOL, f"bad handshake: {error}") from None
        if isinstance(word, Reject) and self.state is not State.CLOSED:
            raise Rejected(word.code, word.reason)
        step = _TABLE.get((self.state, type(word)))
        if step is None:
            raise Refusal(Code.PROTOCOL, f"out of order: {type(word).__name__} while {self.state.value}")
        return Answer(step(self, word))

    def _message(self, payload: bytes) -> Any:
        raise NotImplementedError

    def _same_version(self, protocol: int, version: str) -> None:
        if protocol != PROTOCOL_VERSION:
            raise Refusal(
                Code.VERSION,
                f"the {self.other} speaks protocol {protocol} (hypershell {version}), we speak "
                f"{PROTOCOL_VERSION} (hypershell {self._version}): install the same version on both",
            )

    def _digest(self, label: bytes, greet: Greet, challenge: Challenge) -> bytes:
        """The proof of the side that `label` names. Every field has its length before it."""
        fields = (
            label,
            greet.protocol.to_bytes(4, "big"),
            greet.role.encode(),
            b"tls" if self._binding.tls else b"plain",
            self._binding.digest,
            greet.nonce,
            challenge.nonce,
            greet.ident.encode(),
            greet.connection.to_bytes(4, "big"),
            greet.version.encode(),
            challenge.version.encode(),
        )
        return self._prove(b"".join(len(field).to_bytes(4, "big") + field for field in fields))


class ServerSession(Session):
    """The server's side of one connection.

    :param prove: HMAC-SHA256 under the key.
    :param nonce: `NONCE_SIZE` random bytes, never used before.
    :param roles: what peers may be here, and how messages of each are decoded.
    :param admit: asked before a peer that has proven itself is let in; raises ``Refusal`` where it is not.
    """

    other = "client"

    def __init__(
        self,
        prove: Prove,
        binding: Binding,
        nonce: bytes,
        version: str,
        roles: Mapping[str, Decode],
        admit: Callable[[Peer], None] | None = None,
    ) -> None:
        super().__init__(State.GREETING, prove, binding, nonce, version)
        self._roles = roles
        self._admit = admit
        self._greet: Greet | None = None
        self._decode: Decode | None = None
        self.peer: Peer | None = None
        """Who it is, once that is proven."""

    def _greeted(self, word: Greet) -> bytes:
        self._same_version(word.protocol, word.version)
        if word.role not in self._roles:
            known = ", ".join(self._roles)
            raise Refusal(Code.ROLE, f"role '{word.role}' is not served here (only {known})")
        if word.nonce == self._nonce:
            raise Refusal(Code.PROTOCOL, "our own nonce came back")
        self._greet = word
        self.state = State.PROVING
        return frame(HANDSHAKE, _encode(Challenge(PROTOCOL_VERSION, self._version, self._nonce)))

    def _proved(self, word: Proof) -> bytes:
        greet = self._greet
        if greet is None:
            raise Refusal(Code.PROTOCOL, "proof without a greeting")
        challenge = Challenge(PROTOCOL_VERSION, self._version, self._nonce)
        if not hmac.compare_digest(word.digest, self._digest(_CLIENT_PROOF, greet, challenge)):
            raise Refusal(Code.KEY, _WRONG_KEY)
        peer = Peer(greet.role, greet.ident, greet.connection, greet.version)
        if self._admit is not None:
            self._admit(peer)
        self.peer = peer
        self._decode = self._roles[greet.role]
        self.state = State.FIRST if greet.role == CLIENT else State.OPEN
        return frame(HANDSHAKE, _encode(Accepted(self._digest(_SERVER_PROOF, greet, challenge))))

    def _message(self, payload: bytes) -> Any:
        if self._decode is None or self.peer is None:
            raise Refusal(Code.PROTOCOL, "message before authentication")
        message = self._decode(payload)
        if self.state is State.FIRST:
            if not isinstance(message, Hello):
                raise Refusal(Code.PROTOCOL, f"out of order: {type(message).__name__} before Hello")
            if message.info.id != self.peer.ident:
                raise Refusal(Code.PROTOCOL, "Hello of another client than the one of the handshake")
            self.state = State.OPEN
        elif isinstance(message, Hello):
            raise Refusal(Code.PROTOCOL, "out of order: a second Hello")
        return message


class ClientSession(Session):
    """The side that dials; `role` and `ident` say who we are, `connection` how often we dialled before."""

    other = "server"
    # The server decides how soon silence is a loss, and asks in time by its own signs of life.
    life = frame(BEAT)

    def __init__(
        self,
        prove: Prove,
        binding: Binding,
        nonce: bytes,
        version: str,
        decode: Decode,
        *,
        role: str,
        ident: str,
        connection: int = 0,
    ) -> None:
        super().__init__(State.CHALLENGE, prove, binding, nonce, version)
        self._decode = decode
        self._greet = Greet(PROTOCOL_VERSION, version, role, ident, connection, nonce)
        self._challenge: Challenge | None = None

    def start(self) -> bytes:
        """What to send first."""
        return frame(HANDSHAKE, _encode(self._greet))

    def _challenged(self, word: Challenge) -> bytes:
        self._same_version(word.protocol, word.version)
        if word.nonce == self._nonce:
            raise Refusal(Code.PROTOCOL, "our own nonce came back")
        self._challenge = word
        self.state = State.DECISION
        return frame(HANDSHAKE, _encode(Proof(self._digest(_CLIENT_PROOF, self._greet, word))))

    def _accepted(self, word: Accepted) -> bytes:
        challenge = self._challenge
        if challenge is None:
            raise Refusal(Code.PROTOCOL, "accepted without a proof")
        if not hmac.compare_digest(word.digest, self._digest(_SERVER_PROOF, self._greet, challenge)):
            raise Refusal(Code.KEY, "the server does not know the key")
        self.state = State.FIRST if self._greet.role == CLIENT else State.OPEN
        return b""

    def _message(self, payload: bytes) -> Any:
        message = self._decode(payload)
        if self.state is State.FIRST:
            if not isinstance(message, (Welcome, Bye)):
                raise Refusal(Code.PROTOCOL, f"out of order: {type(message).__name__} before Welcome")
            self.state = State.OPEN
        elif isinstance(message, Welcome):
            raise Refusal(Code.PROTOCOL, "out of order: a second Welcome")
        return message


def reject_frame(code: int, reason: str) -> bytes:
    """The bytes that reject a peer."""
    return frame(HANDSHAKE, _encode(Reject(code, _printable(reason))))


#: What may come in which state, and what it leads to. Everything else is out of order.
_TABLE: Mapping[tuple[State, type], Callable[[Any, Any], bytes]] = {
    (State.GREETING, Greet): ServerSession._greeted,
    (State.PROVING, Proof): ServerSession._proved,
    (State.CHALLENGE, Challenge): ClientSession._challenged,
    (State.DECISION, Accepted): ClientSession._accepted,
}

_CLIENT_PROOF = b"hypershell client proof"
_SERVER_PROOF = b"hypershell server proof"
_KIND = {MESSAGE: "message", BEAT: "sign of life"}
_WRONG_KEY = "the proof of the key is wrong: another key, or somebody between us with their own certificate"


def _printable(text: str) -> str:
    """Text of a peer for a log line: no control characters, not too long."""
    clean = "".join(char if char.isprintable() else "?" for char in text[: _MOST_TEXT + 1])
    return clean if len(clean) <= _MOST_TEXT else clean[: _MOST_TEXT - 1] + "…"
