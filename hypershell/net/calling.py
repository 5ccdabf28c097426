"""One round of looking for a server: all addresses of all its names, one after the other, without blocking."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from hypershell.net.addresses import Address
from hypershell.net.lookup import Lookup
from hypershell.reactor import Poller
from hypershell.room import reason

__all__ = ["Round"]

#: What a connection says that is on its way (10035 is Windows').
_CONNECTING = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, 10035)


class Round:
    """Gives connected sockets until one is good or the addresses have run out.

    :param patience: seconds that one address has to answer.
    :param woken: called when `step` may lead to something.
    """

    def __init__(
        self, poller: Poller, hosts: Sequence[str], port: int, patience: float, woken: Callable[[], None]
    ) -> None:
        self.over = False
        """There is no address left."""
        self.address = ""
        """The one that was tried last."""
        self.reason = ""
        """Why it was no good."""
        self._poller = poller
        self._patience = patience
        self._woken = woken
        self._left: deque[Address] = deque()
        self._socket: socket.socket | None = None
        self._due: float | None = None
        self._lookup: Lookup | None = Lookup(poller, hosts, port, woken)

    def step(self, now: float) -> socket.socket | None:
        """Go on; a socket that is connected, once there is one."""
        if self._lookup is not None:
            if self._lookup.answer is None:
                return None
            self._left.extend(self._lookup.answer)
            self.reason = self._lookup.problem or "no address"
            self._lookup = None
        if self._socket is not None:
            made = self._outcome(self._socket, now)
            if made is not None or self._socket is not None:
                return made
        while self._left:
            self._start(self._left.popleft(), now)
            if self._socket is not None:
                return None
        self.over = True
        return None

    def deadline(self) -> float | None:
        """When the address that is being tried has had its time."""
        return self._due

    def close(self) -> None:
        """Forget what is under way; idempotent."""
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None
        self._left.clear()
        sock = self._release()
        if sock is not None:
            sock.close()

    def _start(self, address: Address, now: float) -> None:
        self.address = address.text
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:
            self.reason = f"{address.text}: {reason(error)}"
            return
        sock.setblocking(False)
        status = sock.connect_ex(address.where)
        if status not in (0, *_CONNECTING):
            sock.close()
            self.reason = f"{address.text}: {os.strerror(status)}"
            return
        self._socket = sock
        self._due = now + self._patience
        self._poller.watch(sock.fileno(), self._woken, write=True)

    def _outcome(self, sock: socket.socket, now: float) -> socket.socket | None:
        """What became of the attempt: the socket, or None while it is under way or where it failed."""
        status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status == 0:
            try:
                sock.getpeername()
            except OSError:
                if self._due is None or now < self._due:
                    return None
                status = errno.ETIMEDOUT
        self._release()
        if status == 0:
            return sock
        sock.close()
        self.reason = f"{self.address}: {os.strerror(status)}"
        return None

    def _release(self) -> socket.socket | None:
        sock, self._socket, self._due = self._socket, None, None
        if sock is not None:
            self._poller.remove(sock.fileno())
        return sock
