"""Messages that are valid except for one field.

Every kind is built whole, taken apart as the array that goes over the wire, and one value of it is replaced. Who is
told them is in ``fuzzing``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec

from hypershell.core.model import ClientInfo, Kept, Result, Room, Task
from hypershell.proto import messages as msg
from hypershell.proto import visits

__all__ = ["ANSWERS", "OF_CLIENTS", "OF_SERVERS", "OF_VISITORS", "broken", "nonsense"]

_ID = "01900000-0000-7000-8000-000000000001"

_KEPT = Kept(b"a", b"b", 1, 1)
_RESULT = Result(_ID, 1, 0, 1.7e9, 1.7e9, "echo", "error", "/a/out", "/a/err", 0.1, 0.1, 1e6, _KEPT)
_TAGS = {"a": 1, "os": "linux"}
_TASK = Task(_ID, "echo x", 1, 1, 1, 0, b"echo x", 5.0, _TAGS, 1.7e9, 1.7e9, _ID, 1, 1 << 20, 0, 1)
_SETTINGS = msg.ClientSettings(
    2, 4, 5.0, 10.0, 60.0, 60.0, b"/", False, b"/tmp", "warning", "default", _ID, "host", "rank", "share", 10.0
)
_CONTEXT = msg.Context(1, b"{}", b"/", _ID, "host", True, True, 5.0, False, {b"NAME": b"value"})
_STATUS = visits.Status(
    _ID, "host", 1, "1.0", "tcp", 1.7e9, 1.7e9, "running", {"pending": 1}, True, 1.0, 5.0, 0, "at once", "a.db",
    [visits.ClientStatus(_ID, "host", 1, "linux", "1.0", 2, 1, 1.7e9, 0.1, "running", ("gpu",))], ["host"], "lost",
)  # fmt: skip

OF_CLIENTS: tuple[Any, ...] = (
    msg.Hello(
        msg.PROTOCOL_VERSION, ClientInfo("me", "host", 1, 2, "1.0", "linux", 3, True, ("gpu", "big")), [(_ID, 1)],
        msg.Startup(1.0, 2.0, 3.0, 4.0),
    ),
    msg.Results([_RESULT], [(_ID, 1)], False, Room(1, False, "no memory")),
    msg.Output(b"out\n", b"err\n"),
    msg.Leave("drained"),
)  # fmt: skip
OF_SERVERS: tuple[Any, ...] = (
    msg.Welcome(_SETTINGS), msg.Work([_TASK], [_CONTEXT]), msg.OutputTaken(5), msg.Drain(), msg.Interrupt(5.0),
    msg.Bye(), msg.Cancel([(_ID, 1)], "USR1"), msg.KeptTaken(5), msg.Acknowledged(1), msg.Recall([(_ID, 1)]),
)  # fmt: skip
OF_VISITORS: tuple[Any, ...] = (
    visits.HandIn(b"/a/tasks.in", '{"submit": {"template": "{}", "tags": {"a": 1}}}', b"/", _ID, "host"),
    visits.Lines(1, [visits.Line("echo x", b"echo x", 1, 5.0, {"a": 1}, 1, 1 << 20)]),
    visits.Ask(),
)
ANSWERS: tuple[Any, ...] = (visits.Taken(1, 1, _ID), visits.Refused("no"), visits.Told(_STATUS))

_OPTIONS = (
    "", "[]", "3", "null", "{", '{"submit": 3}', '{"submit": {"template": 3}}', '{"submit": {"template": "{[9"}}',
    '{"submit": {"tags": []}}', '{"exports": 3}', '{"exports": {"A": 1}}', '{"exports_raw": [1]}',
    '{"task_timeout": "x"}', '{"task_timeout": 1e999}', '{"capture": "yes"}', '{"keep_output": 3}',
    '{"again": [["a"]]}', '{"poison": -1}', '{"x": ' + "[" * 5000 + "]" * 5000 + "}", '{"a": "\\ud800"}',
    '{"submit": {"timeout": -1e300}}', '{"submit": {"group": 99999999999999999999}}',
    '{"exports": {"A=\\u0000": ""}}',
)  # fmt: skip


def nonsense(draw: random.Random) -> Any:
    """A value of any type, mostly at an edge."""
    return draw.choice(
        (
            None, True, False, 0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1,
            -(2**63), 0.0, -1.0, 0.5, 1e300, -1e300, math.nan, math.inf, -math.inf, 5e-324, "", "a", "\0", "a\0b",
            "a\nb", "\x1b[31m", "../../x", "/", "x" * 101, "x" * 300, "x" * 70_000, "\u202e", "ä漢\U0001f600",
            "linux", b"", b"\0", b"\xff\xfe", b"x" * 70_000, [], [None], [[]], ["a", 1], ["a", 2**63], [1, 2, 3],
            {}, {"a": 1}, {"a": None}, {"a\0": "b\0"}, {1: 2}, {b"a": b"b"}, {"a": {"b": []}},
            {"os": 5, "label": None}, {"label": "x" * 9999}, draw.choice(_OPTIONS), [0] * 5000,
            msgspec.msgpack.Ext(1, b"x"),
        )
    )  # fmt: skip


def broken(draw: random.Random, kinds: tuple[Any, ...]) -> bytes:
    """The bytes of one of these messages, of which one value is another, is missing, or is there twice."""
    whole = msgspec.msgpack.decode(msgspec.msgpack.encode(draw.choice(kinds)))
    place, key = draw.choice(list(_places(whole)))
    how = draw.random()
    if how < 0.05 and isinstance(place, list):
        del place[key]
    elif how < 0.1 and isinstance(place, list):
        place.insert(key, place[key])
    else:
        place[key] = nonsense(draw)
    return msgspec.msgpack.encode(whole)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where a value inside of a message stands; the number of its kind is left alone."""
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, list):
        inside = [(value, number) for number in range(len(value))]
    elif isinstance(value, dict):
        inside = [(value, key) for key in value]
    for place, key in inside:
        yield place, key
        yield from _places(place[key])
