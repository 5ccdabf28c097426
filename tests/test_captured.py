"""Which files of captured output are opened: those of the task itself, in folders of ours, and by no link."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hypershell.apps import captured
from hypershell.apps.captured import Captured, NotCaptured
from hypershell.executor.capture import capture_paths
from hypershell.ostext import escaped, from_bytes
from tests.test_query import fill
from tests.testbed.cli import Hs
from tests.testbed.inside import run_inside

ID = "01a202f2-57d7-7000-8000-00000000abcd"
OTHER = "01a202f2-57d7-7000-8000-00000000abce"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of captured output, which belongs to whoever runs the tests."""
    place = tmp_path / "lib" / "task"
    place.mkdir(parents=True)
    return place


def capture(folder: Path, id: str = ID, data: bytes = b"out\n") -> Path:
    path = Path(capture_paths(str(folder), id)[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read(path: str | Path, *folders: Path, id: str = ID, stream: str = "stdout") -> bytes:
    fd = Captured(map(str, folders)).open(id, stream, str(path))
    with open(fd, "rb") as file:
        return file.read()


def test_output_of_the_task_itself_is_opened(folder: Path, tmp_path: Path) -> None:
    path = capture(folder)
    assert read(path, folder) == read(path) == b"out\n"
    err = path.with_suffix(".err")
    err.write_bytes(b"err\n")
    assert read(err, folder, stream="stderr") == b"err\n"
    flat = folder / f"{ID}.out"  # as HyperShell names it
    flat.write_bytes(b"flat\n")
    assert read(flat, folder) == read(flat) == b"flat\n"
    # The way to a folder of ours may lead over links: home and scratch often are some.
    (tmp_path / "link").symlink_to(folder)
    assert read(tmp_path / "link" / path.relative_to(folder), folder) == b"out\n"
    assert read(path, tmp_path / "link") == b"out\n"
    with pytest.raises(FileNotFoundError):
        read(capture_paths(str(folder), OTHER)[0], folder, id=OTHER)
    with pytest.raises(FileNotFoundError):
        read(capture_paths(f"/{'x' * 300}", ID)[0], folder)
    with pytest.raises(FileNotFoundError):
        read("C:\\site\\lib\\task\\ab\\cd\\x.out", folder)


NAMES: dict[str, Callable[[Path], object]] = {
    "any file": lambda folder: "/etc/hostname",
    "another task": lambda folder: capture(folder, OTHER),
    "the other stream": lambda folder: capture(folder).with_suffix(".err"),
    "up": lambda folder: f"{folder}/../task/{capture(folder).relative_to(folder)}",
    "twice": lambda folder: str(capture(folder)).replace("/task/", "/task//"),
    "dot": lambda folder: str(capture(folder)).replace("/task/", "/task/./"),
    "elsewhere": lambda folder: capture(folder).parent / "x" / f"{ID}.out.gz",
    "nul at the end": lambda folder: f"{capture(folder)}\0",
    "nul": lambda folder: str(capture(folder)).replace("/task/", "/ta\0sk/"),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_named_so_is_refused(folder: Path, name: str) -> None:
    path = NAMES[name](folder)
    with pytest.raises(NotCaptured) as caught:
        read(str(path), folder)
    assert str(caught.value).startswith(f"{path} is not opened: it is not the name of captured stdout of task {ID}")


def test_an_id_that_is_none_names_no_file(folder: Path) -> None:
    (folder / "00" / "ec").mkdir(parents=True)
    (folder / "00" / "ec" / "secret.out").write_bytes(b"x")
    with pytest.raises(NotCaptured):
        read(folder / "00" / "ec" / "secret.out", folder, id="secret")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("walks", [True, False])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_no_link_below_the_folder_is_followed(
    folder: Path, tmp_path: Path, part: int, walks: bool, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured, "_WALKS", walks)
    elsewhere = capture(tmp_path / "secret")
    path = capture(folder)
    names = path.relative_to(folder).parts
    place = folder.joinpath(*names[: part + 1])
    place.rename(tmp_path / "was")
    place.symlink_to((tmp_path / "secret").joinpath(*names[: part + 1]))
    assert path.read_bytes() == elsewhere.read_bytes()
    folders = [folder] if known else []
    with pytest.raises(NotCaptured, match=r"link|none of this site"):
        read(path, *folders)


@pytest.mark.parametrize("walks", [True, False])
def test_only_regular_files_are_opened(folder: Path, walks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "_WALKS", walks)
    path = capture(folder)
    assert read(path, folder) == b"out\n"
    path.unlink()
    for make in (os.mkfifo, os.mkdir):
        make(path)
        with pytest.raises(NotCaptured, match="no regular file"):
            read(path, folder)
        (path.rmdir if path.is_dir() else path.unlink)()


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_folder_that_others_may_write_is_none_of_ours(folder: Path, part: int) -> None:
    path = capture(folder)
    place = folder.joinpath(*path.relative_to(folder).parts[:part])
    for mode in (0o775, 0o757, 0o1777):
        place.chmod(mode)
        with pytest.raises(NotCaptured, match="HYPERSHELL_SITE names the site of the run"):
            read(path)
        assert read(path, folder) == b"out\n"


def test_what_belongs_to_others_is_opened_only_where_the_site_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = capture(folder)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(NotCaptured, match="nor one that only you may write"):
        read(path)
    assert read(path, folder) == b"out\n"


def test_folders_whose_names_are_not_utf_8_are_found(tmp_path: Path) -> None:
    true = tmp_path / from_bytes(b"caf\xe9")
    shown = tmp_path / r"caf\xe9"
    path = capture(true)
    assert read(escaped(str(path)), true) == read(escaped(str(path))) == b"out\n"
    shown.mkdir()
    assert read(escaped(str(path))) == b"out\n"


@pytest.fixture
def pointed(hs: Hs) -> tuple[Hs, str, Path]:
    """A database with a task whose row names a file of ours that nobody should get, as a peer may have said it."""
    hs.db.parent.mkdir(parents=True)
    fill(hs.db)
    secret = hs.folder / "secret"
    secret.write_text("top secret\n")
    with sqlite3.connect(hs.db) as link:
        ((key,),) = link.execute("SELECT id FROM task ORDER BY id LIMIT 1").fetchall()
        link.execute("UPDATE task SET outpath = ?, errpath = ? WHERE id = ?", [str(secret)] * 2 + [key])
    link.close()
    return hs, key, secret


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_info_refuses_by_name(pointed: tuple[Hs, str, Path], stream: str) -> None:
    hs, key, secret = pointed
    done = run_inside(hs, "info", key, f"--{stream}")
    assert done.status == 5 and "top secret" not in done.out + done.err
    assert f"{secret} is not opened: it is not the name of captured {stream} of task {key}" in done.err
    assert done.err.count("\n") == 1


def test_what_the_database_kept_is_shown_with_a_warning(pointed: tuple[Hs, str, Path]) -> None:
    hs, key, secret = pointed
    with sqlite3.connect(hs.db) as link:
        link.execute("INSERT INTO output (task_id, stdout, stdout_size) VALUES (?, ?, 5)", [key, b"kept\n"])
    link.close()
    done = run_inside(hs, "info", key, "--stdout")
    assert (done.status, done.out) == (0, "kept\n")
    assert f"WARNING [hypershell.task] {secret} is not opened" in done.err


def test_export_refuses_by_name_and_goes_on(pointed: tuple[Hs, str, Path]) -> None:
    import h5py

    hs, _, secret = pointed
    done = run_inside(hs, "export", "a.h5", "--outputs")
    assert done.status == 0, done.err
    assert f"2 files of output were refused; the first: {secret} is not opened: " in done.err
    assert "not readable here" not in done.err
    with h5py.File(hs.folder / "a.h5") as file:
        assert not len(file["outputs/stdout"]) and not len(file["outputs/stderr"])
