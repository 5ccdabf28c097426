"""kill -9 of a server at random moments, with a restart after each: what must hold for every kind of database."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.testbed.cli import Hs


def kill_rounds(hs: Hs, name: str) -> None:
    """``HS_TEST_KILL_ROUNDS`` kills (20): every task has one final state and ran at least once.

    `name` of the database is for the messages; the seed, which they show, is ``HS_TEST_SEED``.
    """
    count = 1500
    seed = int(os.environ.get("HS_TEST_SEED", time.time_ns() % 10**6))
    where = f"{name}, seed {seed}"
    draw = random.Random(seed)
    kills, batch = 0, 0
    while kills < int(os.environ.get("HS_TEST_KILL_ROUNDS", "20")):
        file = f"tasks{batch}.in"
        if not Path(hs.folder, file).exists():
            hs.file([f"echo {batch}.{n} >> ran" for n in range(count)], file)
        # The same task may run at several of so many deaths: it is not the cause of them.
        process = hs.start("cluster", file, "--restart", "-N2", "--poison", "0")
        try:
            process.wait(draw.uniform(0.05, 1.6))
            batch += 1
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        _, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), (where, err)
    files = sorted(path.name for path in hs.folder.glob("tasks*.in"))
    for file in files:
        done = hs.run("cluster", file, "--restart", "-N2", "--poison", "0", timeout=120)
        assert done.status == 0, (where, done.err)
    total = count * len(files)
    assert hs.states() == {"succeeded": total}, where
    assert hs.rows("SELECT count(DISTINCT args), max(attempt) FROM task") == [(total, 1)], where
    ran = Counter(Path(hs.folder, "ran").read_text().split())
    assert set(ran) == {f"{b}.{n}" for b in range(len(files)) for n in range(count)}, where
