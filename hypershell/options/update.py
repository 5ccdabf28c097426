"""Options that change tasks."""

from __future__ import annotations

from hypershell import values
from hypershell.options.commands import UPDATE
from hypershell.options.kinds import Option

__all__ = ["UPDATE_OPTIONS"]

UPDATE_OPTIONS: tuple[Option, ...] = (
    Option(
        "changes",
        UPDATE,
        "FIELD=VALUE (args, group, cores, memory or timeout), a tag KEY:VALUE, or the id of a task. "
        "Also: ID FIELD VALUE, which does not ask.",
        metavar="ARG...",
        default_text="none",
        group="arguments",
        many=True,
    ),
    Option(
        "remove_tags",
        UPDATE,
        "Tag to remove. Several, also after one --remove-tag: all of them.",
        flags=("--remove-tag",),
        metavar="KEY",
        group="changes",
        many=True,
    ),
    Option(
        "cancel",
        UPDATE,
        "Cancel tasks that have not ended.",
        flags=("--cancel",),
        parse=values.flag,
        default=False,
        group="changes",
    ),
    Option(
        "signal",
        UPDATE,
        "With --cancel: the first signal that a running task gets, by name or number.",
        flags=("--signal",),
        metavar="NAME",
        parse=values.signal_name,
        default_text="INT",
        group="changes",
    ),
    Option(
        "revert",
        UPDATE,
        "Make tasks that ended pending again.",
        flags=("--revert",),
        parse=values.flag,
        default=False,
        group="changes",
    ),
    Option(
        "delete",
        UPDATE,
        "Delete tasks that wait or have ended.",
        flags=("--delete",),
        parse=values.flag,
        default=False,
        group="changes",
    ),
    Option(
        "no_confirm",
        UPDATE,
        "Do not ask.",
        flags=("-f", "--no-confirm"),
        parse=values.flag,
        default=False,
    ),
)
