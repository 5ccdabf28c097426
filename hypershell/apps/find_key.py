"""The key that server and clients share, from wherever the user keeps it. It never becomes part of settings."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from hypershell.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from hypershell.config import Config
    from hypershell.net.auth import Key

__all__ = ["find_key"]

log = logging.getLogger("hypershell.net")

#: What configuration files of HyperShell hold before anybody has chosen a key.
_PLACEHOLDER = "<not-secure>"


def find_key(config: Config, auth_file: str | None) -> Key | None:
    """The key by option, file, variable or configuration; None where there is none.

    Raises:
        UsageError: a key on the command line that cannot be one.
        ConfigError: the same from elsewhere, or a file that others may read.
    """
    from hypershell.net.auth import Key, key_from_stream, read_key_file

    if auth_file is not None and config.which("server.auth").layer != "cli":
        if auth_file == "-":
            if sys.stdin is None:
                raise UsageError("argument --auth-file: there is no stdin to read the key from")
            return key_from_stream(sys.stdin.buffer)
        return read_key_file(auth_file)
    text = config.value("auth")
    if text is None or text == _PLACEHOLDER:
        return None
    origin = config.which("server.auth")
    try:
        key = Key(str(text))
    except ValueError as error:
        if origin.layer == "cli":
            raise UsageError(f"argument -k/--auth: {error}") from None
        raise ConfigError(f"{origin}: server.auth: {error}") from None
    if key.weak:
        log.warning(
            "The key is short: who records a connection might guess it (hs makes good ones: --connect-file)"
        )
    return key
