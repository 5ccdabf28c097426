"""Peers that execute nothing: who hands tasks in gets them into this run, who asks is told how it stands.

Knows no socket: what comes in is taken from a `Source`, answers go where the server sends messages. What was handed
in is acknowledged when it is durable, and not before. Used by ``loop``.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from hypershell.core.model import FeedMark, Submission, Task
from hypershell.ostext import from_bytes
from hypershell.proto.visits import Ask, HandIn, Line, Lines, Refused, Status, Taken, Told
from hypershell.server.boundary import Boundary
from hypershell.server.terms import Terms, Wishes
from hypershell.tags import Scalar, is_tag
from hypershell.template import TemplateError
from hypershell.transport import Lost

__all__ = ["Source", "Surroundings", "Visits"]

log = logging.getLogger("hypershell.server")


class Source(Protocol):
    """What lets visitors in; ``net.listener.Listener`` is one."""

    crowded: Callable[[], str | None]
    """Says why no client can come in now; None: one can."""

    def hold(self) -> None:
        """Let nobody in for now."""

    def admit(self) -> None:
        """Let in whoever comes."""

    def visits(self) -> Sequence[tuple[int, str, Any]]:
        """Messages of visitors since the last call: peer, role, message (or ``Lost``)."""

    def send(self, peer: int, message: Any) -> None:
        """Answer one."""

    def drop(self, peer: int, reason: str) -> None:
        """Reject one that was let in."""


class Surroundings(Struct, frozen=True):
    """What the server does for its visitors.

    `submit` takes a new submission, its tasks and its mark, and gives the number of the Record that must be
    durable; `closing` says why nothing is taken any more; `status` describes the run; `is_ours` tells an error of
    the server from one of taking in what a visitor said.
    """

    new_task: Callable[[], str]
    new_submission: Callable[[], int]
    wall: Callable[[], float]
    submit: Callable[[Submission, list[Task], FeedMark], int]
    closing: Callable[[], str | None]
    status: Callable[[], Status]
    is_ours: Callable[[Exception], bool] | None = None


class _Visitor:
    """One that hands in."""

    __slots__ = ("count", "last", "submission")

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.count = 0
        self.last = -1


class Visits:
    """All visitors of a run; `turn` once in each turn of the server."""

    def __init__(self, source: Source, here: Surroundings) -> None:
        self._source = source
        self._here = here
        self._boundary = Boundary(source.drop, here.is_ours)
        self._visitors: dict[int, _Visitor] = {}
        self._owed: deque[tuple[int, int, Taken]] = deque()
        """What is answered once the Record with this number is durable: number, peer, answer."""

    def turn(self) -> bool:
        """Take what came; whether there was anything."""
        found = self._source.visits()
        for peer, role, message in found:
            self._boundary.hear(peer, message, partial(self._take, role=role))
        return bool(found)

    def durable(self, seq: int) -> None:
        """Every Record up to `seq` is committed."""
        while self._owed and self._owed[0][0] <= seq:
            _, peer, answer = self._owed.popleft()
            self._source.send(peer, answer)

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a commit."""
        return bool(self._owed)

    def _take(self, peer: int, message: Any, role: str) -> None:
        if isinstance(message, Lost):
            self._visitors.pop(peer, None)
        elif isinstance(message, Ask):
            self._source.send(peer, Told(self._here.status()))
        elif isinstance(message, HandIn):
            self._begin(peer, message)
        elif isinstance(message, Lines):
            self._lines(peer, message)
        else:
            log.warning("Visitor %d (%s) sent what nobody asked for (%s)", peer, role, type(message).__name__)

    def _begin(self, peer: int, message: HandIn) -> None:
        if peer in self._visitors:
            self._refuse(peer, "a second begin")
            return
        try:
            Wishes.of_options(message.options)
            template = Terms.of_options(message.options).template_of_clients
        except (msgspec.DecodeError, TemplateError) as error:
            self._refuse(peer, f"options that cannot be read: {error}")
            return
        here = self._here
        self._visitors[peer] = _Visitor(
            Submission(
                here.new_submission(),
                "live",
                None if message.source in (b"command", b"stdin") else from_bytes(message.source),
                template,
                message.options,
                from_bytes(message.cwd),
                message.submit_id,
                message.submit_host,
                here.wall(),
            )
        )

    def _lines(self, peer: int, message: Lines) -> None:
        visitor = self._visitors.get(peer)
        if visitor is None or message.number <= visitor.last:
            self._refuse(peer, "tasks out of order")
            return
        reason = self._here.closing() or _reason_against(message.tasks)
        if reason is not None:
            self._refuse(peer, reason)
            return
        here, submission, now = self._here, visitor.submission, self._here.wall()
        tasks = [_task(line, here.new_task(), submission.id, now) for line in message.tasks]
        visitor.last = message.number
        visitor.count += len(tasks)
        answer = Taken(message.number, len(tasks), tasks[0].id if tasks else "")
        mark = FeedMark(submission.id, 0, visitor.count, "", complete=True)
        seq = here.submit(submission, tasks, mark)
        self._owed.append((seq, peer, answer))
        log.info("Submitted %d tasks from %s", len(tasks), submission.submit_host)

    def _refuse(self, peer: int, reason: str) -> None:
        self._source.send(peer, Refused(reason))


def _task(line: Line, task_id: str, submission: int, now: float) -> Task:
    return Task(
        task_id,
        line.args,
        submission,
        group=line.group,
        raw=line.raw,
        timeout=line.timeout,
        tag=line.tag or None,
        submit_time=now,
        cores=line.cores,
        memory=line.memory,
    )


def _reason_against(lines: Sequence[Line]) -> str | None:
    """Why these cannot be tasks: what ``hs submit`` never sends, but a peer may."""
    for line in lines:
        if not line.args or "\0" in line.args or (line.raw is not None and b"\0" in line.raw):
            return "a command is empty, or has a NUL byte"
        for key, value in (line.tag or {}).items():
            if not _is_tag(key, value):
                return "a tag has characters that tags cannot have"
            if isinstance(value, float) and not math.isfinite(value):
                return "the value of a tag is no number"
    return None


def _is_tag(key: str, value: Scalar) -> bool:
    if key in ("os", "label"):  # these need a value of their own kind
        return is_tag(f"{key}:{value}")
    return is_tag(key) and (not isinstance(value, str) or not value or is_tag(f"x:{value}"))
