"""Where a database on a PostgreSQL server is, and how to speak of it without its password.

Plain data that settings carry; the driver alone takes a URL apart. Knows nothing of configuration or connections.
Built by ``apps/frame.py``, used by ``data/postgres.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import msgspec

__all__ = ["SCHEMES", "Address", "Where", "scheme_of", "sqlite_path"]

#: What a URL may begin with, and the kind of database that it means.
SCHEMES = {
    "postgresql": "postgres",
    "postgres": "postgres",
    "postgresql+psycopg": "postgres",
    "sqlite": "sqlite",
}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A database on a server: a URL, or its parts; what is None is left to libpq (``PGHOST``, ``~/.pgpass``, ...).

    `schema` None is the first one of the server's search path.
    """

    url: str | None = None
    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = None
    database: str | None = None
    schema: str | None = None

    def __repr__(self) -> str:
        return f"Address({self})"

    def __str__(self) -> str:
        """The address for messages: no password, and nothing that follows ``?`` in a URL."""
        if self.url is None:
            user = f"{self.user}@" if self.user else ""
            port = f":{self.port}" if self.port else ""
            place = f"{user}{self.host or ''}{port}/{self.database or ''}"
        else:
            # Only the last @ ends the password, which may hold anything that a user forgot to escape.
            before, _, after = self.url.partition("://")[2].rpartition("@")
            user = before.partition(":")[0].partition("/")[0].partition("?")[0]
            place = f"{user}@{after.partition('?')[0]}" if before else after.partition("?")[0]
        return f"postgresql://{place}{f' (schema {self.schema})' if self.schema else ''}"


Where: TypeAlias = Path | Address
"""An SQLite file, or a database on a server."""


def scheme_of(url: str) -> str:
    """The kind of database that a URL means, as ``database.provider`` names it; ValueError without the URL."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise ValueError(f"expected a URL that begins with one of {', '.join(f'{name}://' for name in SCHEMES)}")
    return SCHEMES[scheme.lower()]


def sqlite_path(url: str) -> str:
    """The path in a URL of SQLite: ``sqlite:///relative`` or ``sqlite:////absolute``; ValueError without one."""
    path = url.partition("://")[2].removeprefix("/")
    if not path:
        raise ValueError("the URL names no file: sqlite:///PATH")
    return path
