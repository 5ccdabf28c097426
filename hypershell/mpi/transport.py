"""Messages as MPI byte buffers: rank 0's end, whose peers are ranks, and a worker's, whose peer is rank 0.

Explicit receives of exactly the probed size, no pickle, no matched probe, no collectives. Nothing here blocks
but `close`, where both sides say that they are done and wait for the other's word, asleep. Knows the codec,
nothing of what the messages mean except ``Bye`` and ``Leave``, after which the end of a peer is no loss.

A peer is lost when MPI says so (``mpi.failures``), or when nothing was heard of it for too long: both sides give
signs of life, rank 0's with the time that is too long.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from hypershell.errors import ProtocolError, TransportError
from hypershell.loopback import LoopbackEnd
from hypershell.mpi.backoff import Backoff
from hypershell.mpi.failures import Failures, MpiFailed
from hypershell.mpi.world import World
from hypershell.proto.codec import decode_client, decode_server, encode
from hypershell.proto.messages import Bye, Leave
from hypershell.silence import FIRST_WORD, Watch
from hypershell.transport import SERVER, Delivery, Lost

__all__ = ["MAX_IN_FLIGHT", "MAX_MESSAGE", "MAX_PER_POLL", "MAX_QUEUED", "MpiClientEnd", "MpiServerEnd"]

#: Messages taken per poll, so that one turn of rank 0 stays short.
MAX_PER_POLL = 256
#: Bytes of them: what ranks send without a pause waits with MPI and with its senders, not with us.
MAX_BYTES_PER_POLL = 16 << 20
#: Sends that MPI holds at a time for one peer; more wait here, encoded.
MAX_IN_FLIGHT = 32
#: Bytes that may wait for one peer; a peer that lets more pile up is given up as lost.
MAX_QUEUED = 256 << 20
#: Seconds after which ranks that have not said a word are named.
ROLL_CALL = 30.0
#: Bytes of one message.
MAX_MESSAGE = 1 << 30

_TAG_MESSAGE = 11
_TAG_END = 12
#: A sign of life. Rank 0's carries the seconds of silence that are too many, and whether the job survives a rank.
_TAG_BEAT = 13
_BEAT = struct.Struct("<d?")
#: Up to this size a message is received at once: it has arrived whole with its envelope (eager protocol). A
#: longer one may still be with its sender, so its receive is started and looked at in later polls.
_WHOLE = 2048
_SWEEP = 64

Warn = Callable[[str], None]


class _Outgoing:
    """What is on its way to one peer."""

    __slots__ = ("in_flight", "lost", "queue", "queued")

    def __init__(self) -> None:
        self.in_flight = 0
        self.queue: deque[bytes] = deque()
        self.queued = 0
        self.lost = False


class _MpiEnd:
    """What both ends share. `peers` are the ranks on the other side."""

    def __init__(
        self,
        world: World,
        decode: Callable[[memoryview], Any],
        source: int | None,
        peers: Iterable[int],
        warn: Warn,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        from mpi4py import MPI

        self._world = world
        self._comm = world.comm
        self._error = MPI.Exception
        self._byte = MPI.BYTE
        self._tag = MPI.ANY_TAG
        self._source = MPI.ANY_SOURCE if source is None else source
        self._status = MPI.Status()
        self._failures = Failures(MPI, world.comm) if world.survives else None
        self._decode = decode
        self._warn = warn
        self._max_queued = max_queued
        self._buffer = bytearray(_WHOLE)
        self._view = memoryview(self._buffer)
        self._peers = {rank: _Outgoing() for rank in peers}
        self._requests: deque[tuple[Any, int]] = deque()
        self._abandoned: list[Any] = []
        """Sends to peers that were lost: MPI may still read their buffers."""
        self._arriving: dict[int, deque[tuple[Any, bytearray, int]]] = {}
        self._lost: list[Delivery] = []
        self._ended: set[int] = set()
        self._excused: set[int] = set()
        self._dropped: set[int] = set()
        """Peers that said what no correct one says: nothing of them is heard any more."""
        self._more = False
        self._closed = False
        self._broken = False
        self._backoff = Backoff()
        self._clock = time.monotonic
        self._now = self._clock()
        self._watch = Watch(self._peers, self._now)
        self._beat = b""
        self.rejected = 0
        """Messages that no correct peer sends."""

    def poll(self) -> list[Delivery]:
        """What has arrived, at most `MAX_PER_POLL` messages (and parts of longer ones that are complete).

        Raises ``MpiFailed`` where MPI fails, and the job with it.
        """
        taken: list[Delivery] = []
        self._now = self._clock()
        seen = 0
        room = MAX_BYTES_PER_POLL
        try:
            if self._requests:
                self._sweep(_SWEEP)
            if self._arriving:
                self._collect(taken)
            iprobe, status, source, tag = self._comm.Iprobe, self._status, self._source, self._tag
            # Both MPIs report a message only in the call after the one that moved it, hence the second probe.
            while (
                seen < MAX_PER_POLL
                and room > 0
                and (iprobe(source, tag, status) or iprobe(source, tag, status))
            ):
                seen += 1
                room -= self._take(taken)
        except self._error as error:
            self._failed(error)
        self._more = seen >= MAX_PER_POLL or room <= 0
        self._look_around()
        if self._lost:
            taken += self._lost
            self._lost.clear()
        if taken or self._arriving:
            self._backoff.near()
        return taken

    def send(self, peer: int, message: Any) -> None:
        data = encode(message)
        if len(data) > MAX_MESSAGE:
            raise TransportError(f"message of {len(data)} bytes for rank {peer} exceeds the limit of {MAX_MESSAGE}")
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
            self._lose(peer, f"rank {peer} does not take its messages")

    def flush(self) -> bool:
        try:
            self._sweep(_SWEEP)
        except self._error as error:
            self._failed(error)
        return not self._requests

    def wait_hint(self, now: float) -> float | None:
        """Seconds to sleep before the next poll; grows while nothing comes (`Backoff`)."""
        if self._more or self._lost:
            return 0.0
        return self._backoff.wait(now, moving=bool(self._requests or self._arriving))

    def expect(self, soon: bool) -> None:
        self._backoff.expect(soon)

    def silence(self, peer: int) -> float | None:
        """Seconds since `peer` was last heard of; None for one that is not here."""
        return self._watch.silence(peer, self._clock())

    def drop(self, peer: int, reason: str) -> None:
        """Hear nothing more of `peer`, for whom this is the end of its part; MPI goes on with it."""
        if peer in self._dropped or peer not in self._peers:
            return
        self._dropped.add(peer)
        if peer not in self._excused:
            self._lost.append(Delivery(peer, Lost(reason)))
        self._tell_end(peer)
        self._excused.add(peer)

    def close(self) -> None:
        """Say that nothing more will come and wait, asleep, until all peers have said so; then MPI can end.

        Messages that still arrive are dropped. A peer that is busy keeps us here, as MPI_Finalize would, but
        without burning a core; one that is silent for too long does not.
        """
        if self._closed:
            return
        self._closed = True
        self._backoff.expect(True)
        unsaid, parted = set(self._peers), set[int]()
        while not self._broken:
            self.poll()
            here = {peer for peer, out in self._peers.items() if not out.lost}
            for peer in [peer for peer in unsaid & here if not self._peers[peer].queue]:
                self._start(self._peers[peer], peer, b"", _TAG_END)
                unsaid.discard(peer)
            for peer in (here & self._ended) - unsaid - parted:  # it is in MPI_Finalize by now
                self._watch.forget(peer)
                parted.add(peer)
            if not unsaid & here and here <= self._ended and not self._requests:
                return
            time.sleep(0.0 if self._more else self._backoff.wait(time.monotonic()))

    def farewell(self) -> None:
        """Before this rank ends by force in a job that survives it: let the peers know at once, if MPI can."""
        try:
            for peer, out in self._peers.items():
                if not out.lost:
                    self._abandoned.append(self._isend(b"", peer, _TAG_END))
            for _ in range(20):
                self._comm.Iprobe(self._source, self._tag, self._status)
                time.sleep(0.005)
        except self._error:
            pass  # they will miss our beats

    def stuck(self) -> list[int]:
        """Peers that were given up and may live: MPI cannot end in good order while they do not answer."""
        dead = self._failures.dead if self._failures is not None else ()
        return [
            peer
            for peer, out in self._peers.items()
            if (out.lost or self._broken) and peer not in self._ended and peer not in dead
        ]

    def orphaned(self) -> bool:
        """Whether every peer is gone without having said so."""
        return all(out.lost for out in self._peers.values()) and not self._ended

    # -- losses ------------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        """MPI reports an error. Where ranks may die, it is their loss; otherwise it is the end of the job."""
        if self._failures is None or not self._failures.is_about(error):
            self._broken = True
            text = " ".join(str(error).split())
            raise MpiFailed(f"MPI cannot go on ({text}): run the same command again with --restart") from None
        for rank in self._failures.news():
            if rank in self._peers:
                self._lose(rank, f"rank {rank} died")

    def _lose(self, peer: int, reason: str) -> None:
        """Give `peer` up; what is on its way to it stays with MPI."""
        out = self._peers[peer]
        self._watch.forget(peer)
        if out.lost:
            return
        out.lost = True
        out.queue.clear()
        out.queued = 0
        self._abandoned += [request for request, to in self._requests if to == peer]
        self._requests = deque(entry for entry in self._requests if entry[1] != peer)
        for request, buffer, _ in self._arriving.pop(peer, ()):
            self._abandoned.append((request, buffer))
        if peer not in self._excused and peer not in self._ended:
            self._lost.append(Delivery(peer, Lost(reason)))

    def _look_around(self) -> None:
        """Give signs of life, and give up who has given none for too long."""
        quiet, lost = self._watch.look(self._now)
        for peer in quiet:
            self._give_beat(peer)
        for peer in lost:
            silent = self._watch.silence(peer, self._now) or 0.0
            self._lose(peer, f"nothing was heard of rank {peer} for {silent:.0f} s")
            self._part(peer)

    def _give_beat(self, peer: int) -> None:
        out = self._peers[peer]
        if out.in_flight < MAX_IN_FLIGHT and not out.queue:  # else it has enough to hear
            self._start(out, peer, self._beat, _TAG_BEAT)

    def _tell_end(self, peer: int) -> None:
        """A last word to one that is not heard any more."""

    def _part(self, peer: int) -> None:
        """A last word to one that was given up and may come to life again."""

    def _isend(self, data: bytes | memoryview, peer: int, tag: int) -> Any:
        return self._comm.Isend([data, self._byte], peer, tag)

    def _start(self, out: _Outgoing, peer: int, data: bytes, tag: int = _TAG_MESSAGE) -> None:
        try:
            request = self._isend(data, peer, tag)
            self._watch.said(peer, self._now)
            if not request.Test():
                out.in_flight += 1
                self._requests.append((request, peer))
        except self._error as error:
            self._failed(error)

    def _sweep(self, budget: int) -> None:
        """Test the oldest sends, at most `budget` of them; those not done go to the back of the line."""
        for _ in range(min(budget, len(self._requests))):
            if not self._requests:  # a loss took the others away
                return
            entry = self._requests.popleft()
            request, peer = entry
            if not request.Test():
                self._requests.append(entry)
                continue
            self._backoff.near()
            out = self._peers[peer]
            out.in_flight -= 1
            while out.queue and out.in_flight < MAX_IN_FLIGHT:
                data = out.queue.popleft()
                out.queued -= len(data)
                self._start(out, peer, data)

    def _take(self, taken: list[Delivery]) -> int:
        """Receive the message that the last probe reported; its size."""
        status = self._status
        peer, tag, size = status.Get_source(), status.Get_tag(), status.Get_count(self._byte)
        if self._watch.heard(peer, self._now):
            self._give_beat(peer)  # before anything else, so that it knows what is too long
        waiting = self._arriving.get(peer)
        if size <= _WHOLE and waiting is None:
            self._comm.Recv([self._view, size, self._byte], peer, tag)
            self._deliver(peer, tag, self._view[:size], taken)
            return size
        buffer = bytearray(size)
        request = self._comm.Irecv([buffer, self._byte], peer, tag)
        if waiting is None:
            if request.Test():
                self._deliver(peer, tag, memoryview(buffer), taken)
                return size
            waiting = self._arriving[peer] = deque()
        waiting.append((request, buffer, tag))
        return size

    def _collect(self, taken: list[Delivery]) -> None:
        """Deliver the long messages that have come in meanwhile, in the order of each peer."""
        for peer, waiting in list(self._arriving.items()):
            while waiting and waiting[0][0].Test():
                _, buffer, tag = waiting.popleft()
                self._deliver(peer, tag, memoryview(buffer), taken)
            if not waiting:
                del self._arriving[peer]

    def _deliver(self, peer: int, tag: int, data: memoryview, taken: list[Delivery]) -> None:
        out = self._peers.get(peer)
        if out is None:
            self._reject(peer, "a rank that takes part in nothing")
        elif tag == _TAG_BEAT:
            self._told(data)
        elif tag == _TAG_END:
            self._ended.add(peer)
            if out.lost:  # given up too early: it has heard of that, and waits for our word
                self._abandoned.append(self._isend(b"", peer, _TAG_END))
            elif peer not in self._excused:
                taken.append(Delivery(peer, Lost(f"rank {peer} has ended")))
        elif tag != _TAG_MESSAGE:
            self._reject(peer, f"unknown tag {tag}")
        elif not out.lost and peer not in self._dropped:
            try:
                message = self._decode(data)
            except ProtocolError as error:
                self.rejected += 1
                self.drop(peer, str(error))
                return
            if isinstance(message, (Bye, Leave)):
                self._excused.add(peer)
            taken.append(Delivery(peer, message))

    def _told(self, data: memoryview) -> None:
        """A beat has come."""

    def _reject(self, peer: int, reason: str) -> None:
        self.rejected += 1
        self._warn(f"message from rank {peer} dropped: {reason}")


class MpiServerEnd(_MpiEnd):
    """Rank 0's end. Peer numbers are ranks; rank 0's own client, if there is one, is peer 0."""

    def __init__(self, world: World, warn: Warn, max_queued: int = MAX_QUEUED) -> None:
        super().__init__(world, decode_client, None, range(1, world.size), warn, max_queued)
        self._own: LoopbackEnd | None = None
        self._roll_call: float | None = self._now + ROLL_CALL
        self.evict(self._watch.limit)

    def evict(self, silence: float) -> None:
        """From now on a rank is lost after so many seconds of silence; so is rank 0 for the others."""
        self._watch.allow(silence)
        self._beat = _BEAT.pack(silence, self._world.survives)

    def _tell_end(self, peer: int) -> None:
        self.send(peer, Bye())

    def _part(self, peer: int) -> None:
        self._abandoned.append(self._isend(encode(Bye()), peer, _TAG_MESSAGE))

    def _name_missing(self, ranks: list[int]) -> None:
        if not ranks:
            return
        shown = ", ".join(map(str, ranks[:10])) + (", ..." if len(ranks) > 10 else "")
        who = f"rank {shown} has" if len(ranks) == 1 else f"{len(ranks)} ranks ({shown}) have"
        limit = max(self._watch.limit, FIRST_WORD)
        self._warn(
            f"{who} not joined in {ROLL_CALL:.0f} s: still starting, or another program (MPMD). The run goes on "
            f"without; after {limit:.0f} s of silence (--evict) they are lost, and until then the job does not end"
        )

    def own_client(self) -> LoopbackEnd:
        """The client's end of a loopback to this rank's own executor, which the server sees as peer 0."""
        up: deque[Any] = deque()
        down: deque[Any] = deque()
        self._own = LoopbackEnd(up, down, 0)
        return LoopbackEnd(down, up, SERVER)

    def poll(self) -> list[Delivery]:
        taken = super().poll() if self._peers else []
        if self._roll_call is not None and self._now >= self._roll_call:
            self._roll_call = None
            self._name_missing(self._watch.never_heard())
        return self._own.poll() + taken if self._own is not None else taken

    def send(self, peer: int, message: Any) -> None:
        if peer == 0 and self._own is not None:
            self._own.send(0, message)
        else:
            super().send(peer, message)

    def drop(self, peer: int, reason: str) -> None:
        if peer == 0 and self._own is not None:
            self._own.drop(0, reason)
        else:
            super().drop(peer, reason)

    def wait_hint(self, now: float) -> float | None:
        if self._own is not None and self._own.wait_hint(now) == 0.0:
            return 0.0
        return super().wait_hint(now) if self._peers else None


class MpiClientEnd(_MpiEnd):
    """A worker's end; its only peer is the server."""

    def __init__(self, world: World, warn: Warn) -> None:
        super().__init__(world, decode_server, SERVER, [SERVER], warn)

    def _told(self, data: memoryview) -> None:
        if len(data) != _BEAT.size:
            self._reject(SERVER, "a beat without its time")
            return
        silence, self._world.survives = _BEAT.unpack(data)
        if 0 < silence < float("inf") and silence != self._watch.limit:
            self._watch.allow(silence)
