"""The boundary between what a peer says and the server: what nobody foresaw there ends that peer's part alone.

Messages are checked where they are decoded (``proto``); this is for what slips through. An error of what the server
itself does is none of a peer's, and is not caught: its state would be unknown. Used by ``loop`` and ``visits``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hypershell.transport import Lost

__all__ = ["Boundary"]

log = logging.getLogger("hypershell.server")


class Boundary:
    """`drop` gives a peer up, with the reason; `is_ours` tells errors that are not caught."""

    def __init__(
        self, drop: Callable[[int, str], None], is_ours: Callable[[Exception], bool] | None = None
    ) -> None:
        self._drop = drop
        self._also_ours = is_ours
        self._dropped: set[int] = set()
        """Peers that are not heard any more, until their loss is told."""
        self._ours: Exception | None = None

    def ours(self, error: Exception) -> None:
        """Mark an error as one of ours."""
        self._ours = error

    def is_ours(self, error: Exception) -> bool:
        """Whether an error is one of what we do, and not of taking in what a peer said."""
        mine = error is self._ours or isinstance(error, MemoryError)
        return mine or (self._also_ours is not None and self._also_ours(error))

    def hear(self, peer: int, message: Any, take: Callable[[int, Any], None]) -> None:
        """Have `take` take in a message of `peer`."""
        if peer in self._dropped:
            if not isinstance(message, Lost):
                return
            self._dropped.discard(peer)
        try:
            take(peer, message)
        except Exception as error:
            if self.is_ours(error):
                raise
            name = type(message).__name__
            log.exception("Unexpected error with a message of peer %s (%s): it is given up", peer, name)
            self._dropped.add(peer)
            self._drop(peer, f"unexpected {type(error).__name__} with its {name}")
