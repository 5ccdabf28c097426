"""``hs`` that notes what is imported, listed or opened once its database is ready: ``audited.py FILE WORDS``.

Each is a line of FILE: thread, event, and what it is about. The database thread must open nothing late, for there
may be no descriptor left.
"""

from __future__ import annotations

import os
import sys
import threading

from hypershell.data.notices import Notice, Ready
from hypershell.data.writer import Writer

#: Events of Python (https://docs.python.org/3/library/audit_events.html) that need a descriptor.
OPENING = ("open", "import", "os.listdir", "os.scandir", "sqlite3.connect", "socket.getaddrinfo",
           "ctypes.dlopen", "subprocess.Popen", "os.posix_spawn", "tempfile.mkstemp")  # fmt: skip


def audit(log: int) -> None:
    """Write such events to the descriptor `log` from the first ``Ready`` on."""
    noted = threading.Event()
    post = Writer._post

    def posting(self: Writer, notice: Notice) -> None:
        if isinstance(notice, Ready):
            noted.set()
        post(self, notice)

    def note(event: str, args: tuple[object, ...]) -> None:
        # The door opens /dev/null to see whether there is room for a connection.
        if event in OPENING and noted.is_set() and args[0] != os.devnull:
            os.write(log, f"{threading.current_thread().name}\t{event}\t{args[0]}\n".encode())

    Writer._post = posting  # type: ignore[method-assign]
    sys.addaudithook(note)


if __name__ == "__main__":
    from hypershell.__main__ import main

    audit(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC))
    sys.exit(main(sys.argv[2:]))
