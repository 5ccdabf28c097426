"""What one seed means: the work, the policy, and which faults are on (each run draws its own subset)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from msgspec.structs import replace

from hypershell.core.scheduler import Policy

__all__ = ["SICK", "Faults", "Line", "Plan", "Sort", "draw", "large"]


#: How every task ends at a client that is sick.
SICK = 166

#: System and labels of a client.
Sort: TypeAlias = tuple[str, tuple[str, ...]]
ALL_KINDS: tuple[Sort, ...] = (
    ("linux", ()), ("win32", ("gpu",)), ("linux", ("gpu", "big")), ("darwin", ("big",)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One line of input and what becomes of it when it runs."""

    number: int
    group: int
    seconds: float
    failures: int
    """Attempts that fail before one succeeds."""
    timeout: float | None = None
    rejected: bool = False
    deaf: bool = False
    """Ends only by KILL."""
    needs: tuple[tuple[str, str], ...] = ()
    """Tags that choose clients."""
    deadly: bool = False
    """Takes its client with it, half way."""

    def status(self, attempt: int) -> int:
        return 0 if attempt > self.failures else 1 + (self.number + attempt) % 120

    def overdue(self) -> bool:
        return self.timeout is not None and self.timeout < self.seconds


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances per second of virtual time and world, except where said otherwise."""

    crash: float = 0.0
    evict: float = 0.0
    join: float = 0.0
    kill: float = 0.0
    drain: float = 0.0
    interrupt: float = 0.0
    disk_error: float = 0.0
    """Chance of a commit to fail and be tried again."""
    disk_fatal: float = 0.0
    no_start: float = 0.0
    """Chance of a task not to start on a client."""
    replay: float = 0.0
    """Chance of results to arrive a second time, later."""
    cancel: float = 0.0
    """A user cancels a few tasks."""
    change: float = 0.0
    """A user changes a tag of a few tasks that wait."""
    cut: float = 0.0
    """The connection of a client from outside breaks."""
    retire: float = 0.0
    """A client is told by its user to leave."""
    walltime: float = 0.0
    """Chance of a life to be in an allocation that ends, within twice the time that the work takes."""
    short: float = 0.0
    """The machine of a client gets short of something, for a while."""
    idle_out: float | None = None
    """Seconds after which idle clients leave."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    clients: int
    slots: tuple[int, int]
    lines: list[Line]
    source: str
    policy: Policy
    faults: Faults
    latency: float
    commit: float
    batch: int
    """Lines per reading, at most."""
    pause: float
    """Seconds between two readings, at most."""
    bundlewait: float = 5.0
    lives: int = 4
    """Servers that may end by faults; the one after them meets none."""
    check_every: int = 1
    trace: bool = True
    kinds: tuple[Sort, ...] = ALL_KINDS[:1]
    """Systems and labels of clients; each draws one. With several the last life has one client of each, too."""
    sick: float = 0.0
    """The part of clients at which every task fails at once."""
    per_host: int = 1
    """Clients of a host. With several it is hosts that are sick, with all of their clients."""
    outsiders: int = 0
    """Clients beside the others that outlive their servers."""
    reconnect: float = 600.0
    """Seconds for which those wait for a server."""
    notes: list[str] = field(default_factory=list)


def draw(seed: int, clients: int | None = None) -> Plan:
    """The plan of a seed, with so many clients or a number of its own."""
    random = Random(f"plan {seed}")
    drawn = random.choice([1, 2, 5, 5, 10, 20, 50, 200])
    count = clients or drawn
    most = random.choice([1, 1, 2, 4, 16])
    lines = _lines(random, random.choice([0, 1, 10, 50, 200, 200, 400, 2 * count]))
    source = random.choice(["file", "file", "stdin"])
    policy = Policy(
        attempts=random.choice([1, 1, 2, 4]),
        eager=random.random() < 0.3,
        bundlesize=random.choice([None, None, None, 1, 3, 10, 100]),
        window=random.choice([2, 8, 64, 8192]),
        brake=random.random() < 0.2,
        barrier_at_end=source == "file",
        forever=source == "stdin" and random.random() < 0.2,
        durable_dispatch=source == "stdin" or random.random() < 0.3,
        closed=random.random() < 0.5,
        expected=count,
    )
    faults = _faults(random)
    later = Random(f"outside {seed}")  # so that the rest of a seed is as it was before there was this
    policy = replace(policy, reclaim=later.choice([0.5, 10.0, 60.0]), quarantine=later.choice([1, 3, 10, 10]))
    limits = Random(f"drain time {seed}")
    policy = replace(policy, drain_time=limits.choice([0.0, 1.0, 20.0]), stopping=limits.choice([0.0, 3.0]))
    faults = dataclasses.replace(
        faults,
        cut=later.choice([0.0, 1.0, 10.0]),
        retire=later.choice([0.0, 0.0, 0.0, 1.0]),
        walltime=Random(f"walltime {seed}").choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0]),
        change=Random(f"changes {seed}").choice([0.0, 0.0, 0.0, 2.0, 20.0]),
    )
    room = Random(f"room {seed}")
    faults = dataclasses.replace(faults, short=room.choice([0.0, 0.0, 3.0, 30.0]))
    policy = replace(policy, room_wait=room.choice([3.0, 60.0, 60.0]))
    ramp = Random(f"ramp {seed}")
    if ramp.random() < 0.4:
        delay = ramp.choice([0.0, 0.0, 0.7, 20.0, -0.5, -30.0])
        policy = replace(policy, delay_start=delay, release_rate=ramp.choice([0.0, 0.5, 3.0, 50.0, 1e5, None]))
        # Whoever is replaced when idle, and idle until its turn, may leave with its first task for ever.
        faults = dataclasses.replace(faults, idle_out=None)
    policy, lines = _poisoned(Random(f"poison {seed}"), policy, lines)
    kinds = ALL_KINDS[:1]
    if later.random() < 0.3:
        kinds = ALL_KINDS[: later.choice([2, 4])]
        lines = [dataclasses.replace(line, needs=_needs(later, kinds)) for line in lines]
    outsiders = later.choice([0, 0, 0, 1, 3, 10])
    if outsiders:
        faults = dataclasses.replace(faults, kill=later.choice([faults.kill, 1.0, 4.0]))
    return Plan(
        seed=seed,
        clients=count,
        slots=(1, most),
        lines=lines,
        source=source,
        policy=policy,
        faults=faults,
        latency=random.choice([0.0, 0.001, 0.05, 1.0]),
        commit=random.choice([0.0, 0.005, 0.5]),
        batch=random.choice([1, 7, 100, 2000]),
        pause=random.choice([0.0, 0.01, 3.0]),
        bundlewait=random.choice([0.0, 5.0]),
        lives=random.choice([0, 1, 3, 6]),
        check_every=1 if count <= 20 else 50,
        outsiders=outsiders,
        kinds=kinds,
        sick=later.choice([0.0, 0.0, 0.0, 0.1, 0.5, 1.0]),
        reconnect=later.choice([2.0, 600.0, 600.0]),
        per_host=Random(f"several {seed}").choice([1, 1, 1, 4]),
    )


def _poisoned(random: Random, policy: Policy, lines: list[Line]) -> tuple[Policy, list[Line]]:
    """When tasks fail that were in deaths of their clients; some of them are to blame."""
    policy = replace(policy, poison=random.choice([None, None, 3, 5, 0]))
    if random.random() < 0.4 and policy.poison != 0 and not policy.closed:  # else nobody would come for the rest
        part = random.choice([0.01, 0.05, 0.3])
        lines = [dataclasses.replace(line, deadly=random.random() < part) for line in lines]
    return policy, lines


def large(seed: int, clients: int = 10_000, per_client: int = 3) -> Plan:
    """Many clients, a few of which die; one server, no trace."""
    random = Random(f"large {seed}")
    lines = [Line(n, 0, random.expovariate(0.2), int(random.random() < 0.05)) for n in range(clients * per_client)]
    return Plan(
        seed=seed,
        clients=clients,
        slots=(1, 1),
        lines=lines,
        source="file",
        policy=Policy(attempts=2, barrier_at_end=True, closed=False),
        faults=Faults(crash=5.0),
        latency=0.002,
        commit=0.02,
        batch=2000,
        pause=0.01,
        lives=0,
        check_every=20_000,
        trace=False,
    )


def _lines(random: Random, count: int) -> list[Line]:
    groups = random.choice([[0], [0], [0, 1], [0, 1, 2, 7], [3]])
    mean = random.choice([0.0, 0.01, 1.0, 20.0])
    failing = random.choice([0.0, 0.0, 0.02, 0.3])
    limited = random.choice([0.0, 0.0, 0.2])
    rejected = random.choice([0.0, 0.0, 0.0, 0.02])
    lines = []
    for number in range(count):
        seconds = random.expovariate(1 / mean) if mean else 0.0
        fails = random.choice([1, 1, 2, 9]) if random.random() < failing else 0
        timeout = mean * random.random() + 0.001 if random.random() < limited else None
        group, bad = random.choice(groups), random.random() < rejected
        lines.append(Line(number, group, seconds, fails, timeout, bad, random.random() < 0.05))
    return lines


def _needs(random: Random, kinds: tuple[Sort, ...]) -> tuple[tuple[str, str], ...]:
    """Tags that one of the kinds of clients satisfies; mostly none."""
    if random.random() < 0.5:
        return ()
    system, labels = random.choice(kinds)
    needs = [("os", "windows" if system == "win32" else random.choice([system, "posix"]))]
    if random.random() < 0.3:
        needs = [("os", "any")]
    if labels and random.random() < 0.5:
        needs.append(("label", random.choice(labels)))
    return tuple(needs)


def _faults(random: Random) -> Faults:
    def sometimes(rate: float, chance: float = 0.4) -> float:
        return rate if random.random() < chance else 0.0

    return Faults(
        crash=sometimes(random.choice([0.5, 3.0])),
        evict=sometimes(random.choice([0.5, 5.0]), 0.3),
        join=sometimes(0.5),
        kill=sometimes(0.2),
        drain=sometimes(0.1),
        interrupt=sometimes(0.1),
        disk_error=sometimes(0.2, 0.3),
        disk_fatal=sometimes(0.02, 0.3),
        no_start=sometimes(0.05, 0.2),
        replay=sometimes(0.1),
        idle_out=random.choice([None, None, None, 2.0]),
        cancel=sometimes(random.choice([0.5, 5.0])),
    )
