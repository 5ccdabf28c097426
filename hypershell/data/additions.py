"""Tables that databases of the current schema may lack: those made before there were such tables.

They are made when such a database is next written; the schema keeps its number, for an older program just does not
look at them.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.schema import CreateIndex, CreateTable

from hypershell.data import schema

__all__ = ["ensure"]

_ADDED = (schema.request, schema.output, schema.outliving)


def ensure(link: Connection) -> None:
    """Make the tables that are missing, inside of a transaction."""
    file = link.dialect.name == "sqlite"
    for table in _ADDED:
        # A server is asked first: whoever may only write there is not to need the right to make tables.
        if file or link.execute(text("SELECT to_regclass(:name)"), {"name": table.name}).scalar() is None:
            link.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                link.execute(CreateIndex(index, if_not_exists=True))
