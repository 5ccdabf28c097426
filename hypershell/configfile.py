"""Reading one configuration file safely.

Knows TOML and file modes, nothing of keys. Called by `hypershell.config`.
"""

from __future__ import annotations

import os
import stat
import sys
import tomllib

from hypershell.errors import ConfigError
from hypershell.smallfile import MOST_TOML, check_toml, read_small

__all__ = ["read_toml"]


def read_toml(path: str, *, required: bool, guarded: bool) -> tuple[dict[str, object] | None, str]:
    """The content of a TOML file, or None and a warning (empty if the file just does not exist).

    A `guarded` file counts only if it belongs to the user and no group or other may write it: it could run
    commands. Raises `ConfigError` where the file cannot be read or is no TOML, or is `required` and missing.
    """
    # A FIFO in one of the usual places would hold every command; one that the user names is his wish.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | (0 if required else getattr(os, "O_NONBLOCK", 0))
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise ConfigError(f"{path}: no such file (see HYPERSHELL_CONFIG_FILE)") from None
        return None, ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {_reason(error)}") from None
    try:
        found = os.fstat(descriptor)
        if guarded and (refusal := _refusal(found)):
            return None, f"{path}: not read: {refusal}"
        if stat.S_ISDIR(found.st_mode) or not (required or stat.S_ISREG(found.st_mode)):
            raise ConfigError(f"{path}: cannot be read: not a regular file")
        text = read_small(descriptor, path, "configuration file", MOST_TOML).decode("utf-8-sig")
        check_toml(text)
        return tomllib.loads(text), ""
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {_reason(error)}") from None
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise ConfigError(f"{path}: not valid TOML: {' '.join(str(error).split())}") from None
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _refusal(found: os.stat_result) -> str:
    """Why a file from the current directory is not trusted, empty if it is."""
    if sys.platform == "win32":
        return ""
    if found.st_uid != os.geteuid():
        return f"it belongs to another user (uid {found.st_uid})"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "group or others may write it (chmod go-w)"
    return ""
