"""Upkeep of a database on a server: giving room back, and emptying it. Called by ``places`` for ``hs initdb``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from hypershell.address import Address
from hypershell.data.lease import SILENCE
from hypershell.data.postgres import Postgres
from hypershell.data.schema import metadata
from hypershell.data.upkeep import FORGET, Emptied, Tell, without_servers
from hypershell.errors import StoreError

__all__ = ["truncate", "vacuum"]

#: One statement of the driver: a transaction that no other run can begin in, and none can renew its lease.
_BEGIN = "BEGIN; LOCK TABLE run IN EXCLUSIVE MODE"


def vacuum(address: Address) -> int:
    """Make the room of removed rows usable again, and the statistics new; the bytes that the tables became smaller.

    A server may work on it. (VACUUM FULL would lock it out; the administrator may run that.)

    Raises:
        StoreError: the server cannot be reached, or has no tables of ours.
    """
    with _opened(address) as link:
        before = _size(link)
        for name in metadata.tables:
            link.execute(f"VACUUM (ANALYZE) {name}")
        return max(before - _size(link), 0)


def truncate(address: Address, tell: Tell, silence: float = SILENCE) -> Emptied:
    """Remove all rows.

    Raises:
        StoreError: a living server uses the database, or see `vacuum`.
    """
    with _opened(address) as link, without_servers(link, address, tell, silence, _BEGIN):
        counts = (link.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("task", "run"))
        emptied = Emptied(*counts)
        link.execute(f"TRUNCATE {', '.join(name for name in metadata.tables if name != 'meta')}")
        link.execute(FORGET)
    return emptied


@contextmanager
def _opened(address: Address) -> Iterator[Any]:
    server = Postgres(address)
    raw, has_tables = server.connect_checked()
    with closing(raw):
        if not has_tables:
            raise StoreError(f"database {address} has no tables: run 'hs initdb'")
        try:
            yield raw
        except server.errors as error:
            raise server.explain(error) from error


def _size(link: Any) -> int:
    total = " + ".join(f"pg_total_relation_size('{name}')" for name in metadata.tables)
    return int(link.execute(f"SELECT {total}").fetchone()[0])
