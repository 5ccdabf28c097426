"""Keys of a database on a server, which files and environment set for all commands.

There are no flags: a password on the command line is there for everybody to see.
"""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import DATA
from hypershell.options.kinds import Option

__all__ = ["SERVER_OPTIONS"]

SERVER_OPTIONS: tuple[Option, ...] = (
    Option(
        "db_url",
        DATA,
        "URL of the database, such as postgresql://USER@HOST:PORT/DATABASE. The keys below go before its parts.",
        metavar="URL",
        parse=values.database_url,
        key="database.url",
        default_text="none",
        group="database",
    ),
    Option(
        "db_host",
        DATA,
        "Host of the server, or the directory of its socket.",
        metavar="NAME",
        parse=values.utf8,
        key="database.host",
        default_text="as libpq says",
        group="database",
    ),
    Option(
        "db_port",
        DATA,
        "Port of the server.",
        metavar="NUM",
        parse=values.port,
        key="database.port",
        default_text="5432",
        group="database",
    ),
    Option(
        "db_user",
        DATA,
        "Name of the user there.",
        metavar="NAME",
        parse=values.utf8,
        key="database.user",
        default_text="as libpq says",
        group="database",
    ),
    Option(
        "db_password",
        DATA,
        "Password of that user; better as database.password_env or database.password_eval.",
        metavar="TEXT",
        parse=values.secret,
        key="database.password",
        default_text="as libpq says",
        group="database",
    ),
    Option(
        "db_name",
        DATA,
        "Name of the database on the server.",
        metavar="NAME",
        parse=values.utf8,
        key="database.database",
        default_text="that of the URL",
        group="database",
    ),
    Option(
        "db_schema",
        DATA,
        "Schema that holds the tables; it is made where it is missing.",
        metavar="NAME",
        parse=values.utf8,
        key="database.schema",
        default_text="the first of the search path",
        group="database",
    ),
)
