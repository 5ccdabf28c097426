"""Somebody between client and server: passes bytes on, records, changes, swallows or cuts them.

With TLS of their own where wanted, as a man in the middle would.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

__all__ = ["Relay"]

Change = Callable[[bytes], bytes]


def _same(data: bytes) -> bytes:
    return data


#: Closing resets the connection, and throws away what was not taken yet.
_AT_ONCE = struct.pack("ii", 1, 0)


def _reset(*socks: socket.socket) -> None:
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        sock.close()


class Relay:
    """Listens on a port of its own and passes everything on to `port`.

    :param outer: TLS that is spoken to the client, `inner` to the server; None: bytes as they are.
    :param up: what is made of bytes to the server, `down` of those to the client.
    :param rate: bytes per second that a connection passes; None: as fast as they come.
    :param lasts: bytes to the server after which a connection is reset, wherever in a message that is; `cuts` then
        gets their number.
    """

    def __init__(
        self,
        port: int,
        *,
        outer: ssl.SSLContext | None = None,
        inner: ssl.SSLContext | None = None,
        up: Change = _same,
        down: Change = _same,
        rate: float | None = None,
        lasts: int | None = None,
        cuts: list[int] | None = None,
    ) -> None:
        self.up: list[bytes] = []
        """What clients sent."""
        self.down: list[bytes] = []
        """What the server sent."""
        self.passing = threading.Event()
        """Cleared: bytes are swallowed, both sides see an open connection on which nothing comes."""
        self.passing.set()
        self._target = port
        self._outer, self._inner = outer, inner
        self._changes = (up, down)
        self._rate, self._lasts = rate, lasts
        self._cuts = [] if cuts is None else cuts
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Reset all connections."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.close()
        self.cut()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = None
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            if self._outer is not None:
                client = self._outer.wrap_socket(client, server_side=True)
            if self._inner is not None:
                server = self._inner.wrap_socket(server)
            self._open += [client, server]
            self._pass(client, server)
        except OSError:
            pass
        finally:
            client.close()
            if server is not None:
                server.close()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        up, down = self._changes
        ways = {client: (server, self.up, up), server: (client, self.down, down)}
        sent = 0
        while True:
            waiting = [sock for sock in ways if isinstance(sock, ssl.SSLSocket) and sock.pending()]
            for sock in waiting or select.select(list(ways), (), ())[0]:
                data = sock.recv(65536)
                if not data:
                    return
                if self._rate is not None:
                    time.sleep(len(data) / self._rate)
                other, kept, change = ways[sock]
                if self._lasts is not None and sock is client:
                    data = data[: self._lasts - sent]
                    sent += len(data)
                kept.append(data)
                if self.passing.is_set():
                    other.sendall(change(data))
                if self._lasts is not None and sent >= self._lasts:
                    self._cuts.append(sent)
                    _reset(client, server)
                    return
