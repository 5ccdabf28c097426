"""What goes back to the server: results in bundles, kept until they are durable, and held while it is away.

Pure; the lower half of ``machine``.
"""

from __future__ import annotations

from collections import deque

from msgspec.structs import replace

from hypershell.core.model import KEPT_WINDOW, Result, Room, Task
from hypershell.executor.headroom import Headroom
from hypershell.executor.held import Run, Slots, Submission, shown, split
from hypershell.executor.unconfirmed import MOST, Unconfirmed
from hypershell.executor.vocabulary import (
    Action,
    Event,
    Greet,
    Report,
    ResultsKept,
    ServerAway,
    ServerBack,
    ServerReached,
    Warn,
)
from hypershell.proto.messages import ClientSettings

__all__ = ["KEPT_BUNDLE", "NEVER", "Reports"]

NEVER = float("inf")

#: Bytes of kept output at which results go back; a message has less than this and one more result (2 MiB).
KEPT_BUNDLE = 1 << 20


class Reports:
    """The state of one client, and what of it the server is told.

    :param settings: from the server's Welcome.
    :param epoch: seconds to add to `now` (any steady clock) to get seconds since the epoch.
    :param reconnect: seconds for which the work goes on without the server; None: this client ends with it. With a
        number of seconds results are kept until the server has called them durable.
    :param windows: templates make commands of cmd.exe.
    """

    def __init__(
        self,
        settings: ClientSettings,
        epoch: float = 0.0,
        now: float = 0.0,
        reconnect: float | None = None,
        windows: bool = False,
    ) -> None:
        self.settings = settings
        self._windows = windows
        self.slots = settings.slots
        self._free_slots = Slots()
        self._headroom = Headroom(settings.slots)
        self._news: float | None = None
        """Since when the server does not know how many of the slots can be used; None: it does."""
        self._again = 0
        """How many tasks at the head of the queue could not be started just now."""
        self._epoch = epoch
        self._queue: deque[Task] = deque()
        self._suspects: set[str] = set()
        """Tasks that came and whose client died before: what ends while one is here is told at once."""
        self._running: dict[str, Run] = {}
        self._held: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._submissions: dict[int, Submission] = {}
        self._results: list[Result] = []
        self._kept_size = 0
        """Bytes of output in these results."""
        self._kept_away = 0
        """Bytes of output that the server has and did not say to be durable; not counted where `reconnect` is."""
        self._returned: list[tuple[str, int]] = []
        self._oldest = now
        self._idle_since = now
        self._start_at = -NEVER
        """Before this time no task starts, because of the limit of their rate."""
        self._draining = False
        self._waited_for = False
        """Somebody waits for a result: it goes back at once."""
        self._ending: str | None = None
        self._leaving = False
        self._ended = False
        self._signals: dict[int, float] = {}
        """When this process last got a signal."""
        self._reconnect = reconnect
        self._unconfirmed = Unconfirmed() if reconnect is not None else None
        self._away: ServerAway | None = None
        self._give_up_at = NEVER
        self._announce = False
        """The server must hear at once that nothing more is to be sent."""
        self._lost = False
        self._hurried = False
        """The user would not wait any longer."""

    @property
    def held(self) -> dict[str, int]:
        """Tasks that this client owes an answer for and has not reported: id -> execution."""
        unreported = dict(self._returned)
        unreported.update((result.id, result.execution) for result in self._results)
        return self._held | unreported

    @property
    def _full(self) -> bool:
        """Whether so much waits for the server, or for its disk, that no more may be made."""
        kept = self._unconfirmed
        if kept is None:
            return self._kept_away >= KEPT_WINDOW
        return len(kept) + len(self._results) >= MOST or kept.size + self._kept_size >= KEPT_WINDOW

    def _is_waited_for(self, task: Task) -> bool:
        return self._submissions[task.submission].context.waited_for

    def _is_in_danger(self) -> bool:
        """Whether this process may be about to die of one of its tasks."""
        if not self._suspects:
            return False
        self._suspects &= self._held.keys()
        return bool(self._suspects)

    def _note_oldest(self, now: float) -> None:
        if not self._results and not self._returned:
            self._oldest = now

    def _pack(self, now: float, actions: list[Action]) -> None:
        """Results go back when the bundle is full, the oldest has waited, or more work is or will soon be needed.

        Without a fixed size a bundle is full at half of what is still queued: a deep queue leaves time for few
        large messages, a shallow one does not. A queue shorter than the slots can be empty after the next round.
        """
        queued = len(self._queue)
        if (
            queued < max(1, self._headroom.usable)
            or len(self._results) >= (self.settings.bundlesize or queued / 2)
            or self._returned
            or self._waited_for
            or self._announce
            or self._is_in_danger()
            or self._kept_size >= KEPT_BUNDLE
            or now >= self._oldest + self.settings.bundlewait
        ):
            if self._news is not None and (words := self._headroom.take_words()) is not None:
                actions.append(Warn(words))
            *full, results = self._in_parts(self._results)
            actions.extend(Report(part, [], self._leaving) for part in full)
            actions.append(Report(results, self._returned, self._leaving, self._room()))
            if self._unconfirmed is None:
                self._kept_away += self._kept_size
            else:
                for part in (*full, results):
                    self._unconfirmed.sent(part)
            self._results = []
            self._kept_size = 0
            self._returned = []
            self._waited_for = self._announce = False

    def _room(self) -> Room | None:
        """How many of the slots can be used, where the server does not know."""
        if self._news is None:
            return None
        self._news = None
        lack = self._headroom.lack
        reason = "" if lack is None else (shown(lack.reason) or "")[:1000]
        return Room(self._headroom.usable, self._headroom.in_vain, reason)

    def _in_parts(self, results: list[Result]) -> list[list[Result]]:
        """The results in messages that are not too long."""
        return split(results, KEPT_BUNDLE) if self._kept_size >= KEPT_BUNDLE else [results]

    # The server is away

    def _server_came_or_went(self, event: Event, kept: Unconfirmed, now: float, actions: list[Action]) -> None:
        if isinstance(event, ResultsKept):
            if self._away is None:
                kept.kept(event.count)
        elif isinstance(event, ServerAway):
            self._server_away(event, now, actions)
        elif isinstance(event, ServerReached):
            # What was handed back and has not arrived is told by not being in the list.
            self._returned = []
            if self._ending is None or self._leaving:
                ended = [(result.id, result.execution) for result in self._results]
                actions.append(Greet([*self._held.items(), *kept.executions(), *ended]))
        elif isinstance(event, ServerBack) and self._away is not None and not self._lost:
            self._server_back(event.settings, kept, actions)

    def _server_away(self, event: ServerAway, now: float, actions: list[Action]) -> None:
        """Go on, and hold what ends. A second loss before the server has answered starts no new wait."""
        if self._away is not None or self._reconnect is None:
            return
        self._away = event
        self._give_up_at = now + self._reconnect
        count = len(self._held)
        patience = f"looking for it for {self._reconnect:g} s"
        actions.append(Warn(f"The server is away ({event.reason}): {count} tasks go on; {patience}"))

    def _server_back(self, settings: ClientSettings, kept: Unconfirmed, actions: list[Action]) -> None:
        """What an earlier server ordered holds no longer; all that may not have reached it is sent again."""
        self._away = None
        self._give_up_at = NEVER
        self.settings = replace(settings, slots=self.slots)
        self._draining = self._leaving
        if self._headroom.is_short:  # this server does not know
            self._news = self._oldest
        self._announce = self._leaving or self._news is not None
        actions.extend(Report(results, [], self._leaving) for results in kept.again(KEPT_BUNDLE))
