"""Who was heard of and who was spoken to: when a sign of life is due, and who has been silent for too long.

Pure: the transport without connections (MPI) asks it at every poll. Peers are looked at in turn, a few at a time,
so that a call costs the same however many there are, and ten thousand beats never leave at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["FIRST_WORD", "LONGEST_BEAT", "SILENCE", "Look", "Watch", "beat_of"]

#: Seconds of silence after which a peer counts as lost, unless somebody says otherwise.
SILENCE = 600.0

#: The longest time without a word, seconds.
LONGEST_BEAT = 30.0

#: Seconds that a peer has at least for its first word: it may still be loading its program.
FIRST_WORD = 60.0


class Look(NamedTuple):
    """What came out of looking around."""

    quiet: list[int]
    """Peers to which nothing was said for a while: a beat is due."""
    lost: list[int]
    """Peers of which nothing was heard for too long."""


_NOTHING = Look([], [])


def beat_of(silence: float) -> float:
    """Seconds in which a peer says something, however little, where `silence` seconds are too many."""
    return min(LONGEST_BEAT, silence / 4)


class Watch:
    """Over `peers`, from monotonic time `now` on."""

    def __init__(self, peers: Iterable[int], now: float, silence: float = SILENCE) -> None:
        self._ring = deque(peers)
        self._heard = dict.fromkeys(self._ring, now)
        self._said = dict.fromkeys(self._ring, float("-inf"))
        self._mute = set(self._ring)
        """Of whom nothing was ever heard."""
        self._looked = now
        self._carry = 0.0
        self._calm = now
        """Before this time nobody is judged."""
        self.allow(silence)

    def allow(self, silence: float) -> None:
        """From now on so many seconds of silence are too many."""
        self.limit = silence
        self.beat = beat_of(silence)

    def never_heard(self) -> list[int]:
        """Peers that have not said a word yet, ascending."""
        return sorted(self._mute)

    def heard(self, peer: int, now: float) -> bool:
        """Something came from `peer`; whether it was the first word."""
        if peer in self._heard:
            self._heard[peer] = now
            if self._mute and peer in self._mute:
                self._mute.discard(peer)
                return True
        return False

    def said(self, peer: int, now: float) -> None:
        """Something was sent to `peer`."""
        if peer in self._said:
            self._said[peer] = now

    def silence(self, peer: int, now: float) -> float | None:
        """Seconds since `peer` was heard of; None for one that is not watched."""
        heard = self._heard.get(peer)
        return None if heard is None else max(0.0, now - heard)

    def forget(self, peer: int) -> None:
        """Do not watch it any more; its place in the ring goes at the next look."""
        self._heard.pop(peer, None)
        self._said.pop(peer, None)
        self._mute.discard(peer)

    def look(self, now: float) -> Look:
        """Look at so many peers that each has its turn every half beat.

        After a sleep of our own (SIGSTOP, a machine that swaps) nobody is judged for one beat: what they said
        meanwhile waits to be read.
        """
        since, self._looked = now - self._looked, now
        ring, beat = self._ring, self.beat
        if since > beat:
            self._calm = now + beat
        share = self._carry + len(ring) * since / (beat / 2)
        count = min(len(ring), int(share))
        self._carry = min(share - count, 1.0)
        if not count:
            return _NOTHING
        quiet, lost = [], []
        for _ in range(count):
            peer = ring.popleft()
            heard = self._heard.get(peer)
            if heard is None:
                continue
            ring.append(peer)
            limit = max(self.limit, FIRST_WORD) if peer in self._mute else self.limit
            if now - heard >= limit and now >= self._calm:
                lost.append(peer)
            elif now - self._said[peer] >= beat / 2:
                quiet.append(peer)
        return Look(quiet, lost)
