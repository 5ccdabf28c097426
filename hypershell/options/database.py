"""Options about the database: which one, what a run takes from it, and its upkeep."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import DATA, SERVE
from hypershell.options.kinds import Option

__all__ = ["DATABASE_OPTIONS"]

DATABASE_OPTIONS: tuple[Option, ...] = (
    Option(
        "db",
        DATA,
        "SQLite file that keeps the tasks. On the command line it goes before every other kind of database.",
        flags=("--db",),
        metavar="PATH",
        parse=values.database_path,
        key="database.file",
        default_text="main.db of the site",
        alias="database",
        group="database",
    ),
    Option(
        "provider",
        DATA,
        "Kind of database: sqlite, or postgres (also postgresql). With a URL it need not be said.",
        metavar="NAME",
        parse=values.provider,
        key="database.provider",
        default="sqlite",
        group="database",
    ),
    Option(
        "db_mode",
        DATA,
        "Permissions of the SQLite file and of what SQLite makes beside it, whatever the umask: 0600, or to share "
        "it 0640 or 0660.",
        metavar="MODE",
        parse=values.mode(0o600, 0o640, 0o660),
        dump=values.octal,
        key="database.mode",
        default_text="0600 for a new file",
        group="database",
    ),
    Option(
        "no_db",
        SERVE,
        "Keep the tasks in memory only.",
        flags=("--no-db",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "restart",
        SERVE,
        "Go on with unfinished tasks that no living server owns. Reads no stdin.",
        flags=("--restart",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "forever",
        SERVE,
        "Never end; run what others submit to the database.",
        flags=("--forever",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "take_over",
        SERVE,
        "With --restart or --forever: do not wait until the lease of an unreachable server runs out.",
        flags=("--take-over",),
        parse=values.flag,
        default=False,
        group="database",
    ),
    Option(
        "upgrade",
        ("initdb",),
        "Bring a database of another version to this one, after a backup.",
        flags=("--upgrade",),
        parse=values.flag,
        default=False,
    ),
    Option(
        "yes",
        ("initdb",),
        "Do not ask.",
        flags=("-y", "--yes"),
        parse=values.flag,
        default=False,
    ),
)
