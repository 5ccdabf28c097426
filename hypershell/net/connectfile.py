"""The connect file: all that a client must know of a server, written by the server, for its user alone."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from hypershell.errors import ConfigError
from hypershell.keys import fingerprint, parse_fingerprint
from hypershell.net.auth import Key
from hypershell.net.private import read_private, write_private

__all__ = ["ConnectInfo", "read_connect_file", "write_connect_file"]

_FORMAT = 1
_MOST = 64 << 10


class ConnectInfo(NamedTuple):
    """How to reach a server. `certificate` is the digest of its certificate, None without TLS."""

    addresses: tuple[str, ...]
    port: int
    certificate: bytes | None
    key: Key
    server: str = ""
    """The id of the run that wrote it."""


class _Written(msgspec.Struct):
    """The JSON of the file."""

    hypershell: int
    addresses: list[str]
    port: int
    certificate: str | None
    key: str
    server: str = ""


def write_connect_file(path: str, info: ConnectInfo) -> None:
    """Write it with mode 0600, atomically. Raises ``ConfigError``."""
    certificate = None if info.certificate is None else fingerprint(info.certificate)
    written = _Written(_FORMAT, list(info.addresses), info.port, certificate, info.key.reveal(), info.server)
    try:
        write_private(path, msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot write the connect file {path}: {error.strerror}") from None


def read_connect_file(path: str) -> ConnectInfo:
    """What is in it. Raises ``ConfigError`` where it is not there, not ours alone, or no connect file."""
    try:
        data = read_private(path, "connect file", _MOST)
    except ConfigError as error:
        if os.path.lexists(path):
            raise
        way_out = "the server makes it with --connect-file, and removes it when it ends"
        raise ConfigError(f"{error} ({way_out})") from None
    try:
        written = msgspec.json.decode(data, type=_Written)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ConfigError(f"{path} is no connect file: a server writes one with --connect-file") from None
    if written.hypershell != _FORMAT:
        raise ConfigError(
            f"the connect file {path} has format {written.hypershell}, this program reads {_FORMAT}: "
            "install the same version on both"
        )
    if not written.addresses or not all(written.addresses):
        raise ConfigError(f"the connect file {path} names no address")
    if not 0 < written.port < 65536:
        raise ConfigError(f"the connect file {path} has no port: {written.port}")
    try:
        pin = None if written.certificate is None else parse_fingerprint(written.certificate)
        key = Key(written.key)
    except ValueError as error:
        raise ConfigError(f"the connect file {path}: {error}") from None
    return ConnectInfo(tuple(written.addresses), written.port, pin, key, written.server)
