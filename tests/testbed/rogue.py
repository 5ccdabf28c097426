"""A client that knows the key and says whatever it likes to a server that is another process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypershell.core.model import ClientInfo
from hypershell.net.connectfile import read_connect_file
from hypershell.net.dialer import Dialer, Patience, Target
from hypershell.net.tls import client_tls
from hypershell.proto import messages as msg
from hypershell.reactor import Poller
from hypershell.transport import SERVER, Lost

__all__ = ["Rogue"]

_PATIENCE = 60.0


class Rogue:
    """One connection; `heard` is all that came over it, its end included."""

    def __init__(self, connect_file: Path, ident: str) -> None:
        info = read_connect_file(str(connect_file))
        target = Target(info.addresses, info.port, info.key, client_tls(pin=info.certificate))
        self.info = ClientInfo(ident, "host", 1, 1, "1.0", sys.platform)
        self.heard: list[Any] = []
        self._was_in = False
        self._poller = Poller()
        self._dialer = Dialer(self._poller, lambda: target, ident, patience=Patience(reconnect=0.0, linger=0.0))

    def join(self) -> None:
        """Say Hello and be welcomed."""
        self.say(msg.Hello(msg.PROTOCOL_VERSION, self.info))
        self.until(lambda: self.has(msg.Welcome))

    def say(self, message: Any) -> None:
        self._dialer.send(SERVER, message)

    def has(self, kind: type) -> bool:
        """Whether a message of this kind has come."""
        return any(isinstance(message, kind) for message in self.heard)

    @property
    def lost(self) -> str | None:
        """Why the server ended the connection, if it did."""
        return next((message.reason for message in self.heard if isinstance(message, Lost)), None)

    @property
    def is_gone(self) -> bool:
        """Whether it was let in and is not there any more."""
        return self._was_in and not self._dialer.connected

    def turn(self) -> None:
        """Send and receive what can be sent and received."""
        self.heard += [delivery.message for delivery in self._dialer.poll()]
        self._dialer.flush()
        self._was_in |= self._dialer.connected

    def until(self, done: Callable[[], Any]) -> None:
        """Take turns until `done`, or the connection has ended."""
        end = time.monotonic() + _PATIENCE
        self.turn()
        while not done() and self.lost is None and not self.is_gone:
            assert time.monotonic() < end, self.heard
            self._poller.wait(min(1.0, self._dialer.wait_hint(time.monotonic()) or 0.0))
            self.turn()

    def close(self) -> None:
        self._dialer.close()
        self._poller.close()
