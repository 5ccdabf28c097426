"""Connections that have said their last word: kept until the peer has closed too, for a short while.

A socket that is closed while unread bytes lie in it is reset, and the reset can overtake the last word.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable

from hypershell.net.connection import Connection

__all__ = ["Parting"]

#: Bytes that a peer may still send, and how many may be on their way out.
_MOST_BYTES = 1 << 20
_MOST_PEERS = 256


class Parting:
    """Those on their way out.

    :param linger: seconds that each gets to go.
    """

    def __init__(self, linger: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._linger = linger
        self._clock = clock
        self._leaving: dict[Connection, float] = {}
        self._thrown: dict[Connection, int] = {}

    def add(self, connection: Connection, now: float) -> None:
        """Say what is queued, as far as the kernel takes it at once, and wait for the peer's end."""
        connection.leave()
        connection.woken = self._woken
        self._leaving[connection] = now + self._linger
        self._thrown[connection] = 0
        if len(self._leaving) > _MOST_PEERS:
            self._close(next(iter(self._leaving)))

    def deadline(self) -> float | None:
        return next(iter(self._leaving.values()), None)

    def expire(self, now: float) -> None:
        """Close those that did not go in time."""
        for connection, due in list(self._leaving.items()):
            if due > now:
                break
            self._close(connection)

    def wait(self) -> None:
        """Block until all have gone, or have had their time, and close the rest."""
        until = self._clock() + self._linger
        with selectors.DefaultSelector() as selector:
            for connection in self._leaving:
                selector.register(connection.link.fileno(), selectors.EVENT_READ, connection)
            while self._leaving and (left := until - self._clock()) > 0:
                for key, _ in selector.select(left):
                    self._woken(key.data)
                    if key.data not in self._leaving:
                        selector.unregister(key.fd)
        for connection in list(self._leaving):
            self._close(connection)

    def _woken(self, connection: Connection) -> None:
        if connection not in self._leaving:
            return
        thrown = connection.link.discard(_MOST_BYTES)
        if thrown is not None:
            self._thrown[connection] += thrown
        if thrown is None or self._thrown[connection] >= _MOST_BYTES:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._leaving.pop(connection, None)
        self._thrown.pop(connection, None)
        connection.close()
