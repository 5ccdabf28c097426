"""The clients that a database remembers: where each executed, for which run, and how it went.

Called by ``hs clients``, over a connection of ``query.reading``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, select

from hypershell.data.schema import client as _client
from hypershell.data.schema import run as _run
from hypershell.data.times import Stamper
from hypershell.ostext import escaped

__all__ = ["FIELDS", "ClientRow", "newest"]

#: Rows that are read by one statement.
_ROWS = 1000
#: Above every id.
_LAST = "\U0010ffff"


class ClientRow(Struct, frozen=True):
    """One client. Times are UTC text. `ended` is ``left``, ``lost``, or None while its run goes on without it
    having gone; `reason` says why it was lost."""

    id: str
    host: str
    rank: int | None
    system: str | None
    version: str | None
    slots: int | None
    pid: int | None
    run: str
    server_host: str
    connected: str | None
    disconnected: str | None
    ended: str | None
    reason: str | None


FIELDS = ClientRow.__struct_fields__


def newest(connection: Connection, limit: int | None = None, run: str | None = None) -> Iterator[list[ClientRow]]:
    """The clients, the newest first, in pieces; with `run` those of runs whose id begins so."""
    before, left = _LAST, limit
    columns = (_client, _run.c.end_time)
    query = select(*columns).outerjoin(_run, _client.c.server_id == _run.c.id).order_by(_client.c.id.desc())
    if run is not None:
        query = query.where(_client.c.server_id.startswith(escaped(run), autoescape=True))
    while left is None or left > 0:
        most = _ROWS if left is None else min(left, _ROWS)
        rows = connection.execute(query.where(_client.c.id < before).limit(most)).mappings().all()
        if not rows:
            return
        yield [_made(dict(row)) for row in rows]
        before = rows[-1]["id"]
        left = None if left is None else left - len(rows)


def _made(row: Mapping[str, Any]) -> ClientRow:
    stamp = Stamper().text
    get = row.__getitem__
    since, gone, evicted, reason = get("connected_at"), get("disconnected_at"), get("evicted"), get("reason")
    rank = get("rank")
    return ClientRow(
        id=get("id"),
        host=get("host"),
        rank=rank if isinstance(rank, int) and rank >= 0 else None,  # SQLite keeps any value
        system=get("system"),
        version=get("version"),
        slots=get("slots"),
        pid=get("pid"),
        run=get("server_id"),
        server_host=get("server_host"),
        connected=None if since is None else stamp(since),
        disconnected=None if gone is None else stamp(gone),
        ended="lost" if evicted else None if gone is None else "left",
        reason=reason if evicted else None,
    )
