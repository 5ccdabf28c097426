"""Messages of peers that execute nothing: they hand tasks in (role ``submit``), or look (role ``status``).

Structs and their bytes. Tags are fixed integers, as in ``messages``.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from hypershell.core.fields import Count, Id, Int32, Name, Natural, Path, Real, Scalar, Seconds, Text, is_name
from hypershell.core.options import wrong_options
from hypershell.errors import ProtocolError
from hypershell.proto.codec import BAD_DATA, bad_message

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


class Line(Struct, array_like=True, frozen=True, gc=False):
    """One task as it is handed in: the command, and what its directives and the options say. Memory in bytes."""

    args: str
    raw: bytes | None = None
    group: Natural = 0
    timeout: Seconds | None = None
    tag: dict[str, Scalar] | None = None
    cores: Natural | None = None
    memory: Count | None = None


class HandIn(Struct, array_like=True, frozen=True, tag=1):
    """What all lines of this visitor share; comes before the first of them."""

    source: Path
    """``command``, ``stdin`` or the path of a FILE on the visitor's host."""
    options: Text
    """JSON (``core.options``)."""
    cwd: Path
    submit_id: Annotated[str, Meta(max_length=36)]
    submit_host: Name


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
    first: Id


class Refused(Struct, array_like=True, frozen=True, tag=34):
    """Nothing of a message was taken, and nothing more will be."""

    reason: Text


class ClientStatus(Struct, frozen=True):
    """One client now. `held` are tasks given to it and not ended; `silent` seconds, None: not measured here."""

    id: Name
    host: Name
    rank: Int32
    system: Name
    version: Name
    slots: Natural
    held: Count
    since: Real
    """When it joined, seconds since the epoch."""
    silent: Real | None
    state: Name
    """``running``, ``draining`` or ``quarantined``."""
    labels: tuple[Name, ...] = ()
    """Words by which tasks choose it."""


class Status(Struct, frozen=True):
    """What a running server sees now. Times are seconds since the epoch, `rate` tasks per second."""

    run: Name
    host: Name
    pid: Natural
    version: Name
    transport: Name
    started: Real
    now: Real
    state: Text
    """``running`` or why it ends: ``drained``, ``interrupted``, ..."""
    tasks: dict[Name, Count]
    """``pending``, ``dispatched``, ``succeeded``, ``failed``, ``cancelled``: of this run."""
    complete: bool
    """Whether all input is known."""
    rate: Real
    eta: Real | None
    """Seconds to the end at this rate; None where the end is not in sight."""
    group: Natural | None
    release: Text
    """How work is released at the start."""
    database: Text
    clients: list[ClientStatus]
    aside: list[Name] = []
    """Hosts that get no tasks since everything failed at once there."""
    lost: Text | None = None
    """The ranks that were lost, in words."""
    late: Count = 0
    """Results that came of executions that were given up before, and were not applied."""
    ends: Real | None = None
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
    message = _decoded(_submitter, data, HandIn | Lines)
    if type(message) is HandIn and (wrong := _wrong(message)):
        raise ProtocolError(f"bad message: HandIn.{wrong}")
    return message


def decode_asker(data: bytes | memoryview) -> Ask:
    """What a peer of role ``status`` sent. Raises ``ProtocolError``."""
    return _decoded(_asker, data, Ask)


def decode_answer(data: bytes | memoryview) -> Answer:
    """What the server answered. Raises ``ProtocolError``."""
    return _decoded(_answer, data, Answer)


def _wrong(message: HandIn) -> str | None:
    """What a type cannot say of it."""
    if not is_name(message.submit_id):
        return "submit_id: Expected `str` that is printable"
    for name, text in (("source", message.source), ("cwd", message.cwd)):
        if b"\0" in text:
            return f"{name}: Expected `bytes` without NUL"
    return wrong_options(message.options)


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes | memoryview, kinds: Any) -> T:
    try:
        return decoder.decode(data)
    except BAD_DATA as error:
        raise bad_message(error, data, kinds, "bad message") from None
