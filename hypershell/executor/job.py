"""One process of a client and what belongs to it, while ``executor.jobs`` starts, watches and reaps it."""

from __future__ import annotations

from hypershell.executor.output import Head, Pipe
from hypershell.executor.vocabulary import Unseen

__all__ = ["Job"]


class Job:
    """A process and what belongs to it.

    ``out_fd`` and ``err_fd`` are pipes that have no ``Pipe`` yet: most tasks end before they need one.
    """

    __slots__ = (
        "end",
        "environ",
        "err",
        "err_fd",
        "files",
        "give_up",
        "heads",
        "id",
        "out",
        "out_fd",
        "outputs",
        "paths",
        "pid",
        "rest",
        "running",
        "signalled",
        "slot",
        "start",
        "status",
        "text",
        "unseen",
        "usage",
    )

    def __init__(self, id: str, pid: int, start: float, out_fd: int, err_fd: int) -> None:
        self.id = id
        self.pid = pid
        self.start = start
        self.out_fd = out_fd
        self.err_fd = err_fd
        self.out: Pipe | None = None
        self.err: Pipe | None = None
        self.running = True
        self.signalled = False
        self.rest: tuple[str, ...] | None = None
        """Further ``{% %}`` commands; None where the job is a task."""
        self.unseen: Unseen | None = None
        """The time in which nobody looked and it ended, until the machine is told."""
        self.paths: tuple[str, str] | None = None
        self.heads: tuple[Head, Head] | None = None
        """What comes back with the result, where its submission asks for that and it writes to pipes."""
        self.files: tuple[int, int] | None = None
        """Where it is asked for and the task writes to files: descriptors that read them."""

    status: int
    usage: tuple[float, float, int]
    """User and system seconds, resident set in units of ``ru_maxrss``."""
    end: float
    give_up: float
    outputs: list[str]
    text: str
    """The ``{% %}`` command of this job."""
    slot: int
    """Where its task will run."""
    environ: dict[bytes, bytes]
    """Of such a command."""
