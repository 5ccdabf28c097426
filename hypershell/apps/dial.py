"""From settings to a server that is to be reached: its address, the key, and how its certificate is checked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypershell.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from hypershell.config import Config
    from hypershell.net.asking import Asking
    from hypershell.net.dialer import Target
    from hypershell.proto.session import Decode
    from hypershell.settings import DialSettings

__all__ = ["ask", "find_target"]

log = logging.getLogger("hypershell.net")


def find_target(dial: DialSettings, config: Config) -> Callable[[], Target]:
    """What tells where the server is; asked again and again, it reads a connect file anew.

    Raises:
        UsageError: there is no key.
        ConfigError: the key, the connect file or what TLS needs cannot be used.
    """
    if dial.connect is not None:
        find = _by_file(dial, dial.connect)
    else:
        find = _by_name(dial, config)
    target = find()
    if dial.no_tls:
        from hypershell.net.addresses import is_loopback

        if not all(is_loopback(host) for host in target.hosts):
            log.warning("No TLS (--no-tls): everybody on the way can read and change what is sent")
    return find


def ask(dial: DialSettings, config: Config, role: str, decode: Decode) -> Asking:
    """A connection to the server for questions in a role; not yet made."""
    from hypershell.ids import IdSource
    from hypershell.net.asking import Asking

    return Asking(find_target(dial, config)(), IdSource().task(), role, decode)


def _by_name(dial: DialSettings, config: Config) -> Callable[[], Target]:
    from hypershell.apps.find_key import find_key
    from hypershell.keys import parse_fingerprint
    from hypershell.net.dialer import Target
    from hypershell.net.tls import client_tls

    key = find_key(config, dial.auth_file)
    if key is None:
        raise UsageError(
            "there is no key: set HYPERSHELL_SERVER_AUTH, name a file with --auth-file PATH, or the server's "
            "connect file with --connect PATH"
        )
    if dial.port == 0:
        raise UsageError("argument -p/--port: a server has a port from 1 to 65535, not 0")
    tls = None
    if not dial.no_tls:
        try:
            pin = None if dial.tls_fingerprint is None else parse_fingerprint(dial.tls_fingerprint)
        except ValueError as error:
            raise ConfigError(f"server.tls.fingerprint: {error}") from None
        name = dial.tls_name or dial.host
        tls = client_tls(
            pin=pin, cafile=dial.tls_ca, server_name=name, minimum=dial.tls_minimum, ciphers=dial.tls_ciphers
        )
    target = Target((dial.host,), dial.port, key, tls)
    return lambda: target


def _by_file(dial: DialSettings, path: str) -> Callable[[], Target]:
    from hypershell.net.connectfile import read_connect_file
    from hypershell.net.dialer import Target
    from hypershell.net.tls import client_tls

    def find() -> Target:
        info = read_connect_file(path)
        if (info.certificate is None) != dial.no_tls:
            raise ConfigError(
                f"the server of {path} speaks no TLS: say --no-tls too"
                if info.certificate is None
                else f"the server of {path} speaks TLS: leave out --no-tls"
            )
        tls = None
        if info.certificate is not None:
            tls = client_tls(pin=info.certificate, minimum=dial.tls_minimum, ciphers=dial.tls_ciphers)
        return Target(info.addresses, info.port, info.key, tls)

    return find
