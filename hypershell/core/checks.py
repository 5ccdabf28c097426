"""What must be true of a scheduler between two events, as a list of what is not.

Pure, and costs a walk over all that is in memory: for tests, and for a debug switch of the server. Every line says
which rule is broken and by what. The simulation has a second checker that sees only what goes in and out.
"""

from __future__ import annotations

from collections import Counter

from hypershell.core.clients import Client
from hypershell.core.groups import LATE, Group
from hypershell.core.model import Task
from hypershell.core.poison import lane_for
from hypershell.core.scheduler import Scheduler

__all__ = ["check", "credit"]

#: Tasks that may wait in a client's queue where bundles adapt (``core.bundles``).
MOST_AHEAD = 512


def credit(slots: int, bundlesize: int | None) -> int:
    """The most that a client of so many slots may hold: a fixed bundle per round of slots and one more, or 512."""
    if bundlesize is None:
        return slots + MOST_AHEAD
    return -(-slots // bundlesize) * bundlesize + bundlesize


def check(scheduler: Scheduler, attempts: int | None = None) -> list[str]:
    """The broken rules of `scheduler`, empty where all is well; to be called between two events.

    `attempts` is the most that any task may have; None where rows of an earlier run may have had more retries.
    """
    wrong: list[str] = []
    _check_places(scheduler, wrong)
    for group in scheduler._groups:
        _check_group(scheduler, group, attempts, wrong)
    for client in scheduler._clients.all():
        _check_client(scheduler, client, wrong)
    _check_barrier(scheduler, wrong)
    _check_queue(scheduler, wrong)
    _check_judged(scheduler, wrong)
    _check_outbox(scheduler, wrong)
    return wrong


def _check_places(scheduler: Scheduler, wrong: list[str]) -> None:
    """Every task in memory is in one place, and the set of known tasks is just these."""
    places: Counter[str] = Counter()
    for group in scheduler._groups:
        places.update(task.id for _, lane in group.all_lanes() for task in [*lane.front, *lane.ready])
    for client in scheduler._clients.all():
        places.update(client.holding.keys())
    for tasks in scheduler._withheld.values():
        places.update(tasks.keys())
    wrong += [f"task {key} is in {count} places" for key, count in places.items() if count > 1]
    wrong += [f"task {key} is in memory but not known" for key in places if key not in scheduler._known]
    wrong += [f"task {key} is known but nowhere" for key in sorted(scheduler._known) if key not in places]


def _check_group(scheduler: Scheduler, group: Group, attempts: int | None, wrong: list[str]) -> None:
    name = f"group {group.number}"
    held = 0
    for client in scheduler._clients.all():
        for task in client.holding.values():
            if task.group == group.number:
                held += 1
                if task.execution < 1:
                    wrong.append(f"{name}: task {task.id} is in flight with execution {task.execution}")
    if held != group.inflight:
        wrong.append(f"{name}: {group.inflight} in flight, but clients hold {held}")
    away = sum(t.group == group.number for tasks in scheduler._withheld.values() for t in tasks.values())
    if away != group.away:
        wrong.append(f"{name}: {group.away} away, but {away} are withheld")
    if group.stored < 0 or group.fresh < 0:
        wrong.append(f"{name}: {group.stored} stored, {group.fresh} of them fresh")
    early = group.number in scheduler._groups.early
    if group is not scheduler._groups.current and not early and (group.in_memory() or group.inflight):
        wrong.append(f"{name}: {group.in_memory()} ready and {group.inflight} in flight while it is not current")
    tasks: list[Task] = [task for _, lane in group.all_lanes() for task in [*lane.front, *lane.ready]]
    for need, lane in group.all_lanes():
        strays = [t.id for t in [*lane.front, *lane.ready] if lane_for(t, group.family) != need]
        if strays and need != LATE:
            wrong.append(f"{name}: tasks {strays} wait in the lane of {need}")
    for task in tasks:
        if task.group != group.number:
            wrong.append(f"{name}: holds task {task.id} of group {task.group}")
        if task.attempt < 1 or (attempts is not None and task.attempt > attempts):
            wrong.append(f"{name}: task {task.id} has attempt {task.attempt} of {attempts}")


def _check_client(scheduler: Scheduler, client: Client, wrong: list[str]) -> None:
    name = f"client {client.number}"
    announced = max(1, client.info.slots)  # of which it may be able to use fewer by now
    most = credit(announced, scheduler.policy.bundlesize)
    if len(client.holding) > most:
        wrong.append(f"{name}: holds {len(client.holding)}, its {announced} slots allow {most}")
    if not 0 <= client.slots <= announced:
        wrong.append(f"{name}: {client.slots} of its {announced} slots can be used")
    wrong += [f"{name}: holds {task.id} as {key}" for key, task in client.holding.items() if task.id != key]
    current = scheduler._groups.current
    served = not client.draining and not client.aside and not client.waits and client.slots
    hungry = not client.holding and served and scheduler.stopping is None
    if hungry and current is not None and current.for_kind(client.kind) and not scheduler._stalled:
        wrong.append(f"{name}: has nothing while {current.for_kind(client.kind)} tasks are ready")
    if scheduler.stopping is not None and not client.draining:
        wrong.append(f"{name}: may get work while the run is stopping")


def _check_barrier(scheduler: Scheduler, wrong: list[str]) -> None:
    """From a FILE nothing of a group runs before all below it has ended well."""
    current = scheduler._groups.current
    if current is None or not scheduler.policy.barrier_at_end:
        return
    if current.number > 0 and scheduler._feeds:
        wrong.append(f"group {current.number} runs before the end of the file")
    wrong += [
        f"group {current.number} runs, {group.number} is not done ({group.failed} failed)"
        for group in scheduler._groups
        if group.number < current.number and (group.unfinished() or group.failed)
    ]


def _check_queue(scheduler: Scheduler, wrong: list[str]) -> None:
    """The queue of those who may get work: each once, and only who says so."""
    clients = scheduler._clients
    queued = Counter(
        client.number for kind in clients.kinds() for client in kind.queue if clients.get(client.number) is client
    )
    stirred = [kind for kind in clients.kinds() if kind.stirred]
    if Counter(map(id, stirred)) != Counter(map(id, clients.stirred)):
        wrong.append(f"{len(stirred)} kinds of clients are stirred, {len(clients.stirred)} stand in line")
    wrong += [
        f"client {client.number}: asks {client.asks}, but is {queued[client.number]} times in line"
        for client in clients.all()
        if queued[client.number] != client.asks
    ]
    stuck = [client.number for client in clients.all() if client.stuck is not None]
    if sorted(stuck) != sorted(scheduler._stuck):
        wrong.append(f"clients {stuck} cannot start anything, {list(scheduler._stuck)} are known")
    slots = sum(client.slots for client in clients.all())
    if slots != clients.slots:
        wrong.append(f"clients have {slots} slots, {clients.slots} are counted")


def _check_judged(scheduler: Scheduler, wrong: list[str]) -> None:
    """The counts by which clients are set aside."""
    few = scheduler._few()
    for kind in scheduler._clients.kinds():
        own = [client for client in scheduler._clients.all() if client.kind is kind]
        doubts = [client for client in own if client.aside and client.info.id in kind.doubts]
        guilty = [client for client in own if client.aside and client not in doubts]
        failing = [client for client in own if client.streak >= few and client not in guilty]
        true = (len(doubts), len(guilty), len(failing))
        told = (len(kind.doubts), kind.guilty, kind.failing)
        if scheduler.policy.quarantine and true != told:
            wrong.append(f"in doubt, guilty and failing are {true} clients, {told} are counted")
        hosts = Counter(client.info.host for client in own)
        nodes = list(kind.nodes.values())
        bad = sum(node.streak >= few and not node.aside for node in nodes)
        there = (dict(hosts), bad, sum(node.aside for node in nodes))
        counted = ({node.host: node.clients for node in nodes}, kind.failing_nodes, kind.guilty_nodes)
        if scheduler.policy.quarantine and there != counted:
            wrong.append(f"clients by host, failing hosts and those set aside are {there}, {counted} are counted")


def _check_outbox(scheduler: Scheduler, wrong: list[str]) -> None:
    """What waits for its dispatch to be durable is held by a client that is here, in the order of the records."""
    last = scheduler._durable
    for seq, send in scheduler._outbox:
        if seq < last or seq > scheduler._seq:
            wrong.append(f"a dispatch waits for record {seq}, between {last} and {scheduler._seq}")
        last = max(last, seq)
        client = scheduler._clients.get(send.client)
        held = {} if client is None else client.holding
        wrong += [f"task {t.id} waits to be sent to client {send.client}, which has it not" for t in send.tasks
                  if held.get(t.id) is not t]  # fmt: skip
    if scheduler.stopping is not None and scheduler._outbox:
        wrong.append("something waits to be sent while the run is stopping")
    if scheduler._settled and not scheduler._loading:
        wrong.append("settled tasks are remembered while nothing is loading")
