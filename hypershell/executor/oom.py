"""Which process the kernel ends when memory is short: a task, and not the client that started it.

A process has the ``oom_score_adj`` of the one that starts it (proc(5)). So ours is raised while a task begins, and
put back behind it: two writes to a file that stays open, for the child needs it from its first instruction on. Back
to a value that one had is allowed to everybody. Called by ``executor.spawn``.
"""

from __future__ import annotations

import os
import sys

__all__ = ["Preference"]

#: What tasks have more than we: as much as half of the memory would count.
MORE = 500
_MOST = 1000


class Preference:
    """Both values, ready to be written; where they cannot be, nothing is done.

    :param path: the file of this process.
    """

    def __init__(self, path: str = "/proc/self/oom_score_adj") -> None:
        self._fd = -1
        self._ours = self._theirs = b""
        if sys.platform != "linux":
            return
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._ours = os.pread(self._fd, 16, 0).strip()
            self._theirs = b"%d" % min(int(self._ours) + MORE, _MOST)
            os.pwrite(self._fd, self._ours, 0)  # whether it can be written at all
        except (OSError, ValueError):
            self.close()

    def of_task(self) -> None:
        """From now on what starts is a task."""
        if self._fd >= 0:
            try:
                os.pwrite(self._fd, self._theirs, 0)
            except OSError:
                self.close()

    def of_client(self) -> None:
        """We are as we were."""
        if self._fd >= 0:
            os.pwrite(self._fd, self._ours, 0)

    def close(self) -> None:
        """Give back the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
