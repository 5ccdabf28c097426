"""The server's end over TCP: takes connections in, lets authenticated peers through, tells their loss.

Nobody waits for anybody: a stranger has a deadline, a place (``door``) and a few KiB; a peer that does not read has
a bounded queue. The peers of role ``client`` are those of ``poll``; those of other roles come out of ``visits``.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from hypershell import __version__
from hypershell.errors import ProtocolError, TransportError
from hypershell.net.addresses import advertised
from hypershell.net.auth import Key
from hypershell.net.connection import Connection
from hypershell.net.door import Caller, Door
from hypershell.net.link import Link
from hypershell.net.parting import Parting
from hypershell.net.quiet import Quiet
from hypershell.net.tls import ServerTls
from hypershell.proto.codec import decode_client, encode
from hypershell.proto.framing import MESSAGE, frame
from hypershell.proto.messages import Bye, Leave
from hypershell.proto.session import (
    CLIENT,
    NONCE_SIZE,
    Binding,
    Code,
    Decode,
    Peer,
    Refusal,
    Rejected,
    ServerSession,
    Session,
    reject_frame,
)
from hypershell.reactor import Poller
from hypershell.transport import Delivery, Lost

__all__ = ["Limits", "Listener", "Visit"]

_log = logging.getLogger("hypershell.net")

_TLS_HERE = "this server speaks TLS: --no-tls must be said on both sides, or on none"


class Limits(Struct, frozen=True):
    """Bounds of a listener; times in seconds."""

    strangers: int = 4096
    """Connections that are not authenticated yet, at a time; at most a quarter of the descriptors."""
    handshakes: int = 256
    """Strangers at a time whose handshake has begun; the others wait for their turn."""
    young: float = 1.5
    """A handshake of this age gives way to another one of its address; in a flood most do so at a sixth of it."""
    handshake: float = 10.0
    """From accepting to authentication, without the time in which a stranger waits for its turn."""
    peers: int = 20_000
    beat: float = 10.0
    """Without anything to say for this long, a sign of life is sent."""
    silence: float = 600.0
    """A peer that is not heard of for this long is lost."""
    queued: int = 256 << 20
    """Bytes that may wait for one peer."""
    farewell: float = 10.0
    """A dismissed peer has this long to take what waits for it."""
    linger: float = 2.0
    """A peer that was told the last word has this long to hang up, before we do."""


class Visit(NamedTuple):
    """A message of a peer that is no client, or ``Lost``."""

    peer: int
    role: str
    message: Any


class _Guest(NamedTuple):
    """A peer that is let in."""

    number: int
    connection: Connection
    peer: Peer


class Listener:
    """The server's end; an ``Endpoint``. Numbers of peers are never used again.

    :param sockets: listening sockets (`addresses.bind`); they are ours from now on.
    :param tls: None: no TLS.
    :param visitors: roles beside ``client``, each with what decodes its messages.
    :param first: the number of the first peer.
    """

    def __init__(
        self,
        poller: Poller,
        sockets: Sequence[socket.socket],
        key: Key,
        tls: ServerTls | None,
        *,
        visitors: Mapping[str, Decode] | None = None,
        limits: Limits | None = None,
        first: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rejected = 0
        """Connections that were turned away."""
        self.admitted = 0
        """Connections that were let in."""
        self.crowded: Callable[[], str | None] = lambda: None
        """Says why no client more can come in now; None: one can."""
        self.addresses = advertised(sockets)
        """Where others reach us."""
        self.port = int(sockets[0].getsockname()[1])
        self.limits = limits or Limits()
        self._poller = poller
        key.stretch()
        self._prove = key.prove
        self._tls = tls
        self._binding = Binding.none() if tls is None else Binding(True, tls.digest)
        self._roles: dict[str, Decode] = {CLIENT: decode_client, **(visitors or {})}
        self._clock = clock
        self._next = first
        self._guests: dict[int, _Guest] = {}
        self._by_connection: dict[Connection, _Guest] = {}
        self._clients: dict[str, _Guest] = {}
        """Peers of role ``client`` by their id."""
        self._parting = Parting(self.limits.linger, clock)
        self._farewells: dict[int, float] = {}
        self._ready: dict[Connection, None] = {}
        self._dirty: dict[Connection, None] = {}
        self._taken: list[Delivery] = []
        self._visits: list[Visit] = []
        self._look = clock() + self.limits.beat / 2
        self._quiet = Quiet(_log, clock=clock)
        self._closed = False
        self._door = Door(
            poller,
            sockets,
            Quiet(_log, clock=clock),  # its lines are not lost among those about strangers
            most=self.limits.strangers,
            served=self.limits.handshakes,
            young=self.limits.young,
            patience=self.limits.handshake,
            make=self._make,
            send_away=self._send_away,
        )

    # -- the way in ---------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Let nobody in until `admit`; those who come wait in the kernel."""
        self._door.hold()

    def admit(self) -> None:
        """Let in whoever comes, as far as there is room."""
        self._door.admit()

    # -- the endpoint ------------------------------------------------------------------------------------

    def poll(self) -> list[Delivery]:
        """Messages of clients since the last call, and losses."""
        if self._closed:
            return []
        now = self._clock()
        self._door.turn(now)
        ready, self._ready = self._ready, {}
        for connection in ready:
            self._advance(connection, now)
        if now >= self._look:
            self._look_around(now)
        for number, due in list(self._farewells.items()):
            if now >= due and number in self._guests:
                self._lose(self._guests[number].connection, "it did not take its farewell")
        self._parting.expire(now)
        taken, self._taken = self._taken, []
        return taken

    def visits(self) -> list[Visit]:
        """What peers of other roles sent, up to the last `poll`."""
        visits, self._visits = self._visits, []
        return visits

    def send(self, peer: int, message: Any) -> None:
        """Queue one message. Raises ``TransportError`` where it is too long for a frame."""
        try:
            data = frame(MESSAGE, encode(message))
        except ProtocolError as error:
            raise TransportError(str(error)) from None
        guest = self._guests.get(peer)
        if guest is None:
            return
        connection = guest.connection
        connection.put(data)
        self._dirty[connection] = None
        if isinstance(message, Bye):
            connection.excused = True
            self._farewells[peer] = self._clock() + self.limits.farewell
        if connection.queued > self.limits.queued:
            self._lose(connection, f"it does not take its messages ({connection.queued} bytes wait)")

    def flush(self) -> bool:
        """Write what the kernel takes; True when nothing is left."""
        now = self._clock()
        for connection in list(self._dirty):
            try:
                if connection.flush(now):
                    self._dirty.pop(connection, None)
            except TransportError as error:
                self._lose(connection, str(error))
        return not self._dirty

    def wait_hint(self, now: float) -> float | None:
        """Seconds to the next timer; 0 where there is something to do at once."""
        if self._closed:
            return None
        if self._ready or self._taken or self._visits or self._door.busy(now):
            return 0.0
        due = self._look
        for when in (self._door.deadline(now), self._parting.deadline(), *self._farewells.values()):
            if when is not None:
                due = min(due, when)
        return max(0.0, due - now)

    def expect(self, soon: bool) -> None:
        """Descriptors wake us: nothing to do."""

    def drop(self, peer: int, reason: str) -> None:
        """Reject a peer that is let in."""
        guest = self._guests.get(peer)
        if guest is not None:
            self._refuse(guest.connection, Code.PROTOCOL, reason)

    def close(self) -> None:
        """Close everything. Peers that were dismissed may hang up first (`Limits.linger`); idempotent."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        self._door.close()
        now = self._clock()
        for connection in self._by_connection:
            if connection.excused:
                self._parting.add(connection, now)
            else:
                connection.close()
        self._parting.wait()
        for names in (self._guests, self._by_connection, self._clients, self._ready, self._dirty):
            names.clear()
        self._quiet.settle()

    # -- who is here -------------------------------------------------------------------------------------

    def peer(self, number: int) -> Peer | None:
        """Who a peer is; `connection` above 0 tells one that came back."""
        guest = self._guests.get(number)
        return None if guest is None else guest.peer

    def silence(self, peer: int) -> float | None:
        """Seconds since a peer was last heard of; None for one that is not here."""
        guest = self._guests.get(peer)
        return None if guest is None else max(0.0, self._clock() - guest.connection.heard)

    def __len__(self) -> int:
        """Peers that are let in."""
        return len(self._guests)

    @property
    def strangers(self) -> int:
        """Connections that are not let in yet."""
        return len(self._door)

    # -- what comes in -----------------------------------------------------------------------------------

    def _make(self, made: socket.socket, now: float) -> Connection | None:
        try:
            link = Link(made, self._tls.context if self._tls is not None else None, server=True)
        except (OSError, ValueError):
            made.close()
            return None
        connection = Connection(self._poller, link, self._session, self._wake, now)
        self._ready[connection] = None
        return connection

    def _session(self, link: Link) -> Session:
        nonce = secrets.token_bytes(NONCE_SIZE)
        return ServerSession(self._prove, self._binding, nonce, __version__, self._roles, self._admit)

    def _admit(self, peer: Peer) -> None:
        """Whether there is room for a peer that has proven itself; raises ``Refusal``."""
        if len(self._guests) >= self.limits.peers:
            raise Refusal(Code.BUSY, f"no more than {self.limits.peers} peers are served here")
        before = self._clients.get(peer.ident) if peer.role == CLIENT else None
        # One that comes back takes no more than its old connection did.
        if peer.role == CLIENT and before is None and (missing := self._door.missing() or self.crowded()):
            raise Refusal(Code.BUSY, missing)
        if before is not None and before.peer.connection >= peer.connection:
            raise Refusal(Code.PROTOCOL, f"client {peer.ident} is already connected")

    def _wake(self, connection: Connection) -> None:
        self._ready[connection] = None

    def _advance(self, connection: Connection, now: float) -> None:
        if connection not in self._by_connection and connection not in self._door.strangers:
            return
        try:
            connection.advance(now)
        except Refusal as error:
            self._deliver(connection)
            self._refuse(connection, error.code, str(error))
        except (TransportError, Rejected) as error:
            self._deliver(connection)
            self._gone(connection, str(error))
        except Exception as error:
            # Data of a peer must never end the server: this one goes, the others notice nothing.
            _log.exception("Unexpected error with the data of %s", self._place(connection))
            self._refuse(connection, Code.PROTOCOL, f"unexpected {type(error).__name__}")
        else:
            if connection.more:
                self._ready[connection] = None
            if connection.queued:
                self._dirty[connection] = None
            self._deliver(connection)

    def _deliver(self, connection: Connection) -> None:
        """Let the connection in where it is authenticated by now, and hand on what came in."""
        guest = self._by_connection.get(connection)
        if guest is None:
            session = connection.session
            if not isinstance(session, ServerSession) or session.peer is None:
                return
            guest = self._let_in(connection, session.peer)
        inbox = connection.inbox
        if not inbox:
            return
        number, role = guest.number, guest.peer.role
        if role == CLIENT:
            for message in inbox:
                if type(message) is Leave:
                    connection.excused = True
                self._taken.append(Delivery(number, message))
        else:
            self._visits += [Visit(number, role, message) for message in inbox]
        inbox.clear()

    def _let_in(self, connection: Connection, peer: Peer) -> _Guest:
        """Give an authenticated connection its number."""
        before = self._clients.get(peer.ident) if peer.role == CLIENT else None
        if before is not None:
            self._lose(before.connection, "it came back over a new connection")
        caller = self._door.let_in(connection)
        guest = _Guest(self._next, connection, peer)
        self._next += 1
        self._guests[guest.number] = self._by_connection[connection] = guest
        if peer.role == CLIENT:
            self._clients[peer.ident] = guest
        self.admitted += 1
        _log.debug("Peer %d, %s, is %s %s", guest.number, _from(caller), peer.role, peer.ident)
        return guest

    # -- turning away and losing -------------------------------------------------------------------------

    def _send_away(self, caller: Caller, late: bool) -> None:
        """A stranger is too slow, or has to give way."""
        code, reason = Code.BUSY, "too many connections that are not authenticated"
        if late:
            code, reason = Code.LATE, f"not authenticated within {self.limits.handshake:g} seconds"
        if caller.connection is not None:
            self._refuse(caller.connection, code, reason)
            return
        self.rejected += 1
        self._quiet.log(logging.WARNING, "Rejected %s: %s", _from(caller), reason)
        with contextlib.suppress(OSError):
            if self._tls is None:  # nothing can be said before the TLS handshake is over
                caller.sock.send(reject_frame(code, reason))
        caller.sock.close()

    def _refuse(self, connection: Connection, code: int, reason: str) -> None:
        """It is told why, and gone."""
        if connection not in self._by_connection and connection not in self._door.strangers:
            return
        self.rejected += 1
        if code == Code.BUSY and self._door.short:  # told once; they come again and again
            _log.debug("Rejected %s: %s", self._place(connection), reason)
        else:
            self._quiet.log(logging.WARNING, "Rejected %s: %s", self._place(connection), reason)
        guest = self._forget(connection)
        if connection.session is None:  # nothing can be said before the TLS handshake is over
            connection.close()
        else:
            connection.put(reject_frame(code, reason))
            self._parting.add(connection, self._clock())
        if guest is not None:
            self._report(guest, f"rejected: {reason}")

    def _gone(self, connection: Connection, reason: str) -> None:
        """A connection that broke or was closed."""
        if connection in self._by_connection:
            self._lose(connection, reason)
            return
        if connection not in self._door.strangers:
            return
        self.rejected += 1
        self._quiet.log(logging.INFO, "%s left before authentication: %s", self._place(connection), reason)
        if connection.session is None and self._tls is not None:
            # A client of ours that speaks no TLS cannot read an alert of TLS, but this.
            connection.link.write_plain(reject_frame(Code.PROTOCOL, _TLS_HERE))
        self._forget(connection)
        connection.close()

    def _lose(self, connection: Connection, reason: str) -> None:
        """A peer is gone, or is given up."""
        guest = self._forget(connection)
        connection.close()
        if guest is not None and not connection.excused:
            self._report(guest, reason)

    def _report(self, guest: _Guest, reason: str) -> None:
        if guest.peer.role == CLIENT:
            self._taken.append(Delivery(guest.number, Lost(reason, outside=True)))
        else:
            self._visits.append(Visit(guest.number, guest.peer.role, Lost(reason)))

    def _forget(self, connection: Connection) -> _Guest | None:
        """Strike it from all lists; the guest that it was."""
        self._door.forget(connection)
        self._ready.pop(connection, None)
        self._dirty.pop(connection, None)
        guest = self._by_connection.pop(connection, None)
        if guest is not None:
            del self._guests[guest.number]
            self._farewells.pop(guest.number, None)
            if self._clients.get(guest.peer.ident) is guest:
                del self._clients[guest.peer.ident]
        return guest

    def _place(self, connection: Connection) -> str:
        guest = self._by_connection.get(connection)
        if guest is not None:
            return f"{guest.peer.role} {guest.number} ({guest.peer.ident})"
        return _from(self._door.strangers.get(connection))

    # -- signs of life -----------------------------------------------------------------------------------

    def _look_around(self, now: float) -> None:
        """Send beats, and lose those that have been silent for too long.

        After a sleep of our own (SIGSTOP, a closed lid) nobody is judged before what they sent meanwhile is read.
        """
        overslept = now - self._look > self.limits.beat
        self._look = now + self.limits.beat / 2
        for connection in list(self._by_connection):
            silent = now - connection.heard
            if silent >= self.limits.silence and not overslept and connection not in self._ready:
                self._lose(connection, f"nothing was heard of it for {silent:.0f} seconds")
            elif now - connection.said >= self.limits.beat / 2:
                try:
                    connection.beat(now)
                except TransportError as error:
                    self._lose(connection, str(error))


def _from(caller: Caller | None) -> str:
    """A stranger, for log lines."""
    return f"connection from {'somewhere' if caller is None else caller.where}"
