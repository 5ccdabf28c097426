"""Tables that databases of the current schema may lack: those made before there were such tables.

They are made when such a database is next written; the schema keeps its number, for an older program just does not
look at them.
"""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.schema import CreateIndex, CreateTable

from hypershell.data import schema

__all__ = ["ensure"]

_ADDED = (schema.request, schema.output)


def ensure(link: Connection) -> None:
    """Make the tables that are missing in a file, inside of a transaction; schemas of a server have all of them."""
    if link.dialect.name != "sqlite":
        return
    for table in _ADDED:
        link.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            link.execute(CreateIndex(index, if_not_exists=True))
