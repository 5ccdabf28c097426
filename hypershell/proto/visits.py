"""Messages of peers that execute nothing: they hand tasks in (role ``submit``), or look (role ``status``).

Structs and their bytes. Tags are fixed integers, as in ``messages``.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from hypershell.core.model import Scalar
from hypershell.errors import ProtocolError

__all__ = [
    "Answer",
    "Ask",
    "ClientStatus",
    "HandIn",
    "Line",
    "Lines",
    "Refused",
    "Request",
    "Status",
    "Taken",
    "Told",
    "decode_answer",
    "decode_asker",
    "decode_submitter",
]

T = TypeVar("T")

Text: TypeAlias = Annotated[str, Meta(max_length=65_536)]
Bytes: TypeAlias = Annotated[bytes, Meta(max_length=65_536)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


class Line(Struct, array_like=True, frozen=True, gc=False):
    """One task as it is handed in: the command, and what its directives and the options say. Memory in bytes."""

    args: str
    raw: bytes | None = None
    group: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    timeout: Seconds | None = None
    tag: dict[str, Scalar] | None = None
    cores: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    memory: Count | None = None


class HandIn(Struct, array_like=True, frozen=True, tag=1):
    """What all lines of this visitor share; comes before the first of them."""

    source: Bytes
    """``command``, ``stdin`` or the path of a FILE on the visitor's host."""
    options: Text
    cwd: Bytes
    submit_id: Annotated[str, Meta(max_length=36)]
    submit_host: Annotated[str, Meta(max_length=256)]


class Lines(Struct, array_like=True, frozen=True, tag=2):
    """Tasks, in order. Numbers of these messages ascend; each is answered by `Taken` or `Refused`."""

    number: Count
    tasks: list[Line]


class Ask(Struct, array_like=True, frozen=True, tag=3):
    """How does it stand? Answered by `Status`."""


class Taken(Struct, array_like=True, frozen=True, tag=33):
    """The tasks of a `Lines` are in the database, or in a server without one; `first` is the id of the first."""

    number: Count
    count: Count
    first: str


class Refused(Struct, array_like=True, frozen=True, tag=34):
    """Nothing of a message was taken, and nothing more will be."""

    reason: Text


class ClientStatus(Struct, frozen=True):
    """One client now. `held` are tasks given to it and not ended; `silent` seconds, None: not measured here."""

    id: str
    host: str
    rank: int
    system: str
    version: str
    slots: int
    held: int
    since: float
    """When it joined, seconds since the epoch."""
    silent: float | None
    state: str
    """``running``, ``draining`` or ``quarantined``."""
    labels: tuple[str, ...] = ()
    """Words by which tasks choose it."""


class Status(Struct, frozen=True):
    """What a running server sees now. Times are seconds since the epoch, `rate` tasks per second."""

    run: str
    host: str
    pid: int
    version: str
    transport: str
    started: float
    now: float
    state: str
    """``running`` or why it ends: ``drained``, ``interrupted``, ..."""
    tasks: dict[str, int]
    """``pending``, ``dispatched``, ``succeeded``, ``failed``, ``cancelled``: of this run."""
    complete: bool
    """Whether all input is known."""
    rate: float
    eta: float | None
    """Seconds to the end at this rate; None where the end is not in sight."""
    group: int | None
    release: str
    """How work is released at the start."""
    database: str
    clients: list[ClientStatus]
    aside: list[str] = []
    """Hosts that get no tasks since everything failed at once there."""
    lost: str | None = None
    """The ranks that were lost, in words."""
    late: int = 0
    """Results that came of executions that were given up before, and were not applied."""
    ends: float | None = None
    """When the allocation of the server ends; None where that is not known."""


class Told(Struct, array_like=True, frozen=True, tag=35):
    """The answer to `Ask`."""

    status: Status


Request: TypeAlias = HandIn | Lines | Ask
Answer: TypeAlias = Taken | Refused | Told

_submitter: msgspec.msgpack.Decoder[HandIn | Lines] = msgspec.msgpack.Decoder(HandIn | Lines)
_asker: msgspec.msgpack.Decoder[Ask] = msgspec.msgpack.Decoder(Ask)
_answer: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def decode_submitter(data: bytes | memoryview) -> HandIn | Lines:
    """What a peer of role ``submit`` sent. Raises ``ProtocolError``."""
    return _decoded(_submitter, data)


def decode_asker(data: bytes | memoryview) -> Ask:
    """What a peer of role ``status`` sent. Raises ``ProtocolError``."""
    return _decoded(_asker, data)


def decode_answer(data: bytes | memoryview) -> Answer:
    """What the server answered. Raises ``ProtocolError``."""
    return _decoded(_answer, data)


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes | memoryview) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"bad message: {error}") from None
