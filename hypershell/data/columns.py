"""What an export holds: its tables, and of which kind each column is. The one place that both directions read.

Knows the schema and nothing of HDF5, Parquet or connections. Used by ``hdf5``, ``restore`` and ``parquet``; each
kind is explained in ``docs/export.md``.
"""

from __future__ import annotations

from enum import Enum

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, LargeBinary, Table

from hypershell.core.states import CANCELLED, DISPATCHED, FAILED, PENDING, SUCCEEDED
from hypershell.data import schema

__all__ = ["FORMAT", "ID_BYTES", "KEYS", "NO_NUMBER", "ROWS", "STATES", "TABLES", "Kind", "escaped", "kind_of"]

#: Root attribute ``format`` of our files.
FORMAT = "hypershell export"
#: Group of the file: table of the database.
TABLES: dict[str, Table] = {
    "tasks": schema.task,
    "clients": schema.client,
    "runs": schema.run,
    "submissions": schema.submission,
}
STATES = {PENDING: 0, DISPATCHED: 1, SUCCEEDED: 2, FAILED: 3, CANCELLED: 4}
#: A missing integer or time: the least number of 64 bits, which numpy and pandas read as "not a time".
NO_NUMBER = -(2**63)
ID_BYTES = 36
#: Rows of a chunk, and of what is held in memory at a time.
ROWS = 16_384
#: Keys of tags that get a dataset of their own.
KEYS = 64


class Kind(Enum):
    """How a column is kept."""

    INTEGER = "integer"
    REAL = "real"
    TIME = "time"
    FLAG = "flag"
    ID = "id"
    HOST = "host"
    STATE = "state"
    TEXT = "text"
    BYTES = "bytes"


_BY_TYPE = (
    (schema.UtcTime, Kind.TIME),
    (Boolean, Kind.FLAG),
    (Double, Kind.REAL),
    (LargeBinary, Kind.BYTES),
    (Integer, Kind.INTEGER),
    (BigInteger, Kind.INTEGER),
)
_IDS = frozenset({"id", "submit_id", "server_id", "client_id", "previous_id", "next_id", "owner"})


def kind_of(column: Column[object]) -> Kind:
    """The kind of a column of `TABLES`."""
    for type_, kind in _BY_TYPE:
        if isinstance(column.type, type_):
            return kind
    if column.name in _IDS:
        return Kind.ID
    if column.name == "host" or column.name.endswith("_host"):
        return Kind.HOST
    return Kind.STATE if column.name == "state" else Kind.TEXT


def escaped(key: str) -> str:
    """The name of the dataset of a tag: a dot alone, or two, would mean a place in the file."""
    return key.replace(".", "%2E")
