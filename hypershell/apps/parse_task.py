"""Arguments of ``hs submit``, ``hs run``, ``hs info`` and ``hs wait`` to their settings.

What all commands share is in ``frame``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypershell.apps.frame import (
    EndEarly,
    collect,
    command_entry,
    configure,
    parse_arguments,
    stdin_is_terminal,
)
from hypershell.apps.help import command_usage
from hypershell.errors import ExitStatus, UsageError
from hypershell.options import options_of

if TYPE_CHECKING:
    from hypershell.apps.given import Given
    from hypershell.config import Config
    from hypershell.settings import DialSettings, InfoSettings, RunTaskSettings, SubmitSettings, WaitSettings

__all__ = ["parse_info", "parse_run", "parse_submit", "parse_wait"]


def parse_submit(argv: Sequence[str]) -> tuple[SubmitSettings, DialSettings | None, Config]:
    """Settings of ``submit``, and how the server is reached where tasks go to one that runs.

    Words after ``-t`` that are tags, and no files, belong to it.

    Raises as `hypershell.apps.frame.parse`.
    """
    from hypershell.settings import SubmitSettings

    if not argv and stdin_is_terminal():
        raise EndEarly(command_usage(command_entry("submit")), ExitStatus.USAGE)
    given, behind_tag = _of_new_tasks("submit", argv)
    if given.get("words") and "task_file" in given:
        raise UsageError("Cannot specify both -f/--task-file and positional arguments")
    if "tag" in given and not given.get("words") and "task_file" not in given and stdin_is_terminal():
        raise UsageError("nothing to submit: words after -t/--tag are tags, put -- in front of the command")
    if not given.get("words") and "task_file" not in given:
        _refuse_programs(behind_tag)
    config = configure("submit", given)
    values = _collect_new(SubmitSettings.__struct_fields__, given, config)
    settings = SubmitSettings(is_command="--" in argv, **values)
    live = "queue" in given or "host" in given or "connect" in given
    if live and ("db" in given or "initdb" in given):
        raise UsageError("Using --db or --initdb with -q, -H or --connect is invalid: the server has its database")
    if live and "only_new" in given:
        raise UsageError(
            "Using --update with -q, -H or --connect is invalid: only the database knows what was submitted "
            "before; submit there (--db), or submit a file with the new lines"
        )
    if live:
        from hypershell.apps.parse_net import dial_settings

        return settings, dial_settings(given, config), config
    for dest in ("port", "auth", "auth_file", "no_tls", "tls_ca", "tls_fingerprint"):
        if dest in given:
            raise UsageError(f"Using --{dest.replace('_', '-')} requires -q/--queue, -H/--host or --connect")
    return settings, None, config


def parse_run(argv: Sequence[str]) -> tuple[RunTaskSettings, Config]:
    """Settings of ``run``; otherwise as `parse_submit`."""
    from hypershell.settings import RunTaskSettings

    if not argv:
        raise EndEarly(command_usage(command_entry("run")), ExitStatus.USAGE)
    given, _ = _of_new_tasks("run", argv)
    if not given.get("words"):
        behind = "; words after -t/--tag are tags, put -- in front of the command" if "tag" in given else ""
        raise UsageError(f"the following arguments are required: ARGS{behind}")
    config = configure("run", given)
    return RunTaskSettings(**_collect_new(RunTaskSettings.__struct_fields__, given, config)), config


def _refuse_programs(words: Sequence[str]) -> None:
    """Words behind the first tag that may well be a command, where there is no other and stdin would be read."""
    import shutil

    for word in words:
        if ":" not in word and shutil.which(word) is not None:
            raise UsageError(
                f"{word} behind -t/--tag is a tag, and a program too: for a command write -- before it, for tags "
                "of the lines of stdin write - at the end"
            )


def _of_new_tasks(command: str, argv: Sequence[str]) -> tuple[Given, list[str]]:
    """The arguments of a command that makes tasks, and which words are tags only as they follow one."""
    from hypershell.apps.words import spread
    from hypershell.site import working_directory
    from hypershell.tags import is_tag

    options = options_of(command)
    option = next(option for option in options if option.dest == "tag")
    further: list[str] = []

    def belongs(word: str) -> bool:
        taken = is_tag(word) and not os.path.exists(word)
        if taken:
            further.append(word)
        return taken

    given = parse_arguments(command, spread(argv, options, option, belongs))
    working_directory()
    return given, further


def _collect_new(fields: Sequence[str], given: dict[str, object], config: Config) -> dict[str, Any]:
    """The values of a command that makes tasks, which takes two of those of runs from the configuration."""
    from hypershell.apps.quoting import quoted

    values = collect(fields, given, config)
    if "timeout" not in given:
        values["timeout"] = config.value("task_timeout")
    if "quote_inserted" not in given:
        values["quote_inserted"] = config.value("quote")
    values = quoted(values, given, "expand", "quote_inserted")
    task_cwd = config.value("task_cwd")
    values["task_cwd"] = None if task_cwd is None else os.path.abspath(str(task_cwd))
    return values


def parse_info(argv: Sequence[str]) -> tuple[InfoSettings, Config]:
    """Settings of ``info``; raises as `hypershell.apps.frame.parse`."""
    from hypershell.data.where import check_field
    from hypershell.settings import InfoSettings

    given = _about_one("info", argv)
    for flag in ("show_stdout", "show_stderr"):
        if flag in given and "info_format" in given:
            raise UsageError(f"Using --{flag[5:]} with -f/--format is invalid: output is printed as it is")
    if "extract" in given:
        check_field(str(given["extract"]))
    config = configure("info", given)
    return InfoSettings(**collect(InfoSettings.__struct_fields__, given, config)), config


def parse_wait(argv: Sequence[str]) -> tuple[WaitSettings, Config]:
    """Settings of ``wait``; raises as `hypershell.apps.frame.parse`."""
    from hypershell.settings import WaitSettings

    given = _about_one("wait", argv)
    if "info_format" in given and "show_info" not in given:
        raise UsageError("Using -f/--format requires -i/--info")
    config = configure("wait", given)
    return WaitSettings(**collect(WaitSettings.__struct_fields__, given, config)), config


def _about_one(command: str, argv: Sequence[str]) -> Given:
    if not argv:
        raise EndEarly(command_usage(command_entry(command)), ExitStatus.USAGE)
    given = parse_arguments(command, argv)
    if given.get("task_id") is None:
        raise UsageError("the following arguments are required: ID")
    for name in ("json", "yaml"):
        if given.pop(f"info_{name}", False):
            given["info_format"] = name
    return given
