"""Whose links may be followed to write, for all that writes to a name; and who gets as far as a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hypershell import log
from hypershell.data import upkeep
from hypershell.data.aside import written_aside
from hypershell.data.engine import preflight
from hypershell.errors import HyperShellError
from hypershell.net.private import write_private
from hypershell.server.statusfile import StatusFile
from hypershell.server.targets import Opening, Target
from hypershell.trust import followed, is_exposed, open_to
from tests.test_server_statusfile import NOTHING
from tests.testbed.neighbour import give_away

Writer = Callable[[str], None]


def to_output(path: str) -> None:
    target = Target(path)
    target.claim(Opening.APPEND)
    try:
        os.write(target.open(Opening.APPEND), b"out\n")
    finally:
        target.close()


def to_status_file(path: str) -> None:
    file = StatusFile(path, lambda: NOTHING)
    file.claim()
    file.begin()


def to_export(path: str) -> None:
    with written_aside(Path(path), True) as aside:
        aside.write_text("export\n")


def to_log(path: str) -> None:
    log._LogFile(path, 0o600).close()


def to_connect_file(path: str) -> None:
    write_private(path, b"key\n")


def to_database(path: str) -> None:
    preflight(Path(path))


def to_backup(path: str) -> None:
    database = Path(os.path.realpath("own.db"))
    preflight(database)
    upkeep.place(upkeep.new_beside(Path(followed(os.path.dirname(path)), "copy.db")), Path(path), like=database)


#: All that writes to a name that the user gives.
WRITERS: list[Writer] = [to_output, to_status_file, to_export, to_log, to_connect_file, to_database, to_backup]
#: Those that follow a link that is the file itself; the others replace the link, or refuse it.
FOLLOWERS: list[Writer] = [to_output, to_status_file, to_export, to_log, to_database]

by_name = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
by_follower = pytest.mark.parametrize("write", FOLLOWERS, ids=lambda write: write.__name__)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as /tmp is, and beside it a private one, ``mine``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir(0o700)
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@by_follower
def test_own_links_are_followed(write: Writer, shared: Path) -> None:
    link = shared / "link"
    link.symlink_to("../mine/target")
    write(str(link))
    assert link.is_symlink() and (shared.parent / "mine" / "target").is_file()


@by_follower
def test_nothing_is_written_through_the_link_of_another(
    write: Writer, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = shared.parent / "mine" / "target"
    link = shared / "link"
    link.symlink_to(target)
    give_away(link, monkeypatch)
    with pytest.raises((HyperShellError, OSError), match=f"the link {link} belongs to "):
        write(str(link))
    assert not target.exists()
    target.touch()
    with pytest.raises((HyperShellError, OSError), match=f"the link {link} belongs to "):
        write(str(link))
    assert target.read_bytes() == b"" and os.listdir(target.parent) == ["target"]


@by_name
def test_nothing_is_written_into_a_folder_behind_the_link_of_another(
    write: Writer, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shared / "link").symlink_to("../mine")
    give_away(shared / "link", monkeypatch)
    with pytest.raises((HyperShellError, OSError), match=f"the link {shared}/link belongs to "):
        write(str(shared / "link" / "new"))
    assert os.listdir(shared.parent / "mine") == []


def test_the_folders_of_a_project_may_be_links_of_whoever_keeps_it(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but its owner could have put such a link into this folder."""
    project = shared.parent / "project"
    project.mkdir(0o755)
    (project / "data").symlink_to("../mine")
    give_away(project / "data", monkeypatch)
    if os.geteuid() == 0:
        give_away(project, monkeypatch)
    assert followed(str(project / "data" / "x")) == str(shared.parent / "mine" / "x")
    project.chmod(0o775)
    with pytest.raises(OSError, match="the link"):
        followed(str(project / "data" / "x"))


@pytest.mark.parametrize(
    "path",
    ["a", "./a", "mine/../a", "mine//a", "mine/", "link/../a", "link/x", "chain/x", "x/y/z", "link/./../../a"],
)
def test_the_way_is_that_of_realpath(shared: Path, path: str) -> None:
    Path("mine/deep").mkdir()
    Path("link").symlink_to("mine/deep")
    Path("chain").symlink_to(f"{shared.parent}/./link")
    assert followed(path) == os.path.realpath(path)


def test_a_circle_of_links_ends(shared: Path) -> None:
    Path("one").symlink_to("two")
    Path("two").symlink_to("one")
    for path in ("one", "one/x"):
        with pytest.raises(HyperShellError, match="Too many levels"):
            to_output(path)


def test_who_gets_as_far_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    file.parent.mkdir(0o755)
    file.touch(0o644)
    tmp_path.chmod(0o700)
    assert not is_exposed(str(file))
    assert is_exposed("/etc/passwd")
    assert open_to(os.stat(file), 0) == 0o044 and open_to(os.stat(file), 0o640) == 0o004
