"""A server's end and clients' ends in one process, over real sockets of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hypershell.core.model import ClientInfo
from hypershell.net import tls
from hypershell.net.addresses import bind
from hypershell.net.auth import Key
from hypershell.net.dialer import Dialer, Patience, Target
from hypershell.net.listener import Limits, Listener
from hypershell.proto.messages import PROTOCOL_VERSION, ClientSettings, Hello, Welcome
from hypershell.reactor import Poller
from hypershell.transport import SERVER, Delivery

KEY = Key("the-key-of-these-tests")
#: Seconds after which something that should happen did not; never waited for when it does.
LONG = 60.0
#: A client that gives up at once, so that every trouble shows. Both ends are in one thread: neither waits for the
#: other.
STRICT = Patience(reconnect=0.0, linger=0.0)
EASY = Limits(linger=0.0)


def welcome() -> Welcome:
    """A message that a server sends first."""
    return Welcome(
        ClientSettings(1, None, 5.0, 10.0, None, None, None, False, b"", "warning", "default", "server", "host")
    )


def hello(ident: str) -> Hello:
    return Hello(PROTOCOL_VERSION, ClientInfo(ident, "host", 1, 1, "1.0", "linux"))


@cache
def server_certificate() -> str:
    """The certificate of all tests of this process."""
    return tls.ensure_certificate(str(Path(mkdtemp(prefix="hs-tls-")) / "tls"), "localhost")


@cache
def server_side() -> tls.ServerTls:
    return tls.server_tls(server_certificate())


@cache
def client_side() -> tls.ClientTls:
    return tls.client_tls()


class Net:
    """One listener and what dials it. `got` are all deliveries of the server's end."""

    def __init__(
        self, *, secure: bool = True, host: str = "127.0.0.1", limits: Limits = EASY, **options: Any
    ) -> None:
        self.poller = Poller()
        self.secure = secure
        options.setdefault("key", KEY)
        options.setdefault("tls", server_side() if secure else None)
        key, context = options.pop("key"), options.pop("tls")
        self.listener = Listener(self.poller, bind(host, 0), key, context, limits=limits, **options)
        self.port = self.listener.port
        self.host = host
        self.dialers: list[Dialer] = []
        self.got: list[Delivery] = []
        self.heard: dict[Dialer, list[Any]] = {}

    def target(self, **changes: Any) -> Target:
        whole = Target((self.host,), self.port, KEY, client_side() if self.secure else None)
        return whole._replace(**changes)

    def dial(
        self,
        ident: str = "client",
        *,
        target: Callable[[], Target] | None = None,
        patience: Patience = STRICT,
        **options: Any,
    ) -> Dialer:
        """Another dialer; nothing has happened yet."""
        dialer = Dialer(self.poller, target or self.target, ident, patience=patience, **options)
        self.dialers.append(dialer)
        self.heard[dialer] = []
        return dialer

    def turn(self) -> None:
        """Everybody does what there is to do."""
        self.got += self.listener.poll()
        for dialer in self.dialers:
            self.heard[dialer] += [delivery.message for delivery in dialer.poll()]
        for end in (self.listener, *self.dialers):
            end.flush()

    def sleep(self) -> None:
        """Until something happens or a timer of an end is due."""
        now = time.monotonic()
        hints = [hint for end in (self.listener, *self.dialers) if (hint := end.wait_hint(now)) is not None]
        self.poller.wait(min([*hints, 1.0]))

    def until(self, done: Callable[[], Any]) -> Any:
        """Turn until `done`, and give what it gives."""
        end = time.monotonic() + LONG
        self.turn()
        while not (value := done()):
            assert time.monotonic() < end, f"nothing came of it in {LONG} s: {self.got} {self.heard}"
            self.sleep()
            self.turn()
        return value

    def join(self, ident: str = "client", **options: Any) -> tuple[Dialer, int]:
        """A client that has said Hello and was welcomed, and its number on the server."""
        dialer = self.dial(ident, **options)
        dialer.send(SERVER, hello(ident))
        return dialer, self.welcomed(dialer, ident)

    def welcomed(self, dialer: Dialer, ident: str, after: int = 0) -> int:
        """Answer the newest Hello of `ident`, of a peer above `after`; the number that it has."""

        def number() -> int | None:
            said = [d.peer for d in self.got if isinstance(d.message, Hello) and d.message.info.id == ident]
            return said[-1] if said and said[-1] > after and self.listener.peer(said[-1]) else None

        peer = int(self.until(number))
        self.listener.send(peer, welcome())
        seen = len(self.heard[dialer])
        self.until(lambda: any(isinstance(m, Welcome) for m in self.heard[dialer][seen:]))
        return peer

    def messages(self, peer: int) -> list[Any]:
        """What came from `peer`."""
        return [delivery.message for delivery in self.got if delivery.peer == peer]

    def close(self) -> None:
        for dialer in self.dialers:
            dialer.close()
        self.listener.close()
        self.poller.close()


@contextmanager
def net(**options: Any) -> Iterator[Net]:
    made = Net(**options)
    try:
        yield made
    finally:
        made.close()
