"""Commands that look at rotated tasks as ``hs list`` does, and ``hs update``, which leaves them alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import pytest

from tests.testbed.cli import Hs

LINES = ["echo one # HYPERSHELL: n:1", "exit 3", "echo two"]


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Hs:
    """Two partitions of four rows each (one is tried twice), and one task that was not moved."""
    hs = Hs(tmp_path_factory.mktemp("rotated"))
    hs.file(LINES)
    for _ in range(2):
        assert hs.run("cluster", "tasks.in", "-r1").status == 7
        assert hs.run("initdb", "--rotate", "--yes").status == 0
    hs.file(["echo new"])
    assert hs.run("cluster", "tasks.in").status == 0
    return hs


def ids(hs: Hs, *more: str) -> list[str]:
    return hs.run("list", "id", "-f", "plain", *more).out.split()


def test_info_finds_a_rotated_task_and_reads_it_as_list_does(rotated: Hs) -> None:
    for key in ids(rotated):
        done = rotated.run("info", key, "--json")
        assert done.status == 0, done.err
        listed = rotated.run("list", "-f", "json", "-w", f"id == {key}")
        assert json.loads(done.out) == json.loads(listed.out)[0]


def test_a_beginning_counts_tasks_of_all_files(rotated: Hs) -> None:
    keys = ids(rotated)
    assert len(keys) == 9
    shared = next(n for n in range(36, 0, -1) if len({key[:n] for key in keys}) == 1)
    done = rotated.run("info", keys[0][:shared])
    assert done.status == 5 and "9 tasks have an id that begins with" in done.err
    done = rotated.run("info", keys[0][:shared], "-i", "-x", "args")
    assert done.out == "echo new\n", "without partitions there is only one"


def test_what_is_rotated_is_not_there_without_partitions(rotated: Hs) -> None:
    key = ids(rotated, "-t", "part:1")[0]
    assert rotated.run("info", key, "-i").status == 5
    assert rotated.run("wait", key, "--ignore-partitions").status == 5
    assert rotated.run("wait", key).status == 0


def test_wait_follows_a_rotated_task_to_its_last_attempt(rotated: Hs) -> None:
    (key,) = ids(rotated, "-t", "part:2", "-w", "args == exit 3", "-w", "attempt == 1")
    done = rotated.run("wait", key, "-r")
    assert done.status == 3, done.err
    assert json.loads(rotated.run("wait", key, "-i", "--json").out)["attempt"] == 2


def test_exports_have_the_tasks_of_all_partitions_in_their_order(rotated: Hs, tmp_path: Path) -> None:
    keys = ids(rotated)
    for words, wanted in (([], keys), (["-i"], keys[-1:]), (["-t", "part:1"], keys[:4]), (["-l", "5"], keys[:5])):
        for name in ("out.h5", "out.csv", "out.jsonl"):
            target = tmp_path / name
            done = rotated.run("export", str(target), "--force", *words)
            assert done.status == 0 and f"Exported {len(wanted)} tasks" in done.err, done.err
            assert read(target) == wanted, (name, words)


def read(path: Path) -> list[str]:
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return [key.decode() for key in file["tasks/id"][:]]
    with open(path, newline="") as source:
        if path.suffix == ".csv":
            return [row["id"] for row in csv.DictReader(source)]
        return [json.loads(line)["id"] for line in source]


def test_update_says_that_what_it_would_change_is_in_a_partition(rotated: Hs) -> None:
    before = rotated.run("list", "-f", "json").out
    done = rotated.run("update", "-f", "--revert", "-F")
    assert done.status == 0 and "2 of them, are only in partitions, which stay as they are" in done.err
    assert "No such tasks" in rotated.run("update", "-f", "--revert", "-w", "args == not there").err
    key = ids(rotated, "-F")[0]
    done = rotated.run("update", "-f", "--revert", key)
    assert done.status == 5 and "was rotated into a partition" in done.err
    assert rotated.run("list", "-f", "json").out == before
