"""``posix_spawn`` without the interpreter lock, and with what all tasks share prepared once.

``os.posix_spawn`` keeps the lock until the new program has been loaded: half of a short task's life, in which no
other thread of the process runs. Called by ``executor.spawn``, which goes on with ``os.posix_spawn`` wherever this
one cannot be had or does not succeed; so nothing here explains a failure.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Unlocked", "unlocked"]

# <spawn.h> of Linux (glibc and musl); other systems give them other values.
_SETPGROUP, _SETSIGDEF, _SETSIGMASK = 2, 4, 8

#: Bytes for an object that only the C library looks into; the largest, posix_spawnattr_t of glibc, has 336.
_OPAQUE = 1024

#: Variables of one task that fit behind the shared ones.
_SPARE = 64

#: Prepared things that are kept of each kind.
_KEPT = 256

#: The shared variables as an array for execve(2), the place of each, and how many they are.
_Prepared = tuple[Any, dict[bytes, int], list[bytes], Mapping[bytes, bytes]]


def unlocked(null: int, signals: Sequence[int]) -> Unlocked | None:
    """The functions of the C library, or None where they are not as they are known to be.

    :param null: descriptor that becomes the stdin of every process.
    :param signals: what a process must not inherit as ignored.
    """
    if sys.platform != "linux":
        return None
    try:
        return Unlocked(ctypes.CDLL(None, use_errno=True), null, signals)
    except (AttributeError, OSError, MemoryError):
        return None


class Unlocked:
    """Starts processes; for one thread.

    :param libc: the C library as ``ctypes`` sees it.
    """

    def __init__(self, libc: ctypes.CDLL, null: int, signals: Sequence[int]) -> None:
        self._libc = libc
        self._null = null
        self._spawn = libc.posix_spawn
        self._spawn.argtypes = [ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_void_p] * 4]
        self._dup2 = libc.posix_spawn_file_actions_adddup2
        self._destroy = libc.posix_spawn_file_actions_destroy
        self._begin = libc.posix_spawn_file_actions_init
        self._chdir: Callable[..., int] | None = getattr(libc, "posix_spawn_file_actions_addchdir_np", None)
        self._pid = ctypes.c_int()
        self._pid_at = ctypes.addressof(self._pid)
        self._attributes = _opaque()
        self._describe(signals)
        self._actions: dict[tuple[int, int, str | None], Any] = {}
        self._environs: dict[int, _Prepared] = {}

    def _describe(self, signals: Sequence[int]) -> None:
        """All processes: a group of their own, no signal blocked, none of `signals` ignored."""
        libc = self._libc
        defaults, none = _opaque(), _opaque()
        _check(libc.sigemptyset(defaults))
        _check(libc.sigemptyset(none))
        for number in signals:
            _check(libc.sigaddset(defaults, number))
        at = self._attributes
        _check(libc.posix_spawnattr_init(at))
        _check(libc.posix_spawnattr_setflags(at, ctypes.c_short(_SETPGROUP | _SETSIGDEF | _SETSIGMASK)))
        _check(libc.posix_spawnattr_setsigdefault(at, defaults))
        _check(libc.posix_spawnattr_setsigmask(at, none))
        _check(libc.posix_spawnattr_setpgroup(at, 0))

    @property
    def enters(self) -> bool:
        """Whether a process can be started in another directory."""
        return self._chdir is not None

    def start(
        self,
        program: bytes,
        argv: Sequence[bytes],
        shared: Mapping[bytes, bytes],
        own: Mapping[bytes, bytes],
        out: int,
        err: int,
        cwd: str | None,
    ) -> int | None:
        """The id of the new process, or None where there is none.

        :param shared: variables of many processes; not changed between two calls.
        :param own: variables of this one; they go before `shared`.
        :param out, err: descriptors for stdout and stderr.
        :param cwd: where it runs, None for our own working directory.
        """
        actions = self._actions.get((out, err, cwd))
        if actions is None:
            actions = self._make_actions(out, err, cwd)
            if actions is None:
                return None
        words = (ctypes.c_char_p * (len(argv) + 1))(*argv)
        prepared = self._environs.get(id(shared))
        if prepared is None:
            prepared = self._prepare(shared)
        variables, places, texts, _ = prepared
        if len(own) > _SPARE:
            return None
        end = len(texts)
        changed = []
        for name, value in own.items():
            place = places.get(name)
            if place is None:
                place = end
                end += 1
            else:
                changed.append(place)
            variables[place] = b"%b=%b" % (name, value)
        variables[end] = None
        failed = self._spawn(self._pid_at, program, actions, self._attributes, words, variables)
        for place in changed:
            variables[place] = texts[place]
        return None if failed else self._pid.value

    def _prepare(self, shared: Mapping[bytes, bytes]) -> _Prepared:
        if len(self._environs) >= _KEPT:
            self._environs.clear()
        texts = [b"%b=%b" % item for item in shared.items()]
        variables = (ctypes.c_char_p * (len(texts) + _SPARE + 1))(*texts)
        # Kept with what it was made from: no other mapping can then have the same id.
        made = (variables, {name: place for place, name in enumerate(shared)}, texts, shared)
        self._environs[id(shared)] = made
        return made

    def _make_actions(self, out: int, err: int, cwd: str | None) -> Any:
        """What is done between vfork and exec; kept, for the kernel gives the same descriptors again and again."""
        if len(self._actions) >= _KEPT:
            self.forget()
        made = _opaque()
        if self._begin(made):
            return None
        failed = self._dup2(made, self._null, 0) or self._dup2(made, out, 1) or self._dup2(made, err, 2)
        if cwd is not None and not failed:
            failed = "\0" in cwd or self._chdir is None or self._chdir(made, os.fsencode(cwd))
        if failed:
            self._destroy(made)
            return None
        self._actions[out, err, cwd] = made
        return made

    def forget(self) -> None:
        """Give back what is kept."""
        for made in self._actions.values():
            self._destroy(made)
        self._actions.clear()


def _opaque() -> Any:
    return ctypes.create_string_buffer(_OPAQUE)


def _check(failed: int) -> None:
    if failed:
        raise OSError(failed, "the C library refused")
