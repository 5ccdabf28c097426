"""Messages to bytes and back (MessagePack by msgspec). Any bytes give a message or ``ProtocolError``."""

from __future__ import annotations

import msgspec

from hypershell.errors import ProtocolError
from hypershell.proto.messages import ClientMessage, ServerMessage

__all__ = ["decode_client", "decode_server", "encode"]

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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"bad message from a client: {error}") from None


def decode_server(data: bytes | memoryview) -> ServerMessage:
    """What the server sent. Raises ``ProtocolError`` where no server sends such bytes."""
    try:
        return _from_server.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"bad message from the server: {error}") from None
