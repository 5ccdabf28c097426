"""The submissions that a run once had and another has now, so that ``hs runs`` can tell what it ran on.

Table ``submission`` knows who made it and who has it. Who had it in between stands in table ``meta``, one row for a
run. Functions over a connection inside a transaction; knows no rule.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from hypershell.data.schema import meta as _meta

__all__ = ["note", "of"]

#: What the keys of these rows in table ``meta`` begin with (``upkeep.FORGET`` too).
_PREFIX = "had "

_NOTE = text(
    "INSERT INTO meta (key, value) SELECT :key, :number FROM submission WHERE id = :id AND submit_id <> :run "
    "ON CONFLICT (key) DO UPDATE SET value = meta.value || ' ' || excluded.value"
)


def note(link: Connection, run: str, number: int) -> None:
    """Remember that `run` had submission `number`, which it loses now. The run that made it needs no note."""
    link.execute(_NOTE, {"key": _PREFIX + run, "number": str(number), "id": number, "run": run})


def of(link: Connection, run: str) -> list[int]:
    """The submissions that `run` lost to others."""
    value = link.execute(select(_meta.c.value).where(_meta.c.key == _PREFIX + run)).scalar()
    return [int(number) for number in (value or "").split()]
