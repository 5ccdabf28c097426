"""A server's way in over the network, from settings to a listener; and back to nothing at its end."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from hypershell.errors import UsageError
from hypershell.hosts import host_name

if TYPE_CHECKING:
    from hypershell.config import Config
    from hypershell.net.listener import Listener
    from hypershell.reactor import Poller
    from hypershell.settings import DoorSettings

__all__ = ["OpenDoor", "open_door"]

log = logging.getLogger("hypershell.net")


class OpenDoor:
    """A listener, and the connect file that leads to it. A context: both go at its end."""

    def __init__(self, listener: Listener, connect_file: str | None) -> None:
        self.listener = listener
        self._connect_file = connect_file

    def close(self) -> None:
        """Hang up and remove the connect file; idempotent."""
        self.listener.close()
        path, self._connect_file = self._connect_file, None
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def __enter__(self) -> OpenDoor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_door(poller: Poller, door: DoorSettings, config: Config) -> OpenDoor:
    """Listen as the settings say.

    Raises:
        UsageError: there is no key, and nowhere to put a new one.
        ConfigError: key, certificate or connect file cannot be used.
        TransportError: the port is in use, or the address is not ours.
    """
    from hypershell.apps.find_key import find_key
    from hypershell.keys import fingerprint
    from hypershell.net.addresses import bind, is_loopback, shown
    from hypershell.net.auth import generate_key
    from hypershell.net.connectfile import ConnectInfo, write_connect_file
    from hypershell.net.listener import Limits, Listener
    from hypershell.net.tls import ensure_certificate, server_tls
    from hypershell.proto.session import STATUS, SUBMIT
    from hypershell.proto.visits import decode_asker, decode_submitter

    host = door.bind if door.door is None else door.door
    key = find_key(config, door.auth_file)
    if key is None and door.connect_file is None:
        raise UsageError(
            "there is no key for clients: set HYPERSHELL_SERVER_AUTH, name a file with --auth-file PATH, or let "
            "--connect-file PATH get a new one"
        )
    key = key or generate_key()
    tls = None
    if not door.no_tls:
        cert = door.tls_cert or ensure_certificate(os.path.join(config.sites.default.lib, "tls"), host_name())
        tls = server_tls(cert, door.tls_key, minimum=door.tls_minimum, ciphers=door.tls_ciphers)
    elif not is_loopback(host):
        log.warning("No TLS (--no-tls): everybody on the way can read and change what is sent")
    visitors = {SUBMIT: decode_submitter, STATUS: decode_asker}
    limits = Limits(silence=door.evict, beat=min(10.0, door.evict / 4))
    listener = Listener(poller, bind(host, door.port), key, tls, visitors=visitors, limits=limits)
    names = door.advertise or listener.addresses
    opened = OpenDoor(listener, None)
    try:
        if door.connect_file is not None:
            info = ConnectInfo(tuple(names), listener.port, None if tls is None else tls.digest, key)
            write_connect_file(door.connect_file, info)
            opened = OpenDoor(listener, door.connect_file)
    except BaseException:
        opened.close()
        raise
    known = "no TLS" if tls is None else f"certificate SHA256:{fingerprint(tls.digest).removeprefix('SHA256:')}"
    log.info("Listening on %s (%s)", " and ".join(shown(name, listener.port) for name in names), known)
    return opened
