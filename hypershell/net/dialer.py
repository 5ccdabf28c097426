"""The client's end over TCP: dials, and dials again when the server was lost.

A lost server is a ``Cut``, and ``Again`` when it, or its successor, is found; whoever uses this end then introduces
itself anew. Only when the time for looking is over, or where there is no sense in it, comes ``Lost``.
"""

from __future__ import annotations

import hashlib
import logging
import random
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Struct

from hypershell import __version__
from hypershell.errors import HyperShellError, ProtocolError, TransportError
from hypershell.keys import fingerprint
from hypershell.net.addresses import shown
from hypershell.net.auth import Key
from hypershell.net.calling import Round
from hypershell.net.connection import Connection
from hypershell.net.link import Link, TlsError
from hypershell.net.parting import Parting
from hypershell.net.tls import ClientTls
from hypershell.proto.codec import decode_server, encode
from hypershell.proto.framing import MESSAGE, frame
from hypershell.proto.messages import Bye, Leave
from hypershell.proto.session import (
    CLIENT,
    NONCE_SIZE,
    Binding,
    ClientSession,
    Code,
    Decode,
    Refusal,
    Rejected,
    Session,
    reject_frame,
)
from hypershell.reactor import Poller
from hypershell.room import lack
from hypershell.transport import SERVER, Again, Cut, Delivery, Lost

__all__ = ["Dialer", "Patience", "Target"]

_log = logging.getLogger("hypershell.net")


class Target(NamedTuple):
    """Where the server is and how to know it; `tls` None: no TLS."""

    hosts: tuple[str, ...]
    port: int
    key: Key
    tls: ClientTls | None

    def __str__(self) -> str:
        return " or ".join(shown(host, self.port) for host in self.hosts)


class Patience(Struct, frozen=True):
    """How long a dialer waits for what; times in seconds."""

    first: float = 0.0
    """For a server that is not there yet, from the start."""
    reconnect: float = 600.0
    """For a server that was lost."""
    connect: float = 10.0
    """For one address to answer."""
    handshake: float = 20.0
    """From the connection to the server's consent."""
    beat: float = 10.0
    """Without anything to say for this long, a sign of life is sent."""
    busy: float = 600.0
    """For a server that is there and has no room for us, from the start."""
    silence: float = 60.0
    """A server that is not heard of for this long is lost."""
    shortest: float = 0.2
    longest: float = 20.0
    """The first and the longest pause between two rounds over all addresses; half of each is drawn by lot."""
    queued: int = 256 << 20
    """Bytes that may wait for the server."""
    linger: float = 2.0
    """For the server to hang up after our last word, before we do."""


class Dialer:
    """The client's end; an ``Endpoint`` whose only peer is ``SERVER``.

    :param target: asked at the beginning of each round, so that a server that moved is found; may raise.
    :param ident: our id, the same for all connections.
    :param role: what we want to be; `decode` gives the messages of the server to that role.
    :param delay: seconds before the first attempt.
    :param draw: a number in [0, 1) for the length of a pause.
    """

    def __init__(
        self,
        poller: Poller,
        target: Callable[[], Target],
        ident: str,
        *,
        role: str = CLIENT,
        decode: Decode = decode_server,
        patience: Patience | None = None,
        delay: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.connections = 0
        """How often the server let us in."""
        self.lost: str | None = None
        """Why we gave up, where we did."""
        self._poller = poller
        self._find = target
        self._ident = ident
        self._role = role
        self._decode = decode
        self._patience = patience or Patience()
        self._clock = clock
        self._draw = draw
        self._target: Target | None = None
        self._round: Round | None = None
        self._connection: Connection | None = None
        self._in = False
        """The server has let us in."""
        self._due: float | None = clock() + delay
        """When the pause, or the time of a handshake, is over; None: nothing is to be done any more."""
        self._until = clock() + delay + self._patience.first
        self._rounds = 0
        self._rejections = 0
        self.pause = 0.0
        """Seconds between the last loss of the server and the next attempt."""
        self._greetings = 0
        self._reason = ""
        self._final = False
        """The reason will not go away by itself."""
        self._early: list[bytes] = []
        self._taken: list[Delivery] = []
        self._ready = False
        self._look = 0.0
        self._leaving = False
        self._closed = False
        self._has_told = False
        """That we are not let in yet."""

    # -- the endpoint ------------------------------------------------------------------------------------

    def poll(self) -> list[Delivery]:
        """What the server sent since the last call; ``Cut``, ``Again``, ``Lost``."""
        if not self._closed:
            self._ready = False
            now = self._clock()
            if self._connection is not None:
                self._advance(self._connection, now)
            if self._connection is not None and self._in and now >= self._look:
                self._look_around(self._connection, now)
            if not self._in and self._due is not None:
                self._dial(now)
        taken, self._taken = self._taken, []
        return taken

    def send(self, peer: int, message: Any) -> None:
        """Queue one message; between ``Cut`` and ``Again`` it is dropped. Raises ``TransportError`` (too long)."""
        try:
            data = frame(MESSAGE, encode(message))
        except ProtocolError as error:
            raise TransportError(str(error)) from None
        if peer != SERVER or self._closed:
            return
        if isinstance(message, Leave):
            self._leaving = True
        connection = self._connection
        if connection is not None and self._in:
            connection.put(data)
            if connection.queued > self._patience.queued:
                self._drop(f"it does not take our messages ({connection.queued} bytes wait)", self._clock())
        elif self.connections == 0 and sum(map(len, self._early)) + len(data) <= self._patience.queued:
            self._early.append(data)

    def flush(self) -> bool:
        """Write what the kernel takes; True when nothing is left, or nobody is there to take it."""
        connection = self._connection
        if connection is None or not self._in:
            return True
        now = self._clock()
        try:
            return connection.flush(now)
        except TransportError as error:
            self._drop(str(error), now)
            return True

    def wait_hint(self, now: float) -> float | None:
        """Seconds to the next timer; 0 where there is something to do at once."""
        if self._closed:
            return None
        if self._ready or self._taken:
            return 0.0
        if self._in:
            due: float | None = self._look
        elif self._connection is None and self._round is not None and not self._round.over:
            due = self._round.deadline()
        else:
            due = self._due
        return None if due is None else max(0.0, due - now)

    def expect(self, soon: bool) -> None:
        """Descriptors wake us: nothing to do."""

    def silence(self, peer: int) -> float | None:
        """Not measured here."""
        return None

    def drop(self, peer: int, reason: str) -> None:
        """Reject the server; we come back later, for it may be another one then."""
        connection = self._connection
        if connection is not None and self._in:
            connection.put(reject_frame(Code.PROTOCOL, reason))
            connection.leave()
            self._drop(reason, self._clock(), final=True)

    def close(self) -> None:
        """Hang up; the server may do so first (`Patience.linger`), so that our last word arrives. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._round is not None:
            self._round.close()
        connection, self._connection = self._connection, None
        if connection is not None and self._in:
            parting = Parting(self._patience.linger, self._clock)
            parting.add(connection, self._clock())
            parting.wait()
        elif connection is not None:
            connection.close()

    @property
    def connected(self) -> bool:
        """Whether what is sent now has somebody to go to."""
        return self._in

    @property
    def address(self) -> str:
        """The address that we are connected to, or tried last."""
        return "" if self._round is None else self._round.address

    # -- looking for the server --------------------------------------------------------------------------

    def _dial(self, now: float) -> None:
        """Go on with whatever is due of finding the server."""
        if self._connection is not None:
            if self._due is not None and now >= self._due:
                self._failed("no answer to our greeting", now)
            return
        if self._round is None or self._round.over:
            if self._due is None or now < self._due:
                return
            if not self._begin_round(now):
                return
        self._next(now)

    def _begin_round(self, now: float) -> bool:
        self._final = False
        try:
            self._target = self._find()
        except HyperShellError as error:
            self._reason, self._final = str(error), True
            self._round_over(now)
            return False
        target = self._target
        try:
            self._round = Round(self._poller, target.hosts, target.port, self._patience.connect, self._wake)
        except (OSError, RuntimeError) as error:  # no descriptor or thread to look names up
            self._reason = lack(error) or str(error)
            self._round_over(now)
            return False
        return True

    def _next(self, now: float) -> None:
        """Go on with the round; a connected socket becomes a connection."""
        calling, target = self._round, self._target
        if calling is None or target is None:
            return
        while not calling.over:
            sock = calling.step(now)
            if sock is None:
                break
            tls = target.tls
            try:
                link = Link(sock, tls and tls.context, name=tls and tls.server_name)
            except (OSError, ValueError) as error:
                sock.close()
                calling.reason = f"{calling.address}: {getattr(error, 'strerror', None) or error}"
                continue
            self._due = now + self._patience.handshake
            self._connection = Connection(self._poller, link, self._session, self._woken, now)
            self._ready = True
            return
        if calling.over:
            if not self._final:
                self._reason = calling.reason
            self._round_over(now)

    def _session(self, link: Link) -> Session:
        target = self._target
        if target is None:
            raise TransportError("no target")
        binding = Binding.none()
        if target.tls is not None:
            digest = hashlib.sha256(link.certificate()).digest()
            if target.tls.pin is not None and digest != target.tls.pin:
                raise TlsError(
                    f"the server's certificate is {fingerprint(digest)[:30]}…, "
                    f"not {fingerprint(target.tls.pin)[:30]}… as expected"
                )
            binding = Binding(True, digest)
        self._greetings += 1
        return ClientSession(
            target.key.prove,
            binding,
            secrets.token_bytes(NONCE_SIZE),
            __version__,
            self._decode,
            role=self._role,
            ident=self._ident,
            connection=self._greetings - 1,
        )

    def _failed(self, reason: str, now: float, *, final: bool = False) -> None:
        """This address was nothing: on to the next."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._round is None:
            return
        reason = f"{self.address}: {reason}"
        self._round.reason = reason
        if final and not self._final:
            self._reason, self._final = reason, True
        self._next(now)

    def _round_over(self, now: float) -> None:
        """No address led anywhere: pause, or give up."""
        pause = min(self._patience.longest, self._patience.shortest * 2.0 ** min(self._rounds, 30))
        pause *= 0.5 + self._draw() / 2
        self._rounds += 1
        # What will not go away by itself ends a first attempt; a server that we knew may come back changed.
        if now + pause > self._until or (self._final and self.connections == 0):
            self._give_up()
        else:
            _log.debug("Server not reached (%s); again in %.1f seconds", self._reason, pause)
            self._due = now + pause

    def _give_up(self) -> None:
        self._due = None
        if self.connections == 0:
            nobody = " (does it run? -H, -p and --connect say where)" if "refused" in self._reason else ""
            self.lost = f"cannot reach the server: {self._reason}{nobody}"
        else:
            self.lost = f"no server for {self._patience.reconnect:g} seconds: {self._reason}"
        self._taken.append(Delivery(SERVER, Lost(self.lost)))

    # -- a connection ------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._ready = True

    def _woken(self, connection: Connection) -> None:
        self._ready = True

    def _advance(self, connection: Connection, now: float) -> None:
        try:
            connection.advance(now)
        except Refusal as error:
            self._deliver(connection, now)
            connection.put(reject_frame(error.code, str(error)))
            connection.leave()
            self._drop(str(error), now, final=True)
        except Rejected as error:
            self._deliver(connection, now)
            passing = error.code in Code.PASSING
            if passing and self.connections == 0:  # it is there, and only has too much to do
                self._until = max(self._until, now + self._patience.busy)
                self._tell_wait(error)
            self._drop(f"rejected: {error}", now, final=not passing)
        except TransportError as error:
            self._deliver(connection, now)
            self._drop(str(error), now, final=isinstance(error, TlsError))
        else:
            self._ready = self._ready or connection.more
            self._deliver(connection, now)

    def _tell_wait(self, error: Rejected) -> None:
        """Say once why we are not let in yet."""
        if not self._has_told and self._patience.busy > 0:
            self._has_told = True
            _log.warning("Not let in yet: %s; trying again for up to %g seconds", error, self._patience.busy)

    def _deliver(self, connection: Connection, now: float) -> None:
        if not self._in and (connection.authenticated or connection.inbox):
            self._let_in(connection, now)
        for message in connection.inbox:
            if type(message) is Bye:
                self._leaving = True
            self._taken.append(Delivery(SERVER, message))
        connection.inbox.clear()

    def _let_in(self, connection: Connection, now: float) -> None:
        self._in = True
        self._rounds = 0
        self._due = None
        self._look = now + self._patience.beat / 2
        self.connections += 1
        if self.connections > 1:
            _log.warning("Found the server again at %s", self.address)
            self._taken.append(Delivery(SERVER, Again()))
        else:
            _log.debug("Connected to the server at %s", self.address)
        for data in self._early:
            connection.put(data)
        self._early.clear()
        self._ready = True

    def _drop(self, reason: str, now: float, *, final: bool = False) -> None:
        """The connection is over: an attempt failed, or the server is lost."""
        connection = self._connection
        if connection is None:
            return
        if not self._in:
            self._failed(reason, now, final=final)
            return
        connection.close()
        self._connection = None
        self._in = False
        self._due = None
        if self._round is not None:
            self._round.close()
            self._round = None
        if self._leaving:
            return
        if self._patience.reconnect <= 0:
            self.lost = reason
            self._taken.append(Delivery(SERVER, Lost(reason)))
            return
        self._until = now + self._patience.reconnect
        # Who rejects what we say will do so again: each time in a row we come back later.
        self._rejections = self._rejections + 1 if final else 0
        longest = min(self._patience.longest, self._patience.shortest * 2.0 ** min(self._rejections, 30))
        self.pause = longest * ((0.5 + self._draw() / 2) if final else self._draw())
        self._due = now + self.pause
        _log.debug("Lost the server (%s): looking for it for %g seconds", reason, self._patience.reconnect)
        self._taken.append(Delivery(SERVER, Cut(reason)))

    def _look_around(self, connection: Connection, now: float) -> None:
        """Send a beat; a server that has been silent for too long is lost. After a sleep of ours it gets time."""
        overslept = now - self._look > self._patience.beat
        self._look = now + self._patience.beat / 2
        silent = now - connection.heard
        if silent >= self._patience.silence and not overslept and not self._ready:
            self._drop(f"nothing was heard of it for {silent:.0f} seconds", now)
        elif now - connection.said >= self._patience.beat / 2:
            try:
                connection.beat(now)
            except TransportError as error:
                self._drop(str(error), now)
