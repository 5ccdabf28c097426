"""Opening the database: is the file ours, can it be written, do locks work there; and the connection.

`preflight` uses the bare driver and imports no SQLAlchemy: it runs before the first task starts. The rest is what
differs between database systems, gathered in one class per system, so that ``sql`` has one path.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypershell.data.files import ANOTHER, check_file, denied, folder_denied, no_descriptors, no_room, obstacle
from hypershell.data.owner import Sharing, own
from hypershell.data.store import Transient
from hypershell.errors import StoreError
from hypershell.ostext import from_bytes
from hypershell.room import lack

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "Sqlite", "file_system", "preflight"]

#: Marks our files in SQLite's header (``PRAGMA application_id``): the letters HSX1.
APPLICATION_ID = 0x48535831
SCHEMA_VERSION = 1

#: Oldest SQLite with UPDATE ... FROM.
_OLDEST = (3, 33, 0)

#: Seconds that one statement waits for a lock; the writer tries again on top of this.
_BUSY = 2.0
#: Seconds that opening waits for a lock.
_BUSY_OPEN = 5.0

#: Types of file systems whose memory is not shared between hosts: no write-ahead log there.
_NETWORK = (
    *("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "fuse.", "9p", "afs"),
    *("panfs", "ceph", "glusterfs", "pvfs"),
)

#: Result codes of SQLite that may pass: busy, locked, out of memory, I/O error, full, cannot open, lock protocol.
_PASSING = frozenset({5, 6, 7, 10, 13, 14, 15})


def file_system(path: Path) -> str:
    """The type of the file system that holds `path` as proc_mounts(5) names it; empty where that is unknown."""
    try:
        lines = from_bytes(Path("/proc/self/mounts").read_bytes()).splitlines()
    except OSError as error:
        if lack(error):  # not known is not local: a write-ahead log on a network file system loses data
            raise
        return ""
    target = os.path.realpath(path)
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        # A later line covers an earlier one on the same place.
        if inside and len(mount) >= best:
            best, kind = len(mount), fields[2]
    return kind


def on_network(path: Path) -> bool:
    """Whether `path` lies on a file system that other hosts may write at the same time."""
    kind = file_system(path)
    return kind.startswith(_NETWORK)


def preflight(path: Path, sharing: Sharing | None = None) -> None:
    """Make sure that the database `path` can be made or used; makes an empty file where there is none.

    :param sharing: whose it may be and who may read it (`owner.own`); None: that is not looked at.

    Raises:
        StoreError: with the path, what is wrong and the way out.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} of this Python is too old (3.33 is needed): use another Python, "
            "or --no-db"
        )
    _check_folder(path)
    own(path, sharing)
    with closing(_connect(path, _BUSY_OPEN)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            check_schema(connection, path)
            if on_network(path):
                _probe_locks(connection, path)
        except sqlite3.Error as error:
            raise explain(error, path) from error


def _check_folder(path: Path) -> None:
    folder = path.parent
    way_out = f"{ANOTHER}, or use --no-db"
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise StoreError(f"database {path}: folder {folder}: {error.strerror}; make it, {way_out}") from error
    # SQLite follows symbolic links, also to a file that is to be made in a folder that is there.
    real = Path(os.path.realpath(path))
    if os.path.lexists(real) or not os.path.isdir(real.parent):
        check_file(path, way_out)
        reason = denied(real, os.R_OK | os.W_OK) or folder_denied(real)
    else:
        reason = denied(real.parent, os.W_OK | os.X_OK)
        reason = reason and f"folder {real.parent}: {reason}"
    if reason:
        raise StoreError(f"database {path} is not writable: {reason}; {way_out}")


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, timeout=timeout, isolation_level=None, cached_statements=256)
    except sqlite3.Error as error:
        raise explain(error, path) from error


def check_schema(connection: sqlite3.Connection, path: Path) -> bool:
    """True for a database of our version, False for an empty one; StoreError for any other."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application == APPLICATION_ID:
        if version == SCHEMA_VERSION:
            return True
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"database {path} was made by a newer version (schema {version}, here {SCHEMA_VERSION}): update "
                "hypershell, or name another file with --db PATH"
            )
        raise StoreError(
            f"database {path} has the older schema {version}: run 'hs initdb --upgrade', which keeps a backup, or "
            "name another file with --db PATH"
        )
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return False
    if is_hypershell(connection):
        raise StoreError(
            f"database {path} was made by HyperShell: run 'hs initdb --upgrade', which keeps a backup, or name "
            "another file with --db PATH"
        )
    raise StoreError(f"database {path} belongs to another program: name another file with --db PATH")


def is_hypershell(connection: sqlite3.Connection) -> bool:
    """Whether the tables are those of HyperShell 2."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(task)")}
    return {"id", "args", "schedule_time", "exit_status", "attempt"} <= columns and "execution" not in columns


def _probe_locks(first: sqlite3.Connection, path: Path) -> None:
    """Two connections must not both get the write lock."""
    first.execute("BEGIN IMMEDIATE")
    try:
        with closing(_connect(path, 0.0)) as second:
            try:
                second.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                    return
                raise
        raise StoreError(
            f"database {path}: file locks do not work on this file system ({file_system(path)}): name a file on a "
            "local disk with --db PATH, or mount it with locks"
        )
    finally:
        first.execute("ROLLBACK")


def explain(error: BaseException, path: Path) -> StoreError:
    """The error of the driver as ours: ``Transient`` where trying again may help."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    texts = {
        sqlite3.SQLITE_BUSY: f"is locked by another process; end that one, or {ANOTHER}",
        sqlite3.SQLITE_NOTADB: f"is no SQLite database; {ANOTHER}",
        sqlite3.SQLITE_CORRUPT: f"is damaged; restore a backup, or {ANOTHER}",
        sqlite3.SQLITE_PROTOCOL: "cannot be locked on this file system; name a file on a local disk with --db PATH",
    }
    text = texts.get(primary or -1) or _explain_file(primary, path) or f"failed: {error}"
    kind = Transient if primary in _PASSING else StoreError
    return kind(f"database {path} {text}")


def _explain_file(primary: int | None, path: Path) -> str | None:
    """A text with the reason that the system has and SQLite does not tell; None for another result code."""
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and (reason := no_descriptors()):
        return f"cannot be opened: {reason}"
    if primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL) and (text := no_room(path)):
        return text
    if primary == sqlite3.SQLITE_FULL:
        return f"cannot grow: the disk is full; make room, or {ANOTHER}"
    if primary == sqlite3.SQLITE_IOERR:
        return "cannot be read or written (I/O error); check the disk and its quota"
    does = {sqlite3.SQLITE_READONLY: "written", sqlite3.SQLITE_CANTOPEN: "opened"}.get(primary or -1)
    if does is None:
        return None
    reason = obstacle(path, is_writing=does == "written")
    return f"cannot be {does}{': ' if reason else ''}{reason or ''}; {ANOTHER}"


class Sqlite:
    """What is special about SQLite."""

    #: What the driver and SQLAlchemy raise.
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: Path, journal: str | None = None) -> None:
        self.path = path
        self._journal_mode = journal
        self._version: int | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def file(self) -> Path | None:
        """The file, beside which partitions are."""
        return self.path

    def engine(self) -> Engine:
        """An engine whose connections have our settings, and whose transactions take the write lock at once."""
        from sqlalchemy import create_engine, event
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        self.errors = (sqlite3.Error, SQLAlchemyError)
        engine = create_engine("sqlite://", creator=self._creator, poolclass=NullPool)

        def begin(connection: Connection) -> None:
            # The driver begins nothing by itself (isolation_level None). Reads need no lock.
            reading = connection.get_execution_options().get("reading", False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

        event.listen(engine, "begin", begin)
        return engine

    def _creator(self) -> sqlite3.Connection:
        connection = _connect(self.path, _BUSY)
        # A file may hold any bytes as text; those that are not UTF-8 are seen where rows are checked.
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        # Fewer splits while rows grow; it takes effect only as long as the file is empty.
        connection.execute("PRAGMA page_size=8192")
        network = on_network(self.path)
        self._set_journal(connection, self._journal_mode or ("DELETE" if network else "WAL"))
        for pragma in ("synchronous=FULL", "cache_size=-8192", "temp_store=MEMORY", "foreign_keys=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        if not network:
            connection.execute("PRAGMA wal_autocheckpoint=4000")
            connection.execute("PRAGMA journal_size_limit=67108864")
        return connection

    def _set_journal(self, connection: sqlite3.Connection, mode: str) -> None:
        """Set the journal mode; changing it needs a moment without other users, which SQLite does not wait for."""
        until = time.monotonic() + _BUSY_OPEN
        while True:
            try:
                connection.execute(f"PRAGMA journal_mode={mode}")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.02)

    def create(self, connection: Connection, create: bool) -> bool:
        """Make the tables in an empty database, in the transaction of `connection`; False where they are."""
        from hypershell.data.additions import ensure
        from hypershell.data.schema import meta, metadata

        raw: Any = connection.connection.dbapi_connection
        if check_schema(raw, self.path):
            ensure(connection)
            return False
        if not create:
            raise StoreError(f"database {self.path} has no tables: run 'hs initdb'")
        metadata.create_all(connection, checkfirst=False)
        connection.execute(meta.insert(), [{"key": "schema", "value": str(SCHEMA_VERSION)}])
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
        return True

    def explain(self, error: BaseException) -> StoreError:
        """Our error for one of the driver or of SQLAlchemy."""
        return explain(getattr(error, "orig", None) or error, self.path)

    def changed(self, connection: Connection) -> bool:
        """Whether another connection wrote since the last call (``PRAGMA data_version``)."""
        version = self.version(connection)
        before, self._version = self._version, version
        return before is not None and before != version

    def version(self, connection: Connection) -> int:
        """A number that differs after another connection wrote."""
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def check_place(self) -> None:
        """Make sure that the file is still the one that was opened: writes into a removed file would be lost."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            if lack(error):
                raise
            raise StoreError(f"database {self.path} was removed while in use: run again with --restart") from error
        identity = (status.st_dev, status.st_ino)
        if self._identity is None:
            self._identity = identity
        elif self._identity != identity:
            raise StoreError(f"database {self.path} was replaced while in use: run again with --restart")
