"""Messages to bytes and back: every message unchanged, and any bytes at all a message or ``ProtocolError``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hypershell.core.model import KEPT_MOST, ClientInfo, Kept, Result, Task
from hypershell.errors import ProtocolError
from hypershell.proto import messages as msg
from hypershell.proto.codec import decode_client, decode_server, encode

text = st.text(st.characters(codec="utf-8"), max_size=30)
name = st.text(st.sampled_from("aZ0 _-.:äß漢"), max_size=30)
integer = st.integers(-(2**63), 2**63 - 1)
narrow = st.integers(-(2**31), 2**31 - 1)
natural = st.integers(0, 2**31 - 1)
slots = st.integers(1, 2**31 - 1)
real = st.floats(-1e18, 1e18)
seconds = st.floats(0, 1e18)
scalar = st.none() | st.booleans() | integer | st.floats(allow_nan=False) | text
tags = st.none() | st.dictionaries(text, scalar, max_size=4)
identity = st.tuples(text, narrow)
sizes = st.integers(0, 2**63 - 1)

tasks = st.builds(
    Task, text, text, integer, narrow, narrow, natural, st.none() | st.binary(max_size=30), st.none() | real,
    tags, real, real, st.none() | text, st.none() | natural, st.none() | sizes,
)  # fmt: skip
kept = st.builds(Kept, st.binary(max_size=30), st.binary(max_size=30), sizes, sizes)
results = st.builds(
    Result, text, narrow, narrow, real, real, st.none() | text, st.none() | text, st.none() | text,
    st.none() | text, st.none() | real, st.none() | real, st.none() | real, st.none() | kept,
)  # fmt: skip
infos = st.builds(
    ClientInfo, name, name, natural, natural, name, name, narrow, st.booleans(),
    st.lists(name, max_size=3).map(tuple),
)  # fmt: skip
bytes_ = st.binary(max_size=30)
contexts = st.builds(
    msg.Context, integer, bytes_, bytes_, text, text, st.booleans(), st.booleans(), st.none() | real, st.booleans(),
    st.dictionaries(bytes_, bytes_, max_size=3),
)  # fmt: skip
settings = st.builds(
    msg.ClientSettings, slots, st.none() | slots, seconds, seconds, st.none() | seconds, st.none() | real,
    st.none() | bytes_, st.booleans(), bytes_, name, name, name, name, st.sampled_from(["rank", "job", "none"]),
    st.sampled_from(["none", "share", "cores"]), st.none() | st.floats(0, 1e18, exclude_min=True),
)  # fmt: skip

CLIENT: dict[type, Any] = {
    msg.Hello: st.builds(msg.Hello, narrow, infos, st.lists(st.tuples(text, narrow), max_size=4)),
    msg.Results: st.builds(
        msg.Results, st.lists(results, max_size=4), st.lists(identity, max_size=4), st.booleans()
    ),
    msg.Output: st.builds(msg.Output, st.binary(max_size=50), st.binary(max_size=50)),
    msg.Leave: st.builds(msg.Leave, text),
}
SERVER: dict[type, Any] = {
    msg.Welcome: st.builds(msg.Welcome, settings),
    msg.Work: st.builds(msg.Work, st.lists(tasks, max_size=4), st.lists(contexts, max_size=2)),
    msg.OutputTaken: st.builds(msg.OutputTaken, sizes),
    msg.Drain: st.just(msg.Drain()),
    msg.Interrupt: st.builds(msg.Interrupt, seconds),
    msg.Bye: st.just(msg.Bye()),
    msg.Cancel: st.builds(msg.Cancel, st.lists(identity, max_size=4)),
    msg.KeptTaken: st.builds(msg.KeptTaken, sizes),
    msg.Acknowledged: st.builds(msg.Acknowledged, sizes),
    msg.Recall: st.builds(msg.Recall, st.lists(identity, max_size=4)),
}
SIDES: list[tuple[Callable[[bytes], Any], dict[type, Any]]] = [(decode_client, CLIENT), (decode_server, SERVER)]


def test_no_message_is_forgotten_here() -> None:
    assert set(CLIENT) == set(msg.ClientMessage.__args__)
    assert set(SERVER) == set(msg.ServerMessage.__args__)


@given(st.one_of(*CLIENT.values()))
def test_every_message_of_a_client_comes_back(message: Any) -> None:
    data = encode(message)
    assert decode_client(data) == message
    assert decode_client(memoryview(data)) == message


@given(st.one_of(*SERVER.values()))
def test_every_message_of_the_server_comes_back(message: Any) -> None:
    data = encode(message)
    assert decode_server(data) == message
    assert decode_server(memoryview(data)) == message


def test_tags_are_fixed_numbers() -> None:
    given_numbers = {kind: kind.__struct_config__.tag for kind in [*CLIENT, *SERVER]}
    assert given_numbers == {
        msg.Hello: 1, msg.Results: 2, msg.Output: 3, msg.Leave: 4,
        msg.Welcome: 33, msg.Work: 34, msg.OutputTaken: 35, msg.Drain: 36, msg.Interrupt: 37, msg.Bye: 38,
        msg.Cancel: 39, msg.KeptTaken: 40, msg.Acknowledged: 41, msg.Recall: 42,
    }  # fmt: skip


def test_dates_and_the_like_stay_text() -> None:
    """Defect 4: the tool before took arguments that look like dates for dates."""
    lines = ["20240101", "2024-01-01", "2024-W01", "1e5", "null", "0x10"]
    sent = msg.Work([Task(str(n), line, 1, tag={"when": line}) for n, line in enumerate(lines)])
    got = decode_server(encode(sent))
    assert isinstance(got, msg.Work)
    assert [(one.args, (one.tag or {})["when"]) for one in got.tasks] == [(line, line) for line in lines]


@pytest.mark.parametrize(("decode", "kinds"), SIDES, ids=["client", "server"])
@given(data=st.data(), noise=st.binary(max_size=200))
@example(data=None, noise=b"")
@example(data=None, noise=b"\x91" * 100_000)
@example(data=None, noise=b"\xc1")
def test_any_bytes_are_a_message_or_refused(decode: Any, kinds: dict[type, Any], data: Any, noise: bytes) -> None:
    try:
        assert type(decode(noise)) in kinds
    except ProtocolError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(("decode", "kinds"), SIDES, ids=["client", "server"])
@given(data=st.data())
def test_damaged_messages_are_messages_or_refused(decode: Any, kinds: dict[type, Any], data: Any) -> None:
    """Cut short, with something behind, or with a byte changed."""
    whole = bytearray(encode(data.draw(st.one_of(*kinds.values()))))
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole.copy()
    changed[place] = data.draw(st.integers(0, 255))
    for damaged in (bytes(whole[:place]), bytes(whole) + b"\x00", bytes(changed)):
        try:
            assert type(decode(damaged)) in kinds
        except ProtocolError as error:
            assert str(error).startswith("bad message from ")


@given(st.recursive(scalar | st.binary(max_size=9), lambda inner: st.lists(inner, max_size=4), max_leaves=12),
       st.sampled_from([1, 2, 3, 4, 33, 34, 35, 36, 37, 38, 39, 40, 99]))  # fmt: skip
def test_well_formed_nonsense_is_a_message_or_refused(inside: Any, tag: int) -> None:
    data = msgspec.msgpack.encode([tag, inside])
    for decode, kinds in SIDES:
        try:
            assert type(decode(data)) in kinds
        except ProtocolError as error:
            assert str(error)


@pytest.mark.parametrize("kind", SERVER, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_messages_of_the_server_are_not_taken_from_clients(kind: type, data: Any) -> None:
    with pytest.raises(ProtocolError, match="from a client"):
        decode_client(encode(data.draw(SERVER[kind])))


@pytest.mark.parametrize("wild", [2**31, -(2**31) - 1, 2**70])
def test_numbers_that_no_database_column_holds_are_rejected(wild: int) -> None:
    bad = msgspec.structs.replace(Result("id", 1, 0, 0.0, 0.0), exit_status=min(wild, 2**63))
    with pytest.raises(ProtocolError):
        decode_client(encode(msg.Results([bad])))


@pytest.mark.parametrize(("length", "size"), [(KEPT_MOST + 1, KEPT_MOST + 1), (0, -1), (0, 2**63)])
def test_more_output_than_is_kept_is_rejected(length: int, size: int) -> None:
    fits = Result("id", 1, 0, 0.0, 0.0, kept=Kept(bytes(KEPT_MOST), b"", KEPT_MOST, 0))
    assert decode_client(encode(msg.Results([fits]))) == msg.Results([fits])
    for kept in (Kept(bytes(length), b"", size, 0), Kept(b"", bytes(length), 0, size)):
        with pytest.raises(ProtocolError):
            decode_client(encode(msg.Results([msgspec.structs.replace(fits, kept=kept)])))
