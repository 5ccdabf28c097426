"""Options that select and show tasks."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import LIST, ORDER, RUNS, SELECT
from hypershell.options.kinds import Option

__all__ = ["QUERY_OPTIONS"]

QUERY_OPTIONS: tuple[Option, ...] = (
    Option(
        "fields",
        LIST,
        "Fields to show; --fields prints their names.",
        metavar="FIELD...",
        default_text="all",
        group="arguments",
        many=True,
    ),
    Option(
        "where",
        SELECT,
        "Condition FIELD OP VALUE, OP one of == != > >= < <= and ~ (regular expression). Several: all hold.",
        flags=("-w", "--where"),
        metavar="COND",
        group="selection",
        many=True,
    ),
    Option(
        "tags",
        SELECT,
        "Tag that is there, or KEY:VALUE. Several, also after one -t: all hold.",
        flags=("-t", "--with-tag"),
        metavar="TAG",
        group="selection",
        many=True,
    ),
    Option(
        "group",
        SELECT,
        "Tasks of this group.",
        flags=("-g", "--group"),
        metavar="NUM",
        parse=values.whole(0),
        group="selection",
    ),
    *(
        Option(dest, SELECT, text, flags=flags, parse=values.flag, default=False, group="selection")
        for dest, text, flags in (
            ("failed", "Tasks that failed, every attempt of them.", ("-F", "--failed")),
            ("succeeded", "Tasks that succeeded.", ("-S", "--succeeded")),
            ("completed", "Tasks that ended: succeeded, failed or cancelled.", ("-C", "--completed", "--finished")),
            ("cancelled", "Tasks that were cancelled.", ("-X", "--cancelled")),
            ("remaining", "Tasks that have not ended: pending or dispatched.", ("-R", "--remaining")),
            ("retries", "Second and later attempts.", ("--retries",)),
        )
    ),
    Option(
        "order_by",
        ORDER,
        "Order by this field, null first.",
        flags=("-s", "--order-by"),
        metavar="FIELD",
        default_text="id",
    ),
    Option("desc", ORDER, "With -s: the largest first.", flags=("--desc",), parse=values.flag, default=False),
    Option(
        "limit",
        SELECT + RUNS,
        "At most this number of them.",
        flags=("-l", "--limit"),
        metavar="NUM",
        parse=values.whole(0, values.MAX_COUNT),
    ),
    Option(
        "all_rows",
        LIST,
        "Without other arguments, on a terminal: all tasks, not only as many as fit in.",
        flags=("--all",),
        parse=values.flag,
        default=False,
        group="selection",
    ),
    Option(
        "count", LIST, "Print only the number of tasks.", flags=("-c", "--count"), parse=values.flag, default=False
    ),
    Option(
        "format",
        LIST + RUNS,
        "normal, plain, table, csv or json.",
        flags=("-f", "--format"),
        metavar="NAME",
        parse=values.choice("normal", "plain", "table", "csv", "json"),
        default_text="by what is shown and where",
        group="output",
    ),
    *(
        Option(
            name,
            LIST + RUNS,
            f"Same as --format={name}.",
            flags=(f"--{name}",),
            parse=values.flag,
            default=False,
            group="output",
        )
        for name in ("json", "csv")
    ),
    Option(
        "delimiter",
        LIST + RUNS,
        "What stands between values, for plain and csv.",
        flags=("-d", "--delimiter"),
        metavar="STR",
        default_text="tab for plain, comma for csv",
        group="output",
    ),
    Option(
        "list_fields",
        LIST,
        "Print the names of the fields.",
        flags=("--fields",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "tag_keys",
        LIST,
        "Print the keys of the tags that these tasks have.",
        flags=("--tag-keys",),
        parse=values.flag,
        default=False,
        group="output",
    ),
    Option(
        "tag_values",
        LIST,
        "Print the values that the tag KEY has.",
        flags=("--tag-values",),
        metavar="KEY",
        group="output",
    ),
)
