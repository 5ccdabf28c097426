"""The words of the client's machine: past-tense facts that it is told, and imperatives that it answers with."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from hypershell.core.model import Kept, Result, Room, Task
from hypershell.proto.messages import ClientSettings, Context, Leave

__all__ = [
    "Action",
    "CancelOrdered",
    "Dismissed",
    "DrainOrdered",
    "End",
    "Event",
    "Exited",
    "Expand",
    "Expanded",
    "Greet",
    "Interrupted",
    "KeptDurable",
    "Lack",
    "LeaderEnded",
    "RecallOrdered",
    "Report",
    "ResultsKept",
    "Say",
    "ServerAway",
    "ServerBack",
    "ServerLost",
    "ServerReached",
    "SignalCame",
    "SignalTask",
    "Start",
    "StartFailed",
    "TimePassed",
    "Unseen",
    "Warn",
    "WorkArrived",
]

# Events: what has happened


class WorkArrived(Struct, frozen=True, gc=False):
    """The server sent tasks, and what their submissions share where it is new."""

    tasks: list[Task]
    contexts: list[Context] = []


class Lack(Struct, frozen=True, gc=False):
    """What the machine is short of, so that something could not be started; nobody's fault."""

    reason: str
    """Without anything of the task itself: many tasks meet the same."""
    shared: bool = False
    """Tasks that run need of it as well: processes, memory."""


class Expanded(Struct, frozen=True, gc=False):
    """The commands of ``Expand`` ended: their outputs in order, or why there are none."""

    id: str
    outputs: list[str] = []
    error: str | None = None
    lack: Lack | None = None
    """One of them could not be started for want of this."""


class StartFailed(Struct, frozen=True, gc=False):
    """A task could not be started; there is no process."""

    id: str
    error: str
    time: float
    lack: Lack | None = None
    """The task is not to blame: this is missing."""


class Unseen(Struct, frozen=True, gc=False):
    """The client could not look: it was stopped, or had no processor time. All times are by the clock of `now`."""

    since: float
    until: float
    ended: tuple[float, float] | None = None
    """Between which times it ended, where this is told of something that did."""


class LeaderEnded(Struct, frozen=True, gc=False):
    """The leader of a task ended, and its last output is still being read: its time limit counts no longer."""

    id: str
    unseen: Unseen | None = None


class Exited(Struct, frozen=True, gc=False):
    """The leader of a task ended. `status` is its exit status, -n for a death by signal n; `maxrss` in bytes."""

    id: str
    status: int
    start: float
    end: float
    utime: float | None = None
    stime: float | None = None
    maxrss: float | None = None
    outpath: str | None = None
    errpath: str | None = None
    kept: Kept | None = None
    unseen: Unseen | None = None
    """Where nobody looked when it ended, and no ``LeaderEnded`` has told so."""


class DrainOrdered(Struct, frozen=True, gc=False):
    """Start nothing more. With `leave`, the client ends when what runs has ended; else the server will say."""

    leave: bool = False


class Interrupted(Struct, frozen=True, gc=False):
    """Stop what runs, by INT, TERM, KILL with `grace` seconds between (0: KILL at once).

    With `hurry` it is TERM, and KILL after 0.1 s. `leave` as in ``DrainOrdered``.
    """

    grace: float
    leave: bool = False
    hurry: bool = False


class CancelOrdered(Struct, frozen=True, gc=False):
    """The user wants these executions (id, execution) stopped or not started; the client goes on.

    `signal` is the number of the first signal, before those of the ladder; None: the ladder alone.
    """

    tasks: list[tuple[str, int]]
    signal: int | None = None


class RecallOrdered(Struct, frozen=True, gc=False):
    """Others could start these executions (id, execution) at once: what waits here goes back."""

    tasks: list[tuple[str, int]]


class KeptDurable(Struct, frozen=True, gc=False):
    """The server committed so many bytes of the kept output that it was sent."""

    size: int


class Dismissed(Struct, frozen=True, gc=False):
    """The server said that nothing more will come."""


class ServerLost(Struct, frozen=True, gc=False):
    reason: str


class ServerAway(Struct, frozen=True, gc=False):
    """The connection is gone; somebody tries to make another one, and the work goes on meanwhile."""

    reason: str


class ServerReached(Struct, frozen=True, gc=False):
    """There is a connection again. The answer is ``Greet``."""


class ServerBack(Struct, frozen=True, gc=False):
    """The server, or the one that took its place, has answered ``Greet``."""

    settings: ClientSettings


class ResultsKept(Struct, frozen=True, gc=False):
    """The first `count` reports since ``ServerBack``, or since the beginning, are durable."""

    count: int


class SignalCame(Struct, frozen=True, gc=False):
    """This process got signal `number`; a launcher may have sent it to the tasks as well."""

    number: int


class TimePassed(Struct, frozen=True, gc=False):
    """`deadline()` is reached; `unseen` where it was while nobody looked."""

    unseen: Unseen | None = None


Event: TypeAlias = (
    WorkArrived
    | Expanded
    | StartFailed
    | LeaderEnded
    | Exited
    | DrainOrdered
    | CancelOrdered
    | RecallOrdered
    | Interrupted
    | KeptDurable
    | SignalCame
    | Dismissed
    | ServerLost
    | ServerAway
    | ServerReached
    | ServerBack
    | ResultsKept
    | TimePassed
)


# Actions: what is to be done


class Expand(Struct, frozen=True, gc=False):
    """Run the ``{% %}`` commands of a task, beside the loop; the answer is ``Expanded``."""

    id: str
    commands: tuple[str, ...]
    context: Context
    slot: int = 0


class Start(Struct, frozen=True, gc=False):
    """Start a task; `command` is None where it is the task's own line. The answer is Exited or StartFailed."""

    task: Task
    command: str | None
    context: Context
    slot: int = 0


class SignalTask(Struct, frozen=True, gc=False):
    """Send a signal to the process group of a task, or of its ``{% %}`` command."""

    id: str
    signal: int


class Report(Struct, frozen=True, gc=False):
    """Send results, and executions that gave none."""

    results: list[Result]
    returned: list[tuple[str, int]]
    leaving: bool = False
    """Nothing more is to be sent to this client."""
    room: Room | None = None
    """Where that has changed: how many tasks can run here."""


class Greet(Struct, frozen=True, gc=False):
    """Say hello to the server that was reached, with the executions that are here, ended ones too."""

    holds: list[tuple[str, int]]


class Say(Struct, frozen=True, gc=False):
    message: Leave


class End(Struct, frozen=True, gc=False):
    """All is done: the client ends. The last action of a machine."""

    reason: str
    lost: bool = False
    """The server never came back."""


class Warn(Struct, frozen=True, gc=False):
    """A line for the log."""

    text: str


Action: TypeAlias = Expand | Start | SignalTask | Report | Greet | Say | End | Warn
