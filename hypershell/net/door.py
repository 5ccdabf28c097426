"""The door: listening sockets and the strangers that are not authenticated yet.

Whoever comes is accepted at once and costs no more than a descriptor, until it has said something and its turn has
come (``admission``): then it becomes a connection, and the TLS handshake begins. Strangers have a share of all
descriptors, and each address a share of that, so that whoever holds or opens many connections shuts out nobody.

No client gets the last descriptors: where only these are left, a few strangers at a time come in through them. So
clients hear why they are refused, and who submits or asks still gets in.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence

from hypershell.net.addresses import origin
from hypershell.net.admission import Admission
from hypershell.net.connection import Connection
from hypershell.net.quiet import Quiet
from hypershell.reactor import Poller
from hypershell.room import descriptor_limit, reason, shortage

__all__ = ["VESTIBULE", "Caller", "Door"]

#: Descriptors that no client gets, and strangers at a time where no more than these are left.
VESTIBULE = 4

#: Connections that are accepted, and handshakes that begin, in one turn: others must have theirs.
_ACCEPTS = 256
_BEGINNINGS = 16
#: Strangers have at most this part of all descriptors, and one address this part of that.
_PART = 4
_PART_OF_ADDRESS = 2
#: Seconds without accepting after the descriptors have run out.
_BREATH = 0.5
#: Descriptors that are looked for at once.
_MOST_LOOKED_FOR = 32
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Caller:
    """An accepted connection that is not authenticated; `connection` is there once it is served."""

    __slots__ = ("connection", "sock", "where")

    def __init__(self, sock: socket.socket, where: str) -> None:
        self.sock = sock
        self.where = where
        self.connection: Connection | None = None


class Door:
    """Accepts what there is room for.

    :param most: strangers at a time.
    :param served: strangers at a time whose handshake has begun.
    :param young: seconds of a handshake in which it does not give way to another one of its address.
    :param patience: seconds that a stranger may take to authenticate.
    :param make: makes the connection of an accepted socket; None where it is gone already.
    :param send_away: closes a stranger that has to give way, or is too late.
    """

    def __init__(
        self,
        poller: Poller,
        sockets: Sequence[socket.socket],
        quiet: Quiet,
        *,
        most: int,
        served: int,
        young: float,
        patience: float,
        make: Callable[[socket.socket, float], Connection | None],
        send_away: Callable[[Caller, bool], None],
    ) -> None:
        limit = descriptor_limit()
        places = most if limit is None else max(VESTIBULE, min(most, limit // _PART))
        quota = max(VESTIBULE, places // _PART_OF_ADDRESS)
        self._admission = Admission[Caller](places, quota, served, young, patience)
        self.strangers: dict[Connection, Caller] = {}
        """Those that are served."""
        self._poller = poller
        self._sockets = list(sockets)
        self._quiet = quiet
        self._make = make
        self._send_away = send_away
        self._knocking: dict[socket.socket, None] = {}
        self._spoken: list[Caller] = []
        self._deaf_until = float("-inf")
        self._free = 0
        """Descriptors that this turn has found to be free, beside the last ones."""
        self._step = 1
        """How many it looks for next."""
        self.short = False
        """Whether clients are refused, or wait, for want of descriptors; said once."""
        for sock in self._sockets:
            self._listen(sock)

    def __len__(self) -> int:
        """Strangers, served or not."""
        return len(self._admission)

    def turn(self, now: float) -> None:
        """Send away those that are too late, let in as many as there is room for, and begin to serve some."""
        spoken, self._spoken = self._spoken, []
        for caller in spoken:
            self._admission.speak(caller, now)
        while (tardy := self._admission.late(now)) is not None:
            self._dismiss(tardy, late=True)
        self._free, self._step = 0, 1
        for sock in list(self._knocking):
            self._accept(sock, now)
        for _ in range(_BEGINNINGS):
            chosen = self._admission.serve(now)
            if chosen is None:
                break
            caller, loser = chosen
            if loser is not None:
                self._dismiss(loser)
            self._begin(caller, now)

    def busy(self, now: float) -> bool:
        """Whether a turn would let somebody in, or begin to serve somebody, at once."""
        if self._spoken or self._admission.ready(now):
            return True
        return bool(self._knocking) and self._has_room(now)

    def deadline(self, now: float) -> float | None:
        """When the next turn is due by itself."""
        dues = [self._admission.deadline()]
        if self._knocking:
            oldest = self._admission.oldest_of_most()
            dues.append(self._deaf_until if now < self._deaf_until or oldest is None else oldest[1])
        return min((due for due in dues if due is not None and due < float("inf")), default=None)

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

    def let_in(self, connection: Connection) -> Caller | None:
        """It has proved the key, and is a stranger no more."""
        caller = self.strangers.pop(connection, None)
        if caller is not None:
            self._admission.leave(caller, proved=True)
        return caller

    def forget(self, connection: Connection) -> None:
        """It is gone; one that is no stranger may be named."""
        caller = self.strangers.pop(connection, None)
        if caller is not None:
            self._admission.leave(caller)

    def close(self) -> None:
        """Close sockets and strangers."""
        for sock in self._sockets:
            self._poller.remove(sock.fileno())
            sock.close()
        for caller in self._admission.all():
            self._admission.leave(caller)
            if caller.connection is not None:
                caller.connection.close()
            else:
                self._poller.remove(caller.sock.fileno())
                caller.sock.close()
        self.strangers.clear()
        self._knocking.clear()
        self._spoken.clear()

    # -- accepting ---------------------------------------------------------------------------------------

    def _listen(self, sock: socket.socket) -> None:
        def knock() -> None:
            self._knocking[sock] = None
            self._poller.remove(sock.fileno())  # until somebody has looked

        self._poller.add(sock.fileno(), knock)

    def _has_room(self, now: float) -> bool:
        """Whether one more can be accepted now, if need be in place of another."""
        if now < self._deaf_until:
            return False
        if self._is_free():
            return True
        oldest = self._admission.oldest_of_most()
        return len(self) < VESTIBULE or (oldest is not None and now >= oldest[1])

    def _accept(self, sock: socket.socket, now: float) -> None:
        for _ in range(_ACCEPTS):
            if not self._has_room(now):
                return
            if not self._is_free() and len(self) >= VESTIBULE and (oldest := self._admission.oldest_of_most()):
                self._dismiss(oldest[0])  # the newcomer gets its descriptor
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
            self._free -= 1
            self._come(Caller(made, str(where[0])), now)

    def _come(self, caller: Caller, now: float) -> None:
        loser = self._admission.come(caller, origin(caller.where), now)
        caller.sock.setblocking(False)
        if loser is not caller and _has_spoken(caller.sock):
            self._admission.speak(caller, now)
        elif loser is not caller:
            self._await_word(caller)
        if loser is not None:
            self._dismiss(loser)

    def _await_word(self, caller: Caller) -> None:
        def spoke() -> None:
            self._spoken.append(caller)
            self._poller.remove(caller.sock.fileno())  # until it is served

        self._poller.watch(caller.sock.fileno(), spoke)

    def _begin(self, caller: Caller, now: float) -> None:
        connection = self._make(caller.sock, now)
        if connection is None:
            self._admission.leave(caller)
        else:
            caller.connection = connection
            self.strangers[connection] = caller

    def _dismiss(self, caller: Caller, late: bool = False) -> None:
        if caller.connection is None:
            self._admission.leave(caller)
            self._poller.remove(caller.sock.fileno())
        self._send_away(caller, late)

    # -- descriptors -------------------------------------------------------------------------------------

    def _is_free(self) -> bool:
        """Whether a newcomer would leave the last descriptors free. In a long turn not looked up for each."""
        if self._free > 0:
            return True
        if self._step > 1 and shortage(VESTIBULE + self._step) is None:
            self._free = self._step
        elif self._look(VESTIBULE + 1) is None:
            self._free = 1
        self._step = min(2 * self._step, _MOST_LOOKED_FOR)
        return self._free > 0

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


def _has_spoken(sock: socket.socket) -> bool:
    """Whether there is something to read, be it the end."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        pass
    return True
