"""Which clients a task wants: an operating system and a label, from its tags ``os:`` and ``label:``.

A need is a pair of both, None the usual one: any client of the server's family of systems. Pure; the words are
checked where tags are read (``hypershell.tags``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

__all__ = ["MOST_LABELS", "POSIX", "SYSTEMS", "WINDOWS", "Need", "family_of", "need_of", "needs_met", "shown"]

#: System, and label or None.
Need: TypeAlias = tuple[str, str | None]

POSIX, WINDOWS, ANY = "posix", "windows", "any"

#: Words of ``os:`` and what they mean.
SYSTEMS = {"linux": "linux", "darwin": "darwin", "macos": "darwin", "windows": WINDOWS, "posix": POSIX, "any": ANY}

#: Labels of one client that count.
MOST_LABELS = 64


def family_of(system: str) -> str:
    """The family of a ``sys.platform``."""
    return WINDOWS if system in ("win32", WINDOWS) else POSIX


def need_of(tag: Mapping[str, Any] | None, family: str) -> Need | None:
    """What a task with these tags needs where the server is of `family`; None: just that.

    A value that names no system (of a row that is older than its meaning) counts as none.
    """
    if not tag:
        return None
    wanted, label = tag.get("os"), tag.get("label")
    if wanted is None and label is None:
        return None
    system = SYSTEMS.get(wanted.lower(), family) if isinstance(wanted, str) else family
    return _reduced((system, None if label is None else str(label)), family)


def needs_met(system: str, labels: Iterable[str], family: str) -> tuple[list[Need], bool]:
    """The needs that a client meets, and whether the usual one is among them."""
    own = family_of(system)
    name = "linux" if system.startswith("linux") else SYSTEMS.get(system, own)
    words: list[str | None] = [None, *dict.fromkeys(list(labels)[:MOST_LABELS])]
    met = dict.fromkeys(_reduced((word, label), family) for label in words for word in (name, own, ANY))
    return [need for need in met if need is not None], None in met


def shown(need: Need | None, family: str) -> str:
    """As in a list of tasks: ``os:windows label:gpu``."""
    system, label = need or (family, None)
    return f"os:{system}" + ("" if label is None else f" label:{label}")


def _reduced(need: Need, family: str) -> Need | None:
    return None if need == (family, None) else need
