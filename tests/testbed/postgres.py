"""A private PostgreSQL server for tests, and ``hs`` that keeps its tasks there.

The server is a child of the test process and ends with it, whatever ends that; it listens on a socket in its own
directory only. Every place for tasks is a schema of its own, so that one server serves all tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypershell.address import Address
from tests.testbed.cli import Hs

#: Not the usual one, so that a test notices where the port is not passed on.
PORT = 54329
_PATIENCE = 60.0

_CONF = """
listen_addresses = ''
port = {port}
unix_socket_directories = '{folder}'
shared_buffers = 32MB
max_connections = 200
max_wal_size = 128MB
"""
_FAST = "fsync = off\nfull_page_writes = off\n"

#: Everybody is trusted but one user, who needs the password.
_HBA = "local all with_password scram-sha-256\nlocal all all trust\n"


def binaries() -> Path | None:
    """The directory of the programs of a server, None where none is installed."""
    candidates = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    candidates.sort(key=lambda path: float(path.parent.name.rpartition("-")[2]), reverse=True)
    known = shutil.which("postgres")
    if known is not None:
        candidates.insert(0, Path(known).resolve().parent)
    return next((path for path in candidates if (path / "initdb").exists()), None)


class Server:
    """Start it with `start`; `close` ends it and removes its files. As root it runs as user ``postgres``.

    Without `durable` it leaves out what only a power cut would need.
    """

    def __init__(self, durable: bool = False) -> None:
        found = binaries()
        assert found is not None
        self._bin = found
        self.folder = Path(tempfile.mkdtemp(prefix="hs-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._schemas = 0
        data, log = self.folder / "data", self.folder / "log"
        data.mkdir(mode=0o700)
        self._as: list[str] = []
        if os.geteuid() == 0:
            import pwd  # not on Windows

            user = pwd.getpwnam("postgres")
            for path in (self.folder, data):
                os.chown(path, user.pw_uid, user.pw_gid)
            self.folder.chmod(0o755)
            self._as = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self._log = open(log, "ab")  # noqa: SIM115  # as long as the server
        words = ["-D", str(data), "-U", "hs", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(self._command("initdb", *words), capture_output=True, text=True, cwd=self.folder)
        assert made.returncode == 0, made.stderr
        (data / "postgresql.auto.conf").write_text(
            _CONF.format(port=PORT, folder=self.folder) + ("" if durable else _FAST)
        )
        (data / "pg_hba.conf").write_text(_HBA)

    def _command(self, program: str, *args: str) -> list[str]:
        words = [*self._as, "--pdeathsig=KILL"] if program == "postgres" else self._as
        return [*(["setpriv", *words] if words else []), "env", "LC_ALL=C", str(self._bin / program), *args]

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = self._command("postgres", "-D", str(self.folder / "data"))
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, cwd=self.folder
        )
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.query("SELECT 1")
                return
            except Exception:
                said = (self.folder / "log").read_text()[-2000:]
                assert self._process.poll() is None and time.monotonic() < until, said
                time.sleep(0.02)

    def stop(self) -> None:
        """Disconnect everybody and end the server."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_PATIENCE)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_PATIENCE)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def query(self, text: str, *values: object, schema: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of a statement, which is committed; none where it gives none."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=PORT, user="hs", dbname="postgres", autocommit=True, connect_timeout=30
        ) as link:
            if schema is not None:
                link.execute(f'SET search_path TO "{schema}"')
            cursor = link.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []

    def role(self, name: str, password: str | None = None, words: str = "") -> None:
        """Make a user, or give the one of an earlier test this password and these `words`."""
        if not self.query("SELECT 1 FROM pg_roles WHERE rolname = %s", name):
            self.query(f"CREATE ROLE {name}")
        secret = "" if password is None else f"PASSWORD '{password}'"
        self.query(f"ALTER ROLE {name} LOGIN {words} {secret}")

    def new_schema(self) -> str:
        """The name of a schema that is not there yet."""
        self._schemas += 1
        return f"s{self._schemas}"

    def address(self, **changes: Any) -> Address:
        """The database, in a schema of its own unless `changes` say another."""
        words = {"host": str(self.folder), "port": PORT, "user": "hs", "database": "postgres"}
        return Address(**{**words, "schema": self.new_schema(), **changes})


class PostgresHs(Hs):
    """``hs`` whose configuration names a database on `server`, in a schema of its own."""

    def __init__(self, folder: Path, server: Server) -> None:
        super().__init__(folder)
        self.server = server
        self.address = server.address()

    def environ(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        words = {
            "PROVIDER": "postgres",
            "HOST": self.address.host,
            "PORT": str(self.address.port),
            "USER": self.address.user,
            "DATABASE": self.address.database,
            "SCHEMA": self.address.schema,
        }
        ours = {f"HYPERSHELL_DATABASE_{name}": value or "" for name, value in words.items()}
        return super().environ({**ours, **(extra or {})})

    def rows(self, query: str, *values: object, db: Path | None = None) -> list[tuple[Any, ...]]:
        return self.server.query(query, *values, schema=self.address.schema)
