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
from hypershell.trust import SHARED_WRITE

__all__ = ["read_toml"]


def read_toml(path: str, *, required: bool, guarded: bool) -> tuple[dict[str, object] | None, str]:
    """The content of a TOML file, or None and a warning (empty if the file just does not exist).

    A `guarded` file counts only if it and its folder are no links, belong to the user, and may be written by nobody
    else. Raises `ConfigError` where the file cannot be read or is no TOML, or is `required` and missing.
    """
    # A FIFO in one of the usual places would hold every command; one that the user names is his wish.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | (0 if required else getattr(os, "O_NONBLOCK", 0))
    try:
        if guarded and sys.platform != "win32":
            descriptor = _open_guarded(path, flags)
        else:
            descriptor = os.open(path, flags)
    except _Untrusted as reason:
        return None, f"{path}: not read: {reason}"
    except (FileNotFoundError, NotADirectoryError):
        if required:
            raise ConfigError(f"{path}: no such file (see HYPERSHELL_CONFIG_FILE)") from None
        return None, ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {_reason(error)}") from None
    try:
        found = os.fstat(descriptor)
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


class _Untrusted(Exception):
    """A file of the current directory does not count; with the reason."""


def _open_guarded(path: str, flags: int) -> int:
    """A descriptor of the file; raises ``_Untrusted`` for a file or a folder of it that others have a hand in."""
    folder, name = os.path.split(path)
    above = _opened(folder, os.O_RDONLY | os.O_DIRECTORY, None, "its folder")
    try:
        return _opened(name, flags, above, "it")
    finally:
        os.close(above)


def _opened(path: str, flags: int, above: int | None, what: str) -> int:
    if stat.S_ISLNK(os.stat(path, dir_fd=above, follow_symlinks=False).st_mode):
        raise _Untrusted(f"{what} is a symbolic link")
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        reason = f"{what} belongs to another user (uid {found.st_uid})"
    elif found.st_mode & SHARED_WRITE:
        reason = f"group or others may write {what} (chmod go-w)"
    else:
        return descriptor
    os.close(descriptor)
    raise _Untrusted(reason)
