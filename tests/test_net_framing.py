"""Frames: every split of the stream gives the same frames, and hostile bytes a ``ProtocolError``, never more."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypershell.errors import ProtocolError
from hypershell.proto.framing import (
    BEAT,
    HANDSHAKE,
    HANDSHAKE_LIMIT,
    KINDS,
    MAX_FRAME,
    MESSAGE,
    Frame,
    FrameDecoder,
    frame,
)

frames = st.lists(st.tuples(st.sampled_from(KINDS), st.binary(max_size=40)), max_size=6)


def taken(decoder: FrameDecoder, *pieces: bytes) -> list[Frame]:
    got = []
    for piece in pieces:
        decoder.feed(piece)
        while (one := decoder.next()) is not None:
            got.append(one)
    return got


def test_the_bytes_of_a_frame() -> None:
    assert frame(MESSAGE, b"abc") == b"\0\0\0\x04\x02abc"
    assert frame(BEAT) == b"\0\0\0\x01\x03"


@given(frames, st.data())
def test_any_split_gives_the_same_frames(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    decoder = FrameDecoder()
    assert taken(decoder, *pieces) == sent
    assert decoder.held == 0


def test_every_single_split() -> None:
    sent = [Frame(HANDSHAKE, b"hello"), Frame(BEAT, b""), Frame(MESSAGE, bytes(range(50)))]
    stream = b"".join(frame(*one) for one in sent)
    for cut in range(len(stream) + 1):
        assert taken(FrameDecoder(), stream[:cut], stream[cut:]) == sent
    assert taken(FrameDecoder(), *(stream[at : at + 1] for at in range(len(stream)))) == sent


@given(st.binary(max_size=64), st.integers(1, 7))
def test_any_bytes_give_frames_or_the_one_error(data: bytes, step: int) -> None:
    """And how they are cut makes no difference to what comes out."""

    def outcome(pieces: list[bytes]) -> tuple[list[Frame], str | None]:
        decoder, got = FrameDecoder(20), []
        try:
            for piece in pieces:
                decoder.feed(piece)
                while (one := decoder.next()) is not None:
                    got.append(one)
        except ProtocolError as error:
            return got, str(error)
        return got, None

    whole = outcome([data])
    pieces = outcome([data[at : at + step] for at in range(0, len(data), step)])
    assert whole[0] == pieces[0] and (whole[1] is None) == (pieces[1] is None)


def test_the_limit_counts_from_the_next_frame_on() -> None:
    decoder = FrameDecoder(4)
    decoder.feed(frame(HANDSHAKE, b"four") + frame(MESSAGE, b"x" * 100))
    assert decoder.next() == (HANDSHAKE, b"four")
    decoder.limit = 100
    assert decoder.next() == (MESSAGE, b"x" * 100)


@pytest.mark.parametrize("size", [HANDSHAKE_LIMIT + 1, MAX_FRAME, 2**32 - 2])
def test_a_long_frame_is_refused_by_its_head(size: int) -> None:
    decoder = FrameDecoder()
    decoder.feed((size + 1).to_bytes(4, "big"))
    with pytest.raises(ProtocolError, match=f"{size} bytes.*no more than {HANDSHAKE_LIMIT}"):
        decoder.next()


def test_the_longest_frame_passes_and_one_byte_more_does_not() -> None:
    decoder = FrameDecoder(MAX_FRAME)
    decoder.feed(frame(MESSAGE, bytes(MAX_FRAME)))
    assert len(decoder.next().payload) == MAX_FRAME  # type: ignore[union-attr]
    with pytest.raises(ProtocolError, match="no more than"):
        frame(MESSAGE, bytes(MAX_FRAME + 1))


def test_a_declared_length_costs_no_memory() -> None:
    decoder = FrameDecoder(MAX_FRAME)
    tracemalloc.start()
    try:
        decoder.feed((MAX_FRAME + 1).to_bytes(4, "big") + b"\x02x")
        assert decoder.next() is None
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()


def test_what_no_peer_sends_is_named() -> None:
    for data, words in [
        (b"\0\0\0\0", "without a kind"),
        (b"\0\0\0\x02\x09x", "unknown kind 9"),
        (b"GET / HTTP/1.1\r\n", "no more than"),
        (b"\x16\x03\x01\x02\x00\x01", "speaks TLS.*--no-tls"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "speaks TLS.*--no-tls"),
    ]:
        decoder = FrameDecoder()
        decoder.feed(data)
        with pytest.raises(ProtocolError, match=words):
            decoder.next()
