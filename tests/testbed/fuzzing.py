"""The real server and the real client, told messages that are wrong in one field (``testbed.fuzz``), in memory.

Nothing may raise, nothing may need the boundary that is behind the decoders, and all that the server says meanwhile
must be what a client can decode. Raises ``AssertionError`` with the case.
"""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from hypershell.core.checks import check
from hypershell.core.model import ClientInfo
from hypershell.errors import ProtocolError
from hypershell.executor import loop
from hypershell.executor.job import Job
from hypershell.executor.jobs import Jobs
from hypershell.executor.places import ANYWHERE, Place
from hypershell.executor.spawn import NotStarted
from hypershell.proto import messages as msg
from hypershell.proto.codec import decode_client, decode_server, encode
from hypershell.proto.visits import HandIn, Line, Lines, decode_asker, decode_submitter
from hypershell.reactor import Poller
from hypershell.server.run import Place as Where
from hypershell.server.run import Run
from hypershell.settings import RunSettings
from hypershell.transport import SERVER, Delivery, Lost
from tests.testbed.fuzz import OF_CLIENTS, OF_SERVERS, OF_VISITORS, broken

__all__ = ["fuzz_client", "fuzz_server"]

#: Cases between two looks at the rules of the scheduler.
_CHECK = 50
_HAND_IN = HandIn(b"stdin", "{}", b"/", "me", "host")


class _Wire:
    """A server's end; what is put into `inbox` and `guests` has come."""

    def __init__(self) -> None:
        self.inbox: deque[Delivery] = deque()
        self.guests: list[tuple[int, str, Any]] = []
        self.dropped: list[str] = []
        self.held: dict[int, list[tuple[str, int]]] = {}

    def poll(self) -> list[Delivery]:
        taken = list(self.inbox)
        self.inbox.clear()
        return taken

    def send(self, peer: int, message: Any) -> None:
        if not isinstance(message, tuple(msg.ServerMessage.__args__)):
            return
        heard = decode_server(encode(message))
        if isinstance(heard, msg.Work):
            self.held.setdefault(peer, []).extend((task.id, task.execution) for task in heard.tasks)

    def drop(self, peer: int, reason: str) -> None:
        self.dropped.append(reason)
        self.inbox.append(Delivery(peer, Lost(reason)))

    def visits(self) -> list[tuple[int, str, Any]]:
        found, self.guests = self.guests, []
        return found

    def hold(self) -> None: ...

    def admit(self) -> None: ...

    def flush(self) -> bool:
        return True

    def wait_hint(self, now: float) -> float | None:
        return None

    def expect(self, soon: bool) -> None: ...

    def silence(self, peer: int) -> float | None:
        return None

    def close(self) -> None: ...


def fuzz_server(cases: int, seed: int) -> int:
    """Tell a server so many broken messages of clients and visitors; how many of them were taken."""
    draw, wire, poller = random.Random(seed), _Wire(), Poller()
    settings = RunSettings(no_db=True, forever=True, output=os.devnull, errors=os.devnull)
    run = Run(poller, wire, settings, Where("tcp", 0, 0, 2, "host", is_open=True), ["server"])
    run.receive(wire)  # type: ignore[arg-type]
    run.start()
    now = time.monotonic()
    run.server.turn(now)
    taken = 0
    try:
        for case in range(cases):
            peer = case + 1
            hear = _client_case if draw.random() < 0.7 else _visitor_case
            taken += hear(draw, wire, peer, partial(run.server.turn, now))
            now += 0.01
            run.server.turn(now)
            place = f"seed {seed}, case {case}"
            assert wire.dropped == [], f"{place}: it slipped through the decoder: {wire.dropped}"
            assert run.server.finish is None, f"{place}: the server has ended"
            if case % _CHECK == 0:
                assert check(run._scheduler) == [], place
    finally:
        run.server.fall("over")
        while not run.server.finished:
            run.server.turn(now)
        run.close()
        poller.close()
    return taken


def _client_case(draw: random.Random, wire: _Wire, peer: int, turn: Callable[[], object]) -> bool:
    """A client that joins, gets a task, and says something broken of it."""
    if draw.random() < 0.8:
        outlives = draw.random() < 0.5
        info = ClientInfo(f"client-{peer}", "host", 1, draw.choice((1, 2, 0)), "1.0", "linux", peer, outlives)
        wire.inbox.append(Delivery(peer, msg.Hello(msg.PROTOCOL_VERSION, info)))
        wire.guests += [(-peer, "submit", _HAND_IN), (-peer, "submit", Lines(1, [Line("echo x")]))]
        turn()
    held = wire.held.pop(peer, [("nothing", 1)])
    kinds = tuple(_about(kind, held[-1]) for kind in OF_CLIENTS)
    heard = _hear(wire, peer, broken(draw, kinds))
    turn()
    wire.inbox.append(Delivery(peer, Lost("over")))
    return heard


def _about(message: Any, held: tuple[str, int]) -> Any:
    """The message, of a task that the client has."""
    if isinstance(message, msg.Results):
        results = [replace(result, id=held[0], execution=held[1]) for result in message.results]
        return replace(message, results=results)
    return message


def _hear(wire: _Wire, peer: int, data: bytes) -> bool:
    try:
        wire.inbox.append(Delivery(peer, decode_client(data)))
    except ProtocolError as error:
        assert "\n" not in str(error)
        wire.inbox.append(Delivery(peer, Lost(str(error))))
        return False
    return True


_ROLES: Mapping[str, Callable[[bytes], Any]] = {"submit": decode_submitter, "status": decode_asker}


def _visitor_case(draw: random.Random, wire: _Wire, peer: int, turn: Callable[[], object]) -> bool:
    """A visitor that may have begun well."""
    role = draw.choice(("submit", "submit", "submit", "status"))
    if draw.random() < 0.5:
        wire.guests.append((-peer, "submit", _HAND_IN))
    heard = True
    try:
        wire.guests.append((-peer, role, _ROLES[role](broken(draw, OF_VISITORS))))
    except ProtocolError as error:
        assert "\n" not in str(error)
        heard = False
    wire.guests.append((-peer, "submit", Lines(7, [Line("echo x")])))
    turn()
    wire.guests.append((-peer, role, Lost("over")))
    return heard


class _Dry(Jobs):
    """All of a start but the process."""

    def _spawn(
        self, id: str, command: bytes, shared: dict[bytes, bytes], own: dict[bytes, bytes], cwd: str | None,
        begin: float, place: Place = ANYWHERE,
    ) -> Job:  # fmt: skip
        environ = {**shared, **own}
        assert all(isinstance(text, bytes) for pair in environ.items() for text in pair)
        raise NotStarted("nothing is started here")

    def _start_captured(self, *args: Any) -> None:
        raise NotStarted("nothing is started here")


class _Server:
    """A client's end."""

    def __init__(self) -> None:
        self.inbox: deque[Delivery] = deque()
        self.dropped: list[str] = []
        self.results = 0

    def poll(self) -> list[Delivery]:
        taken = list(self.inbox)
        self.inbox.clear()
        return taken

    def send(self, peer: int, message: Any) -> None:
        heard = decode_client(encode(message))
        if isinstance(heard, msg.Results):
            self.results += len(heard.results) + len(heard.returned)

    def drop(self, peer: int, reason: str) -> None:
        self.dropped.append(reason)

    def flush(self) -> bool:
        return True

    def wait_hint(self, now: float) -> float | None:
        return None

    def expect(self, soon: bool) -> None: ...

    def silence(self, peer: int) -> float | None:
        return None

    def close(self) -> None: ...


def fuzz_client(cases: int, seed: int) -> int:
    """Tell clients so many broken messages of a server; how many of them were taken."""
    draw, taken, now = random.Random(seed), 0, time.monotonic()
    executor: loop.Executor | None = None
    poller, server = Poller(), _Server()
    with patch.object(loop, "Jobs", _Dry):
        for case in range(cases):
            if executor is None:
                poller, server = Poller(), _Server()
                reconnect = draw.choice((None, 5.0))
                executor = loop.Executor(
                    poller, server, ClientInfo("me", "host", 1, 2, "1.0", "linux"), environ={}, reconnect=reconnect
                )
                if draw.random() < 0.9:
                    server.inbox += (Delivery(SERVER, one) for one in OF_SERVERS[:2])
                    executor.turn(now)
            try:
                server.inbox.append(Delivery(SERVER, decode_server(broken(draw, OF_SERVERS))))
                taken += 1
            except ProtocolError as error:
                assert "\n" not in str(error)
            now += 0.05
            executor.turn(now)
            executor.deadline(now)
            assert server.dropped == [], f"seed {seed}, case {case}: it slipped through: {server.dropped}"
            if executor.reason is not None or draw.random() < 0.02:
                executor.close()
                poller.close()
                executor = None
    if executor is not None:
        executor.close()
        poller.close()
    return taken
