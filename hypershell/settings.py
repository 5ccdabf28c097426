"""Settings of a command: plain, frozen, checked data, which rank 0 can send to its workers.

Knows nothing of where the values come from. Built by `hypershell.apps.frame`, read by everything below the
commands.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from hypershell.address import Address, Where

__all__ = [
    "DialSettings",
    "DoorSettings",
    "ExportSettings",
    "ImportSettings",
    "InfoSettings",
    "InitSettings",
    "JoinSettings",
    "ListSettings",
    "OrderedSelection",
    "Placed",
    "RunSettings",
    "RunTaskSettings",
    "RunsSettings",
    "Selection",
    "SubmitSettings",
    "UpdateSettings",
    "WaitSettings",
]


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """What has a database: the file `db`, unless `server` names one on a server."""

    db: str = ""
    server: Address | None = None
    db_mode: int | None = None

    @property
    def place(self) -> Where:
        """The database."""
        return self.server or Path(self.db)

    def is_at(self, path: str) -> bool:
        """Whether the database is this file."""
        return self.server is None and self.db == os.path.abspath(path)


class RunSettings(Placed, frozen=True, kw_only=True):
    """All that a run of ``cluster`` or ``mpi`` needs; durations in seconds, paths absolute where they name a site.

    `file` None is stdin. `slots` 0 is the number of cores, and `slots_given` tells whether the user chose it.
    `bundlesize` None adapts. `max_retries` counts the tries
    after the first. `release_rate` None goes by the number of clients, `rank0_tasks` None by the slots.
    """

    command: str = "cluster"
    file: str | None = None
    ranks: int | None = None
    slots: int = 1
    slots_given: bool = False
    template: str = "{}"
    """Where `quote` is wished, every pattern of it quotes already."""
    quote: bool = False
    plain_lines: bool = False
    bundlesize: int | None = None
    bundlewait: float = 5.0
    max_retries: int = 0
    eager: bool = False
    no_db: bool = False
    output: str | None = None
    errors: str | None = None
    failures: str | None = None
    print_failures: bool = False
    capture: bool = False
    keep_output: bool = False
    capture_dir: str = ""
    site_mode: int | None = None
    idle_timeout: float | None = None
    task_timeout: float | None = None
    ratelimit: float | None = None
    signalwait: float = 10.0
    restart: bool = False
    forever: bool = False
    take_over: bool = False
    update: bool = False
    repeat: bool = False
    retry_failed: bool = False
    allow_failures: bool = False
    drain_time: float = 60.0
    walltime: float | None = None
    """Seconds to the end of the job, 0: there is none, None: as the scheduler says."""
    status_file: str | None = None
    reclaim: float = 60.0
    quarantine: int = 10
    poison: int | None = None
    start_delay: float = 0.0
    release_rate: float | None = None
    rank0_tasks: int | None = None
    task_cwd: str | None = None
    task_env: str = "rank"
    task_bind: str = "share"
    startup_report: bool = False
    exports: dict[str, str] = {}
    given_how: tuple[str, ...] = ()
    """What of ``task_timeout capture keep_output exports`` somebody has said; the rest is as built in."""
    log_level: str = "warning"
    log_style: str = "default"
    site: str = ""


class DoorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The way in over the network of a server: where it listens and how it is known.

    `bind` or, of a job that has other clients too, `door` is the address; `evict` seconds of silence.
    """

    bind: str = "localhost"
    door: str | None = None
    port: int = 50001
    auth_file: str | None = None
    connect_file: str | None = None
    advertise: tuple[str, ...] = ()
    no_tls: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_minimum: str = "TLSv1.2"
    tls_ciphers: str | None = None
    evict: float = 600.0


class DialSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is reached and recognized; a `connect` file goes before host, port and key."""

    host: str = "localhost"
    port: int = 50001
    auth_file: str | None = None
    connect: str | None = None
    no_tls: bool = False
    tls_ca: str | None = None
    tls_fingerprint: str | None = None
    tls_name: str | None = None
    tls_minimum: str = "TLSv1.2"
    tls_ciphers: str | None = None


class JoinSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What ``client`` does in its own way; None is as the server says. Times in seconds."""

    slots: int = 1
    template: str = "{}"
    """Where `quote` is wished, every pattern of it quotes already."""
    quote: bool = False
    client_bundlesize: int | None = None
    client_bundlewait: float | None = None
    delay_start: float = 0.0
    task_timeout: float | None = None
    ratelimit: float | None = None
    signalwait: float | None = None
    idle_timeout: float | None = None
    task_cwd: str | None = None
    task_env: str = "rank"
    task_bind: str = "share"
    output: str | None = None
    errors: str | None = None
    capture: bool = False
    capture_dir: str = ""
    site_mode: int | None = None
    heartrate: float = 10.0
    reconnect: float = 600.0
    label: tuple[str, ...] = ()


class InitSettings(Placed, frozen=True, kw_only=True):
    """All that ``initdb`` needs."""

    upgrade: bool = False
    vacuum: bool = False
    backup: str | None = None
    rotate: bool = False
    truncate: bool = False
    yes: bool = False
    log_level: str = "info"
    log_style: str = "default"
    site: str = ""


class Selection(Placed, frozen=True, kw_only=True):
    """Which tasks a command is about. `where` and `tags` are words as given."""

    where: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    group: int | None = None
    failed: bool = False
    succeeded: bool = False
    completed: bool = False
    cancelled: bool = False
    remaining: bool = False
    retries: bool = False
    limit: int | None = None


class OrderedSelection(Selection, frozen=True, kw_only=True):
    """A selection that is taken in an order."""

    order_by: str | None = None
    desc: bool = False


class ListSettings(OrderedSelection, frozen=True, kw_only=True):
    """All that ``list`` needs; `format` None is chosen by what is shown."""

    fields: tuple[str, ...] = ()
    count: bool = False
    format: str | None = None
    delimiter: str | None = None
    list_fields: bool = False
    tag_keys: bool = False
    tag_values: str | None = None
    ignore_partitions: bool = False
    all_rows: bool = False

    @property
    def is_bare(self) -> bool:
        """Whether nothing was asked for but the tasks."""
        bare = ListSettings(
            db=self.db,
            server=self.server,
            db_mode=self.db_mode,
            ignore_partitions=self.ignore_partitions,
            all_rows=self.all_rows,
        )
        return self == bare


class SubmitSettings(Placed, frozen=True, kw_only=True):
    """All that ``submit`` needs; `memory` in bytes, `timeout` in seconds.

    `words` are as given; `is_command` tells that ``--`` stands before them. `tag` holds words of tags. `commitsize`
    None adapts. `task_cwd` None is the current directory.
    """

    words: tuple[str, ...] = ()
    is_command: bool = False
    task_file: str | None = None
    expand: str = "{}"
    """Where `quote_inserted` is wished, every pattern of it quotes already."""
    quote_inserted: bool = False
    plain_lines: bool = False
    tag: tuple[str, ...] = ()
    task_group: int = 0
    cores: int | None = None
    memory: int | None = None
    timeout: float | None = None
    commitsize: int | None = None
    bundlewait: float = 5.0
    initdb: bool = False
    keep_output: bool = False
    task_cwd: str | None = None
    queue: bool = False
    only_new: bool = False
    once_more: bool = False


class RunTaskSettings(SubmitSettings, frozen=True, kw_only=True):
    """All that ``run`` needs; `interval` in seconds."""

    interval: float = 0.02


class InfoSettings(Placed, frozen=True, kw_only=True):
    """All that ``info`` needs. `task_id` is as given: an id, or the beginning of one."""

    task_id: str
    extract: str | None = None
    show_stdout: bool = False
    show_stderr: bool = False
    info_format: str | None = None
    ignore_partitions: bool = False


class WaitSettings(Placed, frozen=True, kw_only=True):
    """All that ``wait`` needs; `interval` in seconds."""

    task_id: str
    interval: float = 0.02
    show_info: bool = False
    show_status: bool = False
    return_status: bool = False
    info_format: str | None = None
    without_partitions: bool = False


class RunsSettings(Placed, frozen=True, kw_only=True):
    """All that ``runs`` needs. `run` is the begin of an id; `format` None is chosen by what is shown and where."""

    run: str | None = None
    limit: int | None = None
    format: str | None = None
    delimiter: str | None = None


class UpdateSettings(OrderedSelection, frozen=True, kw_only=True):
    """All that ``update`` needs; `changes` and `remove_tags` as given."""

    changes: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    cancel: bool = False
    signal: str | None = None
    revert: bool = False
    delete: bool = False
    no_confirm: bool = False


class ExportSettings(Selection, frozen=True, kw_only=True):
    """All that ``export`` needs. `target` None or ``-`` is stdout; `export_format` None goes by its ending."""

    target: str | None = None
    export_format: str | None = None
    outputs: bool = False
    force: bool = False
    ignore_partitions: bool = False


class ImportSettings(Placed, frozen=True, kw_only=True):
    """All that ``import`` needs."""

    source: str | None = None
