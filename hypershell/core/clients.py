"""The clients of a server as the scheduler sees them: slots, what they hold and can take, whose turn is next."""

from __future__ import annotations

from collections import deque

from hypershell.core.model import ClientInfo, Task
from hypershell.core.needs import POSIX, Need, needs_met
from hypershell.core.nodes import Node
from hypershell.core.poison import suspect_lane

__all__ = ["Client", "Clients", "Kind"]


class Kind:
    """Clients that can take the same tasks, and the queue of those of them that may have room."""

    __slots__ = ("aside", "clients", "doubts", "failing", "failing_nodes", "guilty", "guilty_nodes", "needs",
                 "nodes", "queue", "stirred", "suspects", "trials", "usual", "weight", "willing")  # fmt: skip

    def __init__(self, info: ClientInfo, family: str) -> None:
        self.needs, self.usual = needs_met(info.system, info.labels, family)
        real = [*self.needs, *([None] if self.usual else [])]
        self.suspects = [suspect_lane(need, trial=False) for need in real]
        self.trials = [suspect_lane(need, trial=True) for need in real]
        """The lanes of suspects that its clients can take."""
        self.clients = 0
        self.queue: deque[Client] = deque()
        self.willing: deque[Client] = deque()
        """Clients that may have a free slot for a suspect."""
        self.aside: dict[str, int] = {}
        """Clients that get nothing since all fails there: id -> last number."""
        self.doubts: dict[str, int] = {}
        """Those of them for which the others have not yet shown that they do better."""
        self.guilty = 0
        """How many of the others of them are here."""
        self.failing = 0
        """Clients that failed a few tasks in a row at once, without the guilty ones."""
        self.nodes: dict[str, Node] = {}
        """The hosts of its clients."""
        self.failing_nodes = 0
        """Hosts that failed a few tasks in a row at once, without those set aside."""
        self.guilty_nodes = 0
        """Hosts set aside, as a whole."""
        self.weight = 0
        """Successes since the last one was set aside."""
        self.stirred = False
        """Whether something may be there for them; it stands in the line of kinds then."""

    def meets(self, need: Need | None) -> bool:
        """Whether its clients can take tasks with `need`."""
        return self.usual if need is None else need in self.needs

    def next(self) -> Client | None:
        """The client that has asked longest and still is here."""
        while self.queue:
            client = self.queue.popleft()
            client.asks = False
            if not client.draining and not client.aside and not client.waits:
                return client
        return None

    def next_willing(self) -> Client | None:
        """The client that asked longest ago and can begin a suspect at once, with no other one beside it."""
        while self.willing:
            client = self.willing.popleft()
            client.willing = False
            if client.draining or client.aside or client.waits or client.suspect in client.holding:
                continue
            if len(client.holding) < client.slots:
                return client
        return None


class Client:
    """One connected client; `holding` are the executions that it has been given and not ended."""

    __slots__ = ("aside", "asked_back", "asks", "draining", "first", "heard", "holding", "info", "kind", "node",
                 "number", "proven", "recalled", "since", "slots", "spoke", "streak", "stuck", "suspect",
                 "waits", "willing")  # fmt: skip

    def __init__(self, number: int, info: ClientInfo, since: float = 0.0) -> None:
        self.number = number
        self.info = info
        self.since = since
        """When it joined, seconds since the epoch."""
        self.slots = max(1, info.slots)
        """Of those that it announced as many as its machine has room for."""
        self.stuck: str | None = None
        """Why its last attempt to start a task was in vain, while nothing runs there."""
        self.holding: dict[str, Task] = {}
        self.kind: Kind
        self.node: Node
        self.asks = False
        """Whether it stands in the queue of those that may get work."""
        self.willing = False
        """Whether it stands in the queue of those that may get a suspect."""
        self.suspect = ""
        """The suspect that it was given last."""
        self.draining = False
        self.heard = 0
        """How many messages with results have come from it."""
        self.streak = 0
        """Failures in a row that came at once."""
        self.proven = False
        """Whether a task ever succeeded there."""
        self.aside = False
        """Whether it gets nothing since all fails there."""
        self.waits = False
        """Whether the release plan has not come to it yet."""
        self.first = False
        """Whether it came by the release plan and no result has come: it gets no more than it can run."""
        self.spoke = since
        """When results came last."""
        self.asked_back = 0
        """For how many tasks it was asked, to hand them back to others, and has not said anything since."""
        self.recalled = 0.0
        """When that was."""


class Clients:
    """All clients; those of one kind wait in one fair queue. No step grows with the number of clients or tasks.

    `family` of systems is that of the server.
    """

    def __init__(self, family: str = POSIX) -> None:
        self._family = family
        self._clients: dict[int, Client] = {}
        self._numbers: dict[str, int] = {}
        """Of clients that come back, by their ids."""
        self._kinds: dict[tuple[str, tuple[str, ...]], Kind] = {}
        self._takers: dict[Need | None, list[Kind]] = {}
        self.stirred: deque[Kind] = deque()
        """Kinds that may have both clients with room and tasks that they can take."""
        self.slots = 0

    def __len__(self) -> int:
        return len(self._clients)

    def numbers(self) -> list[int]:
        return list(self._clients)

    def all(self) -> list[Client]:
        return list(self._clients.values())

    def kinds(self) -> list[Kind]:
        return list(self._kinds.values())

    def get(self, number: int) -> Client | None:
        return self._clients.get(number)

    def add(self, client: Client) -> None:
        self._clients[client.number] = client
        if client.info.outlives:
            self._numbers[client.info.id] = client.number
        client.kind = self._kind(client.info)
        client.kind.clients += 1
        client.node = client.kind.nodes.setdefault(client.info.host, Node(client.info.host))
        client.node.clients += 1
        self.slots += client.slots

    def remove(self, number: int) -> Client | None:
        client = self._clients.pop(number, None)
        if client is not None:
            self.slots -= client.slots
            if self._numbers.get(client.info.id) == number:
                del self._numbers[client.info.id]
            client.draining = True
            client.kind.clients -= 1
            client.node.clients -= 1
            if not client.node.clients:
                del client.kind.nodes[client.node.host]
            if not client.kind.clients:
                self._drop(client)
            elif len(client.kind.willing) > 2 * client.kind.clients + 16:  # those that are gone are many by now
                client.kind.willing = deque(one for one in client.kind.willing if not one.draining)
        return client

    def resize(self, client: Client, slots: int) -> None:
        """`client` can run so many tasks at a time from now on, but never more than it announced."""
        slots = min(slots, max(1, client.info.slots))
        self.slots += slots - client.slots
        client.slots = slots

    def _kind(self, info: ClientInfo) -> Kind:
        key = info.system, info.labels
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind(info, self._family)
            for need in kind.needs:
                self._takers.setdefault(need, []).append(kind)
            if kind.usual:
                self._takers.setdefault(None, []).append(kind)
        return kind

    def _drop(self, last: Client) -> None:
        """The last client of its kind is gone."""
        kind = last.kind
        del self._kinds[last.info.system, last.info.labels]
        for need in [*kind.needs, *([None] if kind.usual else [])]:
            self._takers[need].remove(kind)
            if not self._takers[need]:
                del self._takers[need]
        kind.queue.clear()
        kind.willing.clear()
        if kind.stirred:
            self.stirred.remove(kind)

    def known_as(self, client_id: str) -> Client | None:
        """The client with this id, where it is one that comes back."""
        number = self._numbers.get(client_id)
        return None if number is None else self._clients[number]

    def take(self, need: Need | None) -> bool:
        """Whether a client can take tasks with `need`; while there is none at all, anything may be wanted."""
        return need in self._takers or not self._clients

    def stir(self, need: Need | None) -> None:
        """There are tasks with `need` where there were none."""
        for kind in self._takers.get(need, ()):
            if not kind.stirred:
                kind.stirred = True
                self.stirred.append(kind)

    def ask(self, client: Client, first: bool = False) -> None:
        """Put the client into the queue, once; `first` before all others."""
        if client.draining or client.aside or client.waits:
            return
        kind = client.kind
        if not client.willing:
            client.willing = True
            kind.willing.append(client)
        if not client.asks:
            client.asks = True
            if first:
                kind.queue.appendleft(client)
            else:
                kind.queue.append(client)
            if not kind.stirred:
                kind.stirred = True
                self.stirred.append(kind)

    def ask_all(self) -> None:
        """Everybody may get work again."""
        for client in self._clients.values():
            self.ask(client)
        for kind in self._kinds.values():
            if not kind.stirred:
                kind.stirred = True
                self.stirred.append(kind)
