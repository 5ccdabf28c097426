"""How many tasks per second does the server alone handle, every one inserted and completed in SQLite?

The real feed, scheduler, codec, writer and store; the clients are null: they answer every message at once, through
the codec, in the same process, so that only the server's own cost is left (plus encoding on both sides).
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import report
from hypershell import reactor
from hypershell.core.model import ClientInfo, Result
from hypershell.proto import messages as msg
from hypershell.proto.codec import decode_client, decode_server, encode
from hypershell.server.run import Place, Run
from hypershell.settings import RunSettings
from hypershell.transport import Delivery

if TYPE_CHECKING:
    from tests.testbed.postgres import Server

BAR, GOAL = 15_000, 30_000

_COMPLETED = "SELECT count(*) FROM task WHERE state = 'succeeded'"


class NullClients:
    """An endpoint whose `count` clients finish every task in the moment they get it."""

    def __init__(self, count: int) -> None:
        self._inbox: deque[Delivery] = deque()
        for number in range(1, count + 1):
            info = ClientInfo(f"null-{number}", "null", number, 0, "0", "linux")
            self._inbox.append(Delivery(number, msg.Hello(msg.PROTOCOL_VERSION, info)))

    def poll(self) -> list[Delivery]:
        taken = list(self._inbox)
        self._inbox.clear()
        return taken

    def send(self, peer: int, message: Any) -> None:
        received = decode_server(encode(message))
        if isinstance(received, msg.Work):
            now = time.time()
            results = [Result(task.id, task.execution, 0, now, now + 0.001) for task in received.tasks]
            self._inbox.append(Delivery(peer, decode_client(encode(msg.Results(results)))))

    def flush(self) -> bool:
        return True

    def wait_hint(self, now: float) -> float | None:
        return 0.0 if self._inbox else None

    def expect(self, soon: bool) -> None: ...

    def drop(self, peer: int, reason: str) -> None: ...

    def close(self) -> None: ...


def once(
    tasks: int, clients: int, slots: int, no_db: bool = False, server: Server | None = None
) -> dict[str, object]:
    """One run of `tasks` tasks, kept in an SQLite file, in memory or on a server; the row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.in"
        path.write_text("".join(f"./program --case {number}\n" for number in range(tasks)))
        db = Path(folder) / "main.db"
        address = None if server is None else server.address()
        settings = RunSettings(file=str(path), db=str(db), server=address, no_db=no_db)
        poller = reactor.Poller()
        endpoint = NullClients(clients)
        run = Run(poller, endpoint, settings, Place("loopback", clients, clients, slots, "null"), ["cluster"])
        started, cpu = time.perf_counter(), time.process_time()
        run.start()
        reactor.run(poller, [run.server])
        status = run.close()
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        if server is not None and address is not None:
            rows = int(server.query(_COMPLETED, schema=address.schema)[0][0])
        else:
            rows = tasks if no_db else _completed(db)
        if status != 0 or rows != tasks:
            raise SystemExit(f"server_rate: exit status {status}, {rows} of {tasks} rows completed")
    return {
        "store": "memory" if no_db else "SQLite" if server is None else "PostgreSQL",
        "clients": clients,
        "tasks": tasks,
        "tasks/s": round(tasks / wall),
        "CPU us/task": round(cpu / tasks * 1e6, 1),
        "bar": BAR if server is None else "",
        "goal": GOAL if server is None else "",
    }


def _completed(db: Path) -> int:
    connection = sqlite3.connect(db)
    count = connection.execute(_COMPLETED).fetchone()[0]
    connection.close()
    return int(count)


def _on_postgres(tasks: int) -> list[dict[str, object]]:
    """On a server of our own, which writes to the disk as by default; for comparison, without a bar.

    Empty where no PostgreSQL is installed.
    """
    from tests.testbed.postgres import Server, binaries

    if binaries() is None:
        return []
    server = Server(durable=True)
    try:
        server.start()
        return [once(tasks, 10, 2, server=server) for _ in range(3)]
    finally:
        server.close()


def main(tasks: int = 200_000) -> None:
    rows = [once(tasks, clients, 2) for clients in (1, 10, 100) for _ in range(3)]
    rows.append(once(tasks, 10, 2, no_db=True))
    rows += _on_postgres(tasks)
    report("server_rate", rows)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
