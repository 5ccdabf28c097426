"""The table of options: every flag, variable and key of it really changes its setting, and the page is current."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypershell.apps.bundle import parse_bundle
from hypershell.apps.config import parse_config
from hypershell.apps.frame import (
    parse,
    parse_export,
    parse_import,
    parse_initdb,
    parse_list,
    parse_runs,
    parse_update,
)
from hypershell.apps.help import command_help, command_usage, top_help
from hypershell.apps.parse_net import parse_client, parse_mpi, parse_server, parse_status
from hypershell.apps.parse_task import parse_info, parse_submit, parse_wait
from hypershell.errors import ConfigError, UsageError
from hypershell.options import COMMANDS, ENV_PREFIX, OPTIONS, Option, find_option, options_of
from hypershell.settings import (
    DialSettings,
    DoorSettings,
    ExportSettings,
    ImportSettings,
    InfoSettings,
    InitSettings,
    JoinSettings,
    ListSettings,
    RunSettings,
    RunsSettings,
    SubmitSettings,
    UpdateSettings,
    WaitSettings,
)

# dest: arguments, and what the setting becomes
FLAGS: dict[str, tuple[list[str], object]] = {
    "config_words": (["which", "task.cwd"], ("which", "task.cwd")),
    "file": (["tasks.in"], "tasks.in"),
    "ranks": (["-n", "3"], 3),
    "slots": (["--num-tasks", "0"], 0),
    "template": (["-t", "echo {}"], "echo {}"),
    "quote": (["-t", "echo {}", "-q"], True),
    "quote_inserted": (["--template", "echo {}", "--quote"], True),
    "plain_lines": (["--plain-lines"], True),
    "bundlesize": (["-b7"], 7),
    "bundlewait": (["-w", "1.5"], 1.5),
    "max_retries": (["-r", "2"], 2),
    "eager": (["--eager"], True),
    "task_timeout": (["-W", "10m"], 600.0),
    "task_env": (["--task-env", "job"], "job"),
    "task_bind": (["--bind", "Cores"], "cores"),
    "startup_report": (["--startup-report"], True),
    "bundle": (["hs.pyz"], Path("hs.pyz")),
    "signalwait": (["-S", "0"], 0.0),
    "idle_timeout": (["-T", "2:00:00"], 7200.0),
    "walltime": (["--walltime", "2:00:00"], 7200.0),
    "status_file": (["--status-file", "/x/status.json"], "/x/status.json"),
    "drain_time": (["--drain-time", "30"], 30.0),
    "poison": (["--poison", "5"], 5),
    "output": (["-o", "out"], "out"),
    "errors": (["-e", "err"], "err"),
    "failures": (["-f", "failed"], "failed"),
    "capture": (["--capture"], True),
    "keep_output": (["--keep-output"], True),
    "allow_failures": (["--allow-failures"], True),
    "db": (["--db", "/x/y.db"], "/x/y.db"),
    "no_db": (["--no-db"], True),
    "restart": (["--restart"], True),
    "forever": (["--forever"], True),
    "take_over": (["--take-over", "--forever"], True),
    "update": (["tasks", "--restart", "--update"], True),
    "repeat": (["tasks", "--restart", "--repeat"], True),
    "retry_failed": (["--restart", "--retry-failed"], True),
    "upgrade": (["--upgrade"], True),
    "yes": (["-y"], True),
    "vacuum": (["-v"], True),
    "backup": (["-b", "/x/copy.db"], "/x/copy.db"),
    "rotate": (["-r"], True),
    "signal": (["--signal", "sigusr1", "--cancel"], "USR1"),
    "truncate": (["-t"], True),
    "ignore_partitions": (["-i"], True),
    "without_partitions": (["0", "--ignore-partitions"], True),
    "run": (["019a"], "019a"),
    "fields": (["id", "-c", "args"], ("id", "args")),
    "where": (["-w", "a == 1", "--where", "b"], ("a == 1", "b")),
    "tags": (["-t", "a", "b:1", "-t", "c"], ("a", "b:1", "c")),
    "group": (["-g", "0"], 0),
    "failed": (["-F"], True),
    "succeeded": (["-S"], True),
    "completed": (["--finished"], True),
    "cancelled": (["-X"], True),
    "remaining": (["-R"], True),
    "retries": (["--retries"], True),
    "order_by": (["-s", "id"], "id"),
    "desc": (["-s", "id", "--desc"], True),
    "limit": (["-l5"], 5),
    "all_rows": (["--all"], True),
    "count": (["-c"], True),
    "format": (["-f", "TABLE"], "table"),
    "json": (["--json"], "json"),
    "csv": (["--csv"], "csv"),
    "delimiter": (["-d", ", "], ", "),
    "list_fields": (["--fields"], True),
    "tag_keys": (["--tag-keys"], True),
    "tag_values": (["--tag-values", "site"], "site"),
    "words": (["-g1", "ls", "--", "-l"], ("ls", "-l")),
    "task_file": (["-f", "x.in"], "x.in"),
    "only_new": (["--update", "x.in"], True),
    "once_more": (["--repeat", "x.in"], True),
    "expand": (["--template", "echo {}"], "echo {}"),
    "tag": (["-t", "a", "b:1", "-t", "c"], ("a", "b:1", "c")),
    "task_group": (["-g", "3"], 3),
    "cores": (["-c", "4"], 4),
    "memory": (["-m", "4G"], 4 * 1024**3),
    "timeout": (["--timeout", "10m"], 600.0),
    "commitsize": (["-b", "5"], 5),
    "initdb": (["--initdb"], True),
    "task_id": (["01a2"], "01a2"),
    "interval": (["1", "-n", "2m"], 120.0),
    "show_info": (["1", "-i"], True),
    "show_status": (["1", "-s"], True),
    "return_status": (["1", "-r"], True),
    "extract": (["1", "-x", "args"], "args"),
    "show_stdout": (["1", "--stdout"], True),
    "show_stderr": (["1", "--stderr"], True),
    "info_format": (["1", "-f", "JSON"], "json"),
    "info_json": (["1", "--json"], "json"),
    "info_yaml": (["1", "--yaml"], "yaml"),
    "changes": (["cores=2", "-f", "a:1"], ("cores=2", "a:1")),
    "remove_tags": (["--remove-tag", "a", "b", "c:1", "--remove-tag", "d"], ("a", "b", "d")),
    "cancel": (["--cancel"], True),
    "revert": (["--revert"], True),
    "delete": (["--delete"], True),
    "no_confirm": (["-f"], True),
    "target": (["a.h5"], "a.h5"),
    "export_format": (["--format", "CSV"], "csv"),
    "outputs": (["--outputs"], True),
    "force": (["--force"], True),
    "source": (["a.h5"], "a.h5"),
    "client_bundlesize": (["-b7"], 7),
    "client_bundlewait": (["-w", "2"], 2.0),
    "delay_start": (["-d", "-60"], -60.0),
    "start_delay": (["--delay-start=-60"], -60.0),
    "release_rate": (["--release-rate", "2.5"], 2.5),
    "rank0_tasks": (["--rank0-tasks", "0"], 0),
    "bind": (["--bind", "*"], "*"),
    "door": (["--bind", "0.0.0.0"], "0.0.0.0"),
    "host": (["-H", "node7"], "node7"),
    "port": (["-p", "0"], 0),
    "auth": (["-k", "a-key-of-this-test"], "a-key-of-this-test"),
    "auth_file": (["--auth-file", "key"], "key"),
    "connect": (["--connect", "c.json"], "c.json"),
    "connect_file": (["--connect-file", "/x/c.json"], "/x/c.json"),
    "advertise": (["--advertise", "node7", "--advertise", "::1"], ("node7", "::1")),
    "no_tls": (["--no-tls"], True),
    "tls_cert": (["--tls-cert", "c.pem"], "c.pem"),
    "tls_key": (["--tls-key", "k.pem"], "k.pem"),
    "tls_ca": (["--tls-ca", "ca.pem"], "ca.pem"),
    "tls_fingerprint": (["--tls-fingerprint", "ab" * 32], "ab" * 32),
    "evict": (["--evict", "2m"], 120.0),
    "reclaim": (["--reclaim", "2m"], 120.0),
    "quarantine": (["--quarantine", "0"], 0),
    "label": (["--label", "gpu", "--label", "big"], ("gpu", "big")),
    "ratelimit": (["-R", "0.5"], 0.5),
    "reconnect": (["--reconnect", "0"], 0.0),
    "queue": (["-q"], True),
    "print_failures": (["--print"], True),
    "status_json": (["--json"], True),
}

# dest: text of a variable, the same value in TOML, and what the setting becomes
KEYS: dict[str, tuple[str, str, object]] = {
    "site_mode": ("750", "0o750", 0o750),
    "db_mode": (" 0660 ", '"0o660"', 0o660),
    "bundlesize": ("9", "9", 9),
    "bundlewait": ("2m", '"2m"', 120.0),
    "max_retries": ("4", "4", 3),
    "eager": ("true", "true", True),
    "quote": ("true", "true", True),
    "plain_lines": ("true", "true", True),
    "task_timeout": ("1h", "3600", 3600.0),
    "signalwait": ("3", "3", 3.0),
    "idle_timeout": ("8.5", "8.5", 8.5),
    "drain_time": ("0", "0", 0.0),
    "poison": ("0", "0", 0),
    "walltime": ("1h", "3600", 3600.0),
    "task_cwd": ("/srv", '"/srv"', "/srv"),
    "task_env": ("none", '"none"', "none"),
    "task_bind": ("cores", '"cores"', "cores"),
    "cores": ("2", "2", 2),
    "memory": ("512M", '"512M"', 512 * 1024**2),
    "commitsize": ("9", "9", 9),
    "db": ("/data/t.db", '"/data/t.db"', "/data/t.db"),
    "log_level": ("ERROR", '"error"', "error"),
    "log_style": ("short", '"short"', "short"),
    "log_format": ("%(message)s", '"%(message)s"', "%(message)s"),
    "log_datefmt": ("%H", '"%H"', "%H"),
    "log_color": ("off", "false", False),
    "log_file": ("a.log", '"a.log"', "a.log"),
    "log_file_level": ("info", '"info"', "info"),
    "log_file_style": ("short", '"short"', "short"),
    "log_file_format": ("%(name)s", '"%(name)s"', "%(name)s"),
    "client_bundlesize": ("9", "9", 9),
    "client_bundlewait": ("2m", '"2m"', 120.0),
    "bind": ("::1", '"::1"', "::1"),
    "host": ("::1", '"::1"', "::1"),
    "port": ("50002", "50002", 50002),
    "auth": ("another-key-of-this", '"another-key-of-this"', "another-key-of-this"),
    "auth_file": ("/key", '"/key"', "/key"),
    "no_tls": ("false", "false", True),
    "tls_cert": ("/c.pem", '"/c.pem"', "/c.pem"),
    "tls_key": ("/k.pem", '"/k.pem"', "/k.pem"),
    "tls_ca": ("/ca.pem", '"/ca.pem"', "/ca.pem"),
    "tls_fingerprint": ("cd", '"cd"', "cd"),
    "tls_name": ("node7", '"node7"', "node7"),
    "tls_minimum": ("tlsv1.3", '"TLSv1.3"', "TLSv1.3"),
    "tls_ciphers": ("HIGH", '"HIGH"', "HIGH"),
    "evict": ("20", "20", 20.0),
    "heartrate": ("2", "2", 2.0),
    "reclaim": ("2m", "120", 120.0),
    "quarantine": ("3", "3", 3),
    "start_delay": ("-1m", "-60", -60.0),
    "release_rate": ("0", "0", 0.0),
    "rank0_tasks": ("3", "3", 3),
    "label": ("gpu, big", '["gpu", "big"]', ("gpu", "big")),
    "ratelimit": ("2.5", "2.5", 2.5),
    "reconnect": ("1m", "60", 60.0),
}

# The same for the keys of a server; what becomes of them is the field of its address.
SERVER_KEYS: dict[str, tuple[str, str, tuple[str, object]]] = {
    "db_url": ("postgres://h/d", '"postgres://h/d"', ("url", "postgres://h/d")),
    "db_host": ("node", '"node"', ("host", "node")),
    "db_port": ("5433", "5433", ("port", 5433)),
    "db_user": ("me", '"me"', ("user", "me")),
    "db_password": ("123", "123", ("password", "123")),
    "db_name": ("work", '"work"', ("database", "work")),
    "db_schema": ("mine", '"mine"', ("schema", "mine")),
}


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings from outside, a site of its own, and the logger as it was."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HYPERSHELL_SITE", str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("hypershell")
    before, level = list(logger.handlers), logger.level
    yield
    for handler in [handler for handler in logger.handlers if handler not in before]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)


def setting(dest: str, argv: list[str]) -> object:
    """The value that the settings of a command, or those of its log, hold after `argv`."""
    settings: (
        RunSettings
        | ExportSettings
        | ImportSettings
        | InitSettings
        | ListSettings
        | RunsSettings
        | SubmitSettings
        | InfoSettings
        | WaitSettings
        | UpdateSettings
        | DoorSettings
        | DialSettings
        | JoinSettings
    )
    commands = find_option(dest).commands
    if dest in DoorSettings.__struct_fields__ and "server" in commands:
        _, settings, config = parse_server(argv or ["-"])
    elif dest == "door":
        _, settings, config = parse_mpi(argv or ["-"])
    elif dest in DialSettings.__struct_fields__:
        _, settings, config = parse_client(argv)
    elif dest == "auth":
        return parse_client(argv)[2].value(dest)
    elif dest == "bundle":
        return parse_bundle(argv) if argv else None
    elif dest == "config_words":
        return parse_config(argv)[0] if argv else ()
    elif dest == "status_json":
        return parse_status(argv)[0]
    elif "mpi" in commands:
        settings, config = parse("mpi", argv or ["-"])
    elif "initdb" in commands:
        settings, config = parse_initdb(argv)
    elif "submit" in commands:
        settings, _, config = parse_submit(argv or ["-"])
    elif "client" in commands:
        settings, _, config = parse_client(argv)
    elif "server" in commands:
        settings, _, config = parse_server(argv or ["-"])
    elif "info" in commands and "list" not in commands:
        settings, config = parse_info(argv or ["0"])
        dest = "info_format" if dest in ("info_json", "info_yaml") else dest
    elif "wait" in commands:
        settings, config = parse_wait(argv or ["0"])
    elif commands == ("update",):
        settings, config = parse_update(argv or ["-C"])
    elif commands == ("export",):
        settings, config = parse_export(argv)
    elif commands == ("import",):
        settings, config = parse_import(argv)
    elif "list" not in commands:
        settings, config = parse_runs(argv)
    else:
        settings, config = parse_list(argv)
        dest = "format" if dest in ("json", "csv") else dest
    if dest in type(settings).__struct_fields__:
        return getattr(settings, dest)
    return getattr(config.logging(), dest.removeprefix("log_"))


def write_config(tmp_path: Path, key: str, value: str) -> Path:
    section, _, name = key.rpartition(".")
    folder = tmp_path / "site"
    folder.mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text(f"[{section}]\n{name} = {value}\n")
    return path


def test_samples_cover_the_table() -> None:
    options = [option for option in OPTIONS if not option.idle]
    assert set(FLAGS) == {option.dest for option in options if option.flags or option.is_positional}
    assert {*KEYS, *SERVER_KEYS, "provider"} == {option.dest for option in options if option.key}


@pytest.mark.parametrize("dest", FLAGS)
def test_flag_changes_setting(dest: str) -> None:
    argv, expected = FLAGS[dest]
    assert setting(dest, []) != expected
    assert setting(dest, argv) == expected


@pytest.mark.parametrize("dest", KEYS)
def test_variable_changes_setting(dest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, _, expected = KEYS[dest]
    assert setting(dest, []) != expected
    variable = find_option(dest).env
    assert variable is not None
    monkeypatch.setenv(variable, text)
    assert setting(dest, []) == expected


@pytest.mark.parametrize("dest", KEYS)
def test_key_in_file_changes_setting(dest: str, tmp_path: Path) -> None:
    _, value, expected = KEYS[dest]
    key = find_option(dest).key
    assert key is not None
    write_config(tmp_path, key, value)
    assert setting(dest, []) == expected


@pytest.mark.parametrize("dest", [dest for dest in KEYS if dest in FLAGS])
def test_flag_beats_variable_beats_file(dest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option = find_option(dest)
    assert option.env is not None and option.key is not None
    text, _, expected = KEYS[dest]
    write_config(tmp_path, option.key, "[]")  # never read, so never an error
    monkeypatch.setenv(option.env, text)
    assert setting(dest, []) == expected
    monkeypatch.setenv(option.env, "\x01")
    argv, expected = FLAGS[dest]
    assert setting(dest, argv) == expected


def test_another_kind_of_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERSHELL_DATABASE_PROVIDER", "mysql")
    message = r"HYPERSHELL_DATABASE_PROVIDER: expected one of sqlite, postgres, postgresql, not 'mysql'"
    with pytest.raises(ConfigError, match=message):
        parse("mpi", ["-"])
    assert parse("mpi", ["--no-db"])[0].no_db


@pytest.mark.parametrize("dest", SERVER_KEYS)
@pytest.mark.parametrize("form", ["variable", "file", "env", "eval"])
def test_keys_of_a_server(dest: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option = find_option(dest)
    text, value, (field, expected) = SERVER_KEYS[dest]
    assert option.env is not None and option.key is not None
    monkeypatch.setenv("HYPERSHELL_DATABASE_PROVIDER", "postgresql")
    if dest != "db_name":
        monkeypatch.setenv("HYPERSHELL_DATABASE_DATABASE", "d")
    monkeypatch.setenv("SOME_VARIABLE", text)
    if form == "variable":
        monkeypatch.setenv(option.env, text)
    elif form == "file":
        write_config(tmp_path, option.key, value)
    elif form == "env":
        write_config(tmp_path, option.key + "_env", '"SOME_VARIABLE"')
    else:
        monkeypatch.setenv(option.env + "_EVAL", f"echo {text}")
    for settings in (parse("mpi", ["-"])[0], parse_initdb([])[0], parse_list([])[0]):
        assert getattr(settings.server, field) == expected
        assert "123" not in repr(settings)


def test_a_file_on_the_command_line_goes_before_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERSHELL_DATABASE_URL", "postgresql://h/d")
    monkeypatch.setenv("HYPERSHELL_DATABASE_PASSWORD_EVAL", "exit 3")
    settings, _ = parse("mpi", ["-", "--db", "/x.db"])
    assert (settings.db, settings.server) == ("/x.db", None)
    assert parse("mpi", ["-", "--no-db"])[0].server is None
    with pytest.raises(ConfigError, match="HYPERSHELL_DATABASE_PASSWORD_EVAL: the command ended with status 3"):
        parse("mpi", ["-"])
    with pytest.raises(UsageError, match=r"argument --db: expected a path: .*HYPERSHELL_DATABASE_URL"):
        parse("mpi", ["-", "--db", "postgresql://h/d"])


def test_a_url_may_be_of_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERSHELL_DATABASE_URL", "sqlite:////data/x.db")
    settings, _ = parse("mpi", ["-"])
    assert (settings.db, settings.server) == ("/data/x.db", None)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"URL": "mysql://me:hidden@h/d"}, "HYPERSHELL_DATABASE_URL: expected a URL that begins with one of post"),
        ({"URL": "sqlite://"}, "database.url: the URL names no file"),
        (
            {"URL": "sqlite:///hidden", "PROVIDER": "postgres"},
            "database.provider is postgres and database.url is of",
        ),
        ({"URL": "postgres://hidden/", "PROVIDER": "sqlite"}, "(keep one)"),
        ({"PROVIDER": "postgres"}, "database.database is missing"),
        ({"PROVIDER": "postgres", "DATABASE": "d", "PORT": "0"}, "HYPERSHELL_DATABASE_PORT: must be at least 1"),
        ({"PROVIDER": "postgres", "DATABASE": "d", "PORT": "65536"}, "must be at most 65535"),
    ],
)
def test_bad_server_is_named(variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"HYPERSHELL_DATABASE_{name}", value)
    with pytest.raises(ConfigError) as caught:
        parse("mpi", ["-"])
    assert message in str(caught.value) and "hidden" not in str(caught.value)


KEYED = [option for option in OPTIONS if option.key and not option.idle]


@pytest.mark.parametrize("option", KEYED, ids=lambda option: option.dest)
def test_bad_value_in_file_is_named(option: Option, tmp_path: Path) -> None:
    assert option.key is not None
    path = write_config(tmp_path, option.key, "[1]")
    if option.dest in SERVER_KEYS:
        path.write_text(path.read_text() + 'provider = "postgres"\n')
    with pytest.raises(ConfigError) as caught:
        if "mpi" in option.commands:
            parse("mpi", ["-"])
            parse_mpi(["-"])[2].value("auth")
        elif "client" in option.commands:
            parse_client([])
        elif "server" in option.commands:
            parse_server(["-"])
        else:
            parse_submit(["-"])
    assert str(caught.value).startswith(f"{path}: {option.key}: ")
    words = dict.fromkeys(("db_url", "db_password", "auth"), "a list") | {"label": "not 1"}
    assert words.get(option.dest, "[1]") in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-N", "x"], "argument -N/--num-threads/--num-tasks: invalid int value: 'x'"),
        (["-N", "-1"], "argument -N/--num-threads/--num-tasks: must be at least 0, not -1"),
        (["-N"], "argument -N/--num-threads/--num-tasks: expected one argument"),
        (["-b", "0"], "argument -b/--bundlesize: must be at least 1, not 0"),
        (["-n", "0"], "argument -n/--ranks: must be at least 1, not 0"),
        (["-r", "-1"], "argument -r/--max-retries: must be at least 0, not -1"),
        (["-W", "0"], "argument -W/--task-timeout: must be more than 0 seconds, not '0'"),
        (["-T", "0"], "argument -T/--timeout: must be more than 0 seconds, not '0'"),
        (["-o", ""], "argument -o/--output: the path is empty"),
        (["--foo"], "unrecognized arguments: --foo (see hs mpi --help)"),
        (["--max-retry2"], "unrecognized arguments: --max-retry2 (did you mean --max-retries? see hs mpi --help)"),
        (["a", "b"], "unrecognized arguments: b (see hs mpi --help)"),
        (["--restart", "--no-db"], "Using --restart with --no-db is invalid"),
        (["--forever", "--no-db"], "Using --forever with --no-db is invalid"),
        (["--forever", "--restart"], "Using --forever with --restart is invalid"),
        (["--db", "x", "--no-db"], "Using --db with --no-db is invalid"),
        (["--capture", "-o", "x"], "Using --capture with -o/--output is invalid"),
        (["--capture", "-e", "x"], "Using --capture with -e/--errors is invalid"),
        (["--update"], "Using --update requires --restart and FILE"),
        (["tasks", "--update"], "Using --update requires --restart and FILE"),
        (["--restart", "--repeat"], "Using --repeat requires --restart and FILE"),
        (["tasks", "--restart", "--update", "--repeat"], "Using --update with --repeat is invalid"),
        (["--take-over"], "Using --take-over requires --restart or --forever"),
        (["tasks", "--retry-failed"], "Using --retry-failed requires --restart"),
    ],
)
def test_bad_arguments_are_named(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse("mpi", argv)
    assert str(caught.value) == message


def test_bad_duration_is_named() -> None:
    with pytest.raises(UsageError, match=r"^argument -w/--bundlewait: 'soon' "):
        parse("mpi", ["-w", "soon"])


def test_shapes_of_the_command_line() -> None:
    for argv in (
        ["-N2", "--bundlesize=3", "tasks"],
        ["tasks", "--num-th", "2", "--bundles", "3"],
        ["-N", "2", "-b3", "--", "tasks"],
    ):
        settings, _ = parse("cluster", argv)
        assert (settings.slots, settings.bundlesize, settings.file) == (2, 3, "tasks")
    assert parse("cluster", ["-N1", "-"])[0].file is None
    assert parse("cluster", ["--restart", "tasks"])[0].file == "tasks"
    assert parse("cluster", ["--eager"])[0].slots_given is False
    assert parse("cluster", ["-N1"])[0].slots_given is True


def test_settings_hold_paths_of_the_site(tmp_path: Path) -> None:
    settings, _ = parse("cluster", ["--capture"])
    site = tmp_path / "site"
    assert settings.site == str(site)
    assert settings.db == str(site / "lib" / "main.db")
    assert settings.capture_dir == str(site / "lib" / "task")
    assert os.path.isdir(settings.capture_dir)
    assert parse("cluster", ["--db", "here.db"])[0].db == str(tmp_path / "here.db")


def test_settings_travel_as_bytes() -> None:
    import msgspec

    settings, _ = parse("mpi", ["-N3", "-W", "5", "tasks"])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=RunSettings) == settings


def test_defaults_of_settings_are_those_of_the_table() -> None:
    plain = RunSettings()
    for option in options_of("mpi"):
        if option.dest in RunSettings.__struct_fields__ and option.dest not in ("db", "log_level"):
            assert getattr(plain, option.dest) == option.default, option.dest
    assert plain.log_level == COMMANDS[0].log_level


def test_flags_and_keys_are_unique_within_a_command() -> None:
    for command in COMMANDS:
        flags = [flag for option in options_of(command.name) for flag in option.flags]
        keys = [option.key for option in options_of(command.name) if option.key]
        assert len(flags) == len(set(flags))
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_fits_and_is_complete(command: object) -> None:
    text = command_help(command)  # type: ignore[arg-type]
    usage = command_usage(command)  # type: ignore[arg-type]
    assert max(map(len, (text + usage + top_help()).splitlines())) <= 80
    for option in options_of(command.name):  # type: ignore[attr-defined]
        for flag in option.flags[:2]:
            assert f"{flag}" in text
        if option.flags:
            assert (f"[{option.flags[0]}" in usage) != option.idle


def test_reference_page_is_current() -> None:
    source = Path(__file__).parent.parent / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate_reference", source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert source.with_name("reference.md").read_text() == module.render(), "run: python docs/generate.py"


def test_quote_is_written_into_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_client(["-t", "wc {} {/}", "-q"])[0].template == "wc {:q} {/:q}"
    assert parse("cluster", ["-", "-t", "wc {}", "--quote"])[0].template == "wc {:q}"
    assert parse_submit(["-", "--template", "wc {}", "--quote"])[0].expand == "wc {:q}"
    for words in (["-q"], ["-q", "-t", "{}"]):
        with pytest.raises(UsageError, match="--quote requires a template"):
            parse("cluster", ["-", *words])
    monkeypatch.setenv("HYPERSHELL_TASK_QUOTE", "true")
    assert parse("cluster", ["-", "-t", "wc {}"])[0].template == "wc {:q}"
    assert parse_submit(["-", "--template", "wc {}"])[0].expand == "wc {:q}"
    assert parse("cluster", ["-"])[0].template == "{}", "lines that are commands are left alone"
    assert parse_server(["-"])[0].template == "{}"
