"""Settings of a command: plain, frozen, checked data, which rank 0 can send to its workers.

Knows nothing of where the values come from. Built by `hypershell.apps.frame`, read by everything below the
commands.
"""

from __future__ import annotations

import msgspec

from hypershell.address import Address

__all__ = ["InitSettings", "ListSettings", "RunSettings"]


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run of ``cluster`` or ``mpi`` needs; durations in seconds, paths absolute where they name a site.

    `file` None is stdin. `slots` 0 is the number of cores, and `slots_given` tells whether the user chose it.
    `server` is a database that goes before the file `db`. `bundlesize` None adapts. `max_retries` counts the tries
    after the first.
    """

    command: str = "cluster"
    file: str | None = None
    ranks: int | None = None
    slots: int = 1
    slots_given: bool = False
    template: str = "{}"
    bundlesize: int | None = None
    bundlewait: float = 5.0
    max_retries: int = 0
    eager: bool = False
    no_db: bool = False
    db: str = ""
    server: Address | None = None
    output: str | None = None
    errors: str | None = None
    failures: str | None = None
    capture: bool = False
    capture_dir: str = ""
    idle_timeout: float | None = None
    task_timeout: float | None = None
    signalwait: float = 10.0
    restart: bool = False
    forever: bool = False
    take_over: bool = False
    allow_failures: bool = False
    drain_time: float = 60.0
    task_cwd: str | None = None
    exports: dict[str, str] = {}
    log_level: str = "warning"
    log_style: str = "default"
    site: str = ""


class InitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``initdb`` needs."""

    db: str
    server: Address | None = None
    upgrade: bool = False
    yes: bool = False
    log_level: str = "info"
    log_style: str = "default"
    site: str = ""


class ListSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that ``list`` needs. `where` and `tags` are words as given; `format` None is chosen by what is shown."""

    db: str
    server: Address | None = None
    fields: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    group: int | None = None
    failed: bool = False
    succeeded: bool = False
    completed: bool = False
    remaining: bool = False
    retries: bool = False
    order_by: str | None = None
    desc: bool = False
    limit: int | None = None
    count: bool = False
    format: str | None = None
    delimiter: str | None = None
    list_fields: bool = False
    tag_keys: bool = False
    tag_values: str | None = None

    @property
    def is_bare(self) -> bool:
        """Whether nothing was asked for but the tasks."""
        return self == ListSettings(db=self.db, server=self.server)
