"""The processes of a client: started with their pipes or files, reaped, their last output read.

A job is over when its leader exits. Its pipes are then read to their end, or for 100 ms where a background
process holds them; what that prints later is still forwarded. Called by ``executor.loop``; knows neither server nor
machine.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypershell.core.fields import is_name
from hypershell.core.model import Kept, Task
from hypershell.executor.capture import capture_paths, kept_of, open_again, open_capture
from hypershell.executor.env import LONGEST, Environment
from hypershell.executor.job import Job
from hypershell.executor.ladder import KILL
from hypershell.executor.output import Head, Output, Pipe
from hypershell.executor.patience import Patience
from hypershell.executor.places import ANYWHERE, Place, Places
from hypershell.executor.real_end import RealEnds
from hypershell.executor.reap import RSS_UNIT
from hypershell.executor.spawn import NotStarted, not_started
from hypershell.executor.system import make_spawner
from hypershell.executor.turns import take_short_turns
from hypershell.executor.vocabulary import Exited, Expanded, Lack, LeaderEnded, StartFailed, Unseen
from hypershell.limits import RESERVE, move_above
from hypershell.ostext import from_bytes, in_quotes, to_bytes
from hypershell.proto.messages import ClientSettings, Context
from hypershell.room import descriptor_limit, lack

__all__ = ["Jobs"]

#: Seconds for which the pipes of an ended task are read where something still holds them. On Windows a thread reads
#: them, and has to find time first.
DRAIN_TIME = 1.0 if sys.platform == "win32" else 0.1

#: Pipes of background processes that are kept open; beyond it the oldest is closed.
BACKGROUND_PIPES = 256

_NO_MEMORY = Lack("cannot start a process: out of memory", shared=True)

Ended = Exited | Expanded | LeaderEnded | StartFailed


class _Known(NamedTuple):
    """What the tasks of a submission share: where they run (None: here), and variables with what is wrong there."""

    context: Context
    cwd: str | None
    shared: dict[bytes, bytes]
    error: str | None


class Jobs:
    """All processes of one client.

    :param ended: called with the fact that a job is over.
    :param threads: see ``Spawner``.
    :param stray: called with the id of an ended child that is no job.
    :param cores: see ``Places``.
    :param exited: see ``WindowsSpawner``.
    :param soft_limit: see ``Spawner``.
    """

    def __init__(
        self,
        settings: ClientSettings,
        environment: Environment,
        output: Output,
        ended: Callable[[Ended], None],
        threads: bool = False,
        stray: Callable[[int], None] | None = None,
        cores: Sequence[frozenset[int]] = (),
        exited: Callable[[], None] = lambda: None,
        soft_limit: int | None = None,
    ) -> None:
        self._environment = environment
        self._spawner = make_spawner(environment.base, threads, exited, soft_limit)
        self._soft_limit = soft_limit
        most = descriptor_limit()
        self._ceiling = None if most is None else most - RESERVE
        """No descriptor of a task has this number, or a larger one: the last are for others."""
        if threads:
            take_short_turns()
        self._places = Places(cores)
        self._output = output
        self._ended = ended
        self._stray = stray
        self._task_cwd = None if settings.task_cwd is None else from_bytes(settings.task_cwd)
        self._captures = settings.capture
        self._capture_dir = os.path.abspath(from_bytes(settings.capture_dir)) if settings.capture_dir else ""
        self._folder_mode = settings.folder_mode
        self._by_pid: dict[int, Job] = {}
        self._by_id: dict[str, Job] = {}
        self._unwatched: deque[tuple[float, Job]] = deque()
        """Running tasks whose pipes are left alone, and until when."""
        self._patience = Patience()
        self._draining: list[Job] = []
        self._background: deque[Pipe] = deque()
        self._folders: dict[int, _Known] = {}

    # Starting

    def start(self, task: Task, command: str | None, context: Context, now: float, slot: int = 0) -> None:
        """Start a task in a slot; what cannot be started is told as ``StartFailed``."""
        begin = time.time()
        try:
            self._start(task, command, context, now, begin, self._places.of(slot))
        except NotStarted as error:
            self._ended(StartFailed(task.id, str(error), begin, error.lack))
        except MemoryError:
            self._ended(StartFailed(task.id, _NO_MEMORY.reason, begin, _NO_MEMORY))
        except Exception as error:  # whatever a row says: this task fails, not the client
            told = _unforeseen(error)
            self._ended(StartFailed(task.id, str(told), begin, told.lack))

    def _start(
        self, task: Task, command: str | None, context: Context, now: float, begin: float, place: Place
    ) -> None:
        known = self._folders.get(context.submission)
        if known is None or known.context is not context:
            known = self._enter(context)
        cwd, shared = known.cwd, known.shared
        if (wrong := known.error or _wrong(task)) is not None:
            raise NotStarted(wrong)
        line = task.raw if task.raw is not None else task.args.encode()
        line_to_run = line if command is None else to_bytes(command)
        if b"\0" in line or b"\0" in line_to_run:
            raise NotStarted("the command contains a NUL byte")
        if self._captures or context.capture:
            self._start_captured(task, line, line_to_run, cwd, shared, begin, place, context.keep_output)
            return
        own = self._environment.of(task, line, line_to_run, begin, None, place)
        job = self._spawn(task.id, line_to_run, shared, own, cwd, begin, place)
        if context.keep_output:
            job.heads = (Head(), Head())
        self._unwatched.append((now + self._patience.seconds, job))

    def _enter(self, context: Context) -> _Known:
        """Find out what the tasks of a submission share."""
        cwd = self._task_cwd or from_bytes(context.cwd)
        try:
            same = os.path.samefile(cwd, ".")
        except (OSError, ValueError):
            same = False
        environment = self._environment
        shared = environment.shared(context, cwd)
        known = _Known(context, None if same else cwd, shared, environment.error(context))
        self._folders[context.submission] = known
        return known

    def _spawn(
        self,
        id: str,
        command: bytes,
        shared: dict[bytes, bytes],
        own: dict[bytes, bytes],
        cwd: str | None,
        begin: float,
        place: Place = ANYWHERE,
    ) -> Job:
        """Start a process with pipes of ours."""
        out, out_end, err, err_end = self._two_pipes()
        try:
            pid = self._spawner.start(command, shared, out_end, err_end, cwd, own, place.cores)
        except BaseException:
            os.close(out)
            os.close(err)
            raise
        finally:
            os.close(out_end)
            os.close(err_end)
        self._output.pipes.begin(out)
        self._output.pipes.begin(err)
        job = Job(id, pid, begin, out, err)
        self._by_pid[pid] = self._by_id[id] = job
        return job

    def _two_pipes(self) -> list[int]:
        """Both ends of one for stdout, both of one for stderr; raises ``NotStarted``."""
        ends: list[int] = []
        try:
            ends += os.pipe()
            ends += os.pipe()
            for place in (0, 2):  # ours, which stay open
                ends[place] = move_above(ends[place], self._soft_limit)
            if self._ceiling is not None and max(ends) >= self._ceiling:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        except OSError as error:
            for fd in ends:
                os.close(fd)
            raise not_started("cannot make a pipe", error) from None
        return ends

    def _start_captured(
        self,
        task: Task,
        line: bytes,
        command: bytes,
        cwd: str | None,
        shared: dict[bytes, bytes],
        begin: float,
        place: Place,
        keep: bool,
    ) -> None:
        """Start a task that writes to its own files."""
        paths = capture_paths(self._capture_dir, task.id)
        own = self._environment.of(task, line, command, begin, paths, place)
        out, err = open_capture(paths, self._ceiling, self._folder_mode)
        files: tuple[int, int] | None = None
        try:
            files = open_again(paths, self._soft_limit) if keep else None
            pid = self._spawner.start(command, shared, out, err, cwd, own, place.cores)
        except BaseException:
            _close(files)
            raise
        finally:
            os.close(out)
            os.close(err)
        job = Job(task.id, pid, begin, -1, -1)
        job.paths = paths
        job.files = files
        self._by_pid[pid] = self._by_id[task.id] = job

    def expand(self, id: str, commands: tuple[str, ...], context: Context, slot: int = 0) -> None:
        """Run ``{% %}`` commands one after the other; the answer is told as ``Expanded``."""
        self._expand_next(id, commands, [], self._environment.exported(context), slot)

    def _expand_next(
        self, id: str, commands: tuple[str, ...], outputs: list[str], environ: dict[bytes, bytes], slot: int
    ) -> None:
        text = commands[0]
        command = to_bytes(text)
        try:
            own = self._environment.of_slot(slot)
            job = self._spawn(id, command, environ, own, None, time.time())
        except NotStarted as error:
            self._ended(Expanded(id, error=str(error), lack=error.lack))
            return
        except MemoryError:
            self._ended(Expanded(id, error=_NO_MEMORY.reason, lack=_NO_MEMORY))
            return
        except Exception as error:
            told = _unforeseen(error)
            self._ended(Expanded(id, error=str(told), lack=told.lack))
            return
        job.rest = commands[1:]
        job.environ = environ
        job.text = text
        job.outputs = outputs
        job.slot = slot
        self._watch(job, LONGEST)

    def _watch(self, job: Job, limit: int = 0) -> None:
        """Read the pipes of a job whenever they have something; with `limit` its stdout is kept, not forwarded."""
        if job.out_fd >= 0:
            job.out, job.err = self._pipes(job, limit)
            self._output.watch(job.out)
            self._output.watch(job.err)

    def _pipes(self, job: Job, limit: int = 0) -> tuple[Pipe, Pipe]:
        """The pipes of a job that has none yet."""
        out, err = Pipe(job.out_fd, False, limit), Pipe(job.err_fd, True)
        job.out_fd = job.err_fd = -1
        if job.heads is not None:
            out.head, err.head = job.heads
        return out, err

    def signal(self, id: str, number: int) -> None:
        """Signal the process group of a job; one that has ended is left alone."""
        job = self._by_id.get(id)
        if job is None or not job.running:
            return
        job.signalled = True
        self._spawner.signal(job.pid, number)

    # Ending

    @property
    def running(self) -> bool:
        """Whether there is a process that can end."""
        return bool(self._by_pid)

    def collect(self, now: float, unseen: Unseen | None = None) -> None:
        """Reap every child that has ended; call after SIGCHLD.

        :param unseen: the time before `now` in which nobody looked, where there was one.
        """
        by_pid, output, next_exit = self._by_pid, self._output, self._spawner.next_exit
        patience = self._patience
        if output.filled:
            output.filled = False
            patience.filled()
        real = None if unseen is None else RealEnds(unseen.since)
        while True:
            if real is not None:
                real.peek()
            found = next_exit()
            if found is None:
                break
            pid, status, usage = found
            job = by_pid.pop(pid, None)
            if job is None:
                if self._stray is not None:
                    self._stray(pid)
                continue
            job.end = time.time()
            job.running = False
            patience.ended(job.end - job.start)
            if unseen is not None and real is not None:
                job.unseen = _seen_late(job, unseen, real.of(pid))
            if job.signalled:
                self._kill_rest(pid)
            job.status = status
            job.usage = (usage[0], usage[1], usage[2])
            if job.out_fd >= 0 and job.heads is None:
                job.out = output.finish(job.out_fd, False)
                job.err = output.finish(job.err_fd, True)
                job.out_fd = job.err_fd = -1
                open_pipes = job.out is not None or job.err is not None
            else:
                if job.out_fd >= 0:
                    job.out, job.err = self._pipes(job)
                open_pipes = not self._drain(job)
            if open_pipes:
                job.give_up = now + DRAIN_TIME
                for pipe in (job.out, job.err):
                    if pipe is not None:
                        output.watch(pipe)
                self._draining.append(job)
                if job.rest is None:
                    self._ended(LeaderEnded(job.id, job.unseen))
                    job.unseen = None
            else:
                self._over(job)

    def _drain(self, job: Job) -> bool:
        """Read what the pipes of a job hold; True when both have ended."""
        done = True
        for pipe in (job.out, job.err):
            if pipe is not None:
                done = self._output.drain(pipe) and done
        return done

    def _kill_rest(self, group: int) -> None:
        """End what is left of the process group of a job that we stopped.

        Its leader has just been reaped; its number is not given away while anything of the group lives.
        """
        self._spawner.signal(group, KILL)

    def _over(self, job: Job) -> None:
        del self._by_id[job.id]
        if job.rest is not None:
            self._expansion_over(job)
            return
        utime, stime, maxrss = job.usage
        outpath, errpath = job.paths or (None, None)
        rss = float(maxrss * RSS_UNIT)
        kept = _kept(job)
        times = (job.start, job.end, utime, stime)
        self._ended(Exited(job.id, job.status, *times, rss, outpath, errpath, kept, job.unseen))

    def _expansion_over(self, job: Job) -> None:
        status = job.status
        kept = job.out.kept if job.out is not None else bytearray()
        if job.out is not None and job.out.overflowed:
            self._ended(Expanded(job.id, error=f"{_named(job.text)} printed more than {LONGEST:,} bytes"))
        elif status != 0:
            how = f"ended with status {status}" if status > 0 else f"died by signal {-status}"
            self._ended(Expanded(job.id, error=f"{_named(job.text)} {how}"))
        else:
            outputs = [*job.outputs, from_bytes(kept).strip()]
            if job.rest:
                self._expand_next(job.id, job.rest, outputs, job.environ, job.slot)
            else:
                self._ended(Expanded(job.id, outputs))

    def tend(self, now: float) -> None:
        """What time brings: watch the pipes of tasks that last, give up on pipes that background processes hold."""
        unwatched = self._unwatched
        while unwatched and (not unwatched[0][1].running or unwatched[0][0] <= now):
            job = unwatched.popleft()[1]
            if job.running:
                self._watch(job)
        if self._draining:
            self._tend_draining(now)

    def _tend_draining(self, now: float) -> None:
        waiting = self._draining
        self._draining = []
        for job in waiting:
            pipes = [pipe for pipe in (job.out, job.err) if pipe is not None and pipe.fd >= 0]
            if pipes and self._output.full:
                job.give_up = now + DRAIN_TIME
            if pipes and now < job.give_up:
                self._draining.append(job)
                continue
            for pipe in pipes:
                if pipe.limit:
                    self._output.close(pipe)
                else:
                    self._keep_open(pipe)
            self._over(job)

    def _keep_open(self, pipe: Pipe) -> None:
        background = self._background
        while background and background[0].fd < 0:
            background.popleft()
        if len(background) >= BACKGROUND_PIPES:
            self._output.close(background.popleft())
        background.append(pipe)

    def deadline(self) -> float | None:
        """When `tend` is due."""
        due = None
        unwatched = self._unwatched
        while unwatched and not unwatched[0][1].running:
            unwatched.popleft()
        if unwatched:
            due = unwatched[0][0]
        for job in self._draining:
            if due is None or job.give_up < due:
                due = job.give_up
        return due

    def close(self) -> None:
        """Kill what still runs, forward what background processes printed so far, close everything."""
        for job in self._by_pid.values():
            self._kill_rest(job.pid)
        for job in list(self._by_id.values()):
            self._watch(job)
            for pipe in (job.out, job.err):
                if pipe is not None:
                    self._output.close(pipe)
            _close(job.files)
        for pipe in self._background:
            self._output.drain(pipe)
            self._output.close(pipe)
        self._spawner.close()


def _seen_late(job: Job, unseen: Unseen, ended: tuple[float, float]) -> Unseen:
    """What is told of a job that ended unseen, between the times `ended` of the monotonic clock."""
    job.end = max(job.start, job.end - (time.monotonic() - ended[1]))
    return Unseen(unseen.since, unseen.until, ended)


def _kept(job: Job) -> Kept | None:
    """What comes back with the result; what background processes print from now on does not."""
    if job.heads is not None:
        for pipe in (job.out, job.err):
            if pipe is not None:
                pipe.head = None
        out, err = job.heads
        return Kept(bytes(out.data), bytes(err.data), out.size, err.size)
    if job.files is None:
        return None
    kept = kept_of(job.files)
    _close(job.files)
    job.files = None
    return kept


def _wrong(task: Task) -> str | None:
    """What of a task no process can be told."""
    if not is_name(task.id):
        return "the id of the task is empty, too long or not printable"
    for key, value in (task.tag or {}).items():
        if "\0" in key or (isinstance(value, str) and "\0" in value):
            return f"bad tag {in_quotes(key[:60])}: a NUL byte"
    return None


def _unforeseen(error: Exception) -> NotStarted:
    """An error that nobody foresaw, as one of a start."""
    missing = lack(error)
    text = f"cannot start a process: {type(error).__name__}: {error}"
    return NotStarted(text, None if missing is None else Lack(f"cannot start a process: {missing}", shared=True))


def _close(files: tuple[int, int] | None) -> None:
    for fd in files or ():
        os.close(fd)


def _named(command: str) -> str:
    """A command of a template as messages name it."""
    short = command if len(command) <= 80 else command[:77] + "..."
    return f"{{% {short} %}}"
