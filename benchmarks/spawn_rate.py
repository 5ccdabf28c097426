"""How close does the executor come to a C loop of posix_spawn, and to a bare Python loop of spawn, pipes and wait?

All three run in turn, round after round, so that whatever else the machine does hits them alike; the ratios are
those of one round. Options: ``--tasks N`` of one measurement, ``--rounds N``, ``--slots N``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.report import report
from hypershell.core.model import ClientInfo, Task
from hypershell.executor.loop import Executor
from hypershell.loopback import LoopbackEnd, loopback
from hypershell.proto import messages
from hypershell.reactor import Poller, run

#: (command, whether a shell is needed, bar and goal of the ratio to the C loop, which always uses the shell)
COMMANDS = (("true", True, 0.85, 0.95), ("echo x", True, 0.85, 0.95), ("/bin/echo x", False, 1.4, 1.7))
BARE_BAR, BARE_GOAL = 0.90, 0.97

SETTINGS = messages.ClientSettings(
    slots=2,
    bundlesize=None,
    bundlewait=5.0,
    signalwait=10.0,
    idle_timeout=None,
    task_timeout=None,
    task_cwd=None,
    capture=False,
    capture_dir=b"",
    log_level="warning",
    log_style="default",
    server_id="00000000-0000-7000-8000-000000000000",
    server_host="localhost",
)


class NullServer:
    """Hands out tasks as fast as results come back; does nothing else."""

    def __init__(self, end: LoopbackEnd, command: str, count: int, slots: int) -> None:
        self.finished = False
        self._end = end
        self._count = count
        self._done = 0
        self._slots = slots
        now = time.time()
        ids = [f"01935f2e-7a00-7abc-8def-{number:012x}" for number in range(count)]
        self._tasks = iter([Task(id, command, 1, 1, submit_time=now, schedule_time=now) for id in ids])

    def _send(self, count: int, contexts: list[messages.Context]) -> None:
        tasks = [task for _, task in zip(range(count), self._tasks, strict=False)]
        if tasks:
            self._end.send(1, messages.Work(tasks, contexts))

    def turn(self, now: float) -> bool:
        for delivery in self._end.poll():
            message = delivery.message
            if isinstance(message, messages.Results):
                self._done += len(message.results)
                self._send(len(message.results), [])
                if self._done == self._count:
                    self._end.send(1, messages.Bye())
                    self.finished = True
            elif isinstance(message, messages.Output):
                self._end.send(1, messages.OutputTaken(len(message.out) + len(message.err)))
            elif isinstance(message, messages.Hello):
                self._end.send(1, messages.Welcome(replace(SETTINGS, slots=self._slots)))
                context = messages.Context(1, b"{}", os.fsencode(os.getcwd()), SETTINGS.server_id, "localhost")
                self._send(32 * self._slots, [context])
        return False

    def deadline(self, now: float) -> float | None:
        hint = self._end.wait_hint(now)
        return None if hint is None else now + hint


def c_loop(program: Path, command: str, count: int, slots: int) -> float:
    """Seconds of the C loop."""
    done = subprocess.run(
        [program, str(count), str(slots), command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
    )
    return float(done.stderr)


def bare_loop(command: str, shell: bool, count: int, slots: int) -> float:
    """Seconds of spawn + pipes + reap with nothing around it, written as tightly as Python allows."""
    words = ("/bin/sh", "-c", command) if shell else tuple(command.split())
    environ = dict(os.environb)
    environ.update((b"TASK_%d" % number, b"null") for number in range(31))
    null = os.open(os.devnull, os.O_RDWR)
    dup = os.POSIX_SPAWN_DUP2
    pipes: dict[int, tuple[int, int]] = {}
    started = 0
    begin = time.perf_counter()
    while started < count or pipes:
        while len(pipes) < slots and started < count:
            out, out_end = os.pipe()
            err, err_end = os.pipe()
            actions = ((dup, null, 0), (dup, out_end, 1), (dup, err_end, 2))
            pid = os.posix_spawn(words[0], words, environ, file_actions=actions, setpgroup=0, setsigmask=())
            os.close(out_end)
            os.close(err_end)
            pipes[pid] = (out, err)
            started += 1
        pid, _, _ = os.wait4(-1, 0)
        for fd in pipes.pop(pid):
            while os.read(fd, 65_536):
                pass
            os.close(fd)
    took = time.perf_counter() - begin
    os.close(null)
    return took


def executor(command: str, count: int, slots: int) -> float:
    """Seconds of the whole executor over a loopback, its start and end included."""
    server_end, client_end = loopback()
    server = NullServer(server_end, command, count, slots)
    poller = Poller()
    info = ClientInfo("01935f2e-7a00-7abc-8def-0123456789ab", "localhost", os.getpid(), slots, "0", sys.platform)
    begin = time.perf_counter()
    part = Executor(poller, client_end, info)
    run(poller, [server, part])
    took = time.perf_counter() - begin
    part.close()
    poller.close()
    return took


@contextmanager
def compiled() -> Iterator[Path]:
    """The C loop, built by cc."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "spawn_loop"
        subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("spawn_loop.c")], check=True)
        yield program


def measure(program: Path, command: str, shell: bool, count: int, slots: int, rounds: int) -> list[dict[str, Any]]:
    """Rates, ratios and our own CPU time per task, for one command."""
    names = ("C loop", "bare Python loop", "executor")
    runs: tuple[Callable[[], float], ...] = (
        lambda: c_loop(program, command, count, slots),
        lambda: bare_loop(command, shell, count, slots),
        lambda: executor(command, count, slots),
    )
    seconds: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for place in range(3):
            name, once = names[(place + number) % 3], runs[(place + number) % 3]
            before = time.process_time()
            seconds[name].append(once())
            cpu[name].append(time.process_time() - before)
    rows = []
    for name in names:
        to_c = [c / own for c, own in zip(seconds["C loop"], seconds[name], strict=True)]
        to_bare = [bare / own for bare, own in zip(seconds["bare Python loop"], seconds[name], strict=True)]
        rows.append(
            {
                "command": command,
                "loop": name,
                "tasks/s": round(count / statistics.median(seconds[name])),
                "to C": round(statistics.median(to_c), 3),
                "spread": f"{min(to_c):.2f}-{max(to_c):.2f}",
                "to bare": round(statistics.median(to_bare), 3),
                "own CPU us": round(statistics.median(cpu[name]) / count * 1e6) if name != "C loop" else "",
            }
        )
    return rows


def main() -> None:
    """Measure, and print with bar and goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with compiled() as program:
        for command, shell, bar, goal in COMMANDS:
            for row in measure(program, command, shell, options.tasks, options.slots, options.rounds):
                ours = row["loop"] == "executor"
                row["bar, goal to C"] = f"{bar:g}, {goal:g}" if ours else ""
                row["bar, goal to bare"] = f"{BARE_BAR:g}, {BARE_GOAL:g}" if ours else ""
                rows.append(row)
    report("spawn_rate", rows)


if __name__ == "__main__":
    main()
