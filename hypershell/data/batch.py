"""Many records made one: what each row looks like after all of them.

A row that was inserted, dispatched and finished becomes one insert, one that was dispatched and finished one
update; the result is that of applying the records one by one. Pure. Used by every store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from hypershell.core.actions import ClientChange, Dispatch, Finished, Record, Return
from hypershell.core.model import FeedMark, Task

__all__ = ["Batch", "Change", "bytes_of", "size_of"]

Change: TypeAlias = Dispatch | Return | Finished


def size_of(record: Record) -> int:
    """How many changes of rows a record asks for."""
    return len(record.inserted) + len(record.dispatched) + len(record.finished) + len(record.returned)


def bytes_of(record: Record) -> int:
    """How many bytes of kept output a record has."""
    return sum(one.result.kept.size for one in record.finished if one.result.kept is not None)


class Batch:
    """The net change of a sequence of records.

    ``changes`` holds the last change of every row: a change of an older execution and any change of a finished row
    is dropped and counted in ``refused``, as a store refuses it. Within a record the order is dispatched, finished,
    returned. ``clients`` holds per client id how it joined and how it left, where either happened.
    """

    __slots__ = ("changes", "clients", "inserted", "marks", "refused")

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.inserted: dict[str, Task] = {}
        self.changes: dict[str, Change] = {}
        self.clients: dict[str, tuple[ClientChange | None, ClientChange | None]] = {}
        self.marks: dict[int, FeedMark] = {}
        self.refused = 0
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Put `record` on top of those before."""
        if record.inserted:
            inserted = self.inserted
            for task in record.inserted:
                inserted[task.id] = task
        changes = self.changes
        for dispatch in record.dispatched:
            if dispatch.id in changes and self._newer(changes[dispatch.id], dispatch.execution):
                continue
            changes[dispatch.id] = dispatch
        for finished in record.finished:
            result = finished.result
            if result.id in changes and self._newer(changes[result.id], result.execution):
                continue
            changes[result.id] = finished
        for returned in record.returned:
            if returned.id in changes and self._newer(changes[returned.id], returned.execution):
                continue
            changes[returned.id] = returned
        for client in record.clients:
            key = client.info.id
            joined = self.clients.get(key, (None, None))[0]
            self.clients[key] = (client, None) if client.left is None else (joined, client)
        if record.mark is not None:
            self.marks[record.mark.submission] = record.mark

    def _newer(self, old: Change, execution: int) -> bool:
        """Whether `old` forbids a change of `execution`."""
        if type(old) is Finished or execution_of(old) > execution:
            self.refused += 1
            return True
        return False


def execution_of(change: Change) -> int:
    """The execution that a change speaks of."""
    return change.result.execution if isinstance(change, Finished) else change.execution
