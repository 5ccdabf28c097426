"""Every message between server and client, one struct each; their bytes are the business of ``codec``.

Tags are fixed integers: a number once given is never used for something else.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from hypershell.core.fields import Count, Id, Int32, Int64, Name, Path, Real, Seconds, Slots, Text
from hypershell.core.model import ClientInfo, Result, Room, Task

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

#: Id and execution of a task.
Execution: TypeAlias = tuple[Id, Int32]


class ClientSettings(Struct, array_like=True, frozen=True):
    """All that a client must know; a worker rank reads no configuration of its own. Times in seconds.

    What the system has as bytes (folders, variables) travels as these bytes.
    """

    slots: Slots
    bundlesize: Slots | None
    bundlewait: Seconds
    signalwait: Seconds
    idle_timeout: Seconds | None
    task_timeout: Real | None
    """Of a client that has one of its own; it goes before those of submissions (``Context.timeout``)."""
    task_cwd: Path | None
    capture: bool
    capture_dir: Path
    log_level: Name
    log_style: Name
    server_id: Name
    server_host: Name
    task_env: Annotated[str, Meta(pattern="^(rank|job|none)\\Z")] = "rank"
    """How much of the launcher's environment its tasks do without: ``rank``, ``job`` or ``none``."""
    task_bind: Annotated[str, Meta(pattern="^(none|share|cores)\\Z")] = "share"
    """Which cores they may use: ``none``, ``share`` or ``cores``."""
    ratelimit: Annotated[float, Meta(gt=0, le=1e18)] | None = None
    """Tasks that may start per second."""
    folder_mode: Annotated[int, Meta(ge=0o700, le=0o770)] = 0o700
    """Permissions of folders of captured files; the files have these without x."""


class Context(Struct, array_like=True, frozen=True):
    """What all tasks of a submission share; sent to a client once, before the first of them.

    Its texts come out of rows: one that cannot be used fails these tasks, not the message.
    """

    submission: Int64
    template: bytes
    cwd: bytes
    submit_id: str
    submit_host: str
    keep_output: bool = False
    """Results carry what their tasks printed (``core.model.Kept``)."""
    waited_for: bool = False
    """Somebody waits for each of these results: they go back at once."""
    timeout: Real | None = None
    """Longest time that each of the tasks may run, seconds."""
    capture: bool = False
    """What each task prints goes into files of its own, where the client has the server's directories."""
    exports: dict[bytes, bytes] = {}
    """Variables for all of the tasks."""


class Startup(Struct, array_like=True, frozen=True):
    """When a rank was how far, in seconds since the epoch by its own clock."""

    process: Real
    """Its process began."""
    main: Real
    """The interpreter ran our first line."""
    imported: Real
    """All was imported, the MPI library loaded, and MPI_Init began."""
    initialized: Real
    """MPI_Init was over."""


class Hello(Struct, array_like=True, frozen=True, tag=1):
    protocol: Int32
    info: ClientInfo
    holds: list[Execution] = []
    """Of a client that comes back: executions (id, execution) that it has in hand, ended ones too."""
    startup: Startup | None = None
    """Of a rank."""


class Results(Struct, array_like=True, frozen=True, tag=2):
    results: list[Result]
    returned: list[Execution] = []
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

    reason: Text


class Welcome(Struct, array_like=True, frozen=True, tag=33):
    settings: ClientSettings


class Work(Struct, array_like=True, frozen=True, tag=34):
    tasks: list[Task]
    contexts: list[Context] = []


class OutputTaken(Struct, array_like=True, frozen=True, tag=35):
    """The server wrote so many bytes of this client's ``Output``: room for as many more."""

    size: Count


class Drain(Struct, array_like=True, frozen=True, tag=36):
    """Hand back what is queued, finish what runs."""


class Interrupt(Struct, array_like=True, frozen=True, tag=37):
    """Stop what runs; `grace` is the step of the ladder INT, TERM, KILL in seconds (0: KILL at once)."""

    grace: Seconds


class Bye(Struct, array_like=True, frozen=True, tag=38):
    """Nothing more will come: end."""


class Cancel(Struct, array_like=True, frozen=True, tag=39):
    """Stop these executions (id, execution); what has ended or is not there is left alone.

    `signal` is the name or number of the first signal, before the usual ones (``signal_names``).
    """

    tasks: list[Execution]
    signal: Annotated[str, Meta(pattern="^[A-Z0-9_+-]{1,32}\\Z")] | None = None


class KeptTaken(Struct, array_like=True, frozen=True, tag=40):
    """So many bytes of kept output in this client's ``Results`` are durable: room for as many more."""

    size: Count


class Acknowledged(Struct, array_like=True, frozen=True, tag=41):
    """The first `count` of this client's ``Results`` since its last ``Hello`` are durable: it may forget them."""

    count: Count


class Recall(Struct, array_like=True, frozen=True, tag=42):
    """Others have nothing to do: hand back those of these executions (id, execution) that have not started."""

    tasks: list[Execution]


ClientMessage: TypeAlias = Hello | Results | Output | Leave
ServerMessage: TypeAlias = (
    Welcome | Work | OutputTaken | Drain | Interrupt | Bye | Cancel | KeptTaken | Acknowledged | Recall
)
