"""Paths of the sites for every operating system, and directories that cannot be made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hypershell.apps import folders
from hypershell.apps.folders import site_folder
from hypershell.config import Config
from hypershell.site import SiteError, ensure_directory, find_sites
from tests.testbed.neighbour import give_away


def test_linux() -> None:
    found = find_sites({}, platform="linux", admin=False, home="/home/u", cwd="/w")
    assert (found.system.config, found.system.lib, found.system.log) == (
        "/etc/hypershell.toml",
        "/var/lib/hypershell",
        "/var/log/hypershell",
    )
    assert (found.user.config, found.user.lib, found.user.log) == (
        "/home/u/.hypershell/config.toml",
        "/home/u/.hypershell/lib",
        "/home/u/.hypershell/log",
    )
    assert found.local.config == "/w/.hypershell/config.toml"
    assert found.user.database == "/home/u/.hypershell/lib/main.db"
    assert found.user.task == "/home/u/.hypershell/lib/task"
    assert found.default == found.user
    assert not found.chosen


def test_macos() -> None:
    found = find_sites({}, platform="darwin", admin=False, home="/Users/u", cwd="/w")
    assert found.system.config == "/Library/Preferences/HyperShell/config.toml"
    assert (found.system.lib, found.system.log) == ("/Library/HyperShell", "/Library/Logs/HyperShell")
    assert found.user.config == "/Users/u/Library/Preferences/HyperShell/config.toml"
    assert found.user.database == "/Users/u/Library/HyperShell/Main.db"
    assert (found.local.lib, found.local.log) == ("/w/.hypershell/Library", "/w/.hypershell/Logs")


def test_windows() -> None:
    environ = {"ProgramData": r"D:\PD", "AppData": r"C:\Users\u\AppData\Roaming"}
    found = find_sites(environ, platform="win32", admin=False, home=r"C:\Users\u", cwd=r"C:\w")
    assert found.system.config == r"D:\PD\HyperShell\Config.toml"
    assert found.user.lib == r"C:\Users\u\AppData\Roaming\HyperShell\Library"
    assert found.user.log == r"C:\Users\u\AppData\Roaming\HyperShell\Logs"
    assert found.user.database == r"C:\Users\u\AppData\Roaming\HyperShell\Library\Main.db"
    assert found.local.config == r"C:\w\.hypershell\Config.toml"


def test_administrators_use_the_system_site() -> None:
    found = find_sites({}, platform="linux", admin=True, home="/root", cwd="/w")
    assert found.default == found.system


@pytest.mark.parametrize(("named", "root"), [("/data/site", "/data/site"), ("rel", "/w/rel")])
def test_named_site_replaces_the_local_one_and_is_the_default(named: str, root: str) -> None:
    found = find_sites({"HYPERSHELL_SITE": named}, platform="linux", admin=True, home="/root", cwd="/w")
    assert found.default == found.local
    assert found.chosen
    assert (found.local.root, found.local.config) == (root, f"{root}/config.toml")
    assert found.local.database == f"{root}/lib/main.db"


def test_empty_name_is_no_site() -> None:
    found = find_sites({"HYPERSHELL_SITE": ""}, platform="linux", admin=False, home="/h", cwd="/w")
    assert found.default == found.user


def test_directories_are_made_with_those_above(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b")
    assert ensure_directory(path) == path
    assert os.path.isdir(path)
    assert ensure_directory(path) == path


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "lib")
    with pytest.raises(SiteError) as caught:
        ensure_directory(path)
    assert str(caught.value).startswith(f"cannot make directory {path}: Not a directory (HYPERSHELL_SITE")
    assert caught.value.exit_status == 5


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The configuration with a named site, whose folders are open to others as those of older versions are."""
    environ = {"HYPERSHELL_SITE": str(tmp_path / "site")}
    (tmp_path / "site" / "lib").mkdir(parents=True)
    (tmp_path / "site" / "lib").chmod(0o755)
    return Config.load("cluster", environ=environ, sites=find_sites(environ))


def test_folder_that_is_open_to_others_is_named_and_left_so(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lib = config.sites.default.lib
    site_folder(config, lib)
    assert caplog.messages == []  # nobody else gets as far
    monkeypatch.setattr(folders, "is_exposed", lambda path: True)
    site_folder(config, lib)
    assert caplog.messages == [
        f"folder {lib} of the site is open to other users (mode 0755): chmod 700 it, or set site.mode to share it"
    ]
    assert os.stat(lib).st_mode & 0o777 == 0o755


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o770])
def test_a_mode_that_is_said_holds_for_folders_that_are_there(
    config: Config, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    said = Config.load("cluster", environ={"HYPERSHELL_SITE_MODE": f"{mode:o}"}, sites=config.sites)
    root = os.stat(config.sites.default.root).st_mode
    for path in (config.sites.default.lib, config.sites.default.task):
        site_folder(said, path)
        assert os.stat(path).st_mode & 0o777 == mode
    assert os.stat(config.sites.default.root).st_mode == root  # the user named it, and may have more in it
    assert caplog.messages == []


def test_folder_of_another_user_is_named_where_nothing_runs(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lib = Path(config.sites.default.lib)
    give_away(lib, monkeypatch)
    site_folder(config, str(lib))
    (told,) = caplog.messages
    assert told.startswith(f"folder {lib} of the site belongs to another user")
    with pytest.raises(SiteError, match="who could have any command run as you"):
        site_folder(config, str(lib), runs=True)
    shared = Config.load("cluster", environ={"HYPERSHELL_SITE_MODE": "0770"}, sites=config.sites)
    site_folder(shared, str(lib), runs=True)


def test_vanished_current_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SiteError, match="current directory"):
        find_sites({"HYPERSHELL_SITE": "mine"}, home="/h", admin=False)
    assert find_sites({"HYPERSHELL_SITE": "/s"}, home="/h", admin=False).default.root == "/s"
    assert find_sites({}, home="/h", admin=False).default.root == "/h/.hypershell"
