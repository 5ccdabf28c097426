"""A peer that asks a server and waits for the answer: for commands that do nothing else meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hypershell.errors import TransportError
from hypershell.net.dialer import Dialer, Patience, Target
from hypershell.proto.session import Decode
from hypershell.reactor import Poller
from hypershell.transport import SERVER, Cut, Lost

__all__ = ["Asking"]


class Asking:
    """One connection to a server in a `role`, used from one thread; a context that hangs up at its end.

    :param patience: seconds to find the server and to be let in.
    """

    def __init__(self, target: Target, ident: str, role: str, decode: Decode, patience: float = 10.0) -> None:
        self._poller = Poller()
        self._found: deque[Any] = deque()
        self._target = target
        rules = Patience(reconnect=0.0, connect=patience, handshake=patience, hung_up=patience, first=0.0)
        self._end = Dialer(self._poller, lambda: target, ident, role=role, decode=decode, patience=rules)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; idempotent."""
        self._end.close()
        self._poller.close()

    def send(self, message: Any) -> None:
        """Hand over one message; it leaves while `receive` waits."""
        self._end.send(SERVER, message)

    def receive(self, timeout: float | None = None) -> Any:
        """The next message of the server; None where none came within `timeout` seconds.

        Raises:
            TransportError: there is no such server, it turned us away, or it is gone.
        """
        until = None if timeout is None else time.monotonic() + timeout
        self._wait(lambda: bool(self._found), until)
        return self._found.popleft() if self._found else None

    def connect(self) -> None:
        """Wait until the server has let us in; raises as `receive`."""
        self._wait(lambda: self._end.connected, None)

    def _wait(self, is_done: Callable[[], bool], until: float | None) -> None:
        while True:
            for _, message in self._end.poll():
                if isinstance(message, Lost | Cut):
                    raise TransportError(f"server at {self._target}: {message.reason}")
                self._found.append(message)
            self._end.flush()
            now = time.monotonic()
            if is_done() or (until is not None and now >= until):
                return
            hint = self._end.wait_hint(now)
            due = [when for when in (hint, None if until is None else until - now) if when is not None]
            self._poller.wait(max(0.0, min(due)) if due else None)
