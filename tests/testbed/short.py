"""Runs under limits of descriptors that are drawn: every task is recorded and none failed, or one line says why."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.testbed.cli import Hs
from tests.testbed.limited import descriptors
from tests.testbed.mpi import Mpi, clean_environ
from tests.testbed.waiting import until

__all__ = ["KINDS", "short_round"]

KINDS = ("cluster", "mpi", "client")

_TASKS = 200
_PATIENCE = 300.0


def short_round(kind: str, limit: int, mpi: Mpi | None = None) -> str:
    """One run with so many descriptors for each process; how it ended. Raises ``AssertionError``."""
    with tempfile.TemporaryDirectory(prefix="hs-short-") as name:
        hs = Hs(Path(name))
        draw = random.Random(limit)
        hs.file([f"sleep {draw.uniform(0, 0.2):.3f}; echo {n}" for n in range(_TASKS)])
        if kind == "client":
            status, out, err = _client(hs, limit)
        else:
            status, out, err = _alone(hs, kind, limit, mpi)
        told = f"{kind}, {limit} descriptors: status {status}: {err[-2000:]}"
        states = hs.states() if hs.db.exists() and hs.db.stat().st_size else {}
        if status == 0:
            assert states == {"succeeded": _TASKS}, f"{states}, {told}"
            assert sorted(map(int, out.split())) == list(range(_TASKS)), told
            return "all succeeded"
        assert "Traceback" not in err and "failed" not in states, f"{states}, {told}"
        if status == 75:
            assert "No task could be started for" in err, told
            return "stood still"
        # With fewer yet, a launcher of MPI does not come as far as to start us.
        assert kind == "mpi" or (status == 5 and "CRITICAL [hypershell] too few file descriptors" in err), told
        return "refused"


def _alone(hs: Hs, kind: str, limit: int, mpi: Mpi | None) -> tuple[int, str, str]:
    words = ["-m", "hypershell", kind, "tasks.in", "-N", "50"]
    words = [sys.executable, *words] if mpi is None else mpi.command(3, words)
    environ = hs.environ() if mpi is None else clean_environ({"HYPERSHELL_SITE": str(hs.site)})
    words = descriptors(words, limit, limit)
    done = subprocess.run(words, cwd=hs.folder, env=environ, capture_output=True, text=True, timeout=_PATIENCE)
    return done.returncode, done.stdout, done.stderr


def _begin(hs: Hs, words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words, cwd=hs.folder, env=hs.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _client(hs: Hs, limit: int) -> tuple[int, str, str]:
    """A server with plenty, a client with few descriptors, and another one that has enough for two tasks."""
    process = hs.start("server", "tasks.in", "--port", "0", "--connect-file", "c.json")
    clients: list[subprocess.Popen[bytes]] = []
    try:
        until((hs.folder / "c.json").exists)
        join = hs.command("client", "--connect", "c.json", "-N")
        for words in (descriptors([*join, "50"], limit, limit), [*join, "2"]):
            clients += [_begin(hs, words)]
        err = process.communicate(timeout=_PATIENCE)[1]
        said = [one.communicate(timeout=_PATIENCE) for one in clients]
    finally:
        for one in (process, *clients):
            one.kill()
    errors = b"".join([err, *(text for _, text in said)])
    return process.returncode, b"".join(out for out, _ in said).decode(), errors.decode()
