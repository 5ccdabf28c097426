"""Servers and commands where the machine has no room: descriptors, memory."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hypershell.core.model import ClientInfo
from hypershell.net.connectfile import ConnectInfo, read_connect_file
from hypershell.net.dialer import Dialer, Patience, Target
from hypershell.net.tls import client_tls
from hypershell.proto.messages import PROTOCOL_VERSION, Hello, Welcome
from hypershell.reactor import Poller
from hypershell.transport import SERVER
from tests.integration.test_net import client, ended, server, wait_for_file
from tests.testbed import audited
from tests.testbed.cli import Done, Hs
from tests.testbed.postgres import PostgresHs
from tests.testbed.waiting import until

# -- nothing is opened late ----------------------------------------------------------------------------------


@contextmanager
def audited_hs(hs: Hs, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, audited.__file__, "late.txt", *words]
    process = subprocess.Popen(
        command, cwd=hs.folder, env=hs.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def late(hs: Hs) -> list[str]:
    return (hs.folder / "late.txt").read_text().splitlines()


def _use(hs: Hs) -> None:
    """Hand in, run, fail, retry, cancel, ask: whatever makes the database thread do something new."""
    worker = client(hs, "-N2")
    assert hs.run("submit", "--connect", "c.json", "--", "echo", "one").status == 0
    hs.file(b"echo two # name:x group:1\nfalse\nsleep 1000 # name:long\necho \xff\n")
    assert hs.run("submit", "tasks.in").status == 0
    assert hs.run("run", "--", "echo", "three").out == "three\n"
    until(lambda: hs.rows("SELECT count(*) FROM task WHERE state = 'dispatched'") == [(1,)])
    assert hs.run("status", "--connect", "c.json").status == 0
    assert hs.run("update", "--cancel", "-w", "args ~ sleep", "--no-confirm").status == 0
    until(lambda: hs.rows("SELECT count(*) FROM task WHERE state NOT IN ('pending', 'dispatched')") == [(7,)])
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)


def _serve(hs: Hs) -> None:
    words = ("--forever", "--max-retries", "1", "--port", "0", "--connect-file", "c.json")
    with audited_hs(hs, "server", *words) as process:
        wait_for_file(hs.folder / "c.json", process)
        _use(hs)
        process.send_signal(signal.SIGHUP)
        process.terminate()
        done = ended(process)
    assert "report this" not in done.err
    assert late(hs) == []


def test_a_server_opens_nothing_once_its_database_is_ready(hs: Hs) -> None:
    _serve(hs)


def test_nor_with_postgresql(pg: PostgresHs) -> None:
    _serve(pg)


def test_nor_for_a_new_connection_to_postgresql(pg: PostgresHs) -> None:
    """But for the socket itself."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hypershell'"
    with audited_hs(pg, "server", "--forever", "--port", "0", "--connect-file", "c.json") as process:
        wait_for_file(pg.folder / "c.json", process)
        for word in ("one", "two"):
            assert pg.run("submit", "--connect", "c.json", "--", "echo", word).status == 0
            pg.server.query(cut)
        process.terminate()
        assert "report this" not in ended(process).err
    assert pg.rows("SELECT count(*) FROM task") == [(2,)]
    assert late(pg) == []


def test_nor_does_a_run_that_takes_over(hs: Hs) -> None:
    """The database thread alone: the other one starts tasks."""
    hs.file([f"echo {n} # group:{n % 3}" for n in range(40)])
    first = hs.run("cluster", "tasks.in", "--walltime", "1s", "--drain-time", "0", "--keep-output")
    assert first.status in (0, 75), first.err
    with audited_hs(hs, "cluster", "tasks.in", "--restart", "--keep-output", "-N2") as process:
        assert ended(process).status == 0
    assert [line for line in late(hs) if line.startswith("database\t")] == []


# -- few descriptors -----------------------------------------------------------------------------------------

LIMIT = 40


class Few(Hs):
    """``hs server`` may have few descriptors; nothing else is limited."""

    def command(self, *args: str) -> list[str]:
        limit = ["/bin/sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh"] if args[0] == "server" else []
        return [*limit, *super().command(*args)]


class Crowd:
    """Clients that say Hello and do nothing; `told` is what those heard that were turned away."""

    def __init__(self, info: ConnectInfo, count: int) -> None:
        self.poller = Poller()
        target = Target(info.addresses, info.port, info.key, client_tls(pin=info.certificate))
        patience = Patience(reconnect=0.0, busy=0.0, linger=0.0)
        self.dialers = [Dialer(self.poller, lambda: target, f"c{n}", patience=patience) for n in range(count)]
        for number, dialer in enumerate(self.dialers):
            dialer.send(SERVER, Hello(PROTOCOL_VERSION, ClientInfo(f"c{number}", "h", 1, 1, "0", sys.platform)))
        self.welcomed: set[Dialer] = set()

    def turn(self) -> bool:
        """Whether each is let in, or turned away for good."""
        for dialer in self.dialers:
            if any(isinstance(message, Welcome) for _, message in dialer.poll()):
                self.welcomed.add(dialer)
            dialer.flush()
        self.poller.wait(0.01)
        return all(dialer in self.welcomed or dialer.lost for dialer in self.dialers)

    @property
    def told(self) -> set[str]:
        return {dialer.lost for dialer in self.dialers if dialer.lost}

    def close(self) -> None:
        for dialer in self.dialers:
            dialer.close()
        self.poller.close()


def test_a_server_without_descriptors_refuses_clients_and_keeps_its_database(tmp_path: Path) -> None:
    hs = Few(tmp_path)
    with server(hs, "--forever") as process, ExitStack() as stack:
        info = read_connect_file(str(hs.folder / "c.json"))
        crowd = Crowd(info, LIMIT)
        stack.callback(crowd.close)
        until(crowd.turn)
        assert 4 <= len(crowd.welcomed) < LIMIT
        reason = f"the server has no room for more clients: Too many open files (ulimit -n is {LIMIT})"
        assert len(crowd.told) == 1 and crowd.told.pop().endswith(f"rejected: {reason}")
        for _ in range(3):  # silent ones take what is left, but for one
            stack.enter_context(socket.create_connection((info.addresses[0], info.port)))
        submitted = hs.run("submit", "--connect", "c.json", "--", "echo", "x")
        assert submitted.status == 0, submitted.err
        assert hs.run("status", "--connect", "c.json").status == 0
        assert hs.states()
        crowd.close()
        process.terminate()
        done = ended(process)
    assert "database thread" not in done.err and done.err.count("No more connections for now") == 1
    assert f"(ulimit -n is {LIMIT})" in done.err


_COMMANDS = (
    ("list", "--db", "x.db"),
    ("export", "--db", "x.db", "out.csv", "--force"),
    ("submit", "--db", "x.db", "--", "echo", "x"),
    ("server", "tasks.in", "--connect-file", "c.json", "--port", "0"),
    ("client", "--connect", "there.json"),
)


def _limited(hs: Hs, limit: int, *words: str) -> Done:
    script = f'ulimit -n {limit}; exec "$@"'
    command = ["/bin/sh", "-c", script, "sh", *hs.command(*words)]
    done = subprocess.run(command, cwd=hs.folder, env=hs.environ(), stdin=subprocess.DEVNULL, capture_output=True)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("words", _COMMANDS, ids=lambda words: words[0])
def test_a_command_that_has_too_few_descriptors_names_the_limit(hs: Hs, words: tuple[str, ...]) -> None:
    hs.file(["true"])
    assert hs.run("cluster", "tasks.in", "--db", "x.db").status == 0
    (hs.folder / "there.json").write_text("{}")
    failed = []
    for limit in (6, 7):
        done = _limited(hs, limit, *words)
        if done.status:
            assert "Traceback" not in done.err and "report this" not in done.err, done.err
            named = (f"ulimit -n is {limit}", f" of {limit} are free")
            failed += [line for line in done.err.splitlines() if any(text in line for text in named)]
    assert failed or words[0] == "client", "none of these limits was too small"


# -- memory --------------------------------------------------------------------------------------------------

_GREEDY = """
import sys
from hypershell.server.run import Run

class Greedy:
    "A part of the loop whose memory runs out when some tasks have succeeded."
    finished = False

    def __init__(self, run):
        self.run = run

    def turn(self, now):
        if self.run._scheduler.counts.succeeded >= 5:
            raise MemoryError
        return False

    def deadline(self, now):
        return None

turns = Run.turns
Run.turns = lambda self, parts=(): turns(self, [*parts, Greedy(self)])
from hypershell.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_that_gets_no_memory_commits_what_it_knows_and_goes_on_later(hs: Hs) -> None:
    hs.file([f"echo {n}" for n in range(200)])
    command = [sys.executable, "-c", _GREEDY, "cluster", "tasks.in", "-N2", "-b1", "--status-file", "s.json"]
    done = subprocess.run(command, cwd=hs.folder, env=hs.environ(), stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 75, done.stderr
    assert b"no memory is left" in done.stderr and b"go on with" in done.stderr and b"Traceback" not in done.stderr
    assert hs.rows("SELECT outcome FROM run") == [("out of memory",)]
    assert '"reason": "out of memory"' in (hs.folder / "s.json").read_text()
    assert hs.states()["succeeded"] >= 5
    assert hs.run("cluster", "tasks.in", "--restart").status == 0
    assert hs.rows("SELECT count(*), count(DISTINCT args) FROM task WHERE state = 'succeeded'") == [(200, 200)]
