"""Captured output: files that hold what a task wrote, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypershell.core.model import Special
from hypershell.executor.capture import capture_paths
from tests.test_executor_rig import run_tasks


def test_paths_are_sharded_by_the_last_digits() -> None:
    id = "01935f2e-7a00-7abc-8def-0123456789ab"
    assert capture_paths("/lib", id) == (f"/lib/89/ab/{id}.out", f"/lib/89/ab/{id}.err")


@pytest.mark.parametrize("id", ["../../etc/passwd", "x", "", "a\0b"])
def test_no_id_leads_out_of_the_folder(id: str) -> None:
    for path in capture_paths("/lib", id):
        parts = Path(path).parts
        assert parts[:2] == ("/", "lib") and len(parts) == 5 and ".." not in parts


def test_files_are_byte_exact(tmp_path: Path) -> None:
    line = "head -c 300000 /dev/urandom | tee copy; printf '\\000\\377no newline' >&2"
    server = run_tasks([line], capture=True, capture_dir=bytes(tmp_path / "lib"), cwd=str(tmp_path))
    result = server.result()
    assert result.outpath is not None and result.errpath is not None
    assert Path(result.outpath).read_bytes() == (tmp_path / "copy").read_bytes()
    assert Path(result.errpath).read_bytes() == b"\0\xffno newline"
    assert result.outpath == str(tmp_path / "lib" / "00" / "00" / f"{result.id}.out")
    assert (server.out, server.err) == (b"", b"")


def test_the_task_knows_its_files(tmp_path: Path) -> None:
    server = run_tasks(['echo "$TASK_OUTPATH" "$TASK_ERRPATH"'], capture=True, capture_dir=bytes(tmp_path))
    result = server.result()
    assert result.outpath is not None
    assert Path(result.outpath).read_text().split() == [result.outpath, result.errpath]


def test_a_file_that_cannot_be_made_is_a_named_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_tasks(["true"], capture=True, capture_dir=bytes(tmp_path / "file")).result()
    assert result.exit_status == Special.NOT_STARTED
    assert result.error is not None and "Not a directory" in result.error and str(tmp_path) in result.error


def test_an_earlier_file_is_replaced(tmp_path: Path) -> None:
    for line in ("echo longer text", "echo x"):
        result = run_tasks([line], capture=True, capture_dir=bytes(tmp_path)).result()
    assert result.outpath is not None
    assert Path(result.outpath).read_text() == "x\n"
