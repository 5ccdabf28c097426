"""The clients of a server as the scheduler sees them: slots, what they hold, whose turn is next."""

from __future__ import annotations

from collections import deque

from hypershell.core.model import ClientInfo, Task

__all__ = ["Client", "Clients"]


class Client:
    """One connected client; `holding` are the executions that it has been given and not ended."""

    __slots__ = ("asks", "draining", "heard", "holding", "info", "number", "slots")

    def __init__(self, number: int, info: ClientInfo) -> None:
        self.number = number
        self.info = info
        self.slots = max(1, info.slots)
        self.holding: dict[str, Task] = {}
        self.asks = False
        """Whether it stands in the queue of those that may get work."""
        self.draining = False
        self.heard = 0
        """How many messages with results have come from it."""


class Clients:
    """All clients, and a fair queue of those that may have room. Every step is O(1)."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}
        self._numbers: dict[str, int] = {}
        """Of clients that come back, by their ids."""
        self._queue: deque[Client] = deque()
        self.slots = 0

    def __len__(self) -> int:
        return len(self._clients)

    def numbers(self) -> list[int]:
        return list(self._clients)

    def all(self) -> list[Client]:
        return list(self._clients.values())

    def get(self, number: int) -> Client | None:
        return self._clients.get(number)

    def add(self, client: Client) -> None:
        self._clients[client.number] = client
        if client.info.outlives:
            self._numbers[client.info.id] = client.number
        self.slots += client.slots
        self.ask(client)

    def remove(self, number: int) -> Client | None:
        client = self._clients.pop(number, None)
        if client is not None:
            self.slots -= client.slots
            if self._numbers.get(client.info.id) == number:
                del self._numbers[client.info.id]
            client.draining = True
        return client

    def known_as(self, client_id: str) -> Client | None:
        """The client with this id, where it is one that comes back."""
        number = self._numbers.get(client_id)
        return None if number is None else self._clients[number]

    def ask(self, client: Client) -> None:
        """Put the client into the queue, once."""
        if not client.asks and not client.draining:
            client.asks = True
            self._queue.append(client)

    def ask_all(self) -> None:
        for client in self._clients.values():
            self.ask(client)

    def next(self) -> Client | None:
        """The client that has asked longest and still is here."""
        while self._queue:
            client = self._queue.popleft()
            client.asks = False
            if not client.draining:
                return client
        return None
