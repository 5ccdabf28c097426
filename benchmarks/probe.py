"""One rank that is looked at from inside: how long, how big, how many files. Started by ``benchmarks.footprint``.

``probe.py OUT bare`` imports mpi4py and ends; ``probe.py OUT worker FILE`` is ``hs mpi FILE``. Rank 1 writes what
it saw into OUT, as JSON. Until then nothing is imported here that a rank would not import itself: ``sys`` and
``time`` are part of the interpreter.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # a rank that is looked at imports no typing for us
    from typing import Any

BEGUN = time.perf_counter()


class Watch:
    """Counts what Python opens and what its importer asks of the file system."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.stats = 0
        self.stages: dict[str, dict[str, object]] = {}
        self._looking = True
        sys.addaudithook(self._heard)
        self._count_stats()

    def _heard(self, event: str, args: tuple[object, ...]) -> None:
        """Audit events "open": ``open``, ``os.open`` and the importer's reading of modules (PEP 578)."""
        if event == "open" and self._looking and isinstance(args[0], str | bytes):
            path = args[0] if isinstance(args[0], str) else args[0].decode(errors="replace")
            if not path.startswith(("/proc/", "/dev/", "/sys/")):
                self.opened.append(path)

    def _count_stats(self) -> None:
        """The importer looks for each module by stat(2), which no audit event tells."""
        import _frozen_importlib_external

        importer: Any = _frozen_importlib_external
        asked = importer._path_stat

        def counted(path: str) -> object:
            self.stats += 1
            return asked(path)

        importer._path_stat = counted

    def snapshot(self, stage: str) -> None:
        """Keep what is true now; a stage that is known stays as it was."""
        if stage in self.stages:
            return
        now, cpu = time.perf_counter(), time.process_time()
        modules = list(sys.modules)
        self._looking = False
        self.stages[stage] = {
            "ms": (now - BEGUN) * 1000,
            "cpu_ms": cpu * 1000,
            "opened": len(self.opened),
            "libraries": len(_libraries()),
            "stats": self.stats,
            "modules": modules,
            **_memory(),
        }
        self._looking = True

    def write(self, path: str) -> None:
        import json

        with open(path, "w", encoding="utf-8") as target:
            json.dump({"stages": self.stages, "opened": self.opened}, target)


def _memory() -> dict[str, object]:
    """MiB by smaps_rollup (proc(5)): resident, proportional and private pages."""
    found = {}
    with open("/proc/self/smaps_rollup", encoding="ascii") as told:
        for line in told:
            name, _, rest = line.partition(":")
            if rest.endswith("kB\n"):
                found[name] = int(rest.split()[0]) / 1024
    return {"rss": found["Rss"], "pss": found["Pss"], "uss": found["Private_Clean"] + found["Private_Dirty"]}


def _libraries() -> set[str]:
    """Shared objects in the memory map: extension modules and what they are linked with."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in maps if line.count("/")}
    return {path for path in paths if ".so" in path.rpartition("/")[2]}


def bare(watch: Watch, out: str) -> int:
    from mpi4py import MPI

    watch.snapshot("ready")
    if MPI.COMM_WORLD.Get_rank() == 1:
        watch.write(out)
    return 0


def worker(watch: Watch, out: str, file: str) -> int:
    """The real command, with two notes: the worker has said Hello; its first result has left."""
    from hypershell.__main__ import main
    from hypershell.mpi.transport import MpiClientEnd

    really = MpiClientEnd.send

    def send(end: MpiClientEnd, peer: int, message: object) -> None:
        really(end, peer, message)
        kind = type(message).__name__
        if kind == "Hello":
            watch.snapshot("ready")
        elif kind == "Results" and "worked" not in watch.stages:
            watch.snapshot("worked")
            watch.write(out)

    setattr(MpiClientEnd, "send", send)  # noqa: B010
    return main(["mpi", file])


if __name__ == "__main__":
    if sys.argv[2] == "bare":
        sys.exit(bare(Watch(), sys.argv[1]))
    sys.exit(worker(Watch(), sys.argv[1], sys.argv[3]))
