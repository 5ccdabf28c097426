"""Reads the lines of a FILE or of stdin in batches and makes tasks of them; can stop and go on at an offset.

Owns bytes, encodings, line ends, line numbers and the digest of what was read. Knows nothing of scheduling: the
server asks for the next batch when it has room. A file of ten million lines never sits in memory.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import stat
from collections.abc import Callable

from msgspec import Struct

from hypershell.core.model import UPDATING, FeedMark, Task
from hypershell.errors import InputError
from hypershell.lines import Line, parse_line
from hypershell.ostext import escaped, from_bytes, raw_of
from hypershell.reactor import Poller
from hypershell.tags import Directives, TagError
from hypershell.template import ExpansionError

__all__ = ["MAX_LINE", "Batch", "Feed", "check_file", "open_file", "task_of"]

log = logging.getLogger("hypershell.submit")

#: Bytes of one line that are kept; a longer one is a bad line (what a command may hold is far less, execve(2)).
MAX_LINE = 4 * 1024 * 1024
BLOCK = 256 * 1024
STDIN = "<stdin>"
_WAY_OUT = "name another FILE, or - for stdin"

_CHOICES = "restore it, or restart it with --update (adds its new lines) or --repeat (runs all of it again)"


class Batch(Struct, frozen=True):
    """Tasks of consecutive lines, lines that can never run, and how far the reading is."""

    tasks: list[Task]
    rejected: list[tuple[Task, str]]
    mark: FeedMark


def open_file(path: str) -> int:
    """A descriptor to read task lines from. Raises ``InputError`` naming the path, the reason and the way out."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        _refuse_directory(path, os.fstat(fd))
    except InputError:
        os.close(fd)
        raise
    return fd


def check_file(path: str) -> None:
    """Make sure that `path` is there, without opening it: a FIFO would wait. Raises as `open_file`."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    _refuse_directory(path, found)


def _refuse_directory(path: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"IsADirectoryError: {path}: Is a directory, not a file of commands; {_WAY_OUT}")


def _unreadable(path: str, error: OSError) -> InputError:
    return InputError(f"{type(error).__name__}: {path}: {error.strerror}; {_WAY_OUT}")


class _Overlong:
    """A line beyond `MAX_LINE`, of which only the beginning is kept."""

    def __init__(self, start: bytes) -> None:
        self.start = start
        self.length = 0
        self.whole = False


class Feed:
    """The lines behind one descriptor.

    Parameters: `fd`; `name` for messages; `submission` id; `new_id` gives ascending task ids; `wall` the time of
    day in seconds; `defaults` what directives of lines are laid over; `expand` makes the stored arguments of those
    of a line (it raises ``ExpansionError``). With `strict` the reading stops before a bad line, which `bad` names,
    instead of rejecting it and going on; with `quiet` it says nothing of those. With `plain` a line is taken whole:
    only its LF is no part of it.
    """

    def __init__(
        self,
        fd: int,
        name: str,
        submission: int,
        new_id: Callable[[], str],
        wall: Callable[[], float],
        defaults: Directives | None = None,
        expand: Callable[[str], str] | None = None,
        strict: bool = False,
        quiet: bool = False,
        plain: bool = False,
    ) -> None:
        self.fd = fd
        self.name = name
        self.way_out = _CHOICES
        """What may be done when the FILE has changed."""
        self.ended = False
        self.bad: str | None = None
        self._submission = submission
        self._new_id = new_id
        self._wall = wall
        self._defaults = defaults or Directives()
        self._expand = expand
        self._strict = strict
        self._quiet = quiet
        self._plain = plain
        self._hash = hashlib.sha256()
        self._offset = 0
        self._lines = 0
        self._tail = b""
        self._todo: list[bytes] = []
        self._next = 0
        self._eof = False
        self._overlong: _Overlong | None = None
        mode = os.fstat(fd).st_mode
        self.waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))
        """Whether reading may block, so that the descriptor belongs into the poller."""
        self._watched = False

    def resume(self, mark: FeedMark) -> None:
        """Go on behind `mark`, in its submission: what lies before it must be what was read then.

        Raises ``InputError`` where the file has changed there.
        """
        left = mark.offset
        carry = b""
        while left > 0:
            block = os.read(self.fd, min(BLOCK, left))
            if not block:
                were = f"the {mark.offset} bytes that were already submitted"
                raise InputError(f"{self.name} is shorter than {were}: {self.way_out}")
            self._hash.update(block)
            left -= len(block)
            data = carry + block
            end = data.rfind(b"\n") + 1
            carry = data[end:][:MAX_LINE]
            if b"HYPERSHELL" in data and not self._plain:
                self._learn(data[:end])
        if mark.digest == UPDATING:
            raise InputError(f"an update of {self.name} was interrupted: restart it with --update once more")
        if mark.digest and self._hash.hexdigest() != mark.digest:
            raise InputError(f"{self.name} has changed since it was submitted: {self.way_out}")
        self._submission, self._offset, self._lines = mark.submission, mark.offset, mark.lines

    def verify(self, mark: FeedMark) -> None:
        """The whole file must be what was read then. Raises ``InputError`` where it has changed or grown."""
        self.resume(mark)
        if os.read(self.fd, 1):
            raise InputError(f"{self.name} has grown since it was submitted: {self.way_out}")

    @property
    def buffered(self) -> bool:
        """Whether whole lines wait that `read` gives without reading from the descriptor."""
        return self._next < len(self._todo)

    def ready(self, poller: Poller) -> bool:
        """Whether `read` will not block; where it would, the poller wakes the loop when it no longer does."""
        if not self.waits:
            return True
        probe = select.poll()
        probe.register(self.fd, select.POLLIN)
        ready = bool(probe.poll(0))
        if ready == self._watched:
            self._watched = not ready
            if ready:
                poller.remove(self.fd)
            else:
                poller.add(self.fd, _awake)
        return ready

    def read(self, limit: int) -> Batch | None:
        """Tasks of up to `limit` further lines; None where nothing is there yet, or after the end."""
        if self._next >= len(self._todo):
            self._fill()
        if self._next >= len(self._todo) and not (self._overlong is not None and self._overlong.whole):
            if self._eof:
                self.ended = True
            return None
        lines = self._todo[self._next : self._next + limit]
        self._next += len(lines)
        return self._make(lines)

    def mark(self, *, complete: bool = False) -> FeedMark:
        """How far the reading is."""
        return FeedMark(self._submission, self._offset, self._lines, self._hash.hexdigest(), complete)

    def close(self) -> None:
        if self.fd > 2:
            os.close(self.fd)

    # -- bytes to lines ----------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Read one block; whole lines (with their ends) go to the work list, the rest waits for more."""
        self._todo, self._next = [], 0
        if self._eof:
            return
        if len(self._tail) > MAX_LINE:
            self._overlong = _Overlong(self._tail[:1024])
            self._pass_over(self._tail)
            self._tail = b""
        block = os.read(self.fd, BLOCK)
        if self._offset == 0 and not self._tail:
            self._look(block)
        self._eof = not block
        if self._overlong is not None:
            block = self._skip(block)
        data = self._tail + block
        end = len(data) if self._eof else data.rfind(b"\n") + 1
        self._tail = data[end:]
        self._todo = _split(data[:end])

    def _look(self, block: bytes) -> None:
        """Refuse what is plainly no text before anything of it runs."""
        where = block.find(b"\0", 0, 8192)
        if where >= 0:
            raise InputError(f"{self.name} is no text file (byte {where} is NUL): give a file of command lines")

    def _skip(self, block: bytes) -> bytes:
        """Pass over the rest of an overlong line; what lies behind its end."""
        cut = block.find(b"\n") + 1
        if not cut and block:
            self._pass_over(block)
            return b""
        self._pass_over(block[:cut])
        if self._overlong is not None:
            self._overlong.whole = True
        return block[cut:]

    def _pass_over(self, piece: bytes) -> None:
        self._hash.update(piece)
        self._offset += len(piece)
        if self._overlong is not None:
            self._overlong.length += len(piece)

    # -- lines to tasks ----------------------------------------------------------------------------------

    def _make(self, lines: list[bytes]) -> Batch:
        now = self._wall()
        tasks: list[Task] = []
        rejected: list[tuple[Task, str]] = []
        new_id, submission = self._new_id, self._submission
        bare = self._is_bare
        if self._overlong is not None and self._overlong.whole:
            self._too_long(self._overlong, now, rejected)
            self._overlong = None
            lines = lines if self.bad is None else []
        for line in lines:
            self._hash.update(line)
            self._offset += len(line)
            self._lines += 1
            is_text = True
            try:
                text = line.decode()
            except UnicodeDecodeError:
                text = from_bytes(line)
                is_text = False
            if is_text and bare and "#" not in text and "\0" not in text:
                args = text.strip(" \t\r\n")
                if self._lines == 1:
                    args = args.removeprefix("\ufeff").lstrip(" \t")
                if args:
                    tasks.append(Task(new_id(), args, submission, submit_time=now))
                continue
            self._special(text, now, tasks, rejected)
            if self.bad is not None:
                break
            bare = self._is_bare
        return Batch(tasks, rejected, self.mark())

    @property
    def _is_bare(self) -> bool:
        """Whether nothing is laid over a line."""
        return self._defaults == Directives() and self._expand is None and not self._plain

    def _special(self, text: str, now: float, tasks: list[Task], rejected: list[tuple[Task, str]]) -> None:
        """A line that is more than its text: with a comment, a directive, a NUL, bytes that are not UTF-8."""
        if self._lines == 1 and not self._plain:
            text = text.removeprefix("\ufeff")
        try:
            line = _whole(text) if self._plain else parse_line(text)
            reason = "the line holds a NUL byte" if "\0" in text else None
        except TagError as error:
            line, reason = None, str(error)
        if reason is not None:
            self._reject(text.strip(), reason, now, rejected)
            return
        if line is None:
            return
        if not line.args:
            if line.directives is not None:
                self._defaults = line.directives.over(self._defaults)
            return
        args = line.args
        if self._expand is not None:
            try:
                args = self._expand(args)
            except ExpansionError as error:
                self._reject(args, str(error), now, rejected)
                return
        given = line.directives.over(self._defaults) if line.directives is not None else self._defaults
        tasks.append(task_of(self._new_id(), args, self._submission, given, now))

    def _reject(self, text: str, reason: str, now: float, rejected: list[tuple[Task, str]]) -> None:
        """Leave a bad line out, or stop before it."""
        if self._strict:
            self.bad = f"{self.name}:{self._lines}: {reason}"
            return
        if not self._quiet:
            log.error("%s:%d: %s; the line was not run", self.name, self._lines, reason)
        shown = escaped(text.replace("\0", "\\0"))
        rejected.append((Task(self._new_id(), shown, self._submission, submit_time=now), escaped(reason)))

    def _too_long(self, line: _Overlong, now: float, rejected: list[tuple[Task, str]]) -> None:
        self._lines += 1
        reason = f"the line has {line.length} bytes, more than the {MAX_LINE} that are read"
        self._reject(from_bytes(line.start), reason, now, rejected)

    def _learn(self, block: bytes) -> None:
        """Take up the global directives of lines that were read before a restart."""
        for line in _split(block):
            if b"HYPERSHELL" not in line:
                continue
            try:
                parsed = parse_line(from_bytes(line))
            except TagError:
                continue
            if parsed is not None and not parsed.args and parsed.directives is not None:
                self._defaults = parsed.directives.over(self._defaults)


def task_of(id: str, args: str, submission: int, given: Directives, now: float) -> Task:
    """A new task, submitted at `now`; lone surrogates in `args` stand for bytes that are not UTF-8."""
    return Task(
        id,
        escaped(args),
        submission,
        group=given.group or 0,
        raw=raw_of(args),
        timeout=given.timeout,
        tag=dict(given.tags) or None,
        submit_time=now,
        cores=given.cores,
        memory=given.memory,
    )


def _whole(text: str) -> Line | None:
    """A line that is nothing but data. An empty one has none."""
    args = text.removesuffix("\n")
    return Line(args) if args else None


def _awake() -> None:
    """Being woken is all that the reader of a pipe needs."""


def _split(data: bytes) -> list[bytes]:
    """Lines with their ends; unlike bytes.splitlines only LF ends one."""
    lines = data.split(b"\n")
    last = lines.pop()
    whole = [line + b"\n" for line in lines]
    return [*whole, last] if last else whole
