"""What a process has too little of: file descriptors, memory, threads; and descriptors that are kept for later.

Knows how the system says it and which limit is behind it. Quick to import: a start that fails is told by it too.
"""

from __future__ import annotations

import errno
import os
from types import ModuleType

resource: ModuleType | None
try:
    import resource  # at once: it is a file, and cannot be opened when the last descriptor is gone
except ImportError:  # Windows has no limits of this kind
    resource = None

__all__ = ["FULL", "Spare", "descriptor_limit", "file_limit", "lack", "limit_behind", "reason", "shortage"]

#: The disk, the user's part of it, or the size that a file may have: a writer can wait for room.
FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))

_SHARED_OBJECT = "cannot open shared object file"


def descriptor_limit() -> int | None:
    """How many descriptors this process may have open; None where there is no limit."""
    return _limit("RLIMIT_NOFILE")


def file_limit() -> int | None:
    """How many bytes a file of this process may have; None where there is no limit."""
    return _limit("RLIMIT_FSIZE")


def _limit(name: str) -> int | None:
    if resource is None:
        return None
    soft = resource.getrlimit(getattr(resource, name))[0]
    return None if soft == resource.RLIM_INFINITY else int(soft)


def limit_behind(error: BaseException) -> str | None:
    """The limit that an error of the system, or the one it was made of, comes from; None where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno == errno.EMFILE:
            return f"ulimit -n is {descriptor_limit()}"
        if isinstance(seen, OSError) and seen.errno == getattr(errno, "EFBIG", None) and (size := file_limit()):
            return f"ulimit -f allows {size} bytes"
        seen = seen.__cause__ or seen.__context__
    return None


def reason(error: OSError) -> str:
    """What the system says, with the limit behind it."""
    text = error.strerror or str(error) or type(error).__name__
    limit = limit_behind(error)
    return text if limit is None else f"{text} ({limit})"


def lack(error: BaseException) -> str | None:
    """What there was too little of, in words that name the limit; None where `error` has another reason."""
    seen: BaseException | None = error
    while seen is not None:
        if found := _lack(seen):
            return found
        seen = seen.__cause__
    return None


def _lack(error: BaseException) -> str | None:
    if isinstance(error, MemoryError) or (isinstance(error, SystemError) and "without" in str(error)):
        return _no_memory()  # modules in C that get no memory may fail without setting an exception
    if isinstance(error, OSError):
        return _of_number(error)
    if isinstance(error, ImportError):
        # dlopen(3) has words only; other shared objects are told of in the same way, but with other reasons.
        text = str(error)
        if _SHARED_OBJECT in text and os.strerror(errno.EMFILE) in text:
            return f"cannot load {text.partition(':')[0]}: {_no_descriptor()}"
        return _no_memory() if "failed to map segment" in text or "cannot allocate memory" in text.lower() else None
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "no thread can be started: raise the limits on processes (ulimit -u) or memory (ulimit -v)"
    return None


def _of_number(error: OSError) -> str | None:
    what = f"cannot open {os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    if error.errno == errno.EMFILE:
        return f"{what}{_no_descriptor()}"
    if error.errno == errno.ENFILE:
        return f"{what}this machine has no file descriptor left: end other programs, or have fs.file-max raised"
    return f"{what}{_no_memory()}" if error.errno == errno.ENOMEM else None


def _no_descriptor() -> str:
    limit = descriptor_limit()
    return f"no file descriptor is left (ulimit -n is {limit}): raise the limit"


def _no_memory() -> str:
    limit = _limit("RLIMIT_AS")
    if limit is None:
        return "no memory is left: end other programs, or use a machine with more of it"
    return f"no memory is left (ulimit -v is {limit // 1024}): raise the limit"


def shortage(count: int) -> OSError | None:
    """What the system says where fewer than `count` further descriptors can be opened."""
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(_open_nothing())
    except OSError as error:
        return OSError(error.errno, error.strerror)  # without a name: what is missing has none
    finally:
        for fd in opened:
            os.close(fd)
    return None


def _open_nothing() -> int:
    return os.open(os.devnull, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))


class Spare:
    """Descriptors kept for what must be opened when no other is left; on ``/dev/null`` until then.

    Keeps as many of `count` as there are: a process that has none to spare goes on without. Owned by one thread.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[int] = []
        self.keep()

    def __len__(self) -> int:
        """How many are kept now."""
        return len(self._held)

    def keep(self) -> None:
        """Take what is missing of them, as far as there are any."""
        try:
            while len(self._held) < self._count:
                self._held.append(_open_nothing())
        except OSError:
            pass

    def give(self) -> None:
        """Close them, so that something else can be opened."""
        while self._held:
            os.close(self._held.pop())
