"""What ``hs`` makes is for its user alone, whatever the umask; who shares says so; other users are named."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.testbed.cli import Hs
from tests.testbed.neighbour import give_away

LINES = ["echo out; echo err >&2", "exit 3"]


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def modes(folder: Path) -> tuple[set[int], set[int]]:
    """The modes of a folder with all folders below it, and of the files."""
    inside = list(folder.rglob("*"))
    folders = {mode(path) for path in inside if path.is_dir()} | {mode(folder)}
    return folders, {mode(path) for path in inside if path.is_file()}


def run(hs: Hs, umask: int, *args: str, **env: str) -> None:
    """Run LINES with a log file."""
    process = hs.start("cluster", *args, env={"HYPERSHELL_LOGGING_FILE": "true", **env}, umask=umask)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 7, err.decode()


@pytest.mark.parametrize("umask", [0o000, 0o077], ids="{:03o}".format)
def test_the_site_is_private_and_named_files_go_by_the_umask(hs: Hs, umask: int) -> None:
    name = hs.file(LINES)
    named = ["-o", "out.txt", "-e", "err.txt", "-f", "failed.txt", "--status-file", "status.json"]
    run(hs, umask, name, *named)
    assert {mode(hs.folder / file) for file in named[1::2]} == {0o666 & ~umask}
    run(hs, umask, name, "--capture")
    assert modes(hs.site) == ({0o700}, {0o600})
    assert len(list((hs.site / "lib" / "task").rglob("*.out"))) == len(LINES)


@pytest.mark.parametrize("umask", [0o000, 0o077], ids="{:03o}".format)
def test_a_database_elsewhere_is_private_too(hs: Hs, umask: int) -> None:
    run(hs, umask, hs.file(LINES), "--db", "other.db")
    assert mode(hs.folder / "other.db") == 0o600
    hs.start("export", "tasks.csv", "--db", "other.db", umask=umask).communicate(timeout=60)
    assert mode(hs.folder / "tasks.csv") == 0o666 & ~umask


def test_a_group_shares_what_is_said_to_be_shared(hs: Hs) -> None:
    shared = {"HYPERSHELL_SITE_MODE": "0770", "HYPERSHELL_DATABASE_MODE": "0660"}
    run(hs, 0o077, hs.file(LINES), "--capture", **shared)
    assert modes(hs.site) == ({0o770}, {0o660})
    refused = hs.run("list", env={"HYPERSHELL_SITE_MODE": "0777"})
    assert refused.status == 3 and "HYPERSHELL_SITE_MODE: expected one of 0700, 0750, 0770" in refused.err
    refused = hs.run("list", env={"HYPERSHELL_DATABASE_MODE": "644"})
    assert refused.status == 3 and "expected one of 0600, 0640, 0660, not '644'" in refused.err


def test_no_folder_is_made_for_a_database(hs: Hs) -> None:
    done = hs.run("cluster", hs.file(["echo x"]), "--db", "nothere/x.db")
    assert done.status == 5 and f"folder {hs.folder}/nothere: No such file or directory; make it" in done.err
    assert done.out == "" and not (hs.folder / "nothere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_another_user_keeps_is_not_run(hs: Hs, monkeypatch: pytest.MonkeyPatch) -> None:
    name = hs.file(["touch ran"])
    assert hs.run("submit", "touch ran").status == 0
    give_away(hs.db, monkeypatch)
    done = hs.run("cluster", "--restart")
    assert done.status == 5 and f"database {hs.db} belongs to another user" in done.err
    assert hs.run("list", "id").status == 0
    give_away(hs.site / "lib", monkeypatch)
    done = hs.run("cluster", name)
    assert done.status == 5 and f"folder {hs.site}/lib of the site belongs to another user" in done.err
    assert not (hs.folder / "ran").exists()
    shared = {"HYPERSHELL_SITE_MODE": "0770", "HYPERSHELL_DATABASE_MODE": "0660"}
    assert hs.run("cluster", "--restart", env=shared).status == 0 and (hs.folder / "ran").exists()
