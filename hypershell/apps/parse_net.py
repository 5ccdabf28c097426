"""Arguments of the commands that reach each other over the network to their settings; see ``frame``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hypershell.apps.frame import (
    EndEarly,
    collect,
    command_entry,
    configure,
    parse_arguments,
    run_settings,
    stdin_is_terminal,
)
from hypershell.apps.help import command_usage
from hypershell.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from hypershell.config import Config
    from hypershell.settings import DialSettings, DoorSettings, JoinSettings, RunSettings

__all__ = ["dial_settings", "door_settings", "parse_client", "parse_mpi", "parse_server", "parse_status"]


def parse_server(argv: Sequence[str]) -> tuple[RunSettings, DoorSettings, Config]:
    """Settings of ``server``; raises as `hypershell.apps.frame.parse`."""
    if not argv and stdin_is_terminal():
        raise EndEarly(command_usage(command_entry("server")), ExitStatus.USAGE)
    given = parse_arguments("server", argv)
    if "file" in given and "forever" in given:
        raise UsageError("Using FILE with --forever is invalid: hs submit brings FILEs to a server that waits")
    config = configure("server", given)
    return run_settings("server", given, config), door_settings(given, config), config


def parse_mpi(argv: Sequence[str], *, launched: bool = True) -> tuple[RunSettings, DoorSettings, Config]:
    """Settings of ``mpi``; raises as `hypershell.apps.frame.parse`.

    :param launched: false outside of a launcher. With ``-n`` rank 0 reads the same again, and tells what is odd.
    """
    if not argv and stdin_is_terminal():
        raise EndEarly(command_usage(command_entry("mpi")), ExitStatus.USAGE)
    given = parse_arguments("mpi", argv)
    if "door" not in given:
        for dest in (
            "port",
            "reclaim",
            "connect_file",
            "advertise",
            "auth",
            "auth_file",
            "no_tls",
            "tls_cert",
            "tls_key",
        ):
            if dest in given:
                raise UsageError(f"Using --{dest.replace('_', '-')} requires -H/--bind, the address to listen on")
    config = configure("mpi", given, tell=launched or "ranks" not in given)
    return run_settings("mpi", given, config), door_settings(given, config), config


def parse_client(argv: Sequence[str]) -> tuple[JoinSettings, DialSettings, Config]:
    """Settings of ``client``; raises as `hypershell.apps.frame.parse`."""
    from hypershell.apps.quoting import quoted
    from hypershell.core.needs import MOST_LABELS
    from hypershell.settings import JoinSettings
    from hypershell.site import working_directory

    if not argv and stdin_is_terminal():
        raise EndEarly(command_usage(command_entry("client")), ExitStatus.USAGE)
    given = parse_arguments("client", argv)
    config = configure("client", given)
    values = quoted(collect(JoinSettings.__struct_fields__, given, config), given, "template", "quote")
    if values["task_cwd"] is None:
        working_directory()
    if config.which("task.signalwait").layer == "default":
        values["signalwait"] = None
    values["capture_dir"] = config.sites.default.task
    if len(values.get("label", ())) > MOST_LABELS:
        raise UsageError(f"more than {MOST_LABELS} labels (--label, client.label) are invalid")
    return JoinSettings(**values), dial_settings(given, config), config


def parse_status(argv: Sequence[str]) -> tuple[bool, DialSettings, Config]:
    """Whether ``status`` writes JSON, and how it reaches the server; raises as `hypershell.apps.frame.parse`."""
    given = parse_arguments("status", argv)
    config = configure("status", given)
    return bool(given.get("status_json", False)), dial_settings(given, config), config


def door_settings(given: Mapping[str, object], config: Config) -> DoorSettings:
    """How a server is reached."""
    from hypershell.settings import DoorSettings

    values = collect(DoorSettings.__struct_fields__, given, config)
    if values.get("connect_file") is not None:
        values["connect_file"] = os.path.abspath(values["connect_file"])
    return DoorSettings(**values)


def dial_settings(given: Mapping[str, object], config: Config) -> DialSettings:
    """How the server is found and recognized."""
    from hypershell.settings import DialSettings

    return DialSettings(**collect(DialSettings.__struct_fields__, given, config))
