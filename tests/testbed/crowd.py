"""Many clients over the network in one process: real connections and messages, no tasks are executed."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from hypershell.core.model import ClientInfo, Result, Task
from hypershell.ids import IdSource
from hypershell.net.connectfile import read_connect_file
from hypershell.net.dialer import Dialer, Patience, Target
from hypershell.net.tls import client_tls
from hypershell.proto import messages as msg
from hypershell.reactor import Poller
from hypershell.transport import SERVER, Lost

__all__ = ["run"]


class _Client:
    """One that answers every task at once, once `answers` is set: the run must not end before all have come."""

    def __init__(self, poller: Poller, target: Target) -> None:
        ident = IdSource().task()
        self.info = ClientInfo(ident, "crowd", 1, 1, "0", sys.platform)
        self.end = Dialer(poller, lambda: target, ident, patience=Patience(first=120.0, reconnect=0.0, linger=0.0))
        self.end.send(SERVER, msg.Hello(msg.PROTOCOL_VERSION, self.info))
        self.welcomed = self.done = self.answers = False
        self.held: list[Task] = []
        self.count = 0

    def turn(self) -> None:
        for _, message in self.end.poll():
            if isinstance(message, msg.Welcome):
                self.welcomed = True
            elif isinstance(message, msg.Work):
                self.held += message.tasks
            elif isinstance(message, msg.Bye):
                self.end.send(SERVER, msg.Leave("dismissed"))
                self.done = True
            elif isinstance(message, Lost):
                raise AssertionError(message.reason)
        if self.held and self.answers:
            now = time.time()
            self.count += len(self.held)
            self.end.send(SERVER, msg.Results([Result(one.id, one.execution, 0, now, now) for one in self.held]))
            self.held = []
        self.end.flush()


def run(connect_file: str, count: int) -> tuple[float, int]:
    """Join with `count` clients until all are dismissed; seconds until all were welcomed, and tasks done."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    info = read_connect_file(connect_file)
    target = Target(info.addresses, info.port, info.key, client_tls(pin=info.certificate))
    poller = Poller()
    begin = time.monotonic()
    clients = [_Client(poller, target) for _ in range(count)]
    joined: float | None = None
    while True:
        for client in clients:
            if not client.done:
                client.turn()
        now = time.monotonic()
        if joined is None and all(client.welcomed for client in clients):
            joined = now - begin
            for client in clients:
                client.answers = True
                client.turn()
        if all(client.done for client in clients):
            break
        hints = [hint for client in clients if not client.done and (hint := client.end.wait_hint(now)) is not None]
        poller.wait(min([*hints, 1.0]))
    for client in clients:
        client.end.close()
    assert joined is not None
    return joined, sum(client.count for client in clients)


if __name__ == "__main__":
    seconds, tasks = run(str(Path(sys.argv[1])), int(sys.argv[2]))
    print(f"{seconds:.2f} {tasks}")
