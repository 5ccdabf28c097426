"""A configuration in the current directory: whose it must be, what it may not say; and ``hs config which``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hypershell.errors import ConfigError
from tests.test_config import load, sites, write
from tests.testbed.cli import Hs
from tests.testbed.neighbour import give_away


def told(tmp_path: Path) -> str:
    """Why the file of the current directory is not read; its value is not there then."""
    config = load(tmp_path)
    assert config.get("server.attempts") == 0
    (line,) = config.warnings
    path = sites(tmp_path).local.config
    assert [file.state for file in config.files if file.layer == "local"] == [line.removeprefix(f"{path}: ")]
    return line.removeprefix(f"{path}: not read: ")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A file in the current directory that counts."""
    path = Path(write(sites(tmp_path).local.config, "[server]\nattempts = 9\n"))
    path.parent.chmod(0o755)
    assert load(tmp_path).get("server.attempts") == 8
    return path


def test_a_link_in_its_place_is_not_read(tmp_path: Path, local: Path) -> None:
    local.rename(tmp_path / "elsewhere.toml")
    local.symlink_to(tmp_path / "elsewhere.toml")
    assert told(tmp_path) == "it is a symbolic link"


def test_a_link_in_place_of_its_folder_is_not_read(tmp_path: Path, local: Path) -> None:
    local.parent.rename(tmp_path / "elsewhere")
    local.parent.symlink_to(tmp_path / "elsewhere")
    assert told(tmp_path) == "its folder is a symbolic link"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_folder_that_others_may_write(tmp_path: Path, local: Path, mode: int) -> None:
    local.parent.chmod(mode)
    assert told(tmp_path) == "group or others may write its folder (chmod go-w)"


def test_a_folder_of_another_user(tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_away(local.parent, monkeypatch)
    assert told(tmp_path).startswith("its folder belongs to another user (uid ")


def test_a_file_of_another_user(tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_away(local, monkeypatch)
    assert "belongs to another user (uid " in told(tmp_path)


def test_in_the_home_directory_it_is_the_users_own(tmp_path: Path) -> None:
    found = sites(tmp_path)
    write(found.user.config, "[server]\nattempts_eval = 'echo 3'\n")
    (tmp_path / "cwd").symlink_to("home")
    config = load(tmp_path)
    assert config.get("server.attempts") == 2 and config.warnings == []
    assert [file.layer for file in config.files] == ["system", "user"]


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("[server]\nattempts_eval = 'touch {mark}; echo 3'\n", "server.attempts", "server.attempts_eval: a file in "
         "the current directory runs no command: put this into {user}"),
        ("[database]\npassword_eval = 'touch {mark}; echo x'\n", "database.password", "database.password_eval: "),
        ("[server]\nauth = '0123456789abcdef0123456789abcdef'\n", "server.auth", "server.auth: a file in the "
         "current directory names no key"),
        ("[server]\nauth_file = 'key'\n", "server.auth_file", "server.auth_file: a file in the current directory "),
        ("[database]\nmode = '0660'\n", "database.mode", "database.mode: a file in the current directory shares "
         "nothing"),
        ("[site]\nmode = '0770'\n", "site.mode", "site.mode: a file in the current directory shares nothing"),
        ("[logging]\nfile = '{mark}'\n", "logging.file.path", "logging.file.path: a file in the current directory "
         "names no log file"),
        ("[logging]\nfile.path_env = 'HOME'\n", "logging.file.path", "logging.file.path_env: a file in "),
    ],
)  # fmt: skip
def test_what_it_may_not_say(tmp_path: Path, text: str, key: str, reason: str) -> None:
    mark = tmp_path / "mark"
    path = write(sites(tmp_path).local.config, text.format(mark=mark))
    config = load(tmp_path)
    with pytest.raises(ConfigError) as caught:
        config.get(key)
    assert str(caught.value).startswith(f"{path}: {reason.format(user=sites(tmp_path).user.config)}")
    assert not mark.exists() and config.which(key).source == path


@pytest.mark.parametrize("value", ["true", "false", "''"])
def test_it_may_ask_for_a_log_file_of_the_site(tmp_path: Path, value: str) -> None:
    write(sites(tmp_path).local.config, f"[logging]\nfile = {value}\n")
    assert load(tmp_path).logging().file == {"true": ""}.get(value)


@pytest.mark.parametrize("name", ["LD_PRELOAD", "ld_library_path", "DYLD_LIBRARY_PATH", "bash_env", "ENV", "PATH"])
def test_variables_by_which_every_task_would_run_something(tmp_path: Path, name: str) -> None:
    path = write(sites(tmp_path).local.config, f"[export]\n{name} = 'x'\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path).exports()
    reason = "a file in the current directory sets no variable by which the loader or the shell runs code"
    assert str(caught.value).startswith(f"{path}: export.{name}: {reason}: put this into ")


def test_other_variables_count(tmp_path: Path) -> None:
    write(sites(tmp_path).local.config, "[export]\nomp.num.threads = 4\n")
    assert load(tmp_path).exports() == {"OMP_NUM_THREADS": "4"}


def test_a_more_important_value_goes_before_what_is_refused(tmp_path: Path) -> None:
    write(sites(tmp_path).local.config, "[server]\nattempts_eval = 'echo 3'\n")
    assert load(tmp_path, HYPERSHELL_SERVER_ATTEMPTS="2").get("server.attempts") == 1


def test_a_site_that_was_named_may_say_all(tmp_path: Path) -> None:
    environ = {"HYPERSHELL_SITE": str(tmp_path / "site")}
    write(sites(tmp_path, environ).local.config, "[server]\nattempts_eval = 'echo 3'\n[export]\nPATH = '/bin'\n")
    config = load(tmp_path, **environ)
    assert config.get("server.attempts") == 2 and config.exports() == {"PATH": "/bin"}


# -- hs config which ----------------------------------------------------------------------------------------


@pytest.fixture
def here(hs: Hs) -> dict[str, str]:
    """Variables with which the user's site is in the current folder, and none is named."""
    return {"HYPERSHELL_SITE": "", "HOME": str(hs.folder / "home")}


def test_which_tells_of_each_file(hs: Hs, here: dict[str, str]) -> None:
    user = write(str(hs.folder / "home" / ".hypershell" / "config.toml"), "[server]\nattempts = 3\n")
    local = write(str(hs.folder / ".hypershell" / "config.toml"), "[server]\nattempts = 4\n")
    os.chmod(local, 0o666)
    done = hs.run("config", "which", env=here)
    rows = [line.split(None, 2) for line in done.out.splitlines()]
    assert done.status == 0 and rows[1:] == [
        ["user", user, "read"],
        ["local", local, "not read: group or others may write it (chmod go-w)"],
    ]
    assert rows[0][:2] == ["system", "/etc/hypershell.toml"]
    assert hs.run("config", "which", env={**here, "HYPERSHELL_CONFIG_FILE": user}).out == f"file    {user}  read\n"
    done = hs.run("config", "which", env={**here, "HYPERSHELL_CONFIG_FILE": ""})
    assert done.out == "no file is read: HYPERSHELL_CONFIG_FILE is empty\n"


def test_which_tells_where_a_value_is_from(hs: Hs, here: dict[str, str]) -> None:
    text = "[server]\nattempts = 3\nauth = '0123456789abcdef0123456789abcdef'\n[task]\ntimeout_eval = 'touch ran'\n"
    user = write(str(hs.folder / "home" / ".hypershell" / "config.toml"), text)
    env = {**here, "HYPERSHELL_SERVER_EAGER": "yes", "HYPERSHELL_CLIENT_LABEL": "gpu,big"}
    expected = {
        "server.attempts": f"3 (user: {user} | default: 1)",
        "server.auth": f"**** (user: {user} | default: null)",
        "server.eager": "true (env: HYPERSHELL_SERVER_EAGER | default: false)",
        "client.label": "gpu, big (env: HYPERSHELL_CLIENT_LABEL | default: null)",
        "task.timeout": f"touch ran (user: {user}: task.timeout_eval | default: null)",
        "server.bundlesize": "null (default)",
    }
    for key, line in expected.items():
        assert hs.run("config", "which", key, env=env).out == f"{line}\n"
    assert hs.run("config", "which", "database.file", env=env).out.endswith("main.db (preload)\n")
    assert not (hs.folder / "ran").exists()


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 1, ""),
        (["--"], 2, "required: which, and perhaps a KEY"),
        (["get", "server.auth"], 2, "hs config get is not there yet; today: hs config which [KEY]"),
        (["which", "a", "b"], 2, "hs config which takes one KEY, not 2"),
        (["which", "server.atempts"], 2, "unknown key server.atempts (did you mean server.attempts? "),
        (["which", "server"], 2, "unknown key server ("),
    ],
)
def test_which_refuses_by_name(hs: Hs, words: list[str], status: int, text: str) -> None:
    done = hs.run("config", *words)
    assert done.status == status and text in done.err
