"""Clients that have the key, or are ranks, and say what no client of ours says: they go, the run goes on."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import fields, replace

from hypershell.core.model import KEPT_MOST, ClientInfo, Kept, Result, Room, Task
from hypershell.proto import messages as msg
from hypershell.server.credit import MOST
from tests.integration.test_net import client, ended, server
from tests.testbed.cli import Hs
from tests.testbed.hostile import HOSTILE, OBEYED
from tests.testbed.mpi import ROOT, Mpi, each_mpi, finish, start
from tests.testbed.rogue import Rogue

#: A line of a log, in the style ``default``.
LINE = re.compile(r"^ *(TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL) \[hypershell[.a-z]*\] ")


@contextmanager
def rogue(hs: Hs, ident: str) -> Iterator[Rogue]:
    one = Rogue(hs.folder / "c.json", ident)
    try:
        yield one
    finally:
        one.close()


def peak(pid: int) -> int:
    """The most memory that a process has had, bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


# -- text ----------------------------------------------------------------------------------------------------

def texts(struct: Any) -> list[Any]:
    """`struct` once for each of its fields that hold text, with hostile text in it."""
    named = {one.name: getattr(struct, one.name) for one in fields(struct)}
    hostile: dict[type, Any] = {str: HOSTILE, tuple: (HOSTILE,)}
    return [replace(struct, **{name: hostile[type(old)]}) for name, old in named.items() if type(old) in hostile]


def messages(task: Task, info: ClientInfo) -> list[list[msg.ClientMessage]]:
    """Every message of a client with every text in it that it may choose, each after what has to go before."""
    hello = msg.Hello(msg.PROTOCOL_VERSION, info)
    result = Result(task.id, task.execution, 1, 1.0, 2.0, command="a", error="a", outpath="a", errpath="a")
    alone: list[list[msg.ClientMessage]] = [[replace(hello, info=one)] for one in texts(info)]
    alone += [[replace(hello, protocol=1, info=one)] for one in texts(info)]
    alone += [[hello, msg.Leave(HOSTILE)], [hello, msg.Results([], [(HOSTILE, 1)])]]
    alone += [[hello, msg.Results([], room=one)] for one in texts(Room(0, True, ""))]
    return alone + [[hello, msg.Results([one])] for one in texts(result)]


def test_no_text_of_a_client_forges_a_line(hs: Hs) -> None:
    hs.file(["echo good", "echo never"])
    log = {"HYPERSHELL_LOGGING_LEVEL": "trace", "HYPERSHELL_LOGGING_FILE": str(hs.folder / "log")}
    with server(hs, "tasks.in", "-b1", "--poison", "0", env=log) as process:  # many clients go while they have it
        with rogue(hs, "0198c0de-0000-7000-8000-000000000003") as first:
            first.join()
            first.until(lambda: first.has(msg.Work))
            [work, *_] = [message for message in first.heard if isinstance(message, msg.Work)]
            held = work.tasks[0]
        count = len(messages(held, first.info))
        assert count > 12
        for number in range(count):
            with rogue(hs, f"0198c0de-0000-7000-8000-0000000001{number:02d}") as bad:
                for part in messages(held, bad.info)[number]:
                    bad.say(part)
                bad.until(lambda: bad.has(msg.Welcome) or bad.has(msg.Bye))
        with rogue(hs, "0198c0de-0000-7000-8000-000000000004") as last:
            last.info = replace(last.info, slots=2)
            last.join()
            last.until(lambda: last.has(msg.Work))
            [work, *_] = [message for message in last.heard if isinstance(message, msg.Work)]
            one = work.tasks[0]
            last.say(msg.Results([Result(one.id, one.execution, 1, 1.0, 2.0, error=HOSTILE)]))
            told = hs.run("status", "--connect", "c.json").out
        process.terminate()
        done = ended(process)
    assert "Traceback" not in done.err and done.status == 75
    for text in (told, done.err, (hs.folder / "log").read_text()):
        assert not OBEYED.search(text), OBEYED.findall(text)
    lines = done.err.split("\n")[:-1]
    assert all(LINE.match(line) or line.startswith("hs: ") for line in lines), lines
    assert any("all is lost" in line for line in lines), "what was said is there, in its line"
    stamps = [line[:10] for line in (hs.folder / "log").read_text().split("\n")[:-1]]
    assert "2026-01-01" not in stamps


# -- output beyond the credit --------------------------------------------------------------------------------


def test_a_client_that_overdraws_its_output_is_given_up(hs: Hs) -> None:
    """Nobody reads the server's stdout, so nothing of it is taken."""
    hs.file(["echo good"])
    with server(hs, "tasks.in", "-b1") as process:
        with rogue(hs, "0198c0de-0000-7000-8000-000000000001") as bad:
            bad.join()
            bad.until(lambda: bad.has(msg.Work))
            before = peak(process.pid)
            for _ in range(200):
                bad.say(msg.Output(b"x" * (1 << 20), b""))
                if bad.lost is None:
                    bad.turn()
            bad.until(lambda: False)
            assert bad.lost is not None  # the server's last word may be lost with what it did not read
        assert peak(process.pid) - before < 40 << 20
        good = ended(client(hs))
        assert (good.status, good.out) == (0, "good\n")
        assert process.stdout is not None
        printed = process.stdout.read()
        done = ended(process)
    assert done.status == 0 and len(printed) <= MOST and set(printed) == {ord("x")}
    assert f"it sends output of tasks although {MOST:,} bytes of it wait" in done.err
    assert hs.rows("SELECT state, execution, attempt FROM task") == [("succeeded", 2, 1)]


def test_a_client_that_overdraws_kept_output_is_given_up(hs: Hs) -> None:
    hs.file([f"echo {number}" for number in range(40)])
    with server(hs, "tasks.in", "-b40", "--keep-output") as process:
        with rogue(hs, "0198c0de-0000-7000-8000-000000000002") as bad:
            bad.join()
            bad.until(lambda: bad.has(msg.Work))
            tasks = next(message for message in bad.heard if isinstance(message, msg.Work)).tasks
            assert len(tasks) == 40
            kept = Kept(bytes(KEPT_MOST), bytes(KEPT_MOST), KEPT_MOST, KEPT_MOST)
            results = [Result(one.id, one.execution, 0, 1.0, 2.0, kept=kept) for one in tasks[:30]]
            bad.say(msg.Results(results))
            bad.until(lambda: False)
            assert bad.lost is not None and "of kept output although too much of it waits" in bad.lost
        assert ended(client(hs)).status == 0
        assert ended(process).status == 0
    assert hs.rows("SELECT count(*), max(execution) FROM task WHERE state = 'succeeded'") == [(40, 2)]


#: On one rank the executor forgets the limit of what may be on its way.
GREEDY = """
import os
if "1" in (os.environ.get("PMI_RANK"), os.environ.get("OMPI_COMM_WORLD_RANK")):
    import hypershell.executor.output
    hypershell.executor.output.WINDOW = 1 << 40
"""


@each_mpi()
def test_a_rank_that_overdraws_its_output_is_lost_and_the_job_goes_on(hs: Hs, mpi: Mpi) -> None:
    (hs.folder / "sitecustomize.py").write_text(GREEDY)
    os.mkfifo(hs.folder / "out")
    reader = os.open(hs.folder / "out", os.O_RDWR)  # it never waits for a writer, and reads nothing for now
    size = 64 << 20
    hs.file([f"head -c {size} /dev/zero | tr '\\0' y; echo; echo $PPID >>pids"])
    env = {"HYPERSHELL_SITE": str(hs.site), "PYTHONPATH": f"{hs.folder}:{ROOT}"}
    words = ["-m", "hypershell", "mpi", "tasks.in", "-o", "out"]
    process = start(mpi, 2, words, env, cwd=hs.folder)
    told: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        told.append(line)
        if "it sends output of tasks although" in line:
            break
    else:
        raise AssertionError(told)
    taken = [0]

    def drain() -> None:
        while data := os.read(reader, 1 << 20):
            taken[0] += len(data)

    threading.Thread(target=drain, daemon=True).start()
    done = finish(process)
    assert done.status == 75, done.stderr
    assert taken[0] <= MOST
    assert re.search("1 rank was lost with 1 task, which was taken back: rank 1 on", done.stderr), done.stderr
    assert hs.rows("SELECT state FROM task") == [("pending",)]
