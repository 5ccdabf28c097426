"""Run ``hs`` as a user would, in a site of its own, and look into its database afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed.mpi import ROOT


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


class Hs:
    """``hs`` with its own site directory under `folder`, which is also the current directory of commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"
        self.db = self.site / "lib" / "main.db"

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HYPERSHELL")}
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**clean, "PYTHONPATH": path, "HYPERSHELL_SITE": str(self.site), **(extra or {})}

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "hypershell", *args]

    def start(self, *args: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(self.command(*args), cwd=self.folder, env=self.environ(env), **options)

    def run(
        self,
        *args: str,
        input: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Done:
        """Run to the end; output is decoded with surrogate escapes."""
        data = input.encode() if isinstance(input, str) else input
        process = self.start(*args, env=env, stdin=subprocess.DEVNULL if data is None else subprocess.PIPE)
        try:
            out, err = process.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"hs {args} did not end in {timeout} s; stderr: {err!r}") from None
        return Done(process.returncode, _text(out), _text(err))

    def file(self, lines: Sequence[str] | bytes, name: str = "tasks.in") -> str:
        """Write a task file and give its name."""
        data = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()
        (self.folder / name).write_bytes(data)
        return name

    def rows(self, query: str, *values: object, db: Path | None = None) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(db or self.db)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def states(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return dict(self.rows("SELECT state, count(*) FROM task GROUP BY state"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
