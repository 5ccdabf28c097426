"""The files that a run writes for its user (``-o``, ``-e``, ``-f``): what is in them is never destroyed.

`Target.claim` makes sure, before anything runs, that a file can be written and that no living run writes it; it
changes nothing. `Target.open` opens it once the database is ours: behind what is there where a submission goes on;
else what is there is renamed first (docs/decisions/0016).
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from enum import Enum

from hypershell.errors import HyperShellError
from hypershell.making import NO_LINK, set_mode
from hypershell.server import locks
from hypershell.trust import followed

__all__ = ["Opening", "OutputError", "Outputs", "Target", "is_same_file"]

log = logging.getLogger("hypershell.server")

_WRITE = os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | NO_LINK

#: Names of descriptors that we have already: to open them anew would write from the beginning of their file.
_DESCRIPTOR = re.compile(r"/dev/(?:fd/(\d+)|(stdout)|(stderr))|/proc/self/fd/(\d+)")


class OutputError(HyperShellError):
    """The file for output cannot be opened or written."""


class Opening(Enum):
    """What becomes of what is in a regular file already."""

    ASIDE = "aside"
    """It is kept under another name, and the file begins anew."""
    APPEND = "append"
    """It stays, and more is written behind it, on a line of its own."""
    ANEW = "anew"
    """It goes: whoever asks for this is about to write all of it again."""


class Target:
    """One file; ``-`` is stdout. FIFOs, devices and descriptors (``/dev/stdout``) are written as they are.

    :param what: is written there, for messages.
    """

    def __init__(self, path: str, what: str = "output") -> None:
        self.path = path
        self._what = what
        self._file = os.path.realpath(path)  # a link stays one, and what it leads to is kept aside
        self._fd: int | None = None
        self._is_regular = True

    def claim(self, how: Opening) -> None:
        """Make sure that it can be opened so, and keep others from it. Raises ``OutputError``."""
        try:
            if self.path.endswith("/"):  # realpath drops it, and a file would be made
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            number = _descriptor(self.path)
            if number is not None:
                self._fd, self._is_regular = os.dup(number), False
                return
            self._file = followed(self.path)
            if not os.path.exists(self._file):
                self._check_folder()
            elif not stat.S_ISREG(os.stat(self._file).st_mode):
                self._fd, self._is_regular = os.open(self._file, _WRITE & ~os.O_APPEND), False
            else:
                self._fd = self._locked(_WRITE)
                if how is Opening.ASIDE and os.fstat(self._fd).st_size:
                    self._check_folder("renamed")
                if not locks.ARE_THERE:
                    self.close()  # Windows renames no file that is open
        except OSError as error:
            raise self._error(error) from None

    def open(self, how: Opening) -> int:
        """Open it, and give its descriptor. Raises ``OutputError``, also where somebody else has it by now."""
        try:
            if not self._is_regular and self._fd is not None:
                return self._fd
            if self._fd is not None and not locks.is_at(self._fd, self._file):
                self.close()  # renamed or removed meanwhile
            if self._fd is None:
                self._fd = self._locked(_WRITE | os.O_CREAT)
            if how is Opening.ANEW:
                os.ftruncate(self._fd, 0)
            elif how is Opening.ASIDE and os.fstat(self._fd).st_size:
                self._keep_aside()
            elif self._is_torn():
                os.write(self._fd, b"\n")
            return self._fd
        except OSError as error:
            raise self._error(error) from None

    def close(self) -> None:
        """Close it, which lets others have it; idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _locked(self, flags: int) -> int:
        """The file, locked, and still at its path then: whoever had the lock may just have renamed it."""
        while True:
            fd = os.open(self._file, flags, 0o666)
            try:
                if not locks.take(fd):
                    who = locks.holder(fd)
                    raise OutputError(
                        f"{self.path} is being written by {who}: wait for its end, or name another file"
                    )
                if locks.is_at(fd, self._file):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _keep_aside(self) -> None:
        """Rename what is there to the first free of ``NAME.1``, ``NAME.2``, ...; begin anew; always locked."""
        try:
            aside = _free_name(self._file)
        except OSError as error:
            raise OutputError(
                f"cannot write {self._what} to {self.path}: it has content, and no name to keep that aside can be "
                f"made ({error.strerror}): move it away"
            ) from None
        old, mode = self._fd, stat.S_IMODE(os.stat(self._file).st_mode)
        try:
            if not locks.ARE_THERE:
                self.close()
            os.replace(self._file, aside)
        except OSError:
            os.unlink(aside)
            raise
        self._fd = self._locked(_WRITE | os.O_CREAT)
        if locks.ARE_THERE and old is not None:
            os.close(old)
        set_mode(self._file, mode)
        shown = aside if os.path.islink(self.path) else self.path + aside[len(self._file) :]
        log.warning("%s was there before this run: it is kept as %s", self.path, shown)

    def _is_torn(self) -> bool:
        """Whether the last line has no end, since a run was killed; where we may not read it is taken for whole."""
        try:
            with open(self._file, "rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # an empty file has no last byte
            return False

    def _check_folder(self, done: str = "made") -> None:
        """Files can be made and renamed in it; `done` is what this one would have to be."""
        folder = os.path.dirname(self._file)
        os.stat(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {self._what} to {self.path}: no file can be {done} in {folder}")

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._what} to {self.path}: {error.strerror}")


def _descriptor(path: str) -> int | None:
    """The descriptor of ours that `path` names, if it does."""
    if path == "-":
        return 1
    found = _DESCRIPTOR.fullmatch(path)
    if found is None:
        return None
    number, out, err, other = found.groups()
    return 1 if out else 2 if err else int(number or other or 0)


def _free_name(path: str) -> str:
    """A name beside `path` that nobody has. An empty file keeps it for us: a rename would spare no other."""
    number = 1
    while True:
        name = f"{path}.{number}"
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            number += 1
        else:
            return name


def is_same_file(one: str, other: str) -> bool:
    """Whether both are one regular file, or will be once it is made."""
    try:
        return stat.S_ISREG(os.stat(one).st_mode) and os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


class Outputs:
    """The files for what tasks print, and for the lines that failed; None of `output`, `errors`: stdout, stderr."""

    def __init__(self, output: str | None, errors: str | None, failures: str | None = None) -> None:
        self._out = None if output is None else Target(output)
        same = output is not None and errors is not None and is_same_file(output, errors)
        self._err = self._out if same else None if errors is None else Target(errors)
        self._failures = None if failures is None else Target(failures, "failures")
        self.streams = (1 if self._out is None else None, 2 if self._err is None else None)
        """Descriptors for stdout and stderr of tasks that are open at once."""

    def claim(self, how: Opening) -> None:
        """See `Target.claim`."""
        for target in self._targets():
            target.claim(how)

    def open(self, how: Opening, failures: Opening | None = None) -> tuple[int, int, int | None]:
        """Descriptors for stdout and stderr of tasks, and for failures; see `Target.open`.

        :param failures: how these are opened, where that differs.
        """
        out = 1 if self._out is None else self._out.open(how)
        err = 2 if self._err is None else out if self._err is self._out else self._err.open(how)
        return out, err, None if self._failures is None else self._failures.open(failures or how)

    def close(self) -> None:
        """Close what is open; idempotent."""
        for target in self._targets():
            target.close()

    def _targets(self) -> list[Target]:
        return [one for one in dict.fromkeys((self._out, self._err, self._failures)) if one is not None]
