"""Frames: how messages follow each other in a stream of bytes. Pure; knows nothing of what is in them.

A frame is the length of what follows (4 bytes, big-endian), one byte for its kind, and the payload. The length is
checked before anything is kept, so that a peer can make us hold no more than the limit.
"""

from __future__ import annotations

from typing import NamedTuple

from hypershell.errors import ProtocolError

__all__ = [
    "BEAT",
    "HANDSHAKE",
    "HANDSHAKE_LIMIT",
    "KINDS",
    "MAX_FRAME",
    "MESSAGE",
    "Frame",
    "FrameDecoder",
    "frame",
]

#: Kinds of frames: words of the session, messages of ``proto.messages``, and the sign of life, which is empty.
HANDSHAKE, MESSAGE, BEAT = 1, 2, 3
KINDS = (HANDSHAKE, MESSAGE, BEAT)

#: Payload of one frame, bytes: of an authenticated peer, and of one that is not.
MAX_FRAME = 64 << 20
HANDSHAKE_LIMIT = 2048

_LENGTH = 4
_HEAD = _LENGTH + 1


class Frame(NamedTuple):
    kind: int
    payload: bytes


def frame(kind: int, payload: bytes = b"") -> bytes:
    """The bytes of one frame. Raises ``ProtocolError`` where the payload is longer than `MAX_FRAME`."""
    if len(payload) > MAX_FRAME:
        raise ProtocolError(f"message of {len(payload)} bytes: no more than {MAX_FRAME} fit into a frame")
    return b"%b%c%b" % ((len(payload) + 1).to_bytes(_LENGTH, "big"), kind, payload)


class FrameDecoder:
    """Bytes in any pieces to frames.

    `limit` is the longest payload that is taken, in bytes; it counts from the next frame on that `next` looks at,
    so that it can be raised between two frames of one piece.
    """

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int = HANDSHAKE_LIMIT) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the stream."""
        self._buffer += data

    def next(self) -> Frame | None:
        """The next whole frame, None before it is. Raises ``ProtocolError`` for what no peer of ours sends."""
        buffer = self._buffer
        if len(buffer) < _LENGTH:
            return None
        length = int.from_bytes(buffer[:_LENGTH], "big")
        if length < 1:
            raise ProtocolError("frame without a kind")
        if length - 1 > self.limit:
            raise ProtocolError(self._too_long(length - 1))
        if len(buffer) < _HEAD:
            return None
        kind = buffer[_LENGTH]
        if kind not in KINDS:
            raise ProtocolError(f"frame of unknown kind {kind}")
        end = _LENGTH + length
        if len(buffer) < end:
            return None
        payload = bytes(memoryview(buffer)[_HEAD:end])
        del buffer[:end]
        return Frame(kind, payload)

    @property
    def held(self) -> int:
        """Bytes that wait here for the rest of their frame."""
        return len(self._buffer)

    def speaks_tls(self) -> bool:
        """Whether the stream begins as a TLS record does (handshake or alert): the peer uses TLS, we do not."""
        return len(self._buffer) >= 2 and self._buffer[0] in (0x15, 0x16) and self._buffer[1] == 3

    def _too_long(self, size: int) -> str:
        if self.speaks_tls():
            return "it speaks TLS here, where none is used: --no-tls must be said on both sides, or on none"
        return f"frame of {size} bytes: no more than {self.limit} are taken here"
