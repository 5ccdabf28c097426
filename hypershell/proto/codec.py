"""Messages to bytes and back (MessagePack by msgspec). Any bytes give a message or ``ProtocolError``.

The types of a message say what each field may hold; an error names the field.
"""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from hypershell.errors import ProtocolError
from hypershell.proto.messages import ClientMessage, ServerMessage

__all__ = ["BAD_DATA", "bad_message", "decode_client", "decode_server", "encode"]

#: What a decoder raises for bytes that are no message.
BAD_DATA = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.msgpack.Encoder()
_from_client: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)
_from_server: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """The bytes of one message."""
    return _encoder.encode(message)


def decode_client(data: bytes | memoryview) -> ClientMessage:
    """What a client sent. Raises ``ProtocolError`` where no client sends such bytes."""
    try:
        return _from_client.decode(data)
    except BAD_DATA as error:
        raise bad_message(error, data, ClientMessage, "bad message from a client") from None


def decode_server(data: bytes | memoryview) -> ServerMessage:
    """What the server sent. Raises ``ProtocolError`` where no server sends such bytes."""
    try:
        return _from_server.decode(data)
    except BAD_DATA as error:
        raise bad_message(error, data, ServerMessage, "bad message from the server") from None


def bad_message(error: Exception, data: bytes | memoryview, kinds: Any, what: str) -> ProtocolError:
    """The error for bytes that are none of `kinds`, a union of messages; it names the field."""
    from hypershell.core.faults import fault  # where all is well nobody needs it

    return ProtocolError(f"{what}: {fault(error, data, typing.get_args(kinds) or (kinds,))}")
