"""What the checker writes down: the tasks as committed, and what one server must have in mind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypershell.core.model import Task
from hypershell.core.scheduler import Policy

__all__ = ["Book", "Life"]


@dataclass(slots=True)
class Book:
    """A task as committed."""

    line: int
    group: int
    attempt: int
    previous: str | None
    state: str = "pending"
    execution: int = 0
    status: int | None = None
    next: str | None = None
    settled: bool = False
    """Cancelled by a user while it was pending."""
    who: int | None = None
    """The client that has it and may come back with it after its server is gone."""


@dataclass(slots=True)
class Life:
    """What one server must have in mind."""

    policy: Policy
    group_of: dict[str, int] = field(default_factory=dict)
    line_of: dict[str, int] = field(default_factory=dict)
    attempt_of: dict[str, int] = field(default_factory=dict)
    execution_of: dict[str, int] = field(default_factory=dict)
    seen: dict[str, Task] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    unfinished: Counter[int] = field(default_factory=Counter)
    since: dict[int, int] = field(default_factory=dict)
    """Group -> the reading with which its present work began."""
    readings: int = 0
    bad_since: dict[int, int] = field(default_factory=dict)
    """Group -> the reading of its first bad line."""
    failed: Counter[int] = field(default_factory=Counter)
    current: int | None = None
    began: int = 0
    """The reading with which the work of `current` had begun when it was chosen."""
    gave_way: set[int] = field(default_factory=set)
    """Groups that were set aside, since nobody was there for what they had left."""
    feed_open: bool = True
    holder: dict[str, int] = field(default_factory=dict)
    holding: Counter[int] = field(default_factory=Counter)
    sent: set[tuple[str, int]] = field(default_factory=set)
    freed: set[tuple[int, str, int]] = field(default_factory=set)
    failed_there: set[tuple[int, str, int]] = field(default_factory=set)
    set_aside: set[int] = field(default_factory=set)
    hosts_aside: set[int] = field(default_factory=set)
    """Clients of which it was said that they get no more tasks (who they are, not their numbers)."""
    taken_back: list[int] = field(default_factory=list)
    """Whose failed tasks were taken back by the event that is dealt with."""
    slots: dict[int, int] = field(default_factory=dict)
    room: dict[int, int] = field(default_factory=dict)
    """How many of its slots a client can use, where it said so."""
    moved: float = 0.0
    """When a task started or ended last."""
    seen_clients: set[int] = field(default_factory=set)
    answered: bool = False
    stops: list[str] = field(default_factory=list)
    allotted: tuple[float, float] | None = None
    """When the allocation ends, and how long that was when it became known."""
    seq: int = 0
    durable: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    told: dict[str, bool] = field(default_factory=dict)
    """Tasks that the server knows to be cancelled; whether the store has the last word."""
    version: dict[str, int] = field(default_factory=dict)
    """The oldest version of each task that may still be given out."""
    withdrawn: set[str] = field(default_factory=set)
    """Those of them that it need not say anything about any more."""
    cautious: bool = False
    """An earlier server died with tasks in flight."""
    away: dict[str, int] = field(default_factory=dict)
    """Tasks that clients of an earlier server have: task -> who."""
    until: float = 0.0
    """How long nobody else may get them."""
    back: set[int] = field(default_factory=set)
    """Those clients that came back to this server."""
    offers: dict[int, set[tuple[str, int]]] = field(default_factory=dict)
    """What each client had in hand when it joined."""
    touched: set[str] = field(default_factory=set)
    """Tasks that this server gave out, or knows to be away."""
    lost_with: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    """Clients that were lost and may come back, and what they had."""
    leaving: set[int] = field(default_factory=set)
    heard: dict[int, list[int]] = field(default_factory=dict)
    """Client -> for each of its messages with results the record that must be durable."""
    applied: dict[int, int] = field(default_factory=dict)
    """Client -> the last record with a result of it."""
