"""What is special about PostgreSQL: connecting, whose tables those are, and hearing of the changes of others.

The same surface as ``engine.Sqlite``. Only who uses a server imports this; psycopg and SQLAlchemy's dialect are
loaded when a connection is wanted. Why READ COMMITTED is enough is in ``docs/decisions/0011-postgresql.md``.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from hypershell.address import Address
from hypershell.data.engine import APPLICATION_ID, SCHEMA_VERSION
from hypershell.data.store import Transient
from hypershell.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection as Raw
    from sqlalchemy import Connection, Engine

__all__ = ["Postgres"]

#: What table ``meta`` says of all tables; it has rows about single runs too (``formerly``).
_MARKS = "SELECT key::text, value::text FROM meta WHERE key IN ('schema', 'application')"

#: Marks our tables: the value of ``application`` in table ``meta``.
_OURS = "hypershell-mpi"

#: Oldest server that has all that the statements use.
_OLDEST = 120000

#: Seconds; what the user says in the URL goes before. A vanished peer is noticed within about a minute.
_CONNECT = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

#: Of every session: a client that vanished or hangs inside a transaction must not hold its locks for ever, since a
#: takeover waits for them; and nothing waits for a lock without saying so.
_SESSION = {
    "lock_timeout": "30s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
}

#: Classes and codes of SQLSTATE that may pass: connection, rollback (deadlock), resources, operator, system; lock
#: timeout, a transaction that was idle for too long, a server that is read-only for now.
_PASSING = ("08", "40", "53", "57", "58", "55P03", "25P03", "25006")
#: But not: the database was dropped.
_FINAL = ("57P04",)

_ANOTHER = "name another one with database.schema or database.url"


class Postgres:
    """A database on a PostgreSQL server, used by one thread."""

    #: What the driver and SQLAlchemy raise.
    errors: tuple[type[Exception], ...] = ()

    def __init__(self, address: Address) -> None:
        self.address = address
        self._schema = address.schema
        self._listening: Any = None
        self._version = 0
        self._seen = -1

    @property
    def file(self) -> None:
        """There is no file, and so no partitions."""
        return None

    # -- connecting --------------------------------------------------------------------------------------

    def connect(self) -> Raw:
        """A connection of the driver, with our settings of the session and nothing open in it.

        Raises:
            StoreError: psycopg is not installed, or the server cannot be reached or refuses.
        """
        psycopg = self._driver()
        with self._explained():
            raw: Raw = psycopg.connect(**self._parameters())
        try:
            with self._explained():
                if raw.info.server_version < _OLDEST:
                    raise StoreError(
                        f"database {self.address}: the server is PostgreSQL {raw.info.server_version // 10000}, 12 "
                        "or newer is needed"
                    )
                raw.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
                self._set_up(raw)
        except BaseException:
            raw.close()
            raise
        return raw

    def _driver(self) -> Any:
        try:
            import psycopg
        except ImportError as error:
            reason = "" if isinstance(error, ModuleNotFoundError) else f" ({' '.join(str(error).split())})"
            raise StoreError(
                f"database {self.address} needs psycopg, which cannot be imported{reason}: "
                "pip install 'hypershell-mpi[postgres]'"
            ) from None
        if not self.errors:
            self.errors = (psycopg.Error,)
        return psycopg

    def _parameters(self) -> dict[str, Any]:
        """What libpq is told; URL and parts together, the parts going first."""
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        address = self.address
        found: dict[str, Any] = {}
        if address.url is not None:
            try:
                found = dict(conninfo_to_dict("postgresql://" + address.url.partition("://")[2]))
            except ProgrammingError:
                # What libpq says would quote a part of the URL, perhaps of the password.
                raise StoreError(
                    f"database {address}: database.url is no valid URL: write special characters in names and "
                    "passwords as %XX, or use database.password"
                ) from None
        parts = {
            "host": address.host,
            "port": address.port,
            "user": address.user,
            "password": address.password,
            "dbname": address.database,
        }
        found.update({name: value for name, value in parts.items() if value is not None})
        return {"application_name": "hypershell", "client_encoding": "utf8", **_CONNECT, **found}

    def _set_up(self, raw: Raw) -> None:
        settings = dict(_SESSION)
        if self.address.schema is not None:
            settings["search_path"] = '"' + self.address.schema.replace('"', '""') + '"'
        calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
        raw.execute(f"SELECT {calls}", [word for pair in settings.items() for word in pair])
        # A result that was acknowledged must be on the disk.
        raw.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
        if self._schema is None:
            row = raw.execute("SELECT current_schema()").fetchone()
            if row is None or row[0] is None:
                raise StoreError(f"database {self.address} has no schema to be used: {_ANOTHER}")
            self._schema = str(row[0])
        raw.commit()

    def engine(self) -> Engine:
        """An engine that connects by `connect`; a connection that was lost is made anew at its next use."""
        self._driver()
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        if SQLAlchemyError not in self.errors:
            self.errors = (*self.errors, SQLAlchemyError)
        return create_engine("postgresql+psycopg://", creator=self.connect, poolclass=NullPool)

    # -- tables --------------------------------------------------------------------------------------------

    def preflight(self) -> None:
        """Make sure that the server answers and the tables are ours, or can be made; changes nothing."""
        with closing(self.connect()) as raw, self._explained():
            if not self._check(raw):
                self._check_permission(raw)

    def make(self) -> bool:
        """Make the tables where there are none; False where they were there."""
        self.preflight()
        engine = self.engine()
        try:
            with self._explained(), engine.connect() as link, link.begin():
                return self.create(link, create=True)
        finally:
            engine.dispose()

    def create(self, connection: Connection, create: bool) -> bool:
        """Make the tables in an empty schema, in the transaction of `connection`; False where they are there."""
        from hypershell.data.additions import ensure

        raw: Any = connection.connection.dbapi_connection
        if self._check(raw):
            ensure(connection)
            return False
        if not create:
            raise StoreError(f"database {self.address} has no tables: run 'hs initdb'")
        # Of several that begin at once one makes the tables; the others wait and find them.
        raw.execute("SELECT pg_advisory_xact_lock(%s)", (APPLICATION_ID,))
        if self._check(raw):
            return False
        if self.address.schema is not None and not self._has_schema(raw):
            connection.exec_driver_sql(f"CREATE SCHEMA {self._quoted(self.address.schema)}")
        from hypershell.data import schema

        for table in schema.metadata.tables.values():
            for index in table.indexes:
                if "where" in index.info:
                    from sqlalchemy import text

                    index.dialect_options["postgresql"]["where"] = text(index.info["where"])
        schema.metadata.create_all(connection, checkfirst=False)
        self._create_triggers(connection)
        marks = {"schema": str(SCHEMA_VERSION), "application": _OURS}
        connection.execute(schema.meta.insert(), [{"key": key, "value": value} for key, value in marks.items()])
        return True

    def _create_triggers(self, connection: Connection) -> None:
        """Whoever commits work for others, by whatever program, wakes the servers that listen."""
        from hypershell.data.schema import metadata

        send = connection.exec_driver_sql
        send(
            "CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"PERFORM pg_notify('{self._channel}', ''); RETURN NULL; END $$"
        )
        for table in metadata.tables.values():
            if events := table.info.get("announce"):
                send(
                    f"CREATE TRIGGER {table.name}_announce AFTER {events} ON {table.name} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION announce()"
                )

    def _check(self, raw: Any) -> bool:
        """True for tables of our version, False where none of ours is there; StoreError for those of others."""
        from hypershell.data.schema import metadata

        query = (
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = ANY(%s)"
        )
        names = sorted(metadata.tables)
        found = {row[0] for row in raw.execute(query, (self._schema, names)).fetchall()}
        if not found:
            return False
        marks: dict[str, str] = {}
        if "meta" in found and {"key", "value"} <= self._columns(raw, "meta"):
            marks = dict(raw.execute(_MARKS).fetchall())
        if marks.get("application") != _OURS:
            columns = self._columns(raw, "task")
            if {"id", "args", "schedule_time", "exit_status", "attempt"} <= columns and "execution" not in columns:
                raise StoreError(f"schema {self._schema} of database {self.address} is HyperShell's: {_ANOTHER}")
            raise StoreError(
                f"schema {self._schema} of database {self.address} has tables of another program "
                f"({', '.join(sorted(found))}): {_ANOTHER}"
            )
        version = marks.get("schema", "")
        if version == str(SCHEMA_VERSION):
            return True
        newer = version.isdecimal() and int(version) > SCHEMA_VERSION
        raise StoreError(
            f"the tables of database {self.address} were made by {'a newer' if newer else 'another'} version "
            f"(schema {version}, here {SCHEMA_VERSION}): update hypershell, or {_ANOTHER}"
        )

    def _columns(self, raw: Any, table: str) -> set[str]:
        query = (
            "SELECT a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0"
        )
        return {row[0] for row in raw.execute(query, (self._schema, table)).fetchall()}

    def _has_schema(self, raw: Any) -> bool:
        query = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s"
        return raw.execute(query, (self._schema,)).fetchone() is not None

    def _check_permission(self, raw: Raw) -> None:
        """Whether the tables could be made by this user."""
        exists = self._has_schema(raw)
        query = (
            "SELECT has_schema_privilege(%s::text, 'CREATE')"
            if exists
            else "SELECT has_database_privilege(current_database(), 'CREATE') WHERE %s::text IS NOT NULL"
        )
        row = raw.execute(query, (self._schema,)).fetchone()
        if row is None or not row[0]:
            does = "make tables in" if exists else "make"
            raise StoreError(
                f"database {self.address}: user {raw.info.user} may not {does} schema {self._schema}: "
                f"GRANT CREATE, or {_ANOTHER}"
            )

    def connect_checked(self) -> tuple[Raw, bool]:
        """A connection in autocommit mode, and whether our tables are there."""
        raw = self.connect()
        try:
            with self._explained():
                raw.autocommit = True
                return raw, self._check(raw)
        except BaseException:
            raw.close()
            raise

    def open_readonly(self, table: str | None = "task") -> Raw | None:
        """A connection that reads, each statement for itself; None where `table` has no rows, or is not there.

        `table` None: one without rows is enough.
        """
        raw, has_tables = self.connect_checked()
        try:
            with self._explained():
                raw.execute("SET default_transaction_read_only = on")
                found = f"SELECT 1 FROM {table} LIMIT 1" if table else "SELECT 1"
                if has_tables and raw.execute(found).fetchone():
                    return raw
        except BaseException:
            raw.close()
            raise
        raw.close()
        return None

    # -- while it is in use ----------------------------------------------------------------------------------

    def changed(self, connection: Connection) -> bool:
        """Whether another connection announced a change since the last call.

        The first call on a connection says True: what was announced before was not heard.
        """
        version = self.version(connection)
        before, self._seen = self._seen, version
        return version != before

    def version(self, connection: Connection) -> int:
        """A number that differs after another connection announced a change (``LISTEN``)."""
        raw: Any = connection.connection.dbapi_connection
        if raw is not self._listening:
            raw.add_notify_handler(self._hear)
            connection.exec_driver_sql(f'LISTEN "{self._channel}"')
            self._listening = raw
            self._version += 1
            return self._version
        # What has arrived already is enough, and a server that has nothing to say is not asked.
        raw.pgconn.consume_input()
        while (note := raw.pgconn.notifies()) is not None:
            self._hear_from(note.be_pid)
        return self._version

    def _hear(self, note: Any) -> None:
        """Called by the driver for what arrives beside an answer."""
        self._hear_from(note.pid)

    def _hear_from(self, pid: int) -> None:
        if self._listening is None or pid != self._listening.info.backend_pid:
            self._version += 1

    @property
    def _channel(self) -> str:
        """A channel for each schema; a name may have 63 bytes."""
        import hashlib

        return "hypershell_" + hashlib.sha256(str(self._schema).encode()).hexdigest()[:32]

    def check_place(self) -> None:
        """Nothing to look at: a server does not lose its database unnoticed."""

    def explain(self, error: BaseException) -> StoreError:
        """Our error for one of the driver or of SQLAlchemy: ``Transient`` where trying again may help."""
        from psycopg import InterfaceError, OperationalError

        cause = getattr(error, "orig", None) or error
        state = getattr(cause, "sqlstate", None) or ""
        lost = getattr(error, "connection_invalidated", False)
        if state:
            passing = state.startswith(_PASSING) and state not in _FINAL
        else:
            passing = lost or isinstance(cause, OperationalError | InterfaceError)
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        text = "; ".join(dict.fromkeys(lines)) or type(cause).__name__
        return (Transient if passing else StoreError)(f"database {self.address}: {text}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self.errors as error:
            raise self.explain(error) from error

    def _quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'
