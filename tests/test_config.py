"""Configuration in layers: precedence, forms of a key, what is refused or warned of, where a value came from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hypershell.config import Config, Origin
from hypershell.errors import ConfigError
from hypershell.site import Sites, find_sites


def sites(tmp_path: Path, environ: dict[str, str] | None = None) -> Sites:
    """Sites below `tmp_path`; the system's file is that of ``etc``."""
    import dataclasses

    found = find_sites(environ or {}, admin=False, home=str(tmp_path / "home"), cwd=str(tmp_path / "cwd"))
    system = dataclasses.replace(found.system, config=str(tmp_path / "etc.toml"))
    return dataclasses.replace(found, system=system)


def load(tmp_path: Path, given: dict[str, object] | None = None, **environ: str) -> Config:
    return Config.load("cluster", given, environ=environ, sites=sites(tmp_path, environ))


def write(path: str, text: str) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text(text)
    os.chmod(path, 0o600)
    return path


def test_each_layer_beats_the_one_below(tmp_path: Path) -> None:
    paths = sites(tmp_path)
    assert load(tmp_path).get("server.bundlesize") is None
    assert load(tmp_path).which("server.bundlesize") == Origin("default", "")
    layers = (("system", paths.system), ("user", paths.user), ("local", paths.local))
    for number, (label, site) in enumerate(layers, 1):
        write(site.config, f"[server]\nbundlesize = {number}\n")
        config = load(tmp_path)
        assert config.get("server.bundlesize") == number
        assert config.which("server.bundlesize") == Origin(label, site.config)
    config = load(tmp_path, HYPERSHELL_SERVER_BUNDLESIZE="4")
    assert config.get("server.bundlesize") == 4
    assert str(config.which("server.bundlesize")) == "env: HYPERSHELL_SERVER_BUNDLESIZE"
    config = load(tmp_path, {"bundlesize": 5}, HYPERSHELL_SERVER_BUNDLESIZE="4")
    assert config.get("server.bundlesize") == 5
    assert str(config.which("server.bundlesize")) == "cli: -b/--bundlesize"


def test_tables_are_merged_key_by_key(tmp_path: Path) -> None:
    write(sites(tmp_path).user.config, "[server]\nbundlesize = 2\nattempts = 4\n")
    write(sites(tmp_path).local.config, "[server]\nbundlesize = 3\n")
    config = load(tmp_path)
    assert (config.get("server.bundlesize"), config.get("server.attempts")) == (3, 3)
    assert config.layers["server"]["attempts"] == 4
    assert config.layers.namespaces["default"]["server"]["attempts"] == 1


def test_retries_of_the_command_line_are_attempts_less_one(tmp_path: Path) -> None:
    config = load(tmp_path, {"max_retries": 2})
    assert config.get("server.attempts") == 2
    assert config.layers["server"]["attempts"] == 3


def test_keys_with_underscores_from_the_environment(tmp_path: Path) -> None:
    assert load(tmp_path, HYPERSHELL_SERVER_DRAIN_TIME="7").get("server.drain_time") == 7.0


def test_preload_names_the_database_of_the_site(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.get("database.file") == sites(tmp_path).user.database
    assert config.which("database.file") == Origin("preload", "")


@pytest.mark.parametrize("null", ["", "null", "<none>", " NULL "])
def test_null_is_the_built_in_default(tmp_path: Path, null: str) -> None:
    write(sites(tmp_path).user.config, 'database = "x.db"\n[task]\ntimeout = 5\n[server]\nattempts = 3\n')
    config = load(
        tmp_path,
        HYPERSHELL_TASK_TIMEOUT=null,
        HYPERSHELL_SERVER_ATTEMPTS=null,
        HYPERSHELL_DATABASE_FILE=null,
        HYPERSHELL_LOGGING_LEVEL=null,
    )
    assert config.get("task.timeout") is None
    assert config.get("server.attempts") == 0
    assert config.get("database.file") == sites(tmp_path).user.database
    assert config.get("logging.level") == "warning"


def test_zero_is_no_timeout_in_files(tmp_path: Path) -> None:
    write(sites(tmp_path).user.config, "[task]\ntimeout = 0\n[client]\ntimeout = 0\n")
    config = load(tmp_path)
    assert config.get("task.timeout") is None
    assert config.get("client.timeout") is None


def test_default_level_depends_on_the_command(tmp_path: Path) -> None:
    assert Config.load("initdb", environ={}, sites=sites(tmp_path)).get("logging.level") == "info"
    assert load(tmp_path).get("logging.level") == "warning"


def test_env_form_of_a_key_with_a_default(tmp_path: Path) -> None:
    path = write(sites(tmp_path).user.config, '[server]\nattempts_env = "MY_ATTEMPTS"\n')
    config = load(tmp_path, MY_ATTEMPTS="6")
    assert config.get("server.attempts") == 5
    assert config.warnings == []
    config = load(tmp_path)
    with pytest.raises(ConfigError) as caught:
        config.get("server.attempts")
    assert str(caught.value) == f"{path}: server.attempts_env: the variable MY_ATTEMPTS is not set"


def test_env_form_in_the_environment(tmp_path: Path) -> None:
    config = load(tmp_path, HYPERSHELL_DATABASE_FILE_ENV="PROJECT_DB", PROJECT_DB="/p.db")
    assert config.get("database.file") == "/p.db"
    assert str(config.which("database.file")) == "env: HYPERSHELL_DATABASE_FILE_ENV"


def test_eval_runs_only_when_the_key_is_read(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    write(sites(tmp_path).user.config, f"[server]\nattempts_eval = \"echo ' 3 '; echo x >> '{mark}'\"\n")
    config = load(tmp_path)
    assert config.get("server.bundlesize") is None
    assert str(config.which("server.attempts")).startswith("user: ")
    assert not mark.exists()
    assert config.get("server.attempts") == 2
    assert mark.exists()


def test_eval_that_is_overridden_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    write(sites(tmp_path).user.config, f"[server]\nattempts_eval = \"touch '{mark}'; echo 3\"\n")
    assert load(tmp_path, HYPERSHELL_SERVER_ATTEMPTS="2").get("server.attempts") == 1
    assert not mark.exists()


def test_eval_that_fails_is_named(tmp_path: Path) -> None:
    path = write(sites(tmp_path).user.config, '[server]\nattempts_eval = "exit 9"\n')
    with pytest.raises(ConfigError) as caught:
        load(tmp_path).get("server.attempts")
    assert str(caught.value) == f"{path}: server.attempts_eval: the command ended with status 9: exit 9"


def test_two_forms_of_one_key_are_refused(tmp_path: Path) -> None:
    path = write(sites(tmp_path).user.config, '[server]\nattempts = 2\nattempts_env = "X"\n')
    with pytest.raises(ConfigError) as caught:
        load(tmp_path).get("server.attempts")
    assert str(caught.value) == f"{path}: server.attempts and server.attempts_env exclude each other (keep one)"


def test_unknown_keys_are_named_and_passed_over(tmp_path: Path) -> None:
    path = write(sites(tmp_path).user.config, "top = 1\n[server]\nbundel = 2\nbundlesize = 3\n[server.x]\ny = 1\n")
    config = load(tmp_path)
    assert config.warnings == [
        f"{path}: unknown key top (ignored)",
        f"{path}: unknown key server.bundel (ignored)",
        f"{path}: unknown key server.x.y (ignored)",
    ]
    assert config.get("server.bundlesize") == 3


def test_unknown_variables_are_named_and_passed_over(tmp_path: Path) -> None:
    config = load(tmp_path, HYPERSHELL_SERVER_XYZ="1", HYPERSHELL_CONFIG_FILE="")
    assert config.warnings == ["unknown environment variable HYPERSHELL_SERVER_XYZ (ignored)"]
    assert config.notes == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[server\n", "not valid TOML: "),
        ("a = 1\na = 2\n", "not valid TOML: "),
        ("server = 5\n", "server: expected a table, not 5"),
        ("logging = true\n", "logging: expected a table, not True"),
        ("export = 1\n", "export: expected a table of names and values"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, reason: str) -> None:
    path = write(sites(tmp_path).user.config, text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


def test_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = write(sites(tmp_path).user.config, "")
    Path(path).write_bytes(b"a = '\xff'\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path)


def test_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(sites(tmp_path).user.config, "")
    Path(path).write_bytes(b"\xef\xbb\xbf[server]\nattempts = 2\n")
    assert load(tmp_path).get("server.attempts") == 1


def test_directory_and_fifo_are_refused_and_never_wait(tmp_path: Path) -> None:
    path = sites(tmp_path).user.config
    os.makedirs(path)
    with pytest.raises(ConfigError, match="cannot be read: not a regular file"):
        load(tmp_path)
    os.rmdir(path)
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="cannot be read: not a regular file"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HYPERSHELL_SERVER_BUNDLESIZE", "many", "invalid int value: 'many'"),
        ("HYPERSHELL_SERVER_BUNDLESIZE", "0", "must be at least 1, not 0"),
        ("HYPERSHELL_SERVER_ATTEMPTS", "0", "must be at least 1, not 0"),
        ("HYPERSHELL_SERVER_EAGER", "perhaps", "expected true or false, not 'perhaps'"),
        ("HYPERSHELL_TASK_SIGNALWAIT", "-1", "'-1' "),
        ("HYPERSHELL_LOGGING_LEVEL", "loud", "expected one of devel, trace"),
        ("HYPERSHELL_LOGGING_FILE_LEVEL", "loud", "expected one of devel, trace"),
    ],
)
def test_bad_variables_are_named(tmp_path: Path, name: str, value: str, reason: str) -> None:
    config = load(tmp_path, **{name: value})
    with pytest.raises(ConfigError) as caught:
        for key in ("server.bundlesize", "server.attempts", "server.eager", "task.signalwait", "logging.level"):
            config.get(key)
        config.logging()
    assert str(caught.value).startswith(f"{name}: {reason}")


@pytest.mark.parametrize("value", ["true", "1.5", '"x"', "nan", "-1", "[1]", "1979-05-27"])
def test_numbers_of_files_are_numbers(tmp_path: Path, value: str) -> None:
    path = write(sites(tmp_path).user.config, f"[server]\nbundlesize = {value}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path).get("server.bundlesize")
    assert str(caught.value).startswith(f"{path}: server.bundlesize: ")


@pytest.mark.parametrize("value", ["true", "inf", "nan", "-0.5", '"x"', "[1]"])
def test_durations_of_files_are_finite(tmp_path: Path, value: str) -> None:
    write(sites(tmp_path).user.config, f"[submit]\nbundlewait = {value}\n")
    with pytest.raises(ConfigError, match=r"submit\.bundlewait: "):
        load(tmp_path).get("submit.bundlewait")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_of_the_current_directory_that_others_may_write(tmp_path: Path, mode: int) -> None:
    path = write(sites(tmp_path).local.config, "[server]\nattempts = 9\n")
    os.chmod(path, mode)
    config = load(tmp_path)
    assert config.get("server.attempts") == 0
    assert config.warnings == [f"{path}: not read: group or others may write it (chmod go-w)"]


def test_file_of_the_current_directory_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(sites(tmp_path).local.config, "[server]\nattempts = 9\n")
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(path).st_uid + 1)
    config = load(tmp_path)
    assert config.get("server.attempts") == 0
    assert config.warnings == [f"{path}: not read: its folder belongs to another user (uid {os.stat(path).st_uid})"]


def test_site_that_was_named_is_trusted(tmp_path: Path) -> None:
    environ = {"HYPERSHELL_SITE": str(tmp_path / "group")}
    path = write(sites(tmp_path, environ).local.config, "[server]\nattempts = 9\n")
    os.chmod(path, 0o664)
    assert load(tmp_path, **environ).get("server.attempts") == 8


def test_config_file_replaces_all_files(tmp_path: Path) -> None:
    write(sites(tmp_path).user.config, "[server]\nattempts = 9\nbundlesize = 9\n")
    path = write(str(tmp_path / "only.toml"), "[server]\nattempts = 4\n")
    config = load(tmp_path, HYPERSHELL_CONFIG_FILE=path)
    assert (config.get("server.attempts"), config.get("server.bundlesize")) == (3, None)
    assert config.which("server.attempts") == Origin("file", path)
    assert load(tmp_path, HYPERSHELL_CONFIG_FILE="").get("server.attempts") == 0
    with pytest.raises(ConfigError, match=r"missing\.toml: no such file"):
        load(tmp_path, HYPERSHELL_CONFIG_FILE=str(tmp_path / "missing.toml"))


def test_exports_are_verbatim(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        HYPERSHELL_EXPORT_A="007",
        HYPERSHELL_EXPORT_A_B="",
        HYPERSHELL_EXPORT_lower="true",
        HYPERSHELL_EXPORT_X_env=" null ",
        HYPERSHELL_EXPORT_="nameless",
    )
    assert config.exports() == {"A": "007", "A_B": "", "lower": "true", "X_env": " null "}
    assert config.warnings == ["unknown environment variable HYPERSHELL_EXPORT_ (ignored)"]


def test_exports_of_files(tmp_path: Path) -> None:
    write(sites(tmp_path).user.config, '[export]\na = "low"\nkeep = "007"\n')
    text = (
        '[export]\nA = "x"\nlist = ["a", 1, true]\nnum = 1.5\nflag = false\n[export.nest]\nb = "y"\nfoo_env = "z"\n'
    )
    write(sites(tmp_path).local.config, text)
    config = load(tmp_path, HYPERSHELL_EXPORT_A="env")
    assert config.exports() == {
        "A": "env",
        "KEEP": "007",
        "LIST": os.pathsep.join(["a", "1", "true"]),
        "NUM": "1.5",
        "FLAG": "false",
        "NEST_B": "y",
        "NEST_FOO_ENV": "z",
    }
    assert config.warnings == []


@pytest.mark.parametrize("line", ['"a=b" = "x"', 'a = "x\\u0000y"', '"" = "x"'])
def test_exports_that_no_environment_can_hold(tmp_path: Path, line: str) -> None:
    path = write(sites(tmp_path).user.config, f"[export]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path).exports()
    assert str(caught.value).startswith(f"{path}: export.")


@pytest.mark.parametrize("name", ["URL", "HOST", "USER", "PASSWORD", "DATABASE", "SCHEMA"])
def test_no_other_system_takes_bytes_that_are_not_utf8(tmp_path: Path, name: str) -> None:
    """Nor are passwords shown, or the URLs that hold them."""
    config = load(tmp_path, **{f"HYPERSHELL_DATABASE_{name}": os.fsdecode(b"postgresql://caf\xe9")})
    with pytest.raises(ConfigError, match="UTF-8") as caught:
        config.get(f"database.{name.lower()}")
    assert (r"caf\xe9" in str(caught.value)) == (name not in ("URL", "PASSWORD"))


def test_exports_may_have_any_bytes(tmp_path: Path) -> None:
    word = os.fsdecode(b"caf\xe9")
    assert load(tmp_path, HYPERSHELL_EXPORT_A=word).exports() == {"A": word}


def test_log_file_in_all_its_forms(tmp_path: Path) -> None:
    user = sites(tmp_path).user.config
    for text, expected in (
        ("", None),
        ("[logging]\nfile = true\n", ""),
        ('[logging]\nfile = "enabled"\n', ""),
        ("[logging]\nfile = false\n", None),
        ('[logging]\nfile = "x.log"\n', "x.log"),
        ('[logging.file]\nlevel = "info"\n', ""),
        ('[logging.file]\npath = "<auto>"\n', ""),
    ):
        write(user, text)
        config = load(tmp_path)
        assert config.logging().file == expected, text
        assert config.warnings == []
    assert load(tmp_path, HYPERSHELL_LOGGING_FILE="y.log").logging().file == "y.log"
    config = load(tmp_path, HYPERSHELL_LOGGING_FILE="y.log", HYPERSHELL_LOGGING_FILE_PATH="z.log")
    assert config.logging().file == "z.log"


def test_database_as_a_plain_path(tmp_path: Path) -> None:
    write(sites(tmp_path).user.config, 'database = "~/plain.db"\n')
    config = load(tmp_path)
    assert config.get("database.file") == os.path.expanduser("~/plain.db")
    assert load(tmp_path, HYPERSHELL_DATABASE="/e.db").get("database.file") == "/e.db"
