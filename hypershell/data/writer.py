"""The one database thread: takes records from the loop, commits many at a time, says what is durable.

Owns the thread, the queue to it and the answers from it; the store itself is used by that thread alone. Knows
nothing of scheduling. Called by ``server/loop.py``, which reads the answers with `poll` after `wake` was called.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from hypershell.core.actions import Finish, LoadMore, Record
from hypershell.core.events import Durable, StoreFailed, StoreResumed, StoreStalled, TasksLoaded
from hypershell.core.model import Submission
from hypershell.data.batch import bytes_of, size_of
from hypershell.data.notices import Adopted, Notice, Opened, Plan, Ready, Told, Tuning, Waiting, WriterLike
from hypershell.data.patience import Patience
from hypershell.data.recover import Recovery
from hypershell.data.store import Refused, RunInfo, Store, Transient
from hypershell.errors import HyperShellError, StoreError
from hypershell.room import Spare, lack

__all__ = ["Adopted", "Notice", "Opened", "Plan", "Ready", "Told", "Tuning", "Waiting", "Writer", "WriterLike"]

log = logging.getLogger("hypershell.data")

#: Descriptors that are kept for the database: to open it, for a journal, or for a new connection to a server.
SPARE = 4

T = TypeVar("T")
_Item: TypeAlias = Record | LoadMore | Finish | Submission


class Writer:
    """The thread and its two queues.

    Parameters: `open_store` makes the store, in the thread; `wake` is called from the thread when `poll` has
    something new; `clock` is monotonic seconds.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        run: RunInfo,
        plan: Plan,
        wake: Callable[[], None],
        tuning: Tuning | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_store = open_store
        self._run = run
        self._plan = plan
        self._wake = wake
        self._tuning = tuning or Tuning()
        self._clock = clock
        self._inbox: deque[_Item] = deque()
        self._outbox: deque[Notice] = deque()
        self._signal = threading.Event()
        self._sleeping = False
        self._urgent = False
        self._ending = False
        self._taken_rows = 0
        self._written_rows = 0
        self._taken_bytes = 0
        self._written_bytes = 0
        self._behind = False
        self._committed = clock()
        self._full = False
        self._error: StoreError | None = None
        self._ended = False
        self._accepted = not plan.asks
        self._refusal: Refused | None = None
        self._is_open = False
        self._spare = Spare(0)
        self._thread = threading.Thread(target=self._main, name="database", daemon=True)

    # -- called by the loop ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, which opens the store and then posts ``Opened`` (or ``StoreFailed``)."""
        self._spare = Spare(SPARE)
        self._thread.start()

    def accept(self) -> None:
        """After ``Opened`` of a `Plan` that `asks`: the run begins."""
        self._accepted = True
        self._signal.set()

    def refuse(self, error: HyperShellError) -> None:
        """After ``Opened`` of a `Plan` that `asks`: it does not, because of `error`; the store forgets it."""
        self._refusal = Refused(str(error))
        self._signal.set()

    def own(self, submission: Submission) -> None:
        """Queue a submission that is ours from now on, before the first record with tasks of it."""
        if not self._ended:
            self._inbox.append(submission)

    def submit(self, record: Record) -> None:
        """Queue a record; ``Durable`` with its number (or a higher one) tells that it is committed."""
        if self._ended:
            return
        self._taken_rows += size_of(record)
        if record.finished:
            self._taken_bytes += bytes_of(record)
        self._inbox.append(record)
        if self._sleeping or self._is_large():
            self._signal.set()

    def hurry(self) -> None:
        """Somebody waits for the records so far: commit them now."""
        self._urgent = True
        self._signal.set()

    def load(self, wanted: LoadMore) -> None:
        """Queue a question for further tasks; all records before it are committed first."""
        self._push(wanted)

    def finish(self, finish: Finish) -> None:
        """Commit everything, record how the run ended, close, end the thread."""
        self._ending = True
        self._push(finish)

    def poll(self) -> list[Notice]:
        """What the thread had to say since the last call, in order."""
        outbox = self._outbox
        taken: list[Notice] = []
        while outbox:
            taken.append(outbox.popleft())
        return taken

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread, `timeout` seconds at most; True when it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def backlog(self) -> int:
        """Rows that wait to be written."""
        return self._taken_rows - self._written_rows

    @property
    def full(self) -> bool:
        """Whether the feed should pause: from the high-water mark on until the low one is reached."""
        backlog = self.backlog
        if self._full:
            self._full = backlog > self._tuning.low
        else:
            self._full = backlog >= self._tuning.high
        return self._full

    @property
    def behind(self) -> bool:
        """Whether so much kept output waits to be written that no more tasks should begin."""
        waiting = self._taken_bytes - self._written_bytes
        self._behind = waiting > (self._tuning.low_bytes if self._behind else self._tuning.high_bytes)
        return self._behind

    def _is_large(self) -> bool:
        """Whether what waits makes a whole transaction."""
        tuning = self._tuning
        rows = self._taken_rows - self._written_rows
        return rows >= tuning.batch_rows or self._taken_bytes - self._written_bytes >= tuning.batch_bytes

    @property
    def ended(self) -> bool:
        """Whether the thread has closed the store; nothing will be written any more."""
        return self._ended

    @property
    def error(self) -> StoreError | None:
        """Why the store failed, where it did."""
        return self._error

    def _push(self, item: LoadMore | Finish) -> None:
        self._inbox.append(item)
        self._urgent = True
        self._signal.set()

    # -- the thread --------------------------------------------------------------------------------------

    def _main(self) -> None:
        _leave_signals_to_the_loop()
        store: Store | None = None
        interval = sys.getswitchinterval()
        sys.setswitchinterval(self._tuning.switch_interval)
        try:
            self._spare.give()
            store = self._try(self._open_store)
            self._serve(store, self._begin(store))
        except StoreError as error:
            self._fail(error)
        except Exception as error:
            self._fail(_unforeseen(error))
        finally:
            self._spare.give()
            self._close(store)
            sys.setswitchinterval(interval)
            self._ended = True
            self._wake()

    def _close(self, store: Store | None) -> None:
        if store is None:
            return
        try:
            store.close()
        except StoreError as error:
            self._post(Told("warning", str(error)))

    def _fail(self, error: StoreError) -> None:
        self._error = error
        self._post(StoreFailed(str(error)))

    def _post(self, notice: Notice) -> None:
        self._outbox.append(notice)
        self._wake()

    def _begin(self, store: Store) -> Recovery:
        """Open, record the run, take over what the plan asks for."""
        self._try(store.open)
        self._try(lambda: store.begin_run(self._run))
        self._is_open = True
        self._spare.keep()
        self._post(Ready())
        recovery = Recovery(store, self._run, self._plan, self._clock)
        try:
            recovery.start(self._post, self._pause, self._try)
            self._await_answer(store)
        except Refused:
            self._forget(store)
            raise
        return recovery

    @staticmethod
    def _forget(store: Store) -> None:
        try:
            store.forget_run()
        except StoreError as error:  # why it was refused is told, whatever became of the rest
            log.debug("the refused run stays in the database: %s", error)

    def _await_answer(self, store: Store) -> None:
        """Write nothing before the loop says so: it has to have written first what tasks have printed."""
        while not self._accepted and self._refusal is None and not self._ending:
            if not self._signal.wait(self._tuning.beat):
                self._try(store.beat)
            self._signal.clear()
        if self._refusal is not None:
            raise self._refusal

    def _serve(self, store: Store, recovery: Recovery) -> None:
        """Write until ``Finish``."""
        tuning, clock = self._tuning, self._clock
        beat = clock() + tuning.beat
        look = clock() + tuning.look
        while True:
            self._sleep(min(beat, look))
            ended, wrote = self._drain(store)
            if ended:
                return
            now = clock()
            if wrote:
                beat = now + tuning.beat
            elif now >= beat:
                self._try(store.beat)
                beat = clock() + tuning.beat
            if now >= look:
                self._look(store, recovery)
                look = clock() + tuning.look

    def _look(self, store: Store, recovery: Recovery) -> None:
        """What did others write that is for us?"""
        if self._plan.forever:
            self._try(lambda: recovery.look(self._post))
        asked = self._try(store.requests)
        if asked is not None:
            self._post(asked)
            self._try(store.drop_requests)

    def _sleep(self, due: float) -> None:
        """Wait for something or `due`; then until the last commit is some time ago or the batch is large or urgent.

        So what comes after a pause is committed at once, and only what comes soon after it waits for more.
        """
        tuning, clock, inbox, signal = self._tuning, self._clock, self._inbox, self._signal
        if not inbox:
            self._sleeping = True
            # What came before the flag was seen is in the queue now.
            if not inbox:
                signal.wait(max(0.0, due - clock()))
            self._sleeping = False
        old = self._committed + tuning.batch_age
        while inbox and not self._urgent and not self._is_large():
            signal.clear()
            # What made it urgent or large before this line has cleared the signal is seen here.
            if self._urgent or self._is_large() or not signal.wait(max(0.0, old - clock())):
                break

    def _drain(self, store: Store) -> tuple[bool, bool]:
        """Write what is queued; whether the end was asked for, and whether anything was written."""
        inbox, most, most_bytes = self._inbox, self._tuning.batch_rows, self._tuning.batch_bytes
        self._urgent = False
        self._signal.clear()
        batch: list[Record] = []
        size = held = 0
        wrote = False
        for _ in range(len(inbox)):
            item = inbox.popleft()
            if isinstance(item, Record):
                batch.append(item)
                size += size_of(item)
                held += bytes_of(item)
                if size < most and held < most_bytes:
                    continue
            if batch:
                self._write(store, batch, size, held)
                batch, size, held, wrote = [], 0, 0, True
            if isinstance(item, LoadMore):
                self._answer(store, item)
            elif isinstance(item, Submission):
                self._own(store, item)
            elif isinstance(item, Finish):
                self._end(store, item)
                return True, True
        if batch:
            self._write(store, batch, size, held)
            wrote = True
        return False, wrote

    def _write(self, store: Store, batch: list[Record], size: int, held: int) -> None:
        self._try(lambda: store.apply(batch))
        self._written_rows += size
        self._written_bytes += held
        self._committed = self._clock()
        self._post(Durable(batch[-1].seq))

    def _own(self, store: Store, submission: Submission) -> None:
        self._try(lambda: store.add_submission(submission))

    def _answer(self, store: Store, wanted: LoadMore) -> None:
        tasks, exhausted = self._try(lambda: store.load(wanted.group, wanted.limit, wanted.again))
        self._post(TasksLoaded(wanted.group, tasks, exhausted, store.unfit()))

    def _end(self, store: Store, finish: Finish) -> None:
        self._try(lambda: store.end_run(finish))
        if store.refused:
            log.debug("%d changes were refused by the store (older executions or final rows)", store.refused)

    def _is_too_much(self) -> bool:
        """Whether more waits than memory should hold, although it cannot be written."""
        held = self._taken_bytes - self._written_bytes
        return self.backlog > self._tuning.most_rows or held > self._tuning.most_bytes

    def _pause(self, seconds: float) -> bool:
        """Wait in the start; True when the end was asked for meanwhile."""
        if not self._ending:
            self._signal.wait(seconds)
            self._signal.clear()
        return self._ending

    def _try(self, step: Callable[[], T]) -> T:
        """Do `step`, again and again while its failure may pass, at least twice; nothing is given up meanwhile."""

        def tell(line: str) -> None:
            self._post(Told("warning", line))
            self._post(StoreStalled())

        def attempt() -> T:
            try:
                return step()
            except Transient:
                self._spare.give()  # it may need one that nobody else has left
                raise
            except Exception as error:
                if (reason := lack(error)) is None:
                    raise
                self._spare.give()
                raise Transient(f"the database cannot be used: {reason}") from error

        tuning = self._tuning
        patience = Patience(tuning.give_up, tuning.tell_after, pause=2.0)
        result, told = patience.persist(attempt, tell, self._clock, self._is_too_much)
        if self._is_open:
            self._spare.keep()
        if told:
            self._post(Told("info", "the database can be written again"))
            self._post(StoreResumed())
        return result


def _unforeseen(error: Exception) -> StoreError:
    """What ends the thread besides an error of the store; want of room is no fault of ours."""
    if (reason := lack(error)) is not None:
        return StoreError(f"the database thread ended: {reason}")
    log.debug("the database thread failed", exc_info=True)
    return StoreError(f"the database thread failed ({type(error).__name__}: {error}): report this")


def _leave_signals_to_the_loop() -> None:
    """The kernel would wake this thread for an ended child whenever the main thread is starting another one."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
