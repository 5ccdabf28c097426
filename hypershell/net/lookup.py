"""Looking up names of hosts beside the loop: a resolver may take many seconds, and tasks go on meanwhile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence

from hypershell.errors import TransportError
from hypershell.net.addresses import Address, numeric, resolve
from hypershell.reactor import Poller

__all__ = ["Lookup"]


class Lookup:
    """One question: the addresses of all `hosts`. `answer` is there when `woken` is called."""

    def __init__(self, poller: Poller, hosts: Sequence[str], port: int, woken: Callable[[], None]) -> None:
        self.answer: list[Address] | None = None
        self.problem = ""
        """What did not work, where some host is not known."""
        self._poller = poller
        self._woken = woken
        known = [numeric(host, port) for host in hosts]
        if all(found is not None for found in known):
            self._end: socket.socket | None = None
            self.answer = [address for found in known if found for address in found]
            return
        self._end, other = socket.socketpair()
        self._result: tuple[list[Address], str] = ([], "")
        poller.watch(self._end.fileno(), self._done)
        try:
            threading.Thread(target=self._work, args=(list(hosts), port, other), name="lookup", daemon=True).start()
        except RuntimeError:  # no more threads
            self.close()
            other.close()
            raise

    def close(self) -> None:
        """Forget the question; its thread ends by itself."""
        if self._end is not None:
            self._poller.remove(self._end.fileno())
            self._end.close()
            self._end = None

    def _work(self, hosts: list[str], port: int, other: socket.socket) -> None:
        found: list[Address] = []
        problem = ""
        for host in hosts:
            try:
                found += resolve(host, port)
            except TransportError as error:
                problem = str(error)
        self._result = (list(dict.fromkeys(found)), problem)
        other.close()  # wakes the loop

    def _done(self) -> None:
        self.close()
        self.answer, self.problem = self._result
        self._woken()
