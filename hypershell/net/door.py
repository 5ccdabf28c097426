"""The door: listening sockets and the strangers that are not authenticated yet.

A stranger has a deadline and one of few places. When all are taken, newcomers wait in the kernel until somebody is
done, or until the oldest stranger of the most crowded address is no longer young and gives way: whoever holds many
connections open without a word shuts out nobody but themselves.

No client gets the last descriptors: where only these are left, a few strangers at a time come in through them. So
clients hear why they are refused, and who submits or asks still gets in.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence

from hypershell.net.connection import Connection
from hypershell.net.quiet import Quiet
from hypershell.reactor import Poller
from hypershell.room import reason, shortage

__all__ = ["VESTIBULE", "Door"]

#: Descriptors that no client gets, and strangers at a time where no more than these are left.
VESTIBULE = 4

#: Connections that are accepted in one turn.
_ACCEPTS = 64
#: Seconds without accepting after the descriptors have run out.
_BREATH = 0.5
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Door:
    """Accepts what there is room for.

    :param most: strangers at a time.
    :param young: seconds in which a stranger does not have to give way.
    :param patience: seconds from accepting to authentication.
    :param make: makes the connection of an accepted socket; None where it is gone already.
    :param send_away: closes a stranger that has to give way, or is too late, with the reason.
    """

    def __init__(
        self,
        poller: Poller,
        sockets: Sequence[socket.socket],
        quiet: Quiet,
        *,
        most: int,
        young: float,
        patience: float,
        make: Callable[[socket.socket, float], Connection | None],
        send_away: Callable[[Connection, bool], None],
    ) -> None:
        self.strangers: dict[Connection, str] = {}
        """The oldest first, with the address that each comes from."""
        self._poller = poller
        self._sockets = list(sockets)
        self._quiet = quiet
        self._most = most
        self._young = young
        self._patience = patience
        self._make = make
        self._send_away = send_away
        self._knocking: dict[socket.socket, None] = {}
        self._deaf_until = float("-inf")
        self.short = False
        """Whether clients are refused, or wait, for want of descriptors; said once."""
        for sock in self._sockets:
            self._listen(sock)

    def turn(self, now: float) -> None:
        """Send away those that are too late, and let in as many as there is room for."""
        for connection in list(self.strangers):
            if now - connection.since < self._patience:
                break
            self._send_away(connection, True)
        for sock in list(self._knocking):
            self._accept(sock, now)

    def busy(self, now: float) -> bool:
        """Whether a turn would let somebody in at once."""
        return bool(self._knocking) and self._has_room(now)

    def deadline(self, now: float) -> float | None:
        """When the next turn is due by itself."""
        due = None
        if self.strangers:
            oldest = next(iter(self.strangers)).since
            due = oldest + (self._young if self._knocking else self._patience)
        if self._knocking and now < self._deaf_until and (due is None or due > self._deaf_until):
            due = self._deaf_until
        return due

    def hold(self) -> None:
        """Accept nobody until `admit`."""
        self._deaf_until = float("inf")

    def admit(self) -> None:
        """Accept again."""
        self._deaf_until = float("-inf")

    def missing(self) -> str | None:
        """Why no client can be let in now; None where descriptors are left."""
        error = self._look(VESTIBULE)
        return None if error is None else f"the server has no room for more clients: {reason(error)}"

    def close(self) -> None:
        """Close sockets and strangers."""
        for sock in self._sockets:
            self._poller.remove(sock.fileno())
            sock.close()
        for connection in self.strangers:
            connection.close()
        self.strangers.clear()
        self._knocking.clear()

    def _listen(self, sock: socket.socket) -> None:
        def knock() -> None:
            self._knocking[sock] = None
            self._poller.remove(sock.fileno())  # until somebody has looked

        self._poller.add(sock.fileno(), knock)

    def _has_room(self, now: float) -> bool:
        """Whether one more can come in now, if need be in place of another."""
        if now < self._deaf_until:
            return False
        places = self._most if self._look(VESTIBULE + 1) is None else VESTIBULE
        if len(self.strangers) < places:
            return True
        return now - next(iter(self.strangers)).since >= self._young

    def _accept(self, sock: socket.socket, now: float) -> None:
        for _ in range(_ACCEPTS):
            if not self._has_room(now):
                return
            if len(self.strangers) >= VESTIBULE and self._look(VESTIBULE + 1) is not None:
                self._send_away(self._one_of_most(), False)  # the newcomer gets its descriptor
            try:
                made, where = sock.accept()
            except (BlockingIOError, InterruptedError):
                del self._knocking[sock]
                self._listen(sock)
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._tell(error)
                    self._deaf_until = now + _BREATH
                    return
                continue  # the peer went before we came
            if len(self.strangers) >= self._most:
                self._send_away(self._one_of_most(), False)
            connection = self._make(made, now)
            if connection is not None:
                self.strangers[connection] = str(where[0])

    def _look(self, count: int) -> OSError | None:
        """What the system says where not so many descriptors are left."""
        error = shortage(count)
        if error is not None:
            self._tell(error)
        elif self.short and shortage(2 * VESTIBULE) is None:  # not at every stranger that comes or goes
            self.short = False
            self._quiet.log(logging.INFO, "There is room for connections again")
        return error

    def _tell(self, error: OSError) -> None:
        """Say once that clients are refused or wait."""
        if not self.short:
            self.short = True
            self._quiet.log(logging.WARNING, "No more connections for now: %s", reason(error))

    def _one_of_most(self) -> Connection:
        """The oldest stranger of the address that has the most of them."""
        crowded = Counter(self.strangers.values()).most_common(1)[0][0]
        return next(connection for connection, where in self.strangers.items() if where == crowded)
