"""Every message between server and client, one struct each; their bytes are the business of ``codec``.

Tags are fixed integers: a number once given is never used for something else.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from hypershell.core.model import ClientInfo, Int32, Result, Room, Task

__all__ = [
    "PROTOCOL_VERSION",
    "Acknowledged",
    "Bye",
    "Cancel",
    "ClientMessage",
    "ClientSettings",
    "Context",
    "Drain",
    "Hello",
    "Interrupt",
    "KeptTaken",
    "Leave",
    "Output",
    "OutputTaken",
    "Recall",
    "Results",
    "ServerMessage",
    "Startup",
    "Welcome",
    "Work",
]

PROTOCOL_VERSION = 7


class ClientSettings(Struct, array_like=True, frozen=True):
    """All that a client must know; a worker rank reads no configuration of its own. Times in seconds.

    What the system has as bytes (folders, variables) travels as these bytes.
    """

    slots: int
    bundlesize: int | None
    bundlewait: float
    signalwait: float
    idle_timeout: float | None
    task_timeout: float | None
    """Of a client that has one of its own; it goes before those of submissions (``Context.timeout``)."""
    task_cwd: bytes | None
    capture: bool
    capture_dir: bytes
    log_level: str
    log_style: str
    server_id: str
    server_host: str
    task_env: str = "rank"
    """How much of the launcher's environment its tasks do without: ``rank``, ``job`` or ``none``."""
    task_bind: str = "share"
    """Which cores they may use: ``none``, ``share`` or ``cores``."""
    ratelimit: float | None = None
    """Tasks that may start per second."""


class Context(Struct, array_like=True, frozen=True):
    """What all tasks of a submission share; sent to a client once, before the first of them."""

    submission: int
    template: bytes
    cwd: bytes
    submit_id: str
    submit_host: str
    keep_output: bool = False
    """Results carry what their tasks printed (``core.model.Kept``)."""
    waited_for: bool = False
    """Somebody waits for each of these results: they go back at once."""
    timeout: float | None = None
    """Longest time that each of the tasks may run, seconds."""
    capture: bool = False
    """What each task prints goes into files of its own, where the client has the server's directories."""
    exports: dict[bytes, bytes] = {}
    """Variables for all of the tasks."""


class Startup(Struct, array_like=True, frozen=True):
    """When a rank was how far, in seconds since the epoch by its own clock."""

    process: float
    """Its process began."""
    main: float
    """The interpreter ran our first line."""
    imported: float
    """All was imported, the MPI library loaded, and MPI_Init began."""
    initialized: float
    """MPI_Init was over."""


class Hello(Struct, array_like=True, frozen=True, tag=1):
    protocol: int
    info: ClientInfo
    holds: list[tuple[str, Int32]] = []
    """Of a client that comes back: executions (id, execution) that it has in hand, ended ones too."""
    startup: Startup | None = None
    """Of a rank."""


class Results(Struct, array_like=True, frozen=True, tag=2):
    results: list[Result]
    returned: list[tuple[str, int]] = []
    leaving: bool = False
    """The client starts nothing more and leaves when what it runs has ended."""
    room: Room | None = None
    """How many tasks can run there, where that has changed."""


class Output(Struct, array_like=True, frozen=True, tag=3):
    """Whole lines (or pieces of overlong ones) that tasks printed."""

    out: bytes
    err: bytes


class Leave(Struct, array_like=True, frozen=True, tag=4):
    """The client ends of its own will and holds nothing any more."""

    reason: str


class Welcome(Struct, array_like=True, frozen=True, tag=33):
    settings: ClientSettings


class Work(Struct, array_like=True, frozen=True, tag=34):
    tasks: list[Task]
    contexts: list[Context] = []


class OutputTaken(Struct, array_like=True, frozen=True, tag=35):
    """The server wrote so many bytes of this client's ``Output``: room for as many more."""

    size: int


class Drain(Struct, array_like=True, frozen=True, tag=36):
    """Hand back what is queued, finish what runs."""


class Interrupt(Struct, array_like=True, frozen=True, tag=37):
    """Stop what runs; `grace` is the step of the ladder INT, TERM, KILL in seconds (0: KILL at once)."""

    grace: float


class Bye(Struct, array_like=True, frozen=True, tag=38):
    """Nothing more will come: end."""


class Cancel(Struct, array_like=True, frozen=True, tag=39):
    """Stop these executions (id, execution); what has ended or is not there is left alone.

    `signal` is the name or number of the first signal, before the usual ones (``signal_names``).
    """

    tasks: list[tuple[str, int]]
    signal: str | None = None


class KeptTaken(Struct, array_like=True, frozen=True, tag=40):
    """So many bytes of kept output in this client's ``Results`` are durable: room for as many more."""

    size: int


class Acknowledged(Struct, array_like=True, frozen=True, tag=41):
    """The first `count` of this client's ``Results`` since its last ``Hello`` are durable: it may forget them."""

    count: int


class Recall(Struct, array_like=True, frozen=True, tag=42):
    """Others have nothing to do: hand back those of these executions (id, execution) that have not started."""

    tasks: list[tuple[str, int]]


ClientMessage: TypeAlias = Hello | Results | Output | Leave
ServerMessage: TypeAlias = (
    Welcome | Work | OutputTaken | Drain | Interrupt | Bye | Cancel | KeptTaken | Acknowledged | Recall
)
