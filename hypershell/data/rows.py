"""From tasks and changes to parameters of the hot statements, and which columns those carry.

The tightest code of the store: one tuple per row. Used by ``sql`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hypershell.core.actions import ClientChange, Dispatch, Finished, Return
from hypershell.core.model import Special, Submission, Task
from hypershell.core.poison import words
from hypershell.core.states import DISPATCHED, PENDING
from hypershell.data.batch import Change
from hypershell.data.times import Stamper

__all__ = ["CLIENT", "DIED", "FINISHED", "MOVED", "NEW", "WHOLE", "RowMaker"]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Columns of a row that is only inserted, in the order of the table.
NEW = _names(
    "id group args submit_id submit_time submit_host cores memory timeout attempt previous_id tag "
    "submission args_raw"
)
#: Columns of a row that was inserted and changed before it was written.
WHOLE = _names(
    "id group args submit_id submit_time submit_host cores memory timeout server_id server_host "
    "schedule_time client_id client_host command start_time completion_time exit_status outpath errpath "
    "attempt retried waited duration previous_id next_id tag state execution submission error args_raw "
    "user_time system_time max_rss"
)
#: What an ended execution changes.
FINISHED = _names(
    "id execution state exit_status command start_time waited completion_time duration schedule_time "
    "client_id client_host error outpath errpath user_time system_time max_rss next_id"
)
#: What a dispatch or a return changes.
MOVED = _names("id execution state schedule_time client_id client_host server_id server_host")
#: The same, of a task whose client died.
DIED = (*MOVED, "error")
#: A row of table ``client``.
CLIENT = _names(
    "id host server_id server_host connected_at disconnected_at evicted pid slots version system rank reason"
)

_to_json: Callable[[Any], bytes] = msgspec.json.encode


class RowMaker:
    """Makes parameters for one run. `zone` is true where the database wants times with an offset."""

    def __init__(self, server_id: str, server_host: str, zone: bool) -> None:
        self._server = (server_id, server_host)
        self._stamp = Stamper(zone).text
        self._clients: dict[int, tuple[str, str]] = {}

    def join(self, change: ClientChange) -> None:
        """Learn which client a number stands for."""
        self._clients[change.client] = (change.info.id, change.info.host)

    def new(self, flat: list[Any], tasks: list[Task], submissions: Mapping[int, Submission]) -> None:
        """Append the rows of fresh tasks to `flat`, column after column of ``NEW``."""
        stamp, add = self._stamp, flat.extend
        number, submit_id, submit_host = -1, "", ""
        for t in tasks:
            if t.submission != number:
                number = t.submission
                submit_id, submit_host = _submitter(submissions, number)
            add(
                (
                    t.id,
                    t.group,
                    t.args,
                    submit_id,
                    stamp(t.submit_time),
                    submit_host,
                    t.cores,
                    t.memory,
                    t.timeout,
                    t.attempt,
                    t.previous_id,
                    _to_json(t.tag).decode() if t.tag else "{}",
                    number,
                    t.raw,
                )
            )

    def whole(self, flat: list[Any], task: Task, change: Change, submissions: Mapping[int, Submission]) -> None:
        """Append the row of a task that already has had `change`, columns of ``WHOLE``."""
        stamp = self._stamp
        submit_id, submit_host = _submitter(submissions, task.submission)
        head = (
            task.id,
            task.group,
            task.args,
            submit_id,
            stamp(task.submit_time),
            submit_host,
            task.cores,
            task.memory,
            task.timeout,
        )
        tag = _to_json(task.tag).decode() if task.tag else "{}"
        if isinstance(change, Finished):
            r = change.result
            command = r.command
            if command is None and r.exit_status != Special.TEMPLATE_FAILED:
                command = task.args
            flat.extend(head)
            flat.extend(self._server)
            flat.append(stamp(change.schedule_time))
            flat.extend(self._clients.get(change.client, (None, None)))
            next_id = change.next_id
            flat.extend(
                (
                    command,
                    stamp(r.start),
                    stamp(r.end),
                    r.exit_status,
                    r.outpath,
                    r.errpath,
                    task.attempt,
                    next_id is not None,
                    r.start - task.submit_time,
                    r.end - r.start,
                    task.previous_id,
                    next_id,
                    tag,
                    change.state,
                    r.execution,
                    task.submission,
                    r.error,
                    task.raw,
                    r.utime,
                    r.stime,
                    r.maxrss,
                )
            )
            return
        _, execution, state, scheduled, client_id, client_host, server_id, server_host = self._move(change)
        flat.extend(head)
        flat.extend((server_id, server_host, scheduled, client_id, client_host))
        flat.extend((None, None, None, None, None, None, task.attempt, False, None, None, task.previous_id, None))
        flat.extend((tag, state, execution, task.submission, words(change.deaths or 0), task.raw, None, None, None))

    def finished(self, flat: list[Any], change: Finished) -> None:
        """Append an ended execution, columns of ``FINISHED``."""
        stamp, r = self._stamp, change.result
        start, end = r.start, r.end
        client_id, client_host = self._clients.get(change.client, (None, None))
        flat.extend(
            (
                r.id,
                r.execution,
                change.state,
                r.exit_status,
                r.command,
                stamp(start),
                None if change.task is None else start - change.task.submit_time,
                stamp(end),
                end - start,
                stamp(change.schedule_time),
                client_id,
                client_host,
                r.error,
                r.outpath,
                r.errpath,
                r.utime,
                r.stime,
                r.maxrss,
                change.next_id,
            )
        )

    def moved(self, flat: list[Any], change: Dispatch | Return) -> None:
        """Append a dispatch or a return, columns of ``MOVED``."""
        flat.extend(self._move(change))

    def died(self, flat: list[Any], change: Dispatch | Return) -> None:
        """The same of a task whose client died, columns of ``DIED``."""
        flat.extend((*self._move(change), words(change.deaths or 0)))

    def client(self, joined: ClientChange | None, left: ClientChange | None) -> tuple[Any, ...]:
        """The row of a client, columns of ``CLIENT``; a client that only left has no time of joining."""
        change = left or joined
        assert change is not None
        info = change.info
        return (
            info.id,
            info.host,
            *self._server,
            None if joined is None else self._stamp(joined.time),
            None if left is None else self._stamp(left.time),
            left is not None and left.left != "left",
            info.pid,
            info.slots,
            info.version,
            info.system,
            info.rank,
            None if left is None else left.left,
        )

    def _move(self, change: Dispatch | Return) -> tuple[Any, ...]:
        if type(change) is Return:
            return (change.id, change.execution, PENDING, None, None, None, None, None)
        assert type(change) is Dispatch
        client_id, client_host = self._clients.get(change.client, (None, None))
        return (
            change.id,
            change.execution,
            DISPATCHED,
            self._stamp(change.time),
            client_id,
            client_host,
            *self._server,
        )


def _submitter(submissions: Mapping[int, Submission], number: int) -> tuple[str, str]:
    submission = submissions.get(number)
    return ("", "") if submission is None else (submission.submit_id, submission.submit_host)
