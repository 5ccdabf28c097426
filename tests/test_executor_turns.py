"""Short turns: asked for where the kernel knows them, and no task inherits anything of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

SCRIPT = """
import os
from hypershell.executor.turns import take_short_turns
os.nice({nice})
agreed = take_short_turns()
nice = os.getpriority(os.PRIO_PROCESS, 0)
policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK if hasattr(os, "sched_getscheduler") else 0
child = os.posix_spawn(
    "/bin/sh", ["sh", "-c", "exec nice"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 1, 1)]
)
os.waitpid(child, 0)
print(agreed in (True, False), nice, policy)
"""


def run(nice: int) -> list[str]:
    script = textwrap.dedent(SCRIPT).format(nice=nice)
    return subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()


def test_priority_stays_and_is_passed_on() -> None:
    for nice in (0, 5):
        inherited, told = run(nice)
        assert int(inherited) == int(told.split()[1])
        assert told.split()[0] == "True" and told.split()[2] == "0"
