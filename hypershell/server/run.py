"""One run from settings to exit status: opens what it needs in the right order, and closes it again.

The only place where feed, scheduler, writer, output and signals meet. ``hs cluster`` and ``hs mpi`` call it with
their endpoint; what a rank or a machine is does not matter here.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from hypershell import __version__, reactor
from hypershell import log as logs
from hypershell.core.actions import Finish
from hypershell.core.model import FeedMark, Submission
from hypershell.core.poison import limit_option
from hypershell.core.scheduler import Policy, Scheduler
from hypershell.data.how import encoded, exports_options, is_plain, plain_option
from hypershell.data.notices import Opened, Revised
from hypershell.data.owner import Sharing
from hypershell.data.places import open_store, preflight
from hypershell.data.store import Fenced, Refused, describe_run
from hypershell.data.writer import Plan, Writer, WriterLike
from hypershell.errors import InputError, UsageError
from hypershell.ids import IdSource
from hypershell.making import PRIVATE_FOLDER
from hypershell.masking import masked
from hypershell.ostext import escaped, joined, one_line, quoted, to_bytes
from hypershell.proto.messages import ClientSettings
from hypershell.proto.visits import Status
from hypershell.reactor import Part, Poller
from hypershell.room import Spare, descriptor_limit, lack
from hypershell.server.ending import Ending
from hypershell.server.feed import STDIN, Feed, open_file
from hypershell.server.loop import Server
from hypershell.server.losses import set_aside_line
from hypershell.server.output import Sink
from hypershell.server.progress import Progress
from hypershell.server.report import Failures, Reporter, exit_status, last_line, nothing_done
from hypershell.server.signals import STORE_GRACE, Signals, SignalWatch
from hypershell.server.status import RunFacts, make_status
from hypershell.server.targets import Opening, Outputs, is_same_file
from hypershell.server.terms import Terms, Wishes
from hypershell.server.visits import Source, Surroundings, Visits
from hypershell.settings import RunSettings
from hypershell.template import Template
from hypershell.transport import Endpoint
from hypershell.units import shown

__all__ = ["Place", "Run"]

log = logging.getLogger("hypershell")

_THE_SAME = "the same command"
#: Of lines that are commands themselves.
_NO_TEMPLATE = "{}"
#: Descriptors of a run without tasks, with room to spare, and those that a task may have for a moment.
_DESCRIPTORS = 64
_DESCRIPTORS_OF_TASK = 4


class Place(Struct, frozen=True):
    """Where a run happens: what the driver knows and the settings do not."""

    transport: str
    """``loopback``, ``mpi`` or ``tcp``."""
    ranks: int
    clients: int
    """Clients that will join: worker ranks, and this process where it executes."""
    slots: int
    """Executor slots of each client."""
    host: str
    job: str | None = None
    """The scheduler's job id."""
    term_kills: bool = False
    """The launcher kills within a second after SIGTERM."""
    is_open: bool = False
    """Clients may join at any time, and may outlive us."""


class _Source(Struct, frozen=True):
    """Where lines come from."""

    fd: int
    name: str
    path: str | None
    again: bool
    """It can be read again: a regular file."""


class Run:
    """A run that is ready to take turns as ``server``; `close` gives the exit status.

    Raises, before anything runs, ``InputError``, ``StoreError``, ``OutputError`` or ``TemplateError`` for what
    cannot work.
    """

    def __init__(
        self, poller: Poller, endpoint: Endpoint, settings: RunSettings, place: Place, argv: list[str]
    ) -> None:
        self._poller = poller
        self._settings = settings
        self._place = place
        self._argv = masked(argv)
        self._ids = IdSource()
        self._wall = time.time
        self.id = self._ids.task()
        self._ending = Ending(settings, self.id, place.host, place.job, self._wall())
        if not settings.template.strip():
            raise UsageError("the template is empty: '{}' stands for the line itself")
        Template(settings.template)
        _refuse_overwriting(settings)
        failures = "-" if settings.print_failures else settings.failures
        self._outputs = Outputs(settings.output, settings.errors, failures)
        goes_on = settings.restart or settings.forever
        source: _Source | None = None
        try:
            self._ending.claim()
            source = _open_source(settings)
            self._outputs.claim(Opening.APPEND if goes_on else Opening.ASIDE)
            if not settings.no_db:
                preflight(settings.place, Sharing(settings.db_mode, runs=True))
            self._ending.begin()
        except BaseException as error:
            self._ending.failed(error)
            self._outputs.close()
            if source is not None and source.fd > 2:
                os.close(source.fd)
            raise
        progress = Progress()
        if progress.is_on:
            logs.share_terminal(progress.write)
        name = "stdout" if failures == "-" else failures
        self._failures = None if name is None else Failures(name, progress)
        self._reporter = Reporter(self._failures, progress, self._restart_all())
        submission = self._submission(source, place)
        self._submits = submission is not None
        self._goes_on = False
        self._resumed: int | None = None
        """The submission of FILE that an earlier run began."""
        feed = self._feed(source, submission)
        self._watch = SignalWatch(poller)
        self.writer = self._open_writer(source, submission, place)
        self._endpoint = endpoint
        epoch = self._wall() - time.monotonic()
        self._scheduler = Scheduler(_policy(settings, source, place), self._ids.task, epoch)
        self.server = Server(
            poller,
            self._scheduler,
            endpoint,
            self.writer,
            _client_settings(settings, place, self.id),
            self._reporter,
            Sink(self._outputs.streams[0], settings.output or "stdout", poller, self._taken, progress),
            Sink(self._outputs.streams[1], settings.errors or "stderr", poller, self._taken, progress),
            [feed] if feed is not None else [],
            Signals(self._watch.take, settings.drain_time, place.term_kills, logs.rotate),
            await_store=settings.restart or _is_tight(place.slots),
            # Also for what is handed in or adopted meanwhile, except that each of those says what it keeps.
            given={name: value for name, value in _given(settings).items() if name != "keep_output"},
            reopen=self._reopen,
            begin=self._begin,
        )
        if submission is not None:
            self.server.learn(submission)
        self._ending.watch(self.server, self._scheduler, self._reporter)

    def receive(self, source: Source) -> None:
        """Take in tasks from visitors of `source`, and tell them how this run stands."""
        place, settings, server = self._place, self._settings, self.server
        database = "none" if settings.no_db else escaped(str(settings.place))
        facts = RunFacts(self.id, place.host, os.getpid(), __version__, place.transport, self._wall(), database)

        def status() -> Status:
            pace, silence = self._reporter.pace, self._endpoint.silence
            now, lost = time.monotonic(), server.losses.line()
            return make_status(facts, self._scheduler, pace, now, server.feed_complete, silence, lost)

        new = (self._ids.task, self._ids.submission, self._wall)
        here = Surroundings(*new, server.hand_in, self._closing, status, server.boundary.is_ours)
        server.visits = Visits(source, here)
        source.hold()
        source.crowded = server.crowded
        server.on_ready = source.admit

    def _closing(self) -> str | None:
        """Why nothing can be handed in now."""
        if self.server.finish is not None or self._scheduler.finished:
            return "the server is about to end"
        if self._scheduler.stopping is not None:
            return f"the server takes no new tasks ({self._scheduler.stopping})"
        return None if self.server.opened else "the server is not ready yet: try again"

    def start(self) -> None:
        """Install the signal handlers and let the writer's thread open the database."""
        self._watch.start()
        self.writer.start()
        self._ending.find_walltime(self._poller)

    def turns(self, parts: Sequence[Part] = ()) -> int:
        """Take turns beside `parts` until all have finished, then `close`; the exit status.

        Where memory runs out the server alone goes on: it commits what it knows and ends as unfinished.
        """
        spare = Spare(1)  # for the traceback of an error that nobody foresaw
        try:
            reactor.run(self._poller, [self.server, *parts])
        except MemoryError as error:
            log.critical("%s; the run ends here", lack(error))
            self.server.fall("out of memory")
            reactor.run(self._poller, [self.server])
        finally:
            spare.give()
        return self.close()

    def close(self) -> int:
        """Say how it ended, release everything, and give the exit status."""
        return self._ending.ended(self._close(), self.server.finish, self.writer.error)

    def _close(self) -> int:
        self._watch.stop()
        self.writer.join(0.0 if self.server.abandoned else 10.0)
        self._reporter.close()
        lost = self.server.output_lost()
        self._outputs.close()
        finish = self.server.finish or Finish(0, 0, 0, 0, "store failed")
        complete = self.server.feed_complete
        unwritten = 0 if self.server.abandoned else self.writer.backlog
        line = last_line(
            finish,
            complete,
            self._how_to_list(finish.failed_before > 0),
            self._how_to_resume(),
            unwritten,
            self.server.unread,
            self._how_to_retry(),
            self._settings.retry_failed,
        )
        if line is None and complete and self._goes_on:
            line = nothing_done(finish, self._settings.file)
        if isinstance(self.writer.error, Fenced | Refused):
            line = None  # the tasks are another server's, which tells how they end; or nothing was begun
        for told in (self.server.losses.line(), set_aside_line(*self._scheduler.set_aside()), line):
            if told is not None:
                sys.stderr.write(f"hs: {one_line(told)}\n")
        if lost:
            sys.stderr.write(
                f"hs: no space left for the rest of what tasks printed to {one_line(' and '.join(lost))}; "
                "it is lost, their results are not\n"
            )
            return 5
        return exit_status(finish, complete, self._settings.allow_failures, self.server.was_interrupted)

    def on_signal(self, heard: Callable[[int], None]) -> None:
        """Have `heard` told of signals to this process (the executor beside this server)."""
        self._watch.also = heard

    def client_id(self) -> str:
        """An id for a client of this process."""
        return self._ids.task()

    def commit_now(self, seconds: float) -> None:
        """For a process that is about to be ended by force: commit what is known."""
        self.writer.join(seconds)

    # -- parts -------------------------------------------------------------------------------------------

    def _begin(self, opened: Opened) -> None:
        """The database is ours: open what is written. Raises ``OutputError`` or ``InputError``.

        What there is stays at its place where this run goes on with what earlier ones left, else it is kept aside.
        """
        fresh = self._submits and opened.resumed is None and not self._settings.forever
        self._goes_on = self._settings.restart and not fresh
        _refuse_other_template(self._settings, opened.submissions)
        if self._settings.file is not None and len(opened.submissions) == 1:
            self._resumed = opened.submissions[0].id
        how = Opening.ASIDE if fresh else Opening.APPEND
        anew = self._settings.retry_failed and not fresh  # what still has failed is told by the database
        out, err, failures = self._outputs.open(how, failures=Opening.ANEW if anew else how)
        for sink, fd in ((self.server.out, out), (self.server.err, err)):
            if not sink.begun:
                sink.begin(fd)
        if self._failures is not None and failures is not None:
            self._failures.begin(failures)
        self._ending.opened()

    def _taken(self, peer: int, size: int) -> None:
        self.server.taken(peer, size)

    def _submission(self, source: _Source | None, place: Place) -> Submission | None:
        if source is None:
            return None
        settings = self._settings
        options = {
            "task_timeout": settings.task_timeout,
            "capture": settings.capture,
            **exports_options(settings.exports),
            **Wishes(settings.keep_output).options,
            **limit_option(settings.poison),
            **plain_option(settings.plain_lines),
        }
        return Submission(
            self._ids.submission(),
            "file" if source.again else "stdin",
            source.path,
            settings.template,
            encoded(options),
            settings.task_cwd or os.getcwd(),
            self.id,
            place.host,
            self._wall(),
        )

    def _feed(self, source: _Source | None, submission: Submission | None) -> Feed | None:
        if source is None or submission is None:
            return None
        plain = self._settings.plain_lines
        return Feed(source.fd, source.name, submission.id, self._ids.task, self._wall, plain=plain)

    def _reopen(self, submission: Submission, mark: FeedMark) -> Feed:
        """The rest of a FILE that was left half read. Raises ``InputError`` where it is gone or changed."""
        path = submission.path or ""
        terms = Terms.of_options(submission.options)
        feed = Feed(
            open_file(path),
            path,
            submission.id,
            self._ids.task,
            self._wall,
            terms.defaults,
            terms.expander(submission.cwd),
            plain=is_plain(submission.options),
        )
        if Terms.are_in(submission.options):
            feed.way_out = "restore it, or hand its new lines over with hs submit"
        try:
            feed.resume(mark)
        except InputError:
            feed.close()
            raise
        return feed

    def _revision(self, source: _Source | None) -> Revised | None:
        """For a FILE that may have changed: what compares it with its submission."""
        if source is None:
            return None

        from hypershell.server.revision import Revision

        def feed(fd: int, submission: int, new_id: Callable[[], str]) -> Feed:
            plain = self._settings.plain_lines
            return Feed(fd, source.name, submission, new_id, self._wall, quiet=True, plain=plain)

        return Revision(source.fd, source.name, feed, repeats=self._settings.repeat)

    def _open_writer(self, source: _Source | None, submission: Submission | None, place: Place) -> WriterLike:
        settings = self._settings
        run = describe_run(
            self.id,
            transport=place.transport,
            ranks=place.ranks,
            slots=place.slots,
            job=place.job,
            command=joined(["hs", *self._argv]),
            cwd=os.getcwd(),
            start_time=self._wall(),
        )
        revision = self._revision(source) if settings.update or settings.repeat else None
        plan = Plan(
            submission,
            settings.restart,
            settings.forever,
            settings.take_over,
            revision,
            asks=True,
            given=_given(settings),
            again=IdSource().task if settings.retry_failed else None,  # not the scheduler's: another thread
        )
        if settings.no_db:
            from hypershell.data.memory import MemoryWriter

            return MemoryWriter(run, plan, self._waker())
        return Writer(open_store(settings.place), run, plan, self._waker())

    def _waker(self) -> Callable[[], None]:
        """What the writer's thread calls to wake the loop."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)

        def wake() -> None:
            try:
                os.write(write, b"w")
            except BlockingIOError:
                pass  # the loop has enough to wake up for

        def woken() -> None:
            try:
                os.read(read, 65536)
            except BlockingIOError:
                pass

        self._poller.add(read, woken)
        return wake

    # -- words -------------------------------------------------------------------------------------------

    def _how_to_list(self, before: bool) -> str:
        """The command that shows what failed, in earlier runs too where `before`."""
        if self._settings.no_db:
            return self._settings.failures or "--failures PATH writes them"
        # Without further words this would show every failure that the database has ever seen.
        mine = "" if before else f"-w 'server_id == {self.id}' "
        if before and self._resumed is not None:
            mine = f"-w 'submission == {self._resumed}' "
        return f"list them with: hs list -F {mine}-w 'next_id == null' {self._naming()}".rstrip()

    def _how_to_resume(self) -> str | None:
        if self._settings.no_db or (self._settings.file is None and not self._settings.restart):
            return None if self._settings.no_db else self._restart_all()
        if self._place.ranks > 1:  # a launcher stands before our words, and we do not know all of its own
            return _THE_SAME if self._settings.restart else f"{_THE_SAME} and --restart"
        words = ["hs", *self._argv]
        return joined(words if self._settings.restart else [*words, "--restart"])

    def _how_to_retry(self) -> str | None:
        """The command that tries failed tasks again; None: nothing can."""
        command = self._how_to_resume()
        if command is None or self._settings.retry_failed:
            return command
        return f"{command}{' with' if command == _THE_SAME else ''} --retry-failed"

    def _restart_all(self) -> str:
        return f"hs {self._settings.command} --restart {self._naming()}".rstrip()

    def _naming(self) -> str:
        """The words that name our database; one on a server is named by the configuration."""
        return "" if self._settings.server is not None else f"--db {quoted(self._settings.db)}"


def _given(settings: RunSettings) -> dict[str, Any]:
    """What this start says of how tasks are run; the rest stays as a submission has it."""
    values = {
        "task_timeout": settings.task_timeout,
        "capture": settings.capture,
        "exports": settings.exports,
        "keep_output": settings.keep_output,
        "poison": settings.poison,
    }
    return {name: values[name] for name in settings.given_how}


def _open_source(settings: RunSettings) -> _Source | None:
    """Where lines come from; None where the database alone is the source."""
    if settings.file is None:
        no_stdin = settings.restart or (settings.command == "server" and settings.forever)
        return None if no_stdin else _Source(0, STDIN, None, False)
    fd = open_file(settings.file)
    path = os.path.realpath(settings.file)
    again = stat.S_ISREG(os.fstat(fd).st_mode)
    if settings.restart and not again:
        os.close(fd)
        raise InputError(f"{settings.file} is no regular file: --restart must read it again from where it stopped")
    return _Source(fd, settings.file, path if again else None, again)


def _refuse_other_template(settings: RunSettings, found: list[Submission]) -> None:
    """Without FILE tasks keep their own template: another one, perhaps with quotes, is not passed over."""
    if settings.file is not None or not settings.restart or settings.template == _NO_TEMPLATE:
        return
    for one in found:
        if one.template != settings.template:
            theirs, given = shown(one.template), shown(settings.template)
            raise InputError(
                f"tasks of submission {one.id} have the template {theirs}, not {given}: "
                "leave out -t and -q to run them as they were submitted"
            )


def _refuse_overwriting(settings: RunSettings) -> None:
    """What is written must not be what is read or kept: opening it would empty it."""
    has_file = not settings.no_db and settings.server is None
    kept = [("FILE", settings.file)]
    if has_file:  # what SQLite has beside it may hold what was committed last
        kept += [("the database", f"{settings.db}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")]
    written = [("-o", settings.output), ("-e", settings.errors), ("-f", settings.failures)]
    written.append(("--status-file", settings.status_file))
    for flag, path in written:
        for what, other in kept:
            if path and other and is_same_file(path, other):
                raise UsageError(f"Using {flag} {path} would overwrite {what}: name another file")
    for number, (flag, path) in enumerate(written):
        for other_flag, other in written[max(number + 1, 2) :]:  # -o and -e may be one
            if path and other and is_same_file(path, other):
                raise UsageError(f"Using {flag} and {other_flag} with the same file is invalid: {path}")


def _policy(settings: RunSettings, source: _Source | None, place: Place) -> Policy:
    again = source is not None and source.again
    return Policy(
        attempts=settings.max_retries + 1,
        eager=settings.eager,
        bundlesize=settings.bundlesize,
        brake=settings.no_db,
        barrier_at_end=again or source is None,
        forever=settings.forever,
        feed=source is not None,
        closed=not place.is_open,
        expected=place.clients,
        durable_dispatch=source is not None and not again and not settings.no_db,
        # Nobody comes back to a server that nobody can reach.
        reclaim=settings.reclaim if place.is_open else 0.0,
        quarantine=settings.quarantine,
        poison=settings.poison,
        careful=settings.restart and not settings.no_db and settings.poison != 0,
        delay_start=settings.start_delay,
        release_rate=settings.release_rate,
        drain_time=settings.drain_time,
        stopping=2 * settings.signalwait + STORE_GRACE,
        task_limit=settings.task_timeout,
    )


def _is_tight(slots: int) -> bool:
    """Whether tasks could take what the database needs to be opened: they begin after it then."""
    limit = descriptor_limit()
    return limit is not None and limit < _DESCRIPTORS + _DESCRIPTORS_OF_TASK * slots


def _client_settings(settings: RunSettings, place: Place, server_id: str) -> ClientSettings:
    return ClientSettings(
        slots=place.slots,
        bundlesize=settings.bundlesize,
        bundlewait=settings.bundlewait,
        signalwait=settings.signalwait,
        idle_timeout=settings.idle_timeout,
        # These are those of each submission (``Server.learn``).
        task_timeout=None,
        capture=False,
        task_cwd=None if settings.task_cwd is None else to_bytes(settings.task_cwd),
        capture_dir=to_bytes(settings.capture_dir),
        folder_mode=settings.site_mode or PRIVATE_FOLDER,
        log_level=settings.log_level,
        log_style=settings.log_style,
        server_id=server_id,
        server_host=place.host,
        task_env=settings.task_env,
        task_bind=settings.task_bind,
        ratelimit=settings.ratelimit,
    )
