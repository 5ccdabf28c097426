"""``hs submit [ARGS...]``: a command, or the lines of a FILE or of stdin, into the database."""

from __future__ import annotations

import logging
import os
import shlex
import stat
import time
from typing import TYPE_CHECKING

from hypershell.errors import ExitStatus, UsageError
from hypershell.hosts import host_name
from hypershell.masking import masked
from hypershell.ostext import joined, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypershell.config import Config
    from hypershell.data.submit import Servers
    from hypershell.net.asking import Asking
    from hypershell.server.submitting import Handing, Handover
    from hypershell.server.terms import Wishes
    from hypershell.settings import DialSettings, SubmitSettings

__all__ = ["Opened", "join_words", "main", "main_single", "prepare"]

log = logging.getLogger("hypershell.submit")

_STDIN = "<stdin>"


def main(argv: list[str]) -> int:
    """Run the command; the exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _submit(argv))


def main_single(argv: list[str]) -> int:
    """Run ``hs task submit``: always a single command, whose id goes to stdout."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _submit_single(argv))


def join_words(words: tuple[str, ...]) -> str:
    """The command line of some words: a single one is it already, of several the shell sees the same words."""
    line = words[0] if len(words) == 1 else shlex.join(words)
    if not line.strip():
        raise UsageError("the command is empty")
    return line


def _submit(argv: list[str]) -> int:
    from hypershell.apps.parse_task import parse_submit

    settings, dial, config = parse_submit(argv)
    path, line = _decide(settings)
    way = prepare(settings, dial, config)
    if line is not None:
        _refuse_again(settings)
        with _opened(settings, argv, way) as opened:
            log.debug("Submitted single task (explicit)")
            log.info("Submitted task (%s)", opened.handing.command(line))
            opened.tell_servers()
        return ExitStatus.SUCCESS
    _submit_lines(settings, argv, path, way)
    return ExitStatus.SUCCESS


def _submit_single(argv: list[str]) -> int:
    from hypershell.apps.parse_task import parse_submit

    if not argv:
        raise UsageError("the following arguments are required: ARGS")
    settings, dial, config = parse_submit(argv)
    if settings.task_file is not None or not settings.words:
        raise UsageError("hs task submit takes one command: use hs submit for a FILE or stdin")
    _refuse_again(settings)
    way = prepare(settings, dial, config)
    line = join_words(settings.words)
    with _opened(settings, argv, way) as opened:
        task_id = opened.handing.command(line)
        log.info("Submitted task (%s)", task_id)
        opened.tell_servers()
    print(task_id)
    return ExitStatus.SUCCESS


def _refuse_again(settings: SubmitSettings) -> None:
    """Words for a FILE that was submitted before mean nothing without one."""
    for given, flag in ((settings.only_new, "--update"), (settings.once_more, "--repeat")):
        if given:
            raise UsageError(f"Using {flag} requires a FILE (a regular file): nothing else can be compared")


def _decide(settings: SubmitSettings) -> tuple[str | None, str | None]:
    """The path of a FILE, or a single command; neither is stdin."""
    from hypershell.apps import kinds

    words = settings.words
    if settings.task_file is not None:
        return (None if settings.task_file == "-" else settings.task_file), None
    if not words or words == ("-",):
        return None, None
    if len(words) == 1 and kinds.is_list(words[0]):
        return words[0], None
    if len(words) == 1 and not settings.is_command and (doubt := kinds.doubt(words[0])):
        raise UsageError(f"{doubt}: for a command write -- before it, for a file of commands -f")
    return None, join_words(words)


def prepare(settings: SubmitSettings, dial: DialSettings | None, config: Config) -> Callable[[], Asking] | None:
    """Make sure that it can work, before anything is read; what makes the connection to a server, if it is one."""
    from hypershell.apps.folders import site_folder
    from hypershell.data.owner import Sharing
    from hypershell.data.places import preflight
    from hypershell.template import Template

    if not settings.expand.strip():
        raise UsageError("the template is empty: '{}' stands for the line itself")
    Template(settings.expand)
    if dial is not None:
        from hypershell.apps.dial import ask
        from hypershell.proto.session import SUBMIT
        from hypershell.proto.visits import decode_answer

        return lambda: ask(dial, config, SUBMIT, decode_answer)
    if settings.is_at(config.sites.default.database):
        site_folder(config, config.sites.default.lib)
    preflight(settings.place, Sharing(settings.db_mode))
    if settings.initdb:
        from hypershell.data.places import create

        if create(settings.place):
            logging.getLogger("hypershell.data").info("Database initialized automatically (%s)", settings.place)
    return None


def _submit_lines(
    settings: SubmitSettings, argv: list[str], path: str | None, way: Callable[[], Asking] | None
) -> None:
    from hypershell.server.feed import open_file

    fd = 0 if path is None else open_file(path)
    again = path is not None and stat.S_ISREG(os.fstat(fd).st_mode)
    if not again:
        _refuse_again(settings)
    explicit = "explicit" if settings.task_file is not None or settings.words == ("-",) else "implicit"
    try:
        with _opened(settings, argv, way) as opened:
            if path is not None and again:
                count = opened.handing.file(fd, path, update=settings.only_new, repeat=settings.once_more)
            else:
                count = opened.handing.stream(fd, path or _STDIN)
            how = "implicit - not executable" if path is not None and explicit == "implicit" else explicit
            log.debug("Submitted from %s (%s)", path or _STDIN, how)
            log.info("Submitted %d tasks", count)
            opened.tell_servers()
    finally:
        if fd > 2:
            os.close(fd)
    log.debug("Done")


def _opened(settings: SubmitSettings, argv: list[str], way: Callable[[], Asking] | None) -> Opened:
    from hypershell.server.terms import Wishes

    return Opened(settings, ["submit", *argv], Wishes(settings.keep_output), way)


class Opened:
    """The database or a server, open for submitting, and what hands tasks over to it.

    `argv` is the command after ``hs``; `wishes` is what is asked for the results; `way` leads to a server.
    """

    def __init__(
        self, settings: SubmitSettings, argv: list[str], wishes: Wishes, way: Callable[[], Asking] | None = None
    ) -> None:
        self._settings = settings
        self._argv = argv
        self._wishes = wishes
        self._way = way
        self._submitter: Handover
        self.handing: Handing

    def __enter__(self) -> Opened:
        from hypershell.apps.progress import Bar
        from hypershell.data.places import database
        from hypershell.data.store import describe_run
        from hypershell.data.submit import TRANSPORT, Submitter
        from hypershell.ids import IdSource
        from hypershell.mpi.environ import job_id
        from hypershell.server.submitting import Handing
        from hypershell.server.terms import Terms
        from hypershell.tags import Directives, parse_tags

        settings = self._settings
        options = Directives({}, settings.task_group, settings.cores, settings.memory, settings.timeout)
        given = parse_tags(settings.tag).over(options)
        ids = IdSource()
        run = describe_run(
            ids.task(),
            transport=TRANSPORT,
            ranks=0,
            slots=0,
            job=job_id(os.environ),
            command=joined(["hs", *masked(self._argv)]),
            cwd=os.getcwd(),
            start_time=time.time(),
        )
        if self._way is not None:
            from hypershell.apps.live import LiveSubmitter

            self._submitter = LiveSubmitter(self._way)
        else:
            self._submitter = Submitter(database(settings.place), run, lambda line: log.warning("%s", line))
        self.handing = Handing(
            self._submitter,
            ids,
            run.id,
            host_name(),
            settings.task_cwd or os.getcwd(),
            Terms(
                settings.expand,
                given.tags,
                given.group,
                given.cores,
                given.memory,
                given.timeout,
                settings.plain_lines,
            ),
            self._wishes,
            rows=settings.commitsize,
            wait=settings.bundlewait,
            bar=Bar,
        )
        try:
            self._submitter.open()
        except BaseException:  # an interrupt too
            self._submitter.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._submitter.close()

    def tell_servers(self, level: int = logging.INFO) -> None:
        """One line where no server that is seen to live takes these tasks."""
        from hypershell.data.submit import Submitter

        if isinstance(self._submitter, Submitter):
            line = _about_servers(self._submitter.servers(), self._settings)
            if line is not None:
                log.log(level, "%s", line)


def _about_servers(servers: Servers, settings: SubmitSettings) -> str | None:
    naming = f" --db {quoted(settings.db)}" if settings.server is None else ""
    run_them = f"to run these tasks: hs cluster --restart{naming}"
    if not servers.seen and not servers.unseen:
        return f"No server works on this database now ({run_them})"
    if not servers.waiting:
        return f"No server with --forever works on this database; others leave these tasks alone ({run_them})"
    if not servers.seen:
        return f"Whether {servers.unseen[0].describe()} still serves this database is not seen from here"
    return None
