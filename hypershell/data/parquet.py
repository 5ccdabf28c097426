"""Columns of table ``task`` as Arrow types. Called by ``export`` with pyarrow, which it has checked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypershell.data.columns import TABLES, Kind, kind_of
from hypershell.data.packed import Fixed, Same

__all__ = ["schema_of_tasks", "table_of"]


def schema_of_tasks(arrow: Any) -> Any:
    """The Arrow schema: null is null, times are microseconds UTC, hosts and states dictionaries, tags JSON text."""
    names = arrow.dictionary(arrow.int32(), arrow.string())
    types = {
        Kind.INTEGER: arrow.int64(),
        Kind.REAL: arrow.float64(),
        Kind.TIME: arrow.timestamp("us", tz="UTC"),
        Kind.FLAG: arrow.bool_(),
        Kind.ID: arrow.string(),
        Kind.HOST: names,
        Kind.STATE: names,
        Kind.TEXT: arrow.string(),
        Kind.BYTES: arrow.binary(),
    }
    columns = TABLES["tasks"].columns
    return arrow.schema([arrow.field(column.name, types[kind_of(column)], column.nullable) for column in columns])


def table_of(arrow: Any, schema: Any, columns: Sequence[Sequence[Any]]) -> Any:
    """The values of all columns as an Arrow table."""
    import numpy as np

    arrays = []
    for field, column in zip(schema, columns, strict=True):
        if isinstance(column, Same) and column.value is None:
            arrays.append(arrow.nulls(len(column), field.type))
            continue
        if arrow.types.is_timestamp(field.type):
            texts = column.array() if isinstance(column, Fixed) else list(column)
            micros = np.array(texts, dtype="datetime64[us]")
            arrays.append(arrow.array(micros, arrow.timestamp("us")).cast(field.type))
            continue
        values = list(column)
        if arrow.types.is_boolean(field.type):
            arrays.append(arrow.array([bool(value) for value in values], field.type))
        elif arrow.types.is_dictionary(field.type):
            arrays.append(arrow.array(values, arrow.string()).dictionary_encode())
        else:
            arrays.append(arrow.array(values, field.type))
    return arrow.Table.from_arrays(arrays, schema=schema)
