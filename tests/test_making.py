"""Files and folders that we make: their modes, their names, and what stands in their place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypershell.making import OLD, beside, make_folder, open_new, sweep, without_links


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="{:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("wanted", [0o600, 0o640, 0o660])
def test_a_file_has_its_mode_whatever_the_umask(tmp_path: Path, umask: int, wanted: int) -> None:
    os.close(open_new(str(tmp_path / "new"), wanted))
    assert mode(tmp_path / "new") == wanted


def test_a_file_without_a_mode_goes_by_the_umask(tmp_path: Path, umask: int) -> None:
    os.close(open_new(str(tmp_path / "new"), None))
    assert mode(tmp_path / "new") == 0o666 & ~umask


@pytest.mark.parametrize("wanted", [0o700, 0o750, 0o770])
def test_folders_have_their_mode_whatever_the_umask(tmp_path: Path, umask: int, wanted: int) -> None:
    before = mode(tmp_path)
    path = tmp_path / "a" / "b" / "c"
    assert make_folder(str(path), wanted)
    assert {mode(path), mode(path.parent), mode(path.parent.parent)} == {wanted}
    assert not make_folder(str(path), 0o777)
    assert (mode(path), mode(tmp_path)) == (wanted, before)


def test_a_folder_goes_on_handing_its_group_down(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o2770)
    make_folder(str(tmp_path / "a" / "b"), 0o770)
    assert mode(tmp_path / "a" / "b") == 0o2770


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError):
            make_folder(str(path))


def test_nothing_is_written_where_a_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("mine\n")
    for name in ("link", "file"):
        with pytest.raises(FileExistsError):
            open_new(str(tmp_path / name))
    assert not (tmp_path / "elsewhere").exists() and (tmp_path / "file").read_text() == "mine\n"


def test_a_link_put_there_meanwhile_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("mine\n")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError), open(tmp_path / "link", "wb", opener=without_links):
        pass
    assert (tmp_path / "target").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["x.db", "a name?*[x].h5", "n" * 255, "é" * 127, "x\udcff"])
def test_names_beside_are_new_each_time_and_swept_when_they_are_old(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    names = []
    for _ in range(2):
        descriptor, one = beside(path)
        os.close(descriptor)
        names.append(one)
    assert names[0] != names[1] and {os.path.dirname(one) for one in names} == {str(tmp_path)}
    sweep(path)
    assert all(map(os.path.exists, names))
    past = os.stat(names[0]).st_mtime - OLD
    os.utime(names[0], (past, past))
    sweep(path)
    assert [os.path.exists(one) for one in names] == [False, True]
    sweep(path, 0.0)
    assert list(tmp_path.iterdir()) == []


def test_only_files_that_we_left_are_swept(tmp_path: Path) -> None:
    descriptor, one = beside(str(tmp_path / "x"))
    os.close(descriptor)
    mine = ("x", "x.partial", ".x.partial", ".x.0123.partial", ".y.0123456789abcdef.partial", f"{one}.txt")
    for name in mine:
        (tmp_path / name).touch()
    (tmp_path / ".x.aaaaaaaaaaaaaaaa.partial").mkdir()
    (tmp_path / ".x.bbbbbbbbbbbbbbbb.partial").symlink_to(tmp_path / "x")
    (tmp_path / ".x.cccccccccccccccc.partial-journal").touch()
    before = set(os.listdir(tmp_path))
    sweep(str(tmp_path / "x"), 0.0)
    gone = before - set(os.listdir(tmp_path))
    assert gone == {os.path.basename(one), ".x.cccccccccccccccc.partial-journal"}
    sweep(str(tmp_path / "nowhere" / "x"))
