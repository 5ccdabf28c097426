"""The frame of every command: arguments and configuration in, exit status out.

`parse` makes checked settings of an argument list; `run_command` turns what goes wrong into one line on stderr
and an exit status (``docs/exit-status.md``). Called by the modules of the commands.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from hypershell import log
from hypershell.apps import help as texts
from hypershell.apps.given import Given, add_reserved, command_line_library, once
from hypershell.apps.stdout import checked_stdout, is_stdout_closed, silence_stdout
from hypershell.errors import ExitStatus, HyperShellError, UsageError
from hypershell.options import COMMANDS, Command, Option, options_of
from hypershell.ostext import behind_margin, printable
from hypershell.room import lack, limit_behind

if TYPE_CHECKING:
    from hypershell.config import Config
    from hypershell.settings import (
        ExportSettings,
        ImportSettings,
        InitSettings,
        ListSettings,
        RunSettings,
        RunsSettings,
        UpdateSettings,
    )

__all__ = [
    "EndEarly",
    "collect",
    "command_entry",
    "configure",
    "parse",
    "parse_arguments",
    "parse_export",
    "parse_import",
    "parse_initdb",
    "parse_list",
    "parse_runs",
    "parse_update",
    "run_command",
    "run_settings",
    "stdin_is_terminal",
]

_logger = logging.getLogger("hypershell")

#: Where a key is better than on a command line.
_SAFER = "better is --auth-file PATH, a file of mode 0600, or HYPERSHELL_SERVER_AUTH"

#: Endings of files that ``export`` writes.
EXPORT_ENDINGS = (".h5", ".hdf5", ".csv", ".jsonl", ".ndjson", ".parquet")

_EXCLUSIVE = (
    ("forever", "restart"),
    ("forever", "no_db"),
    ("restart", "no_db"),
    ("update", "repeat"),
    ("only_new", "once_more"),
    ("db", "no_db"),
    ("idle_initdb", "no_db"),
    ("keep_output", "no_db"),
    ("auth", "auth_file"),
    ("connect", "auth"),
    ("connect", "auth_file"),
    ("connect", "host"),
    ("connect", "port"),
    ("no_tls", "tls_ca"),
    ("no_tls", "tls_cert"),
    ("no_tls", "tls_fingerprint"),
    ("failures", "print_failures"),
    ("capture", "output"),
    ("capture", "errors"),
    ("all_rows", "limit"),
    *itertools.combinations(("failed", "succeeded", "completed", "cancelled", "remaining"), 2),
    *itertools.combinations(("format", "json", "csv"), 2),
    *itertools.combinations(("upgrade", "vacuum", "backup", "rotate", "truncate"), 2),
    *itertools.combinations(("cancel", "revert", "delete"), 2),
    *itertools.combinations(("count", "list_fields", "tag_keys", "tag_values"), 2),
    *itertools.combinations(("extract", "show_stdout", "show_stderr"), 2),
    *itertools.combinations(("show_info", "show_status", "return_status"), 2),
    *itertools.combinations(("info_format", "info_json", "info_yaml"), 2),
)


class EndEarly(Exception):
    """The command ends with a text for stdout and a status before its work begins (help, usage)."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text, status)
        self.text = text
        self.status = status


def parse(command: str, argv: Sequence[str]) -> tuple[RunSettings, Config]:
    """Settings of ``cluster`` or ``mpi``; sets up logging and makes the directories of the site that are needed.

    Raises `EndEarly` for help and usage, `UsageError` for bad arguments, `ConfigError` for bad configuration,
    `SiteError` for a site that cannot be made.
    """
    if not argv and stdin_is_terminal():
        raise EndEarly(texts.command_usage(command_entry(command)), ExitStatus.USAGE)
    given = parse_arguments(command, argv)
    config = configure(command, given)
    return run_settings(command, given, config), config


def run_settings(command: str, given: Mapping[str, object], config: Config) -> RunSettings:
    """Settings of a command that schedules tasks, from its arguments and configuration; see `parse`."""
    from hypershell.apps.quoting import quoted
    from hypershell.settings import RunSettings
    from hypershell.site import working_directory

    working_directory()
    values = collect(RunSettings.__struct_fields__, given, config)
    if command != "server":  # it has no template: clients and hs submit have
        values = quoted(values, given, "template", "quote")
    site = config.sites.default
    settings = RunSettings(
        command=command,
        slots_given="slots" in given,
        capture_dir=site.task,
        exports=(exports := config.exports()),
        given_how=_given_how(given, config, exports),
        site=site.root,
        **_begun_again(values),
    )
    _make_directories(settings, config)
    return settings


def _given_how(given: Mapping[str, object], config: Config, exports: Mapping[str, str]) -> tuple[str, ...]:
    """What of how tasks are run does not come from us, and so goes before what a submission has."""
    said = {
        "task_timeout": config.which("task.timeout").layer not in ("default", "preload"),
        # All output in one file says also that no task has its own.
        "capture": bool({"capture", "output", "errors"} & given.keys()),
        "keep_output": "keep_output" in given,
        "poison": config.which("server.poison").layer not in ("default", "preload"),
        "exports": bool(exports),
    }
    return tuple(name for name, is_given in said.items() if is_given)


def _begun_again(values: dict[str, Any]) -> dict[str, Any]:
    """A job that its scheduler starts again goes on with its FILE, where that can be known."""
    if values["file"] is None or values["restart"] or values["no_db"] or values["forever"]:
        return values
    from hypershell.allocation import restarts

    variable = restarts(os.environ)
    if variable is None or not os.path.isfile(values["file"]):
        return values
    _logger.warning("%s: this job was started before, so it goes on with %s (--restart)", variable, values["file"])
    return {**values, "restart": True}


def parse_initdb(argv: Sequence[str]) -> tuple[InitSettings, Config]:
    """Settings of ``initdb``; otherwise as `parse`. Without arguments it works."""
    given = parse_arguments("initdb", argv)
    config = configure("initdb", given)
    from hypershell.apps.folders import site_folder
    from hypershell.settings import InitSettings

    site = config.sites.default
    settings = InitSettings(site=site.root, **collect(InitSettings.__struct_fields__, given, config))
    # What is not made is there.
    is_made = not (settings.upgrade or settings.vacuum or settings.backup or settings.rotate or settings.truncate)
    if is_made and settings.is_at(site.database):
        site_folder(config, site.lib)
    return settings, config


def parse_list(argv: Sequence[str]) -> tuple[ListSettings, Config]:
    """Settings of ``list``; otherwise as `parse`. Words after ``-t`` that are tags, and no fields, belong to it."""
    from hypershell.data.where import FIELDS
    from hypershell.settings import ListSettings

    given = _parse_selection("list", argv, lambda word: word not in FIELDS)
    _name_format(given)
    config = configure("list", given)
    return ListSettings(**collect(ListSettings.__struct_fields__, given, config)), config


def parse_runs(argv: Sequence[str], command: str = "runs") -> tuple[RunsSettings, Config]:
    """Settings of ``runs`` or ``clients``; otherwise as `parse`."""
    from hypershell.settings import RunsSettings

    given = parse_arguments(command, argv)
    _name_format(given)
    config = configure(command, given)
    return RunsSettings(**collect(RunsSettings.__struct_fields__, given, config)), config


def _name_format(given: Given) -> None:
    for name in ("json", "csv"):
        if given.pop(name, False):
            given["format"] = name


def parse_update(argv: Sequence[str]) -> tuple[UpdateSettings, Config]:
    """Settings of ``update``; otherwise as `parse`. Bare keys after ``--remove-tag`` belong to it."""
    if not argv:
        raise EndEarly(texts.command_usage(command_entry("update")), ExitStatus.USAGE)
    from hypershell.apps.words import spread
    from hypershell.data.edits import is_key
    from hypershell.settings import UpdateSettings

    options = options_of("update")
    option = next(option for option in options if option.dest == "remove_tags")
    given = parse_arguments("update", spread(argv, options, option, is_key))
    if "order_by" in given and "limit" not in given:
        raise UsageError("Using -s/--order-by requires -l/--limit: without it the order changes nothing")
    if "signal" in given and "cancel" not in given:
        raise UsageError("Using --signal without --cancel is invalid: it is for tasks that are cancelled")
    config = configure("update", given)
    return UpdateSettings(**collect(UpdateSettings.__struct_fields__, given, config)), config


def parse_export(argv: Sequence[str]) -> tuple[ExportSettings, Config]:
    """Settings of ``export``; otherwise as `parse`. A word after ``-t`` that names a file to write is no tag."""
    from hypershell.settings import ExportSettings

    given = _parse_selection("export", argv, lambda word: not word.lower().endswith(EXPORT_ENDINGS))
    config = configure("export", given)
    return ExportSettings(**collect(ExportSettings.__struct_fields__, given, config)), config


def parse_import(argv: Sequence[str]) -> tuple[ImportSettings, Config]:
    """Settings of ``import``; otherwise as `parse`."""
    from hypershell.apps.folders import site_folder
    from hypershell.settings import ImportSettings

    given = parse_arguments("import", argv)
    config = configure("import", given)
    settings = ImportSettings(**collect(ImportSettings.__struct_fields__, given, config))
    site = config.sites.default
    if settings.is_at(site.database):
        site_folder(config, site.lib)
    return settings, config


def _parse_selection(command: str, argv: Sequence[str], may_be_tag: Callable[[str], bool]) -> Given:
    """Arguments of a command that selects tasks: further words after ``-t`` are tags where they can be."""
    from hypershell.apps.words import spread
    from hypershell.tags import is_tag

    options = options_of(command)
    option = next(option for option in options if option.dest == "tags")
    return parse_arguments(command, spread(argv, options, option, lambda word: is_tag(word) and may_be_tag(word)))


def parse_arguments(command: str, argv: Sequence[str]) -> Given:
    """The typed values that `argv` gives, by `dest`; raises `EndEarly` for help and `UsageError`."""
    library = command_line_library()
    from hypershell.apps.words import name_binding

    argv = name_binding(command, argv)
    entry = command_entry(command)
    repeated: list[str] = []
    interface = library.Interface(
        f"hs {command}",
        texts.command_usage(entry),
        texts.command_help(entry),
        disable_colors=True,
        argument_default=argparse.SUPPRESS,
    )
    for option in options_of(command):
        if option.flags or option.is_positional:
            interface.add_argument(*(option.flags or (option.dest,)), **_argument(option, repeated))
    add_reserved(interface, command)
    try:
        parse_words = _parse_mixed if _has_list(command) else _parse_plain
        given = parse_words(interface, command, argv)
    except library.HelpOption as request:
        raise EndEarly(str(request), ExitStatus.SUCCESS) from None
    except library.ArgumentError as error:
        text = " ".join(str(error).split())
        unknown = text.startswith("unrecognized arguments: ")
        raise UsageError(texts.see_help(text, command) if unknown else text) from None
    _check_combinations(command, given)
    return Given(given, repeated)


def _parse_plain(interface: Any, command: str, argv: Sequence[str]) -> dict[str, Any]:
    return dict(vars(interface.parse_args(list(argv))))


def _parse_mixed(interface: Any, command: str, argv: Sequence[str]) -> dict[str, Any]:
    """Parse where arguments by place may stand between options; argparse alone would take options after ``--``."""
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    given = dict(vars(interface.parse_intermixed_args(words[:cut])))
    if rest := words[cut + 1 :]:
        option = next(option for option in options_of(command) if option.is_positional)
        given[option.dest] = [*given.get(option.dest, ()), *map(option.parse, rest)]
    return given


def run_command(work: Callable[[], int]) -> int:
    """Run `work` and return its exit status, or the one of the error that ended it, which is logged in one line.

    The status of an error of ours is that of its class; want of room (`lack`) is 5. Anything else is 5, with the
    traceback in a file of the site's log directory, or 6 where that cannot be written. A reader that closed our
    stdout is no error (0); a stdout that cannot be written is one of ours, whatever `work` prints with.
    """
    if not _logger.hasHandlers():
        log.setup(log.LogSettings())
    with checked_stdout():
        status = _run(work)
    # A command is mostly the end of its process, whose last look for garbage takes as long as many a command.
    gc.freeze()
    return status


def _run(work: Callable[[], int]) -> int:
    try:
        return _flushed(_worked(work))
    except HyperShellError as error:
        _logger.critical("%s", _with_limit(error))
        return error.exit_status
    except KeyboardInterrupt:
        _logger.critical("keyboard-interrupt: stopped")
        return ExitStatus.INTERRUPTED
    except BrokenPipeError as error:
        if is_stdout_closed():
            silence_stdout()
            return ExitStatus.SUCCESS
        return _unexpected(error)
    except Exception as error:
        return _unexpected(error)


def _with_limit(error: HyperShellError) -> str:
    """Its text, with the limit that it comes from where the text does not name it."""
    text, limit = str(error), limit_behind(error)
    return text if limit is None or "ulimit" in text else f"{text} ({limit})"


def _worked(work: Callable[[], int]) -> int:
    try:
        return work()
    except EndEarly as end:
        return texts.write_out(end.text, end.status)


def _flushed(status: int) -> int:
    """Flush stdout and return `status`: what was done counts even if nobody reads on."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
    return status


def _unexpected(error: Exception) -> int:
    """Log an error that nobody foresaw and keep its traceback.

    One for want of room, or of a current directory, says all in its line.
    """
    if (reason := lack(error)) is not None:
        _logger.critical("%s", reason)
        return ExitStatus.RUNTIME_ERROR
    import traceback

    from hypershell.site import SiteError, working_directory

    if isinstance(error, FileNotFoundError):
        try:
            working_directory()
        except SiteError as gone:
            _logger.critical("%s", gone)
            return gone.exit_status

    summary = " ".join(f"{type(error).__name__}: {error}".split())
    details = "".join(traceback.format_exception(error))
    try:
        path = _write_traceback(details)
    except (OSError, HyperShellError) as reason:
        _logger.critical("%s (no traceback file: %s)", summary, reason)
        print(behind_margin(details), file=sys.stderr)
        return ExitStatus.UNCAUGHT
    _logger.critical("%s (traceback: %s)", summary, path)
    return ExitStatus.RUNTIME_ERROR


def _write_traceback(details: str) -> str:
    """Write a new file; the name holds time, process and random bits, so that no crash hides another."""
    from hypershell.making import open_new
    from hypershell.site import ensure_directory, find_sites

    folder = ensure_directory(find_sites().default.log)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = os.path.join(folder, f"exception-{stamp}-{os.getpid()}-{os.urandom(4).hex()}.log")
    with os.fdopen(open_new(path), "w", encoding="utf-8", errors="backslashreplace") as target:
        target.write(printable(details))
    return path


def command_entry(name: str) -> Command:
    """The entry of a command in the table."""
    return next(entry for entry in COMMANDS if entry.name == name)


def stdin_is_terminal() -> bool:
    """Whether a person would have to type what is read."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def _has_list(command: str) -> bool:
    return any(option.is_positional and option.many for option in options_of(command))


def _argument(option: Option, repeated: list[str]) -> dict[str, Any]:
    """The keywords of argparse for an option of the table; `repeated` as for `hypershell.apps.given.once`."""
    if option.is_switch:
        return {"action": "store_true", "dest": option.dest}
    keywords: dict[str, Any] = {"metavar": option.metavar, "type": _argument_type(option)}
    if option.is_positional:
        return {**keywords, "nargs": "*" if option.many else "?"}
    return {**keywords, "dest": option.dest, "action": "append" if option.many else once(option, repeated)}


def _argument_type(option: Option) -> Callable[[str], object]:
    def convert(text: str) -> object:
        if text is argparse.SUPPRESS:  # argparse converts even the default of an absent positional
            return text
        try:
            return option.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _check_combinations(command: str, given: Mapping[str, object]) -> None:
    flags = {option.dest: "/".join(option.flags[:2]) for option in options_of(command)}
    for first, second in _EXCLUSIVE:
        if first in given and second in given:
            raise UsageError(f"Using {flags[first]} with {flags[second]} is invalid")
    if given.get("file") == "-" and "restart" in given:
        raise UsageError("Using - (stdin) with --restart is invalid: it cannot be read again, leave out one")
    if "desc" in given and "order_by" not in given:
        raise UsageError("Using --desc requires -s/--order-by")
    if "take_over" in given and not ("restart" in given or "forever" in given):
        raise UsageError("Using --take-over requires --restart or --forever")
    for dest in ("update", "repeat"):
        if dest in given and dest in flags and not ("restart" in given and "file" in given):
            raise UsageError(f"Using {flags[dest]} requires --restart and FILE")
    if "retry_failed" in given and "restart" not in given:
        raise UsageError("Using --retry-failed requires --restart")


def configure(command: str, given: Given, *, tell: bool = True) -> Config:
    """Read the configuration and log as it says; `tell` what is odd about it and about the command line."""
    from hypershell.config import Config

    config = Config.load(command, given)
    log.setup(config.logging())
    if tell:
        _tell_oddities(config, given)
    return config


def _tell_oddities(config: Config, given: Given) -> None:
    for line in config.warnings:
        _logger.warning("%s", line)
    for line in config.notes:
        _logger.debug("%s", line)
    for name in given.repeated:
        _logger.warning("%s is given more than once: the last one counts", name)
    for option in options_of(config.command):
        if option.is_secret and option.dest in given and not option.idle:
            flags = "/".join(option.flags)
            _logger.warning("%s: ps shows it to everybody on this host; %s", flags, _SAFER)
    idle = ["/".join(option.flags) for option in options_of(config.command) if option.idle and option.dest in given]
    if idle:
        _logger.info("accepted without effect: %s", ", ".join(idle))


def collect(fields: Sequence[str], given: Mapping[str, object], config: Config) -> dict[str, Any]:
    """The value of every option among `fields`, from the configuration where it has a key."""
    collected: dict[str, Any] = {}
    for option in options_of(config.command):
        if option.dest in fields:
            keyed = option.key is not None
            value = config.value(option.dest) if keyed else given.get(option.dest, option.default)
            collected[option.dest] = tuple(cast(Sequence[str], value or ())) if option.many else value
    if "db" in fields and "no_db" not in given and "db" not in given:
        from hypershell.apps.place import place_of

        collected.update(place_of(config))
    for dest in ("db", "task_cwd", "backup", "status_file"):
        if collected.get(dest) is not None:
            collected[dest] = os.path.abspath(collected[dest])
    if collected.get("file") == "-":
        collected["file"] = None
    return collected


def _make_directories(settings: RunSettings, config: Config) -> None:
    from hypershell.apps.folders import site_folder

    site = config.sites.default
    if not settings.no_db and settings.is_at(site.database):
        site_folder(config, site.lib, runs=True)
    if settings.capture:
        site_folder(config, site.task)
