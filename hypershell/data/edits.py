"""What ``hs update`` is to do, from words of the command line to checked values.

Owns the grammar of a change (``FIELD=VALUE``, ``KEY:VALUE``, ids) and which fields a user may change. Knows
nothing of SQL or connections, and imports no SQLAlchemy, so that bad input is named at once. ``change`` does what
it returns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypershell.core.states import from_which
from hypershell.data.where import FIELDS, OPERATORS, check_field
from hypershell.errors import UsageError
from hypershell.ostext import escaped, raw_of
from hypershell.tags import Directives, Scalar, TagError, parse_tags
from hypershell.units import shown

__all__ = ["ASSIGNABLE", "Edit", "EditError", "is_key", "read_edit"]

#: Fields that belong to the user. All others say what the program did.
ASSIGNABLE = ("args", "group", "cores", "memory", "timeout")

#: Ids that one command may name.
_MOST_IDS = 10_000

_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CONDITION = re.compile(rf"([a-z_]+)\s*(?:{'|'.join(OPERATORS)})", re.DOTALL)
_NULLS = frozenset({"null", "none"})

Value = None | int | float | str | bytes


class EditError(UsageError):
    """A word of ``hs update`` that is no change, or one that is not the user's to make."""


@dataclass(frozen=True, slots=True)
class Edit:
    """All that is to be done to the same tasks. `action` is ``cancel``, ``revert``, ``delete`` or empty.

    `fields` are columns and their new values, `tags` are set, tags with a key among `removed` go. `ids` name
    single tasks; empty: the filter alone says which. With ``cancel``, `signal` is the first
    that a running task gets.
    """

    fields: dict[str, Value] = field(default_factory=dict)
    tags: dict[str, Scalar] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    action: str = ""
    ids: tuple[str, ...] = ()
    signal: str | None = None

    @property
    def assigns(self) -> bool:
        """Whether anything but the state changes."""
        return bool(self.fields or self.tags or self.removed)

    @property
    def states(self) -> tuple[str, ...]:
        """The states that a task may be in; empty: any."""
        return from_which(self.action) if self.action else ()


def read_edit(
    words: Sequence[str], removed: Sequence[str] = (), action: str = "", signal: str | None = None
) -> tuple[Edit, bool]:
    """The change in the words of a command line; and whether it is of the form ``ID FIELD VALUE``.

    :raises EditError: a word that is no change, a field that is not the user's, a value that it cannot have.
    """
    if len(words) == 3 and _ID.fullmatch(words[0]) and (words[1] in FIELDS) and not action and not removed:
        return _old_form(*words), True
    edit = Edit(removed=tuple(_key(word) for word in removed), action=action)
    ids = []
    for word in words:
        if _ID.fullmatch(word):
            ids.append(word.lower())
        else:
            _add(edit, word)
    if both := sorted(set(edit.removed) & set(edit.tags)):
        raise EditError(f"tag {shown(both[0])} is both set and removed: leave out one")
    if action == "delete" and edit.assigns:
        raise EditError("Using --delete with other changes is invalid: nothing of the tasks remains")
    if not action and not edit.assigns:
        raise EditError(
            "nothing to change: give FIELD=VALUE, KEY:VALUE, --remove-tag, --cancel, --revert or --delete"
        )
    if len(ids) > _MOST_IDS:
        raise EditError(f"{len(ids)} ids are too many for one command: at most {_MOST_IDS}; select with -w or -t")
    return Edit(edit.fields, edit.tags, edit.removed, action, tuple(dict.fromkeys(ids)), signal), False


def is_key(word: str) -> bool:
    """Whether a word is a bare key of a tag, and so no change of its own."""
    try:
        parse_tags((word,), stored=True)
    except TagError:
        return False
    return ":" not in word and not _ID.fullmatch(word)


def _old_form(task_id: str, name: str, value: str) -> Edit:
    edit = Edit(ids=(task_id.lower(),))
    if name == "tag":
        if ":" not in value:
            raise EditError(f"{shown(value)} is no tag: with 'ID tag VALUE' give KEY:VALUE")
        _add(edit, value)
    else:
        _assign(edit, f"{name}={value}", name, value)
    return edit


def _add(edit: Edit, word: str) -> None:
    """Put one assignment or tag into `edit`."""
    condition = _CONDITION.match(word)
    if condition is not None and condition[1] in FIELDS:
        raise EditError(f"{shown(word)} is a condition, not a change: did you mean -w {shown(word)}?")
    name, equals, value = word.partition("=")
    if equals:
        _assign(edit, word, name, value)
        return
    if ":" not in word:
        raise EditError(f"{shown(word)} is no change: expected FIELD=VALUE, KEY:VALUE or the whole id of a task")
    directives = parse_tags((word,))
    edit.tags.update(directives.tags)
    edit.fields.update(_said(directives))


def _said(directives: Directives) -> dict[str, Value]:
    """The fields that directives set; 0 cores, 0 bytes and 0 seconds mean none."""
    found: dict[str, Value] = {}
    if directives.group is not None:
        found["group"] = directives.group
    for name in ("cores", "memory", "timeout"):
        value = getattr(directives, name)
        if value is not None:
            found[name] = value or None
    return found


def _assign(edit: Edit, word: str, name: str, value: str) -> None:
    check_field(name)
    if name == "tag":
        raise EditError(f"{shown(word)}: tags are set by KEY:VALUE, and removed by --remove-tag KEY")
    if name not in ASSIGNABLE:
        raise EditError(
            f"{shown(word)}: {name} belongs to the program and cannot be changed (what can: {', '.join(ASSIGNABLE)}"
            f", tags{_instead(name)})"
        )
    if name == "args":
        edit.fields.update(_args(word, value))
    elif value.lower() in _NULLS and name != "group":
        edit.fields[name] = None
    else:
        try:
            edit.fields.update(_said(parse_tags((f"{name}:{value}",))))
        except TagError as error:
            raise EditError(f"{shown(word)}: {str(error).partition(': ')[2]}") from None


def _instead(name: str) -> str:
    return "; for the state see --cancel and --revert" if name in ("state", "exit_status") else ""


def _args(word: str, value: str) -> dict[str, Value]:
    """Text of the command line is bytes where it is not UTF-8, as a line of a FILE is."""
    if not value.strip():
        raise EditError(f"{shown(word)}: args cannot be empty")
    return {"args": escaped(value), "args_raw": raw_of(value)}


def _key(word: str) -> str:
    if word in ASSIGNABLE:
        raise EditError(f"argument --remove-tag: {word} is no tag but a field (FIELD=VALUE sets it)")
    if not is_key(word):
        raise EditError(f"argument --remove-tag: {shown(word)} is no key of a tag")
    return word
