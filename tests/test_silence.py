"""Signs of life and silence, in virtual time."""

from __future__ import annotations

import itertools

import pytest

from hypershell.silence import FIRST_WORD, Watch, beat_of


class Peers:
    """A watch that is asked every 8 ms, and peers that answer each beat unless they are `deaf`."""

    STEP = 0.008

    def __init__(self, count: int, silence: float) -> None:
        self.now = 1000.0
        self.watch = Watch(range(1, count + 1), self.now, silence)
        self.deaf: set[int] = set()
        self.beats: list[tuple[float, int]] = []
        self.lost: dict[int, float] = {}
        self.most = 0

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += self.STEP
            look = self.watch.look(self.now)
            self.most = max(self.most, len(look.quiet) + len(look.lost))
            for peer in look.quiet:
                self.watch.said(peer, self.now)
                self.beats.append((self.now, peer))
                if peer not in self.deaf:
                    self.watch.heard(peer, self.now)
            for peer in look.lost:
                self.lost[peer] = self.now
                self.watch.forget(peer)


@pytest.mark.parametrize(("silence", "beat"), [(600.0, 30.0), (120.0, 30.0), (8.0, 2.0), (0.4, 0.1)])
def test_the_beat_is_a_quarter_of_the_silence_and_half_a_minute_at_most(silence: float, beat: float) -> None:
    assert beat_of(silence) == beat


def test_whoever_answers_is_never_lost_and_nobody_waits_longer_than_a_beat_for_a_word() -> None:
    peers = Peers(7, 8.0)
    peers.run(200.0)
    assert peers.lost == {}
    for peer in range(1, 8):
        times = [when for when, to in peers.beats if to == peer]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert times[0] - 1000.0 <= 1.1 and min(gaps) >= 1.0 and max(gaps) <= 2.1


def test_whom_something_else_was_said_needs_no_beat() -> None:
    peers = Peers(1, 8.0)
    for _ in range(1000):
        peers.watch.said(1, peers.now)
        peers.watch.heard(1, peers.now)
        peers.run(0.1)
    assert peers.beats == []


def test_the_silent_are_lost_once_and_in_time() -> None:
    peers = Peers(20, 8.0)
    peers.run(10.0)
    peers.deaf = {3, 11}
    peers.run(30.0)
    assert set(peers.lost) == {3, 11}
    for when in peers.lost.values():
        assert when - 1010.0 + 2.1 >= 8.0 and when - 1010.0 <= 8.0 + 1.1
    assert peers.watch.silence(3, peers.now) is None
    silent = peers.watch.silence(4, peers.now)
    assert silent is not None and silent <= 2.1


def test_a_first_word_is_one_once() -> None:
    watch = Watch([1], 0.0, 8.0)
    assert watch.heard(1, 1.0)
    assert not watch.heard(1, 2.0)
    assert not watch.heard(2, 2.0)


def test_the_first_word_may_take_a_minute() -> None:
    peers = Peers(1, 2.0)
    peers.deaf = {1}
    peers.run(FIRST_WORD - 1.0)
    assert peers.lost == {}
    peers.run(2.0)
    assert set(peers.lost) == {1}


def test_after_a_sleep_of_ours_nobody_is_judged_before_their_words_are_read() -> None:
    peers = Peers(5, 8.0)
    peers.run(10.0)
    peers.deaf = {2}
    peers.now += 100.0
    peers.run(1.9)  # the others are heard of again within a beat
    assert peers.lost == {}
    peers.run(2.0)
    assert set(peers.lost) == {2}


def test_another_limit_counts_from_now_on() -> None:
    peers = Peers(1, 600.0)
    peers.run(20.0)
    peers.deaf = {1}
    peers.watch.allow(4.0)
    peers.run(5.0)
    assert set(peers.lost) == {1}


def test_ten_thousand_ranks_cost_a_few_hundred_beats_a_second_and_never_many_at_once() -> None:
    peers = Peers(10_000, 600.0)
    peers.run(60.0)
    rate = len(peers.beats) / 60.0
    assert rate <= 10_000 / (beat_of(600.0) / 2) * 1.05
    assert peers.most <= 10
    assert {peer for _, peer in peers.beats} == set(range(1, 10_001))
