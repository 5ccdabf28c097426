"""Very many connections to a server of ours, each opened again when it is closed; none of them knows the key.

``python -m tests.testbed.flood PORT COUNT SOURCE KIND`` prints ``up`` when so many were opened, and goes on.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import sys

__all__ = ["KINDS", "Flood", "first_word"]

#: What each connection says at once: nothing; no TLS; the first word of TLS, for which a server must work.
KINDS = ("silent", "noise", "hello")


def first_word(kind: str) -> bytes:
    """The bytes of a kind."""
    if kind == "noise":
        return b"GET / HTTP/1.1\r\n\r\n"
    if kind == "silent":
        return b""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said).do_handshake()
    return said.read()


class Flood:
    """The connections. `turn` opens those again that were closed.

    :param source: the address that they come from.
    :param first: what each says at once.
    """

    def __init__(self, port: int, count: int, source: str, first: bytes) -> None:
        self.opened = 0
        self._port, self._source, self._first = port, source, first
        self._selector = selectors.DefaultSelector()
        for _ in range(count):
            self._open()

    def turn(self, timeout: float | None) -> None:
        """Wait for the server to close some, and open as many."""
        for key, _ in self._selector.select(timeout):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            with contextlib.suppress(OSError):
                if sock.recv(65536):
                    continue
            self._selector.unregister(sock)
            sock.close()
            self._open()

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _open(self) -> None:
        sock = socket.socket()
        sock.bind((self._source, 0))
        sock.connect(("127.0.0.1", self._port))
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.send(self._first)
        self.opened += 1
        self._selector.register(sock, selectors.EVENT_READ)


if __name__ == "__main__":
    flood = Flood(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], first_word(sys.argv[4]))
    print("up", flush=True)
    while True:
        flood.turn(None)
