"""Doing a step on the database again while its failure may pass. Used by the writer and by ``submit``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from hypershell.data.store import Transient
from hypershell.errors import StoreError

__all__ = ["Patience"]

T = TypeVar("T")


class Patience(Struct, frozen=True):
    """All in seconds: when to give up, when to tell the user, and the longest pause between two tries."""

    give_up: float = 300.0
    tell_after: float = 2.0
    pause: float = 1.0

    def persist(
        self,
        step: Callable[[], T],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        is_full: Callable[[], bool] = lambda: False,
    ) -> tuple[T, bool]:
        """The result of `step`, and whether `tell` was called with a line about the waiting.

        It is done at least twice; nothing is waited for any longer where `is_full` says that too much is kept
        meanwhile.

        Raises:
            StoreError: for a failure that does not pass.
        """
        delay, since, told, tries = 0.02, clock(), False, 0
        while True:
            try:
                return step(), told
            except Transient as error:
                waited = clock() - since
                tries += 1
                if (waited >= self.give_up and tries > 1) or is_full():
                    raise StoreError(f"{error} (gave up after {waited:.0f} s)") from error
                if not told and waited >= self.tell_after:
                    told = True
                    tell(f"{error}; trying again for up to {self.give_up:.0f} s")
                time.sleep(delay)
                delay = min(delay * 2, self.pause)
