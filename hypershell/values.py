"""Values of options: from the text of the command line or environment, or from TOML, to checked Python values.

Owns what each kind of value may be. Knows nothing of options, files or where a value came from: every function
takes text or a TOML value and raises `ValueError` with the reason alone; the caller adds the name. Called through
the table of `hypershell.options`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from hypershell.ostext import in_quotes, raw_of

__all__ = [
    "MAX_COUNT",
    "MAX_INTEGER",
    "Loader",
    "as_list",
    "choice",
    "database_path",
    "database_url",
    "delay",
    "duration",
    "flag",
    "host",
    "is_null",
    "listed",
    "log_file",
    "log_format",
    "none_if_auto",
    "none_if_zero",
    "path",
    "port",
    "port_or_any",
    "provider",
    "rate",
    "secret",
    "signal_name",
    "size",
    "text",
    "tls_version",
    "utf8",
    "whole",
]

Loader = Callable[[object], object]

#: What columns of 32 bits hold, as `hypershell.tags.MAX_INTEGER` (whose import costs too much here).
MAX_INTEGER = 2**31 - 1
#: What a database can count to.
MAX_COUNT = 2**63 - 1

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_NULLS = frozenset({"", "null", "<none>"})


def is_null(value: object) -> bool:
    """Whether a value of a file or variable stands for "the built-in default" (TOML itself has no null)."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NULLS)


def text(value: object) -> str:
    """Any text without NUL bytes."""
    if not isinstance(value, str):
        raise ValueError(f"expected text, not {_shown(value)}")
    if "\0" in value:
        raise ValueError("NUL bytes are not allowed")
    return value


def utf8(value: object) -> str:
    """Text for others than this system (hosts, servers), which take no bytes that are not UTF-8."""
    word = text(value)
    if raw_of(word) is not None:
        raise ValueError(f"{_shown(word)} is not UTF-8")
    return word


def path(value: object) -> str:
    """A path; ``~`` is the home directory."""
    name = text(value)
    if not name:
        raise ValueError("the path is empty")
    return os.path.expanduser(name)


def database_path(value: object) -> str:
    """The path of an SQLite file; a URL has a key of its own, where it is not seen by everybody."""
    name = path(value)
    if "://" in name:
        raise ValueError("expected a path: the URL of a server goes into database.url (HYPERSHELL_DATABASE_URL)")
    return name


def database_url(value: object) -> str:
    """A URL of a database that we can use. It may hold a password, so no message shows it."""
    from hypershell.address import scheme_of

    if not isinstance(value, str) or not _is_sayable(value):
        raise ValueError(f"expected a URL, not {_kind(value)}")
    url = value.strip()
    scheme_of(url)
    return url


def secret(value: object) -> str:
    """Text that no message shows; a number without quotes is meant as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not _is_sayable(value):
        raise ValueError(f"expected text, not {_kind(value)}")
    return value


def provider(value: object) -> str:
    """The kind of database: ``sqlite`` or ``postgres``."""
    name = choice("sqlite", "postgres", "postgresql")(value)
    return "postgres" if name == "postgresql" else name


def label(value: object) -> str:
    """A word that can be the value of a tag ``label:``."""
    from hypershell.errors import HyperShellError
    from hypershell.tags import parse_tags

    name = text(value)
    try:
        parse_tags([f"label:{name}"])
    except HyperShellError as error:
        raise ValueError(str(error)) from None
    return name


def port(value: object) -> int:
    """A number of a TCP port."""
    return whole(1, 65_535)(value)


def port_or_any(value: object) -> int:
    """A number of a TCP port; 0 is any that is free."""
    return 0 if value in (0, "0") and not isinstance(value, bool) else port(value)


def host(value: object) -> str:
    """A name or an address of a host. ``[::1]`` is ``::1``; the dot at the end of a full name is left out."""
    name = utf8(value).strip()
    inside, _, rest = name[1:].partition("]") if name.startswith("[") else (name, "", "")
    if rest.startswith(":") or name.count(":") == 1:
        raise ValueError(f"expected a host, not {_shown(value)}: the port is an option of its own (-p/--port)")
    plain = inside.removesuffix(".")
    if rest or (name and not plain) or (name.startswith("[") and not name.endswith("]")):
        raise ValueError(f"expected a name or address of a host, such as node1 or ::1, not {_shown(value)}")
    return plain


def tls_version(value: object) -> str:
    """``TLSv1.2`` or ``TLSv1.3``."""
    known = {"tlsv1.2": "TLSv1.2", "tlsv1.3": "TLSv1.3"}
    word = text(value).strip().lower()
    if word not in known:
        raise ValueError(f"expected one of {', '.join(known.values())}, not {_shown(value)}")
    return known[word]


def none_if_auto(load: Loader) -> Loader:
    """The same loader, where ``<auto>`` stands for "none", as configuration files of old write it."""

    def loaded(value: object) -> object:
        return None if value == "<auto>" else load(value)

    return loaded


def flag(value: object) -> bool:
    """True or false, also as ``yes/no``, ``on/off``, ``1/0``."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    raise ValueError(f"expected true or false, not {_shown(value)}")


def whole(minimum: int, maximum: int = MAX_INTEGER) -> Callable[[object], int]:
    """A loader of whole numbers from `minimum` to `maximum`."""

    def load(value: object) -> int:
        number = _integer(value)
        if number < minimum:
            raise ValueError(f"must be at least {minimum}, not {_shown(number)}")
        if number > maximum:
            raise ValueError(f"must be at most {maximum}, not {_shown(number)}")
        return number

    return load


def deaths(value: object) -> int:
    """How many deaths of its client fail a task: 0 for never, or enough to tell it from its neighbours."""
    number = whole(0)(value)
    if 0 < number < 3:  # core.poison.LEAST
        raise ValueError(f"must be 0 or at least 3, not {number}: fewer deaths do not tell a task from others")
    return number


def duration(*, zero: bool) -> Callable[[object], float]:
    """A loader of seconds: a number, or text as `hypershell.units.parse_duration` reads it; 0 only with `zero`."""

    def load(value: object) -> float:
        seconds = _seconds(value)
        if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
            raise ValueError(f"must be {'at least' if zero else 'more than'} 0 seconds, not {_shown(value)}")
        return seconds

    return load


def delay(value: object) -> float:
    """Seconds, which may be negative; with a sign or a unit as `duration`."""
    if isinstance(value, str) and value.strip().startswith("-"):
        return -duration(zero=True)(value.strip()[1:])
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
        return -duration(zero=True)(-value)
    return duration(zero=True)(value)


def size(value: object) -> int:
    """Bytes: a whole number, or text as `hypershell.units.parse_size` reads it."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"expected a size such as 512M or 4G, not {_shown(value)}")
    from hypershell.errors import UsageError
    from hypershell.units import parse_size

    try:
        return parse_size(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


def none_if_zero(load: Loader) -> Loader:
    """The same loader, where 0 stands for "none", as configuration files of old write it."""

    def loaded(value: object) -> object:
        return load(value) or None

    return loaded


def rate(*, zero: bool) -> Callable[[object], float]:
    """A loader of a number per second, which may be a fraction; 0 only with `zero`."""

    def load(value: object) -> float:
        try:
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise ValueError
            number = float(value)
        except (ValueError, OverflowError):
            raise ValueError(f"expected a number, not {_shown(value)}") from None
        if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
            raise ValueError(f"must be {'at least' if zero else 'more than'} 0 per second, not {_shown(value)}")
        return number

    return load


def listed(load: Loader) -> Loader:
    """A loader of several values: a list, or text with commas between them; each read by `load`."""

    def loaded(value: object) -> object:
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"expected a list, not {_shown(value)}")
        return tuple(load(one) for one in value)

    return loaded


def as_list(value: object) -> object:
    """Several values as a file holds them."""
    return list(value) if isinstance(value, tuple) else value


def choice(*names: str) -> Callable[[object], str]:
    """A loader of one of `names`, in any case."""

    def load(value: object) -> str:
        word = text(value).strip().lower()
        if word not in names:
            raise ValueError(f"expected one of {', '.join(names)}, not {_shown(value)}")
        return word

    return load


def mode(*modes: int) -> Callable[[object], int]:
    """A loader of the permissions of files, one of `modes`: octal digits as text, or an octal number of TOML."""

    def load(value: object) -> int:
        number = value
        if isinstance(value, str):
            digits = value.strip().lower().removeprefix("0o")
            number = int(digits, 8) if digits and set(digits) <= set("01234567") else None
        if isinstance(number, bool) or number not in modes:
            raise ValueError(f"expected one of {', '.join(f'{one:04o}' for one in modes)}, not {_shown(value)}")
        assert isinstance(number, int)
        return number

    return load


def octal(value: object) -> object:
    """Permissions as `mode` reads them."""
    return f"{value:04o}" if isinstance(value, int) else value


def signal_name(value: object) -> str:
    """The name of a signal, without ``SIG``."""
    from hypershell.signal_names import signal_name

    return signal_name(text(value))


def log_file(value: object) -> str | None:
    """Where the log goes besides stderr: a path, ``""`` for the default name (true), None for nowhere (false)."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word is True or word in ("enabled", "auto", "<auto>", *_TRUE):
        return ""
    if word is False or word is None or word in ("disabled", *_FALSE):
        return None
    return path(value)


def log_format(value: object) -> str:
    """A format of log lines that works with every record."""
    from hypershell.log import check_format

    layout = text(value)
    check_format(layout)
    return layout


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    raise ValueError(f"invalid int value: {_shown(value)}")


def _seconds(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise ValueError(f"expected a duration such as 90, 10m or 2:00:00, not {_shown(value)}")
    from hypershell.errors import UsageError
    from hypershell.units import parse_duration

    try:
        return float(parse_duration(value))
    except UsageError as error:
        raise ValueError(str(error)) from None


def _is_sayable(word: str) -> bool:
    return "\0" not in word and raw_of(word) is None


def _kind(value: object) -> str:
    """What a value is, without the value."""
    if isinstance(value, str):
        return "text with a NUL byte, or with bytes that are not UTF-8"
    return {bool: "true or false", list: "a list", dict: "a table"}.get(type(value), "this")


def _shown(value: object) -> str:
    """The value as it can stand in a message of one line."""
    if isinstance(value, str):
        shown = in_quotes(value)
    else:
        shown = ("false", "true")[value] if isinstance(value, bool) else repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
