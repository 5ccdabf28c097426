"""Messages as MPI byte buffers: rank 0's end, whose peers are ranks, and a worker's, whose peer is rank 0.

Explicit receives of exactly the probed size, no pickle, no matched probe, no collectives. Nothing here blocks
but `close`, where both sides say that they are done and wait for the other's word, asleep. Knows the codec,
nothing of what the messages mean except ``Bye`` and ``Leave``, after which a silent peer is no loss.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hypershell.errors import ProtocolError, TransportError
from hypershell.loopback import LoopbackEnd
from hypershell.mpi.world import World
from hypershell.proto.codec import decode_client, decode_server, encode
from hypershell.proto.messages import Bye, Leave
from hypershell.transport import SERVER, Delivery, Lost

__all__ = ["MAX_IN_FLIGHT", "MAX_MESSAGE", "MAX_PER_POLL", "MAX_QUEUED", "Backoff", "MpiClientEnd", "MpiServerEnd"]

#: Messages taken per poll, so that one turn of rank 0 stays short.
MAX_PER_POLL = 256
#: Sends that MPI holds at a time for one peer; more wait here, encoded.
MAX_IN_FLIGHT = 32
#: Bytes that may wait for one peer; a peer that lets more pile up is given up as lost.
MAX_QUEUED = 256 << 20
#: Bytes of one message.
MAX_MESSAGE = 1 << 30

_TAG_MESSAGE = 11
_TAG_END = 12
#: Up to this size a message is received at once: it has arrived whole with its envelope (eager protocol). A
#: longer one may still be with its sender, so its receive is started and looked at in later polls.
_WHOLE = 2048
_SWEEP = 64

Warn = Callable[[str], None]


class Backoff:
    """How long an idle rank sleeps: in proportion to the time since the last traffic, between two limits.

    Waiting a share of the time already waited makes the waits grow geometrically, however often other events
    interrupt them. The limits were measured (``benchmarks/idle_rank.py``).
    """

    __slots__ = ("_since", "longest", "share", "shortest")

    def __init__(self, shortest: float = 50e-6, longest: float = 7e-3, share: float = 0.12) -> None:
        self.shortest = shortest
        self.longest = longest
        self.share = share
        self._since: float | None = None

    def near(self) -> None:
        """Traffic was seen or is expected: start over with the shortest wait."""
        self._since = None

    def far(self) -> None:
        """Nothing is expected: the longest wait at once."""
        self._since = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds to sleep, `now` by the same clock at every call."""
        if self._since is None:
            self._since = now
        return min(self.longest, max(self.shortest, (now - self._since) * self.share))


class _Outgoing:
    """What is on its way to one peer."""

    __slots__ = ("in_flight", "lost", "queue", "queued")

    def __init__(self) -> None:
        self.in_flight = 0
        self.queue: deque[bytes] = deque()
        self.queued = 0
        self.lost = False


class _MpiEnd:
    """What both ends share."""

    def __init__(
        self,
        world: World,
        decode: Callable[[memoryview], Any],
        source: int | None,
        warn: Warn,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        from mpi4py import MPI

        self._comm = world.comm
        self._byte = MPI.BYTE
        self._tag = MPI.ANY_TAG
        self._source = MPI.ANY_SOURCE if source is None else source
        self._status = MPI.Status()
        self._decode = decode
        self._warn = warn
        self._max_queued = max_queued
        self._buffer = bytearray(_WHOLE)
        self._view = memoryview(self._buffer)
        self._peers: dict[int, _Outgoing] = {}
        self._requests: deque[tuple[Any, int]] = deque()
        self._arriving: dict[int, deque[tuple[Any, bytearray, int]]] = {}
        self._lost: list[Delivery] = []
        self._ended: set[int] = set()
        self._excused: set[int] = set()
        self._more = False
        self._closed = False
        self._backoff = Backoff()
        self.rejected = 0
        """Messages that were dropped because no correct peer sends them."""

    def poll(self) -> list[Delivery]:
        """What has arrived, at most `MAX_PER_POLL` messages (and parts of longer ones that are complete)."""
        taken: list[Delivery] = []
        if self._requests:
            self._sweep(_SWEEP)
        if self._arriving:
            self._collect(taken)
        iprobe, status, source, tag = self._comm.Iprobe, self._status, self._source, self._tag
        seen = 0
        # Both MPIs report a message only in the call after the one that moved it, hence the second probe.
        while seen < MAX_PER_POLL and (iprobe(source, tag, status) or iprobe(source, tag, status)):
            self._take(taken)
            seen += 1
        self._more = seen >= MAX_PER_POLL
        if self._lost:
            taken += self._lost
            self._lost.clear()
        if seen or taken:
            self._backoff.near()
        return taken

    def send(self, peer: int, message: Any) -> None:
        """Queue one message. Raises ``TransportError`` where it is longer than `MAX_MESSAGE`."""
        data = encode(message)
        if len(data) > MAX_MESSAGE:
            raise TransportError(f"message of {len(data)} bytes to rank {peer} exceeds the limit of {MAX_MESSAGE}")
        out = self._peers.get(peer)
        if out is None or out.lost or self._closed:
            return
        if isinstance(message, (Bye, Leave)):
            self._excused.add(peer)
        self._backoff.near()
        if out.in_flight < MAX_IN_FLIGHT and not out.queue:
            self._start(out, peer, data)
            return
        out.queue.append(data)
        out.queued += len(data)
        if out.queued > self._max_queued:
            out.lost = True
            out.queue.clear()
            self._lost.append(Delivery(peer, Lost(f"rank {peer} does not take its messages")))

    def flush(self) -> bool:
        self._sweep(_SWEEP)
        return not self._requests

    def wait_hint(self, now: float) -> float | None:
        """Seconds to sleep before the next poll; grows while nothing comes (`Backoff`)."""
        return 0.0 if self._more or self._lost else self._backoff.wait(now)

    def expect(self, soon: bool) -> None:
        if soon:
            self._backoff.near()
        else:
            self._backoff.far()

    def silence(self, peer: int) -> float | None:
        """Not measured here."""
        return None

    def close(self) -> None:
        """Say that nothing more will come and wait, asleep, until all peers have said so; then MPI can end.

        Messages that still arrive are dropped. A peer that is busy for ever keeps us here, as MPI_Finalize
        would, but without burning a core.
        """
        if self._closed:
            return
        self._closed = True
        self._backoff.near()
        reachable = {peer for peer, out in self._peers.items() if not out.lost}
        unsaid = set(reachable)
        while True:
            self.poll()
            for peer in [peer for peer in unsaid if not self._peers[peer].queue]:
                self._peers[peer].in_flight += 1
                self._requests.append((self._isend(b"", peer, _TAG_END), peer))
                unsaid.discard(peer)
            if not unsaid and self._ended >= reachable and self._sent(reachable):
                return
            time.sleep(0.0 if self._more else self._backoff.wait(time.monotonic()))

    def stuck(self) -> list[int]:
        """Peers that were given up: MPI cannot end in good order while they do not answer."""
        return [peer for peer, out in self._peers.items() if out.lost]

    def _sent(self, peers: set[int]) -> bool:
        return not any(peer in peers for _, peer in self._requests)

    def _isend(self, data: bytes | memoryview, peer: int, tag: int) -> Any:
        return self._comm.Isend([data, self._byte], peer, tag)

    def _start(self, out: _Outgoing, peer: int, data: bytes) -> None:
        request = self._isend(data, peer, _TAG_MESSAGE)
        if not request.Test():
            out.in_flight += 1
            self._requests.append((request, peer))

    def _sweep(self, budget: int) -> None:
        """Test the oldest sends, at most `budget` of them; those not done go to the back of the line."""
        requests = self._requests
        for _ in range(min(budget, len(requests))):
            entry = requests.popleft()
            request, peer = entry
            if not request.Test():
                requests.append(entry)
                continue
            self._backoff.near()
            out = self._peers[peer]
            out.in_flight -= 1
            while out.queue and out.in_flight < MAX_IN_FLIGHT:
                data = out.queue.popleft()
                out.queued -= len(data)
                self._start(out, peer, data)

    def _take(self, taken: list[Delivery]) -> None:
        """Receive the message that the last probe reported."""
        status = self._status
        peer, tag, size = status.Get_source(), status.Get_tag(), status.Get_count(self._byte)
        waiting = self._arriving.get(peer)
        if size <= _WHOLE and waiting is None:
            self._comm.Recv([self._view, size, self._byte], peer, tag)
            self._deliver(peer, tag, self._view[:size], taken)
            return
        buffer = bytearray(size)
        request = self._comm.Irecv([buffer, self._byte], peer, tag)
        if waiting is None:
            if request.Test():
                self._deliver(peer, tag, memoryview(buffer), taken)
                return
            waiting = self._arriving[peer] = deque()
        waiting.append((request, buffer, tag))

    def _collect(self, taken: list[Delivery]) -> None:
        """Deliver the long messages that have come in meanwhile, in the order of each peer."""
        for peer, waiting in list(self._arriving.items()):
            while waiting and waiting[0][0].Test():
                _, buffer, tag = waiting.popleft()
                self._deliver(peer, tag, memoryview(buffer), taken)
            if not waiting:
                del self._arriving[peer]

    def _deliver(self, peer: int, tag: int, data: memoryview, taken: list[Delivery]) -> None:
        if peer not in self._peers:
            self._reject(peer, "a rank that takes part in nothing")
        elif tag == _TAG_END:
            self._ended.add(peer)
            if peer not in self._excused:
                taken.append(Delivery(peer, Lost(f"rank {peer} has ended")))
        elif tag != _TAG_MESSAGE:
            self._reject(peer, f"unknown tag {tag}")
        else:
            try:
                message = self._decode(data)
            except ProtocolError as error:
                self._reject(peer, str(error))
                return
            if isinstance(message, (Bye, Leave)):
                self._excused.add(peer)
            taken.append(Delivery(peer, message))

    def _reject(self, peer: int, reason: str) -> None:
        self.rejected += 1
        self._warn(f"message from rank {peer} dropped: {reason}")


class MpiServerEnd(_MpiEnd):
    """Rank 0's end. Peer numbers are ranks; rank 0's own client, if there is one, is peer 0."""

    def __init__(self, world: World, warn: Warn, max_queued: int = MAX_QUEUED) -> None:
        super().__init__(world, decode_client, None, warn, max_queued)
        self._peers = {rank: _Outgoing() for rank in range(1, world.size)}
        self._own: LoopbackEnd | None = None

    def own_client(self) -> LoopbackEnd:
        """The client's end of a loopback to this rank's own executor, which the server sees as peer 0."""
        up: deque[Any] = deque()
        down: deque[Any] = deque()
        self._own = LoopbackEnd(up, down, 0)
        return LoopbackEnd(down, up, SERVER)

    def poll(self) -> list[Delivery]:
        taken = super().poll() if self._peers else []
        return self._own.poll() + taken if self._own is not None else taken

    def send(self, peer: int, message: Any) -> None:
        if peer == 0 and self._own is not None:
            self._own.send(0, message)
        else:
            super().send(peer, message)

    def wait_hint(self, now: float) -> float | None:
        if self._own is not None and self._own.wait_hint(now) == 0.0:
            return 0.0
        return super().wait_hint(now) if self._peers else None


class MpiClientEnd(_MpiEnd):
    """A worker's end; its only peer is the server."""

    def __init__(self, world: World, warn: Warn) -> None:
        super().__init__(world, decode_server, SERVER, warn)
        self._peers = {SERVER: _Outgoing()}
