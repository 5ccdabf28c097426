"""Bytes over one non-blocking socket, with TLS or without. Knows nothing of what they mean."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from hypershell.errors import TransportError

if TYPE_CHECKING:
    import ssl

__all__ = ["Link", "TlsError"]


class TlsError(TransportError):
    """The two sides cannot agree on a channel: trying again changes nothing."""


class Link:
    """One connected socket.

    :param tls: the context of our side; None: no TLS.
    :param server: we are the side that accepted.
    :param name: the name that a client asks for.
    """

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLContext | None = None,
        *,
        server: bool = False,
        name: str | None = None,
    ) -> None:
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:
            pass  # not TCP, or gone already: reading tells
        self._tls: ssl.SSLSocket | None = None
        if tls is not None:
            self._tls = tls.wrap_socket(
                sock, server_side=server, do_handshake_on_connect=False, server_hostname=None if server else name
            )
        self._sock: socket.socket = self._tls or sock
        self._shaken = tls is None

    def fileno(self) -> int:
        return self._sock.fileno()

    def handshake(self) -> bool:
        """Go on with the TLS handshake; True once it is over. Raises ``TransportError`` where it fails."""
        if self._shaken or self._tls is None:
            return True
        import ssl

        try:
            self._tls.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except ssl.SSLEOFError:
            raise TransportError("the connection was closed during the TLS handshake") from None
        except ssl.SSLError as error:
            raise TlsError(_explain(error)) from None
        except (OSError, ValueError) as error:
            raise TransportError(f"TLS handshake: {_reason(error)}") from None
        self._shaken = True
        return True

    def certificate(self) -> bytes:
        """The DER of the peer's certificate; empty without TLS."""
        return (self._tls.getpeercert(binary_form=True) or b"") if self._tls is not None else b""

    def read(self, most: int) -> bytes | None:
        """What has arrived, up to `most` bytes; None: nothing now; empty: the peer will send nothing more.

        Raises ``TransportError`` where the connection is gone.
        """
        try:
            return self._sock.recv(most)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            if self._tls is not None and _again(error):
                return None
            raise TransportError(_reason(error)) from None

    def write(self, data: bytes | memoryview) -> int:
        """Bytes of `data` that were taken. Where none were, the same `data` must be tried again later (TLS).

        Raises ``TransportError`` where the connection is gone.
        """
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if self._tls is not None and _again(error):
                return 0
            raise TransportError(_reason(error)) from None

    def finish(self) -> None:
        """Nothing more will be sent. What the peer still sends is to be taken with `discard`, then `close`.

        A socket that is closed with unread bytes is reset, and the reset can overtake our last words.
        """
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def discard(self, most: int) -> int | None:
        """Throw away what has arrived, up to `most` bytes, and give how much; None: the peer has closed."""
        thrown = 0
        while thrown < most:
            try:
                data = socket.socket.recv(self._sock, min(65536, most - thrown))
            except (BlockingIOError, InterruptedError):
                return thrown
            except OSError:
                return None
            if not data:
                return None
            thrown += len(data)
        return thrown

    def write_plain(self, data: bytes) -> None:
        """Say something below TLS, to a peer that speaks none; what does not fit is left out."""
        try:
            socket.socket.send(self._sock, data)
        except OSError:
            pass

    def close(self) -> None:
        """Release the socket; idempotent."""
        try:
            self._sock.close()
        except OSError:
            pass


def _again(error: OSError) -> bool:
    import ssl

    return isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError))


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionResetError):
        return "connection reset"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _explain(error: ssl.SSLError) -> str:
    """OpenSSL's complaint in words that say what to do."""
    import ssl

    name = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if name in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
        return "the other side speaks no TLS: --no-tls must be said on both sides, or on none"
    if name in ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"):
        return "no version of TLS that both sides allow"
    return f"TLS handshake: {name.lower().replace('_', ' ') or error}"
