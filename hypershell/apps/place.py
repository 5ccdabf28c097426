"""From configuration to a database: a file, or one on a server. Called by ``frame``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from hypershell.errors import ConfigError

if TYPE_CHECKING:
    from hypershell.config import Config
    from hypershell.settings import Placed

__all__ = ["is_absent", "place_of"]


def place_of(config: Config) -> dict[str, Any]:
    """The database that the configuration names, where that is not the file of ``database.file``.

    The keys of a server are read only where one is used: a command of ``_eval`` may ask somebody for a password.
    """
    from hypershell.address import Address, scheme_of, sqlite_path

    provider = config.value("provider")
    url = cast("str | None", config.value("db_url"))
    if url is not None:
        kind = scheme_of(url)
        if provider != kind and config.which("database.provider").layer != "default":
            origin = config.which("database.provider")
            raise ConfigError(f"{origin}: database.provider is {provider} and database.url is of {kind} (keep one)")
        if kind == "sqlite":
            try:
                return {"db": sqlite_path(url)}
            except ValueError as error:
                raise ConfigError(f"database.url: {error}") from None
    elif provider == "sqlite":
        return {}
    names = ("host", "port", "user", "password", "schema")
    parts: dict[str, Any] = {name: config.value(f"db_{name}") for name in names}
    address = Address(url=url, database=cast("str | None", config.value("db_name")), **parts)
    if url is None and address.database is None:
        raise ConfigError("database.database is missing: name the database on the server (or set database.url)")
    return {"server": address}


def is_absent(settings: Placed, config: Config) -> bool:
    """Whether the database is a file that is not there yet, and so is empty; one that --db names must be there."""
    if settings.server is not None or os.path.lexists(settings.db):
        return False
    return config.which("database.file").layer != "cli" or settings.is_at(config.sites.default.database)
