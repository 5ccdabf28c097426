"""Tags and inline directives: ``key``, ``key:value`` and the reserved keys that set a task's attributes.

Owns the grammar of one tag, the typing of its value, and the merge of directives by precedence. Knows
nothing of lines, files or the database. Called by ``lines`` (inline and global directives), by ``-t/--tag``,
and by the executor for the names of ``TASK_TAG_*`` variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from hypershell.errors import UsageError
from hypershell.units import UnitError, parse_duration, parse_size, shown

__all__ = ["Directives", "Scalar", "TagError", "coerce", "env_name", "is_tag", "parse_tags"]

Scalar = None | bool | int | float | str

MAX_LENGTH = 120  # characters of a key, and of a value
MAX_INTEGER = 2**31 - 1  # group and cores are 4-byte integers in every database

#: Keys that will choose more than a name, and what; no new task may have such a tag.
RESERVED = {
    "after": "dependencies between tasks",
    "needs": "dependencies between tasks",
    "priority": "the order of tasks",
    "gpus": "the GPUs of a task",
}

#: Keys with values of a type of their own.
_TYPED = frozenset({"group", "cores", "memory", "timeout", "os", "label"})

#: Values of ``os:``; ``core.needs`` knows what they mean.
SYSTEMS = ("linux", "darwin", "macos", "windows", "posix", "any")

_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_CONSTANTS: dict[str, bool | None] = {"null": None, "none": None, "true": True, "false": False}
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}\.[0-9]{1,20}")
_COUNT = re.compile(r"[0-9]{1,10}")
_NOT_NAME = re.compile(r"[^A-Z0-9_]")
_CHARSET = "letters, digits and _ . + -"


class TagError(UsageError):
    """A word that is no valid tag, or a reserved key whose value has the wrong type."""


class _Fields(NamedTuple):
    tags: dict[str, Scalar]
    group: int | None
    cores: int | None
    memory: int | None
    timeout: float | None


class Directives(_Fields):
    """What tags say about a task. ``None`` means not said, so that a weaker source may say it.

    `memory` is in bytes and `timeout` in seconds. A 0 in `cores`, `memory` or `timeout` is said: it means no
    demand or no limit, whatever a weaker source wants.
    """

    __slots__ = ()

    def __new__(
        cls,
        tags: dict[str, Scalar] | None = None,
        group: int | None = None,
        cores: int | None = None,
        memory: int | None = None,
        timeout: float | None = None,
    ) -> Directives:
        return super().__new__(cls, {} if tags is None else tags, group, cores, memory, timeout)

    def over(self, base: Directives) -> Directives:
        """Both together; where both speak, this one wins over `base`."""
        return Directives(
            tags={**base.tags, **self.tags},
            group=base.group if self.group is None else self.group,
            cores=base.cores if self.cores is None else self.cores,
            memory=base.memory if self.memory is None else self.memory,
            timeout=base.timeout if self.timeout is None else self.timeout,
        )


def coerce(text: str) -> Scalar:
    """The value that a text stands for: null, true, false, an integer, a decimal number, or the text itself.

    ``null``, ``none``, ``true`` and ``false`` count in any case. A number is taken only where it prints back
    as the same text, since identifiers and versions must not change: ``007``, ``+1``, ``1.10``, ``1e5``,
    ``1_000``, ``nan``, integers beyond 64 bits and dates (``2024-01-01``) stay text.
    """
    if len(text) <= 5:
        word = text.lower()
        if word in _CONSTANTS:
            return _CONSTANTS[word]
    if _INTEGER.fullmatch(text):
        integer = int(text)
        return integer if -(2**63) <= integer < 2**63 else text
    if _DECIMAL.fullmatch(text):
        number = float(text)
        return number if repr(number) == text else text
    return text


def parse_tags(words: Iterable[str], *, stored: bool = False) -> Directives:
    """The directives in tag words; of two words with one key the last counts.

    ``group``, ``cores``, ``memory`` (a size) and ``timeout`` (a duration, so its value may hold colons) become
    typed fields. ``os`` and ``label`` stay tags and choose clients; their values are text. ``part`` belongs to the
    database and is dropped. Every word is checked.

    :param stored: the words are about tags that tasks have already: one from before its key was reserved is a tag.
    :raises TagError: naming the first bad word and the reason.
    """
    tags: dict[str, Scalar] = {}
    numbers: dict[str, int | None] = {"group": None, "cores": None, "memory": None}
    timeout: float | None = None
    for word in words:
        key, _, value = word.partition(":")
        _check_key(word, key)
        if key in RESERVED and not stored:
            raise TagError(f"bad tag {shown(word)}: {key}: is reserved for {RESERVED[key]}; take another key")
        if key in ("group", "cores"):
            numbers[key] = _count(word, key, value)
        elif key == "memory":
            numbers[key] = _memory(word, value)
        elif key == "timeout":
            timeout = _timeout(word, value)
        elif key in ("os", "label"):
            tags[key] = _system(word, value) if key == "os" else _label(word, value)
        else:
            _check_value(word, value)
            if key != "part":
                tags[key] = coerce(value)
    return Directives(tags=tags, timeout=timeout, **numbers)


def is_tag(word: str) -> bool:
    """Whether the word is a tag, or means to be one: what is wrong with a special or reserved key is told later."""
    key, colon, _ = word.partition(":")
    if colon and key in _TYPED:
        return True
    try:
        parse_tags((word,), stored=True)
    except TagError:
        return False
    return True


def env_name(key: str) -> str:
    """The environment variable of a tag, a name that sh can use: ``run-1.x`` gives ``TASK_TAG_RUN_1_X``.

    Keys that differ only in case or punctuation share a name.
    """
    return "TASK_TAG_" + _NOT_NAME.sub("_", key.upper())


def _check_key(word: str, key: str) -> None:
    if not key:
        raise TagError(f"bad tag {shown(word)}: it has no key; write key or key:value")
    _check_length(word, key)
    if not _WORD.fullmatch(key):
        raise TagError(f"bad tag {shown(word)}: a key is made of {_CHARSET}")


def _check_value(word: str, value: str) -> None:
    _check_length(word, value)
    if value and not _WORD.fullmatch(value):
        raise TagError(f"bad tag {shown(word)}: a value is made of {_CHARSET}")


def _check_length(word: str, part: str) -> None:
    if len(part) > MAX_LENGTH:
        raise TagError(
            f"bad tag {shown(word)}: a part of it has {len(part)} characters, at most {MAX_LENGTH} are allowed"
        )


def _count(word: str, key: str, value: str) -> int:
    if not _COUNT.fullmatch(value) or int(value) > MAX_INTEGER:
        raise TagError(f"bad tag {shown(word)}: {key} takes a whole number from 0 to {MAX_INTEGER}")
    return int(value)


def _memory(word: str, value: str) -> int:
    try:
        return parse_size(value)
    except UnitError as error:
        raise TagError(f"bad tag {shown(word)}: {error}") from None


def _system(word: str, value: str) -> str:
    name = value.lower()
    if name not in SYSTEMS:
        raise TagError(f"bad tag {shown(word)}: os is one of {', '.join(SYSTEMS)}")
    return name


def _label(word: str, value: str) -> str:
    _check_value(word, value)
    if not value:
        raise TagError(f"bad tag {shown(word)}: label takes the label of a client (hs client --label)")
    return value


def _timeout(word: str, value: str) -> float:
    try:
        return parse_duration(value)
    except UnitError as error:
        raise TagError(f"bad tag {shown(word)}: {error}") from None
