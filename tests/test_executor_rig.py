"""A server of a few lines for the tests of the executor: hands tasks over a loopback, keeps what comes back."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypershell.core.model import ClientInfo, Result, Task
from hypershell.executor.guard import Guard
from hypershell.executor.loop import Executor
from hypershell.loopback import LoopbackEnd, loopback
from hypershell.proto import messages
from hypershell.reactor import Poller, run

CLIENT_ID = "01900000-0000-7000-8000-00000000c11e"

DEFAULTS: dict[str, Any] = {
    "slots": 2,
    "bundlesize": None,
    "bundlewait": 5.0,
    "signalwait": 10.0,
    "idle_timeout": None,
    "task_timeout": None,
    "task_cwd": None,
    "capture": False,
    "capture_dir": b"",
    "log_level": "warning",
    "log_style": "default",
    "server_id": "server-id",
    "server_host": "server-host",
}


def make_settings(**changes: Any) -> messages.ClientSettings:
    return messages.ClientSettings(**{**DEFAULTS, **changes})


def make_tasks(lines: list[str | bytes], **fields: Any) -> list[Task]:
    """One task per line, the last digits of its id its place in the list."""
    return [
        Task(
            f"01900000-0000-7000-8000-{number:012x}",
            line if isinstance(line, str) else line.decode("utf-8", "backslashreplace"),
            1,
            1,
            raw=line if isinstance(line, bytes) else None,
            submit_time=1.5,
            schedule_time=2.25,
            **fields,
        )
        for number, line in enumerate(lines)
    ]


class Server:
    """A part of the reactor that plays the server; `finished` once every task is answered."""

    def __init__(
        self,
        end: LoopbackEnd,
        tasks: list[Task],
        settings: messages.ClientSettings,
        template: str = "{}",
        cwd: str | None = None,
        exports: dict[str, str] | None = None,
    ) -> None:
        self.finished = False
        self.end = end
        self.settings = settings
        self.results: dict[str, Result] = {}
        self.returned: list[tuple[str, int]] = []
        self.out = b""
        self.err = b""
        self.outputs: list[messages.Output] = []
        self.info: ClientInfo | None = None
        self.holds: list[tuple[str, int]] | None = None
        self.left: str | None = None
        self.takes_output = True
        self.on_output: Callable[[Server], None] | None = None
        self._tasks = tasks
        folder = os.fsencode(cwd or os.getcwd())
        self._context = messages.Context(
            1, template.encode(), folder, "submit-id", "submit-host", exports=exports or {}
        )

    def send(self, message: messages.ServerMessage) -> None:
        self.end.send(1, message)

    def turn(self, now: float) -> bool:
        for delivery in self.end.poll():
            message = delivery.message
            if isinstance(message, messages.Hello):
                self.info, self.holds = message.info, message.holds
                self.send(messages.Welcome(self.settings))
                self.send(messages.Work(self._tasks, [self._context]))
                if not self._tasks:
                    self._dismiss()
            elif isinstance(message, messages.Results):
                for result in message.results:
                    assert result.id not in self.results
                    self.results[result.id] = result
                self.returned += message.returned
                if len(self.results) + len(self.returned) == len(self._tasks):
                    self._dismiss()
            elif isinstance(message, messages.Output):
                self._output(message)
            elif isinstance(message, messages.Leave):
                self.left = message.reason
                self.finished = True
        return False

    def _output(self, message: messages.Output) -> None:
        self.outputs.append(message)
        self.out += message.out
        self.err += message.err
        if self.takes_output:
            self.send(messages.OutputTaken(len(message.out) + len(message.err)))
        if self.on_output is not None:
            self.on_output(self)

    def _dismiss(self) -> None:
        self.send(messages.Bye())
        self.finished = True

    def deadline(self, now: float) -> float | None:
        hint = self.end.wait_hint(now)
        return None if hint is None else now + hint

    def result(self, place: int = 0) -> Result:
        return self.results[f"01900000-0000-7000-8000-{place:012x}"]

    @property
    def statuses(self) -> list[int]:
        """Exit statuses in the order of the tasks."""
        return [self.results[task.id].exit_status for task in self._tasks]


class Rig:
    """A server and an executor in one loop."""

    def __init__(self, server: Server, executor: Executor, poller: Poller) -> None:
        self.server = server
        self.executor = executor
        self.poller = poller

    def run(self, until: Callable[[], bool] | None = None) -> Server:
        """Turn both until they are finished, or until `until` says so."""
        if until is None:
            run(self.poller, [self.server, self.executor])
            return self.server
        parts = [self.server, self.executor]
        while True:
            now = time.monotonic()
            for part in parts:
                part.turn(now)
            if until():
                break
            due = [when for when in (part.deadline(now) for part in parts) if when is not None]
            self.poller.wait(max(0.0, min(due) - time.monotonic()) if due else None)
        return self.server


@contextmanager
def rig(
    lines: list[str | bytes],
    *,
    template: str = "{}",
    cwd: str | None = None,
    environ: dict[bytes, bytes] | None = None,
    fields: dict[str, Any] | None = None,
    guard: Guard | None = None,
    reconnect: float | None = None,
    exports: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[Rig]:
    """Server and executor, ready to run."""
    server_end, client_end = loopback()
    poller = Poller()
    chosen = make_settings(**settings)
    server = Server(server_end, make_tasks(lines, **fields or {}), chosen, template, cwd, exports)
    info = ClientInfo(CLIENT_ID, "client-host", os.getpid(), chosen.slots, "0", sys.platform)
    executor = Executor(poller, client_end, info, environ=environ, guard=guard, reconnect=reconnect)
    try:
        yield Rig(server, executor, poller)
    finally:
        executor.close()
        poller.close()


def run_tasks(lines: list[str | bytes], **options: Any) -> Server:
    """Run tasks, one per line, and give the server that saw them."""
    with rig(lines, **options) as both:
        return both.run()
