"""A real client whose server dies: the next one, on the same database, runs nothing again that the client has."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hypershell.apps.frame import parse
from hypershell.core.actions import Finish
from hypershell.core.model import ClientInfo
from hypershell.data.store import Fenced
from hypershell.executor.loop import Executor
from hypershell.ids import IdSource
from hypershell.loopback import LoopbackEnd, loopback
from hypershell.proto.messages import PROTOCOL_VERSION, Hello
from hypershell.reactor import Poller
from hypershell.server.run import Place, Run
from hypershell.transport import SERVER, Again, Cut, Delivery
from tests.test_data_recover import dead_process

#: Seconds after which a run that takes one has failed.
PATIENCE = 120.0


class Line:
    """The client's end of a connection that can be cut and laid to another server."""

    def __init__(self) -> None:
        self._end: LoopbackEnd | None = None
        self._news: list[Delivery] = []

    def to_server(self) -> LoopbackEnd:
        """A new connection; gives the server's end."""
        server, self._end = loopback()
        return server

    def cut(self) -> None:
        self._end = None
        self._news.append(Delivery(SERVER, Cut("the connection was reset")))

    def mended(self) -> None:
        self._news.append(Delivery(SERVER, Again()))

    def poll(self) -> list[Delivery]:
        news, self._news = self._news, []
        return news + (self._end.poll() if self._end is not None else [])

    def send(self, peer: int, message: Any) -> None:
        if self._end is not None:
            self._end.send(peer, message)

    def flush(self) -> bool:
        return True

    def wait_hint(self, now: float) -> float | None:
        return 0.0 if self._news else (None if self._end is None else self._end.wait_hint(now))

    def expect(self, soon: bool) -> None: ...

    def drop(self, peer: int, reason: str) -> None: ...

    def close(self) -> None: ...


class Stage:
    """One client, and servers one after the other on the same FILE and database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.poller = Poller()
        self.line = Line()
        info = ClientInfo(IdSource().task(), platform.node(), os.getpid(), 2, "0", sys.platform, outlives=True)
        self.client = Executor(self.poller, self.line, info, reconnect=300.0)

    def server(self, *more: str) -> Run:
        argv = [str(self.folder / "tasks.in"), "--db", str(self.folder / "main.db"), *more]
        settings, _ = parse("cluster", argv)
        place = Place("loopback", 1, 1, 2, platform.node(), is_open=True)
        run = Run(self.poller, self.line.to_server(), settings, place, ["cluster", *argv])
        run.start()
        return run

    def turn(self, parts: list[Any], until: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE
        while not until():
            now = time.monotonic()
            assert now < limit, "it stands still"
            for part in parts:
                part.turn(now)
            due = [when for when in (part.deadline(now) for part in parts) if when is not None]
            self.poller.wait(max(0.0, min([*due, now + 0.05]) - time.monotonic()))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "main.db", timeout=30) as link:
            return link.execute(query).fetchall()

    def kill(self, run: Run) -> None:
        """As far as the next server can see the process of `run` is gone; it says nothing more."""
        self.line.cut()
        values = ", ".join(f"{name} = {value!r}" for name, value in dead_process().items())
        self.rows(f"UPDATE run SET {values}")
        run._watch.stop()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HYPERSHELL_SITE", str(tmp_path / "site"))
    stage = Stage(tmp_path)
    yield stage
    stage.client.close()
    stage.poller.close()


def test_a_client_that_says_hello_twice_still_gets_its_tasks(stage: Stage) -> None:
    (stage.folder / "tasks.in").write_text("true\n" * 5)
    run = stage.server()
    stage.client.turn(time.monotonic())
    stage.line.send(SERVER, Hello(PROTOCOL_VERSION, stage.client._info))
    stage.turn([run.server, stage.client], lambda: run.server.finished and stage.client.finished)
    assert run.close() == 0
    assert stage.rows("SELECT state, count(*) FROM task GROUP BY state") == [("succeeded", 5)]


def test_a_restarted_server_gets_the_results_of_what_its_client_still_had(stage: Stage) -> None:
    ran, go = stage.folder / "ran", stage.folder / "go"
    blocked = f"echo ran >> {ran}; while [ ! -e {go} ]; do sleep 0.01; done"
    lines = [f"{blocked} # {number}" for number in range(2)] + ["true"] * 20
    (stage.folder / "tasks.in").write_text("\n".join(lines) + "\n")

    first = stage.server()
    both = [first.server, stage.client]
    stage.turn(both, lambda: ran.exists() and ran.read_text().count("\n") == 2)
    stage.kill(first)
    go.touch()
    stage.turn([stage.client], lambda: not stage.client._machine._running)  # type: ignore[union-attr]

    second = stage.server("--restart")
    stage.line.mended()
    stage.turn([second.server, stage.client], lambda: second.server.finished and stage.client.finished)
    assert second.close() == 0
    first.writer.finish(Finish(0, 0, 0, 0, "drained"))
    assert first.writer.join(30.0) and isinstance(first.writer.error, Fenced)
    assert ran.read_text().count("\n") == 2
    states = stage.rows("SELECT state, count(*), max(execution) FROM task GROUP BY state")
    assert [row[:2] for row in states] == [("succeeded", 22)]
    again = stage.rows("SELECT execution FROM task ORDER BY id LIMIT 2")
    assert again == [(1,), (1,)]
    assert stage.client.lost is None
