"""What a configuration file may say that merely lies in the current directory: it may be part of a checkout.

Such a file belongs to the user and was written by somebody else. So it runs nothing, writes to no file of its
choice, and admits nobody. Pure. Called by `hypershell.config`.
"""

from __future__ import annotations

__all__ = ["refused_export", "refused_key"]

#: Keys that say whom we trust: whoever has the key of a server gives commands to it, or to its clients.
_TRUST = frozenset({"server.auth", "server.auth_file"})

#: Keys that open what is ours to others, and say that what is theirs is ours too.
_SHARING = frozenset({"site.mode", "database.mode"})

#: Variables that have the loader or the shell of every task load or run something.
_OBEYED = frozenset({"BASH_ENV", "BASHOPTS", "ENV", "IFS", "PATH", "PS4", "SHELLOPTS"})
_OBEYED_BEGINNINGS = ("BASH_FUNC_", "DYLD_", "LD_")


def refused_key(key: str, suffix: str, raw: object) -> str:
    """Why the form `suffix` of a key (plain, ``_env``, ``_eval``) does not count in such a file; else empty."""
    if suffix == "_eval":
        return "runs no command"
    if key in _TRUST:
        return "names no key"
    if key in _SHARING:
        return "shares nothing"
    if key == "logging.file.path" and (suffix or _is_path(raw)):
        return "names no log file"
    return ""


def _is_path(raw: object) -> bool:
    from hypershell.values import is_null, log_file

    return not is_null(raw) and bool(log_file(raw))


def refused_export(name: str) -> str:
    """Why a variable for tasks does not count in such a file; else empty."""
    is_obeyed = name in _OBEYED or name.startswith(_OBEYED_BEGINNINGS)
    return "sets no variable by which the loader or the shell runs code" if is_obeyed else ""
