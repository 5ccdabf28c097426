"""Handing tasks in to a server that runs, instead of writing them into its database. Used by ``hs submit``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from hypershell.core.model import FeedMark, Submission, Task
from hypershell.errors import StoreError, TransportError
from hypershell.ostext import to_bytes
from hypershell.proto.visits import HandIn, Line, Lines, Refused, Taken

if TYPE_CHECKING:
    from hypershell.data.store import Submitted
    from hypershell.net.asking import Asking

__all__ = ["LiveSubmitter"]

#: Messages that may be without an answer: while the server commits one, the next are on their way.
_AHEAD = 4
#: Tasks and bytes of one message.
_MOST_TASKS = 4096
_MOST_BYTES = 1 << 20


class LiveSubmitter:
    """The surface of ``data.submit.Submitter`` over a connection. `asking` has the role ``submit``.

    What was acknowledged stays submitted, also where the rest of a FILE fails.

    :param open_: makes the connection.
    """

    def __init__(self, open_: Callable[[], Asking]) -> None:
        self._open = open_
        self._asking: Asking | None = None
        self._begun: int | None = None
        self._number = 0
        self._waiting: list[tuple[int, list[Task]]] = []
        self.count = 0
        """Tasks that the server has acknowledged."""

    def open(self) -> None:
        """Connect. Raises ``TransportError`` where the server is not there, or does not let us in."""
        self._asking = self._open()
        self._asking.connect()

    def close(self) -> None:
        """Hang up; idempotent."""
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def add(self, submission: Submission, tasks: list[Task], mark: FeedMark) -> None:
        """Hand over these tasks and wait for the answer; they get the ids that the server gave."""
        self._begin(submission)
        self._send(tasks)
        self._settle(0)

    def begin(self, submission: Submission) -> None:
        """Begin with a FILE."""
        self._begin(submission)

    def append(self, tasks: list[Task], mark: FeedMark) -> None:
        """Hand over the next tasks."""
        self._send(tasks)
        self._settle(_AHEAD)

    def finish(self, tasks: list[Task], mark: FeedMark) -> None:
        """Hand over the last tasks and wait for all answers."""
        self._send(tasks)
        self._settle(0)

    def discard(self) -> None:
        """What was acknowledged cannot be taken back: it may run already. Raises ``StoreError`` that says so."""
        if self.count or self._waiting:
            raise StoreError(f"the first {self.count} tasks are submitted and may run already")

    def remains(self, name: str) -> str:
        """What is there of the FILE `name` after a failure, for a message."""
        return f"the first {self.count} tasks of {name} are submitted" if self.count else "nothing was submitted"

    def has(self, number: int) -> bool:
        """Whether a submission is known to have been taken: never asked for what was not acknowledged."""
        return False

    def is_half_submitted(self, path: str) -> bool:
        """Not known here."""
        return False

    def earlier(self, path: str) -> list[Submitted]:
        """Not known here."""
        return []

    def lines(self, numbers: Sequence[int]) -> Iterator[list[Task]]:
        """Not known here."""
        return iter(())

    def _begin(self, submission: Submission) -> None:
        if self._begun is None:
            self._begun = submission.id
            source = submission.path or submission.source
            cwd, options = to_bytes(submission.cwd), submission.options
            self._need.send(HandIn(to_bytes(source), options, cwd, submission.submit_id, submission.submit_host))

    @property
    def _need(self) -> Asking:
        if self._asking is None:
            raise StoreError("there is no connection to the server: call open first")
        return self._asking

    def _send(self, tasks: Sequence[Task]) -> None:
        for piece in _pieces(tasks):
            self._number += 1
            self._need.send(Lines(self._number, [_line(task) for task in piece]))
            self._waiting.append((self._number, piece))

    def _settle(self, most: int) -> None:
        """Wait until no more than `most` messages are without an answer."""
        while len(self._waiting) > most:
            try:
                answer = self._need.receive()
            except TransportError as error:
                raise StoreError(str(error)) from None
            number, tasks = self._waiting.pop(0)
            if isinstance(answer, Refused):
                raise StoreError(f"the server refused the tasks: {answer.reason}")
            if not isinstance(answer, Taken) or answer.number != number or answer.count != len(tasks):
                raise StoreError("the server answered with something else than it was asked")
            if tasks:
                tasks[0].id = answer.first
            self.count += answer.count


def _line(task: Task) -> Line:
    return Line(task.args, task.raw, task.group, task.timeout, task.tag, task.cores, task.memory)


def _pieces(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """As many as one message takes."""
    piece: list[Task] = []
    size = 0
    for task in tasks:
        length = 4 * len(task.args) + len(task.raw or b"") + 64
        if piece and (len(piece) >= _MOST_TASKS or size + length > _MOST_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(task)
        size += length
    if piece:
        yield piece
