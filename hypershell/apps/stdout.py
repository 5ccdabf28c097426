"""Stdout of a command: what cannot be written there is told as such, and a reader that is gone is no error.

A terminal gets no text that it would obey, whatever a command prints; files and pipes get every text as it is.

Called by the frame of the commands and by the help texts. Stays quick to import, as these are.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from hypershell.errors import HyperShellError
from hypershell.ostext import escaped, printable
from hypershell.room import FULL

__all__ = ["StdoutError", "checked_stdout", "is_stdout_closed", "silence_stdout", "write_bytes"]


class StdoutError(HyperShellError):
    """Stdout cannot be written, for another reason than that its reader is gone."""


class _Checked(io.TextIOWrapper):
    """Raises `StdoutError`: an ``OSError`` alone does not say of which file it is. Takes text with any bytes."""

    shown = staticmethod(escaped)
    """Makes of a text what may be written."""

    def write(self, text: str, /) -> int:
        with _told():
            return super().write(self.shown(text))

    def flush(self) -> None:
        with _told():
            super().flush()


class _Terminal(_Checked):
    """Obeys nothing that is in a text."""

    shown = staticmethod(printable)


@contextlib.contextmanager
def checked_stdout() -> Iterator[None]:
    """Let everything that prints inside raise `StdoutError` where that fails; `BrokenPipeError` stays as it is."""
    plain = sys.stdout
    if not isinstance(plain, io.TextIOWrapper) or plain.closed:
        yield
        return
    checked = (_Terminal if plain.isatty() else _Checked)(
        plain.buffer,
        encoding=plain.encoding,
        errors=plain.errors,
        line_buffering=plain.line_buffering,
        write_through=plain.write_through,
    )
    sys.stdout = checked
    try:
        yield
    finally:
        sys.stdout = plain
        _release(checked)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        way_out = "make room, or send it elsewhere" if error.errno in FULL else "send it elsewhere"
        raise StdoutError(f"cannot write to standard output: {error.strerror or error}; {way_out}") from error


def _release(checked: _Checked) -> None:
    """Give the buffer back, which would be closed with `checked`. What is left in it after an error is dropped."""
    try:
        checked.detach()
    except (OSError, StdoutError):
        silence_stdout()
        with contextlib.suppress(OSError, StdoutError):
            checked.detach()


def write_bytes(data: bytes) -> None:
    """Write to stdout as it is; raises as everything that prints inside of `checked_stdout`."""
    sys.stdout.flush()
    with _told():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def is_stdout_closed() -> bool:
    """Whether the reader of our stdout is gone (poll(2): POLLERR on the writing end of a pipe)."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return sys.platform == "win32"


def silence_stdout() -> None:
    """Lead stdout to nowhere, so that the last flush of the interpreter does not fail."""
    try:
        target = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return  # not a file of the system: nothing to redirect
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, target)
    os.close(null)
