"""What a client remembers of its tasks: one in a slot, and what a submission shares. Pure; used by ``machine``."""

from __future__ import annotations

import heapq

from hypershell.core.fields import MOST_TEXT
from hypershell.core.model import Result, Task
from hypershell.executor.vocabulary import Exited
from hypershell.ostext import escaped, from_bytes
from hypershell.proto.messages import Context
from hypershell.template import Template, TemplateError

__all__ = ["Run", "Slots", "Submission", "reason", "shown", "split", "text_of"]


class Slots:
    """The numbers of slots, from 0: who asks gets the lowest that is free, so it is less than the number in use."""

    __slots__ = ("_free", "_known")

    def __init__(self) -> None:
        self._known = 0
        self._free: list[int] = []

    def take(self) -> int:
        """A slot that nobody has. How many may be in use is the machine's business."""
        if self._free:
            return heapq.heappop(self._free)
        self._known += 1
        return self._known - 1

    def give(self, slot: int) -> None:
        """Give one back."""
        heapq.heappush(self._free, slot)


class Run:
    """A task in a slot: expanding, running, or being stopped."""

    __slots__ = ("command", "dead", "error", "expanding", "returning", "since", "slot", "steps", "task")

    def __init__(self, task: Task, slot: int, since: float) -> None:
        self.task = task
        self.slot = slot
        self.since = since
        """When its start was ordered."""
        self.command: str | None = None
        self.error: str | None = None
        self.expanding = False
        self.returning = False
        self.dead: Exited | None = None
        """How it ended, while it is not clear whether it was stopped with us (`LAUNCHER_DEATHS`)."""
        self.steps: list[tuple[float, int]] | None = None
        """The signals that are still to be sent, the next one last, each with its time; None: not being stopped."""


class Submission:
    """A context with its template, parsed once; `error` says why no task of it can run.

    :param windows: commands are for cmd.exe.
    """

    __slots__ = ("context", "error", "template")

    def __init__(self, context: Context, windows: bool = False) -> None:
        self.context = context
        self.error: str | None = None
        self.template: Template | None = None
        try:
            self.template = Template(from_bytes(context.template), windows=windows)
        except TemplateError as error:
            self.error = str(error)
        except (RecursionError, ValueError) as error:  # of a row; nobody who submits sees it
            self.error = f"{type(error).__name__}: {error}"


def text_of(task: Task) -> str:
    """The line of a task for a template; bytes that are not UTF-8 travel as lone surrogates (PEP 383)."""
    return task.args if task.raw is None else from_bytes(task.raw)


def shown(text: str | None) -> str | None:
    """A command, a path or a reason as it is reported: as text that any encoder takes."""
    return None if text is None else escaped(text)


def reason(text: str | None) -> str | None:
    """Why something ended as it did, as long as a message takes it."""
    return None if text is None else escaped(text)[:MOST_TEXT]


def split(results: list[Result], most: int) -> list[list[Result]]:
    """Results in parts, each of which ends with the one that brings its kept output to `most` bytes."""
    parts: list[list[Result]] = [[]]
    size = 0
    for result in results:
        if size >= most:
            parts.append([])
            size = 0
        parts[-1].append(result)
        size += result.kept.size if result.kept is not None else 0
    return parts
