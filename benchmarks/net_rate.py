"""What do TCP and TLS cost? Tasks per second of a server through its door, of those over the loopback transport.

Feed, scheduler, writer and store are real, and so are connection, handshake and messages; the client is null: it
answers every message at once, in this process, so that one core pays for both ends of TLS. Bundles of 32 tasks.
Rounds alternate; a ratio is made within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import report
from benchmarks.shared import judged, plain
from hypershell import reactor
from hypershell.core.model import ClientInfo, Result
from hypershell.loopback import loopback
from hypershell.net.addresses import bind
from hypershell.net.auth import generate_key
from hypershell.net.dialer import Dialer, Patience, Target
from hypershell.net.listener import Limits, Listener
from hypershell.net.tls import client_tls, ensure_certificate, server_tls
from hypershell.proto import messages as msg
from hypershell.server.run import Place, Run
from hypershell.settings import RunSettings
from hypershell.transport import SERVER, Endpoint

BUNDLE = 32

Ends = tuple[Endpoint, Endpoint]


class NullClient:
    """Answers all work in the moment it comes."""

    def __init__(self, end: Endpoint) -> None:
        self.finished = False
        self._end = end
        end.send(SERVER, msg.Hello(msg.PROTOCOL_VERSION, ClientInfo("null", "null", 1, BUNDLE, "0", "linux")))

    def turn(self, now: float) -> None:
        for _, message in self._end.poll():
            if isinstance(message, msg.Work):
                wall = time.time()
                results = [Result(task.id, task.execution, 0, wall, wall + 0.001) for task in message.tasks]
                self._end.send(SERVER, msg.Results(results))
            elif isinstance(message, msg.Bye):
                self.finished = True
            elif not isinstance(message, msg.Welcome | msg.Drain | msg.Acknowledged | msg.Recall):
                raise SystemExit(f"net_rate: the client got {message!r}")
        self._end.flush()

    def deadline(self, now: float) -> float | None:
        hint = self._end.wait_hint(now)
        return None if hint is None else now + hint


def in_process(poller: reactor.Poller, folder: Path) -> Ends:
    return loopback()


def over_net(secure: bool) -> Callable[[reactor.Poller, Path], Ends]:
    """A listener and a dialer, connected over this machine's own network."""

    def make(poller: reactor.Poller, folder: Path) -> Ends:
        key = generate_key()
        tls = server_tls(ensure_certificate(str(folder / "tls"), "localhost")) if secure else None
        limits = Limits(linger=0.0)  # both ends are in one thread: neither can wait for the other
        listener = Listener(poller, bind("127.0.0.1", 0), key, tls, limits=limits)
        target = Target(("127.0.0.1",), listener.port, key, client_tls() if secure else None)
        patience = Patience(reconnect=0.0, linger=0.0)
        return listener, Dialer(poller, lambda: target, "null", patience=patience)

    return make


TRANSPORTS = {
    "tls": ("TCP and TLS", over_net(True)),
    "loopback": ("loopback transport", in_process),
    "tcp": ("TCP without TLS", over_net(False)),
}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hs-bench-") as folder:
        yield Path(folder)


def rate(make: Callable[[reactor.Poller, Path], Ends], tasks: int) -> float:
    """Tasks per second of CPU and disk, from the connection to the last commit."""
    with _folder() as folder:
        path, db = folder / "tasks.in", folder / "main.db"
        path.write_text("".join(f"./program --case {number}\n" for number in range(tasks)))
        settings = RunSettings(file=str(path), db=str(db), bundlesize=BUNDLE)
        poller = reactor.Poller()
        server_end, client_end = make(poller, folder)
        run = Run(poller, server_end, settings, Place("loopback", 1, 1, BUNDLE, "null"), ["cluster"])
        begun = time.perf_counter()
        run.start()
        client = NullClient(client_end)
        reactor.run(poller, [run.server, client])
        status = run.close()
        seconds = time.perf_counter() - begun
        client_end.close()
        server_end.close()
        poller.close()
        with contextlib.closing(sqlite3.connect(db)) as link:
            done = link.execute("SELECT count(*) FROM task WHERE state = 'succeeded'").fetchone()[0]
    if status or done != tasks:
        raise SystemExit(f"net_rate: exit status {status}, {done} of {tasks} tasks succeeded")
    return tasks / seconds


def rows(tasks: int, rounds: int) -> list[dict[str, Any]]:
    rates: dict[str, list[float]] = {key: [] for key in TRANSPORTS}
    for number in range(rounds):
        for key in list(TRANSPORTS) if number % 2 == 0 else list(reversed(TRANSPORTS)):
            rates[key].append(rate(TRANSPORTS[key][1], tasks))
    ratios = [one / other for one, other in zip(rates["tls"], rates["loopback"], strict=True)]
    told = [judged("net", ratios, f"null tasks, bundles of {BUNDLE}")]
    return told + [plain(f"rate_{key}", name, "tasks/s", rates[key]) for key, (name, _) in TRANSPORTS.items()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.net_rate", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks of one run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs for each ratio (default: %(default)s)")
    given = parser.parse_args(argv)
    report("net_rate", rows(given.tasks, given.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
