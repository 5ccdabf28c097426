"""Names and numbers of hosts: what to listen on, what to tell others, what to dial."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypershell.errors import TransportError
from hypershell.ostext import raw_of

__all__ = ["Address", "advertised", "bind", "is_loopback", "numeric", "origin", "resolve", "shown"]

#: Connections that the kernel holds for us.
_BACKLOG = 4096
#: Attempts to find one port that is free on all addresses.
_TRIES = 20
_ALL = ("", "*", "::")


class Address(NamedTuple):
    """Where to connect to: what ``socket`` wants, and the name for texts."""

    family: int
    where: Any
    text: str


def shown(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, non-blocking, on all addresses of `host` and one port.

    :param host: a name or address; ``*``, ``::`` or nothing: all addresses of both families, ``0.0.0.0``: of IPv4.
    :param port: 0 takes any that is free.
    Raises ``TransportError`` where the port is in use or the address not ours.
    """
    targets = _targets(host)
    for _ in range(_TRIES if port == 0 else 1):
        try:
            return _bind_all(targets, host, port)
        except _Taken as taken:
            if port:
                raise TransportError(
                    f"port {port} of {host or '*'} is in use: --port names another, --port 0 takes any ({taken})"
                ) from None
    raise TransportError(f"no port is free on all addresses of {host}")


class _Taken(Exception):
    """The port is in use on an address."""


def _targets(host: str) -> list[tuple[int, str]]:
    if host in _ALL:
        return [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise TransportError(f"cannot listen on '{host}': {_words(error)}") from None
    return list(dict.fromkeys((int(family), str(where[0])) for family, _, _, _, where in found))


def _bind_all(targets: Sequence[tuple[int, str]], host: str, port: int) -> list[socket.socket]:
    """One socket for each target; addresses that this machine has not are passed over while one is left."""
    made: list[socket.socket] = []
    reason = "no address"
    try:
        for family, where in targets:
            try:
                sock = _listen(family, where, made[0].getsockname()[1] if made else port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise _Taken(where) from None
                if error.errno in (errno.EACCES, errno.EPERM):
                    raise TransportError(f"port {port} needs privileges: --port names another") from None
                reason = _words(error)
                continue
            made.append(sock)
        if not made:
            raise TransportError(f"cannot listen on '{host or '*'}': {reason}")
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


def _listen(family: int, where: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((where, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def advertised(sockets: Sequence[socket.socket]) -> tuple[str, ...]:
    """Under which names and addresses others reach these listening sockets, the most likely first."""
    found: list[str] = []
    for sock in sockets:
        where = sock.getsockname()[0]
        if where in ("0.0.0.0", "::"):
            # No client can look up a name that is no text.
            found += [name for name in (socket.gethostname(),) if raw_of(name) is None]
            found += _outward(sock.family)
        else:
            found.append(where)
    return tuple(dict.fromkeys(filter(None, found)))


def _outward(family: int) -> list[str]:
    """The address from which this machine reaches others; no packet is sent to find out."""
    probe = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((probe, 9))
            return [sock.getsockname()[0]]
    except OSError:
        return []


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or number, is this machine only."""
    return host.lower() == "localhost" or host == "::1" or host.startswith("127.")


def origin(host: str) -> str:
    """What counts as one place that connections come from: an IPv4 address, the network of an IPv6 one.

    Whoever has one IPv6 address commonly has all of its /64.
    """
    if ":" not in host:
        return host
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    if packed[:12] == bytes(10) + b"\xff\xff":
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))


def numeric(host: str, port: int) -> list[Address] | None:
    """The address of a host that is a number; None for a name, which takes time to look up."""
    try:
        return _found(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host; blocks. Raises ``TransportError`` where there is no such host."""
    try:
        return _found(host, port, 0)
    except (OSError, UnicodeError) as error:
        raise TransportError(f"no host '{host}': {_words(error)}") from None


def _found(host: str, port: int, flags: int) -> list[Address]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    found = [Address(int(family), where, shown(str(where[0]), port)) for family, _, _, _, where in answers]
    return list(dict.fromkeys(found))


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
