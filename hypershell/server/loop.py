"""The server of a run: carries facts to the scheduler and its wishes out into the world.

A part of the process's loop. Owns who is connected and what each client has been told; everything that decides is
in ``core``, everything that blocks is in the writer's thread.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from hypershell.core import actions as act
from hypershell.core import events as ev
from hypershell.core.model import FeedMark, Submission, Task
from hypershell.core.scheduler import Scheduler
from hypershell.data.how import How, merged
from hypershell.data.notices import Adopted, FailedBefore, Opened, Ready, Told, Waiting, WriterLike
from hypershell.errors import HyperShellError, InputError
from hypershell.ostext import to_bytes
from hypershell.proto import messages as msg
from hypershell.reactor import Poller
from hypershell.server.boundary import Boundary
from hypershell.server.credit import Printed
from hypershell.server.feed import Feed
from hypershell.server.kept import KeptCredit, kept_size
from hypershell.server.losses import Losses
from hypershell.server.output import OutputPatience, Sink
from hypershell.server.report import Reporter
from hypershell.server.signals import DRAIN_FOR, INTERRUPT, ROTATE, STORE_GRACE, Signals, SignalTable
from hypershell.server.terms import Wishes
from hypershell.server.visits import Visits
from hypershell.server.words import words_for
from hypershell.transport import Endpoint, Lost

__all__ = ["Server"]

log = logging.getLogger("hypershell.server")

#: Lines per turn: many while clients would starve, few while they have plenty.
HUNGRY_LINES = 2000
STEADY_LINES = 256
#: Seconds between attempts to write output to a full disk, and attempts before giving up at the end.
OUTPUT_RETRY = 1.0
OUTPUT_ATTEMPTS = 10


class Server:
    """One run as a part of the loop; `finished` when all is durable, dismissed and written."""

    def __init__(
        self,
        poller: Poller,
        scheduler: Scheduler,
        endpoint: Endpoint,
        writer: WriterLike,
        settings: msg.ClientSettings,
        reporter: Reporter,
        out: Sink,
        err: Sink,
        feeds: list[Feed],
        signals: Signals,
        *,
        await_store: bool = False,
        given: Mapping[str, Any] | None = None,
        reopen: Callable[[Submission, FeedMark], Feed],
        begin: Callable[[Opened], None],
    ) -> None:
        self.finished = False
        self.finish: act.Finish | None = None
        self.opened = not await_store
        self.unread = 0
        """FILEs of earlier runs whose rest could not be read."""
        self.was_interrupted = False
        """Whether INT has come, whatever that stopped."""
        self.contexts: dict[int, msg.Context] = {}
        self._waited_for: set[int] = set()
        """Submissions of which each result is committed at once."""
        self.out, self.err = out, err
        self._printed = Printed(out, err, endpoint.drop)
        self.losses = Losses()
        self._poller = poller
        self._scheduler = scheduler
        self._endpoint = endpoint
        self.boundary = Boundary(endpoint.drop)
        self._writer = writer
        self._settings = settings
        self._reporter = reporter
        self._feeds = deque(feeds)
        self._reopen = reopen
        self._begin = begin
        """Called when the database is ours; opens what the run writes."""
        self._signals = signals
        self._given = given or {}
        self._table = SignalTable()
        self._told: dict[int, set[int]] = {}
        self._paused = self._writer_told = False
        self._now = 0.0
        self._term_due: float | None = None
        """When the drain time of a TERM signal is over."""
        self._quiet_since: float | None = None
        """Since when nothing is in flight, of a run that TERM ends: from then on only the store keeps us."""
        self._patience = OutputPatience((out, err))
        self._output_due: float | None = None
        self._output_tries = 0
        self._seq = 0
        """The number of the last Record."""
        self._kept = KeptCredit(lambda peer, size: endpoint.send(peer, msg.KeptTaken(size)))
        self._failing = self._held_back = False
        """The store fails at the moment; nothing is released."""
        self._has_looked = False
        """Whether the store has said what earlier servers left."""
        self._early: dict[int, msg.Hello] = {}
        """Clients that came back before it was known what an earlier server had given them."""
        self.abandoned = False
        """The user would not wait for the store any longer."""
        self.visits: Visits | None = None
        """Those who hand in tasks or ask how it stands, where there is a way in for them."""
        self.on_ready: Callable[[], None] | None = None
        """Opens that way in, once the database needs no more descriptors."""

    def turn(self, now: float) -> bool:
        """One round: signals, the store, clients, the feed, timers; then what all that led to."""
        self._now = now
        if self.finish is not None:
            return self._wind_up(now)
        for name in self._signals.take():
            self._signal(name, now)
        if self._term_is_over(now):
            self._give_up("TERM")
            return True
        self._hear_writer()
        deliveries = self._endpoint.poll()
        if self._printed.take(deliveries):
            self._pump(now)  # before the results of the same tasks can be recorded: a kill must not lose it
        for peer, message in deliveries:
            if not isinstance(message, msg.Output):
                self.boundary.hear(peer, message, self._from_client)
        visited = self.visits is not None and self.visits.turn()
        fed = self._read_feed() if self._feeds else False
        due = self._scheduler.deadline()
        if due is not None and now >= due:
            self._tell(ev.TimePassed())
        self._hear_writer()  # one in memory has answered by now
        self._hold_back()
        self._endpoint.flush()
        self._pump(now)
        self._reporter.turn(now, self._scheduler)
        return fed or visited or bool(deliveries) or self.finish is not None

    def _hear_writer(self) -> None:
        while notices := self._writer.poll():
            for notice in notices:
                self._from_writer(notice)

    def deadline(self, now: float) -> float | None:
        if self.finished:
            return None
        hint = self._endpoint.wait_hint(now)
        due = None if hint is None else now + hint
        for when in (self._scheduler.deadline(), self._output_due, self._reporter.deadline()):
            if when is not None and (due is None or when < due):
                due = when
        if self._term_due is not None and not self.abandoned:
            # Once it is over, look again now and then: what still runs is being stopped.
            over = max(self._term_due, now + 1.0)
            due = over if due is None else min(due, over)
        if (look := self._patience.deadline(now)) is not None:
            due = look if due is None else min(due, look)
        return due

    # -- facts in ----------------------------------------------------------------------------------------

    def tell(self, event: ev.Event, now: float) -> None:
        """Take a fact that is neither of the clients nor of the store."""
        self._now = now
        self._tell(event)

    def _tell(self, event: ev.Event) -> None:
        actions = self._scheduler.handle(event, self._now)
        try:
            for action in actions:
                self._do(action)
        except Exception as error:
            self.boundary.ours(error)
            raise

    def _signal(self, name: str, now: float) -> None:
        meaning = self._table.meaning(name, now)
        if meaning is None:
            return
        if meaning is ROTATE:
            self._signals.rotate()
            return
        self.was_interrupted |= name == "INT"
        running = self._scheduler.inflight()
        if not running and not self._has_looked and not self._writer.backlog:
            self._end_unbegun(name)
            return
        if meaning is INTERRUPT and self._scheduler.stopping and not running:
            self._hurry_store(name, now)
            return
        if meaning is INTERRUPT or (name == "TERM" and self._signals.term_kills):
            log.warning("SIG%s: stopping running tasks", name)
            self._term_due = now + self._settings.signalwait * 2 + STORE_GRACE
            self._tell(ev.InterruptRequested())
            return
        if running:
            again = "; Ctrl-C again stops them" if name == "INT" else ""
            log.warning("SIG%s: no new tasks, waiting for up to %d that were given out%s", name, running, again)
        else:
            log.warning("SIG%s: no new tasks, waiting until the database has all changes", name)
        limit = self._signals.drain_time if meaning is DRAIN_FOR else None
        self._term_due = self._term_due if limit is None else now + limit + STORE_GRACE
        self._tell(ev.DrainRequested("drained", limit))

    def _term_is_over(self, now: float) -> bool:
        """Whether the store has had its time, after the drain time and after what was in flight."""
        if self._term_due is None or self.abandoned or self._scheduler.inflight():
            self._quiet_since = None
            return False
        if self._quiet_since is None:
            self._quiet_since = now
        return now >= max(self._term_due, self._quiet_since + STORE_GRACE)

    def _hurry_store(self, name: str, now: float) -> None:
        """The user insists while only the store keeps us: one that fails is given up, another one has its time."""
        if self._failing:
            self._give_up(name)
        else:
            self._term_due = now if self._term_due is None else min(self._term_due, now)

    def _end_unbegun(self, name: str) -> None:
        """Nothing was given out, and the store still looks (or waits) for what earlier runs left: end at once.

        Clients that come back with something keep it for the server that comes after us.
        """
        log.warning("SIG%s: ended before the run began", name)
        self._broadcast(list(self._told), msg.Bye())
        self.finish = act.Finish(0, 0, 0, 0, "drained")

    def _give_up(self, name: str) -> None:
        """Nothing runs any more and only the store keeps us (disk full, locked): end without it."""
        behind = self._writer.backlog
        if behind or self.finish is None:
            log.critical("SIG%s: ended before the database took the last %d changes", name, behind)
            self.finish = act.Finish(0, 0, 0, 0, "store failed")
        else:  # all tasks are as the database has them
            log.critical("SIG%s: ended before the database took how the run ended", name)
        self._broadcast(list(self._told), msg.Bye())
        self._writer_told = self.abandoned = True

    def _from_writer(self, notice: object) -> None:
        if isinstance(notice, Ready):
            if self.on_ready is not None:
                self.on_ready()
        elif isinstance(notice, Opened):
            self._store_opened(notice)
        elif isinstance(notice, Adopted):
            self._learn_all(notice.submissions)
            self._read_on(notice.submissions, notice.marks)
        elif isinstance(notice, FailedBefore):
            self._reporter.failed_before(notice.tasks)
        elif isinstance(notice, Waiting):
            log.warning("%s", notice.text)
        elif isinstance(notice, ev.StoreStalled | ev.StoreResumed):
            self._failing = isinstance(notice, ev.StoreStalled)
            self._hold_back()
        elif isinstance(notice, Told):
            log.log(logging.getLevelName(notice.level.upper()), "%s", notice.text)
        else:
            if isinstance(notice, ev.Durable):
                self._kept.durable(notice.seq)
                if self.visits is not None:
                    self.visits.durable(notice.seq)
            self._tell(notice)  # type: ignore[arg-type]

    def _store_opened(self, opened: Opened) -> None:
        """The database is ours: begin, unless the FILE is another now or what we write cannot be opened."""
        mark = opened.resumed if self._feeds else None
        self._learn_all(opened.submissions)
        try:
            if mark is not None:
                self._resume(mark)
            self._begin(opened)
        except HyperShellError as error:
            self._writer.refuse(error)
            return
        self.opened = self._has_looked = True
        self._pump(self._now)  # before the results are recorded that were held back until now
        self._writer.accept()
        self._reporter.left_alone(opened.left_alone)
        if mark is None:
            self._read_on(opened.submissions, opened.marks)
        elif mark.complete:
            self._end_feed()
        while self._early:
            peer = next(iter(self._early))
            self._hello(peer, self._early.pop(peer))

    def _resume(self, mark: FeedMark) -> None:
        """Go on where an earlier run of the FILE stopped reading. Raises ``InputError`` where it has changed."""
        if mark.complete:
            self._feeds[0].verify(mark)
        else:
            self._feeds[0].resume(mark)

    def learn(self, one: Submission) -> None:
        """Remember what all tasks of a submission share; clients are told before their first task of it."""
        wishes = Wishes.of_options(one.options)
        how = How.of_options(merged(one.options, self._given))
        self.contexts[one.id] = msg.Context(
            one.id,
            to_bytes(one.template),
            to_bytes(one.cwd),
            one.submit_id,
            one.submit_host,
            wishes.keep_output,
            wishes.waited_for,
            how.task_timeout,
            how.capture,
            {to_bytes(name): to_bytes(text) for name, text in how.exports.items()},
        )
        if wishes.waited_for:
            self._waited_for.add(one.id)

    def _learn_all(self, submissions: Iterable[Submission]) -> None:
        """Also tell the scheduler of time limits that it does not know of our own settings."""
        for one in submissions:
            self.learn(one)
            if (limit := self.contexts[one.id].timeout) is not None:
                self._tell(ev.LimitFound(one.id, limit))

    def _read_on(self, submissions: Iterable[Submission], marks: Iterable[FeedMark]) -> None:
        """Queue the rest of the FILEs that were taken over half read."""
        known = {one.id: one for one in submissions}
        for mark in marks:
            submission = known.get(mark.submission)
            if mark.complete or submission is None or submission.source != "file":
                continue
            try:
                self._feeds.append(self._reopen(submission, mark))
            except InputError as error:
                self.unread += 1
                log.error("%s; its unread rest is left out", error)
            else:
                self._tell(ev.FeedOpened())

    def _from_client(self, peer: int, message: object) -> None:
        if isinstance(message, msg.Results):
            size = kept_size(message.results)
            if size and self._overdraws_kept(peer, size):
                return
            self._tell(
                ev.ResultsReceived(peer, message.results, message.returned, message.leaving, message.room)
            )
            self._kept.received(peer, size, self._seq)
            if not self._scheduler.inflight():
                self._writer.hurry()  # no other result will share the commit, and somebody may wait for this one
        elif isinstance(message, msg.Hello):
            if message.holds and not self._has_looked:
                self._early[peer] = message
            else:
                self._hello(peer, message)
        elif isinstance(message, msg.Leave):
            log.debug("Client %s left: %s", peer, message.reason)
            self._tell(ev.ClientLeft(peer))
        elif isinstance(message, Lost):
            self._printed.credit.lost(peer)
            self.losses.note(peer, self._scheduler.client(peer), message.reason)
            self._early.pop(peer, None)
            self._tell(ev.ClientLost(peer, message.reason, message.outside))
        else:
            log.warning("Client %s sent a message that is not for a server (%s)", peer, type(message).__name__)

    def _overdraws_kept(self, peer: int, size: int) -> bool:
        """Whether a client sends more kept output than one of ours does; it is given up then."""
        client = self._scheduler.client(peer)
        if self._kept.may_send(peer, size, 0 if client is None else client.info.slots):
            return False
        self._endpoint.drop(peer, f"it sends {size:,} bytes of kept output although too much of it waits")
        return True

    def _hello(self, peer: int, message: msg.Hello) -> None:
        if message.protocol != msg.PROTOCOL_VERSION:
            log.error(
                "Client %s on %s speaks protocol %d, this server %d: install the same version on both",
                peer, message.info.host, message.protocol, msg.PROTOCOL_VERSION,
            )  # fmt: skip
            self._endpoint.send(peer, msg.Bye())
            return
        self._told[peer] = set()
        settings, info = self._settings, message.info
        if info.slots > 0:
            settings = replace(settings, slots=info.slots)
        else:
            info = replace(info, slots=settings.slots)
        self._endpoint.send(peer, msg.Welcome(settings))
        log.debug("Registered client (%s: %s)", info.host, info.id)
        self._tell(ev.ClientJoined(peer, info, message.holds))

    def hand_in(self, submission: Submission, tasks: list[Task], mark: FeedMark) -> int:
        """Take tasks of a visitor; the number of the Record that must be durable before they count as taken."""
        if submission.id not in self.contexts:
            self.learn(submission)
            self._writer.own(submission)
        self._tell(ev.TasksSubmitted(tasks, mark))
        self._writer.hurry()
        return self._seq

    def _read_feed(self) -> bool:
        """Hand the next lines to the scheduler, where store and window have room; True when there may be more."""
        if not self._feeds or not self.opened or self._paused or self._scheduler.stopping or self._writer.full:
            return False
        feed = self._feeds[0]
        if not feed.ready(self._poller):
            return False
        batch = feed.read(HUNGRY_LINES if self._scheduler.starving else STEADY_LINES)
        if batch is not None:
            self._tell(ev.TasksSubmitted(batch.tasks, batch.mark, batch.rejected))
        elif feed.ended:
            self._end_feed()
        return True

    def _end_feed(self) -> None:
        feed = self._feeds.popleft()
        mark = feed.mark(complete=True)
        feed.close()
        if not self._feeds:
            self._reporter.fed(mark.lines)
        self._tell(ev.FeedEnded(mark))

    @property
    def feed_complete(self) -> bool:
        """Whether all input is known: read to its end, and what earlier runs left found."""
        return self.opened and not self._feeds and not self.unread

    # -- wishes out --------------------------------------------------------------------------------------

    def _do(self, action: act.Action) -> None:
        if isinstance(action, act.Record):
            self._seq = action.seq
            if action.finished:
                self._reporter.finished(action.finished)  # the failures file, before they can be recorded
            self._writer.submit(action)
            if action.finished:
                waited = self._waited_for
                if waited and not waited.isdisjoint(one.task.submission for one in action.finished if one.task):
                    self._writer.hurry()
            if action.clients:
                self._forget(action.clients)
        elif isinstance(action, act.SendTasks):
            self._send(action)
        elif isinstance(action, act.Commit):
            self._writer.hurry()
        elif isinstance(action, act.LoadMore):
            self._writer.load(action)
        elif isinstance(action, act.Note):
            logger = logging.getLogger(f"hypershell.{action.logger}")
            logger.log(logging.getLevelName(action.level.upper()), "%s", action.text)
        elif isinstance(action, act.PauseFeed):
            self._paused = True
        elif isinstance(action, act.ResumeFeed):
            self._paused = False
        elif isinstance(action, act.DrainClients):
            self._broadcast(action.clients, msg.Drain())
        elif isinstance(action, act.Acknowledge | act.CancelTasks | act.RecallTasks):
            self._endpoint.send(action.client, words_for(action))
        elif isinstance(action, act.InterruptClients):
            grace = 0.0 if self._signals.term_kills else self._settings.signalwait
            if action.grace is not None:
                grace = min(grace, action.grace)
            self._broadcast(action.clients, msg.Interrupt(grace))
            self._patience.end_by(self._now)
        elif isinstance(action, act.DismissClients):
            self._broadcast(action.clients, msg.Bye())
        else:
            self.finish = action

    def _hold_back(self) -> None:
        """Release nothing while the store fails, or more kept output waits for it than memory should hold."""
        behind = self._failing or self._writer.behind
        if behind != self._held_back:
            self._held_back = behind
            self._tell(ev.StoreStalled() if behind else ev.StoreResumed())

    def _send(self, action: act.SendTasks) -> None:
        told = self._told.get(action.client)
        if told is None:
            return
        fresh = {task.submission for task in action.tasks} - told
        told |= fresh
        contexts = [self.contexts[number] for number in sorted(fresh)]
        self._endpoint.send(action.client, msg.Work(action.tasks, contexts))

    def _broadcast(self, clients: list[int], message: msg.ServerMessage) -> None:
        for peer in clients:
            self._endpoint.send(peer, message)

    def _forget(self, changes: list[act.ClientChange]) -> None:
        for change in changes:
            if change.left is not None:
                self._told.pop(change.client, None)
            else:  # after it had joined before, under the same number
                self._told.setdefault(change.client, set())

    def crowded(self) -> str | None:
        """Why no client more can come now."""
        return self._printed.credit.crowded()

    def taken(self, peer: int, size: int) -> None:
        """Output of `peer` has been written: it may send as much again."""
        self._printed.credit.taken(peer, size)
        self._endpoint.send(peer, msg.OutputTaken(size))

    def _pump(self, now: float) -> None:
        """Write output; where the disk is full, try again every second."""
        if self._output_due is not None and now >= self._output_due:
            self._output_due = None
            self._output_tries += 1
            if self.out.retry() & self.err.retry():
                self._output_tries = 0
        for sink in (self.out, self.err):
            if not sink.empty:
                sink.pump()
        self._patience.look(now)
        if (self.out.stuck or self.err.stuck) and self._output_due is None:
            self._output_due = now + OUTPUT_RETRY

    # -- the end -----------------------------------------------------------------------------------------

    def _wind_up(self, now: float) -> bool:
        """After ``Finish``: late output is taken, the farewells leave, the store closes."""
        self._reporter.end_progress()
        for name in self._signals.take():
            meaning = self._table.meaning(name, now)
            if meaning is DRAIN_FOR and self._term_due is None:
                self._term_due = now + STORE_GRACE
                self._patience.end_by(now)
            if meaning is INTERRUPT and not self.abandoned:
                self._hurry_store(name, now)
                self._patience.end_by(now)
        if self._term_is_over(now) and not self._writer.ended:
            self._give_up("TERM")
        if not self._writer_told and self.finish is not None:
            self._writer_told = True
            self._writer.finish(self.finish)
        deliveries = self._endpoint.poll()
        self._printed.take(deliveries)
        for peer, message in deliveries:
            if isinstance(message, msg.Hello):
                self._endpoint.send(peer, msg.Bye())
        self._pump(now)
        waits = any(sink.begun and not sink.empty for sink in (self.out, self.err))
        written = not waits or self._output_tries >= OUTPUT_ATTEMPTS
        self.finished = self._endpoint.flush() and written and (self._writer.ended or self.abandoned)
        return False

    def fall(self, reason: str) -> None:
        """Begin nothing more: what is known is committed, and the run ends as it is.

        Nobody is dismissed: clients that outlive us keep their tasks, others see us go.
        """
        if self.finish is None:
            done = self._scheduler.counts
            unfinished = self._scheduler.unfinished()
            self.finish = act.Finish(
                done.succeeded, done.failed, 0, unfinished, reason, done.failed_before, done.cancelled
            )

    def output_lost(self) -> list[str]:
        """Where output could not be written to its end, and how many bytes; not where nothing was opened."""
        return [f"{sink.name} ({sink.lost:,} bytes)" for sink in (self.out, self.err) if sink.begun and sink.lost]
