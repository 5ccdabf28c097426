"""``hs clients``: which clients there were, of which run, and how each ended."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
from contextlib import closing

from tests.testbed.cli import Hs


def test_no_database_and_no_clients(hs: Hs) -> None:
    assert hs.run("clients").out == ""
    assert hs.run("clients", "--json").out == "[]\n"
    assert "missing.db" in hs.run("clients", "--db", "missing.db").err


def test_clients_of_runs(hs: Hs) -> None:
    hs.file(["echo 1", "echo 2"])
    for _ in range(2):
        assert hs.run("cluster", "tasks.in", "-N3").status == 0
    newest, older = json.loads(hs.run("clients", "--json").out)
    assert newest["id"] > older["id"] and newest["run"] != older["run"]
    assert (newest["slots"], newest["rank"], newest["ended"], newest["reason"]) == (3, None, "left", None)
    assert newest["connected"] <= newest["disconnected"]
    assert [row["id"] for row in json.loads(hs.run("clients", "--json", "-l1").out)] == [newest["id"]]
    assert [row["id"] for row in json.loads(hs.run("clients", older["run"], "--json").out)] == [older["id"]]
    assert hs.run("clients", "fff").out == ""
    table = hs.run("clients", "-f", "table").out
    assert newest["id"][:13] in table and "left" in table
    rows = list(csv.DictReader(io.StringIO(hs.run("clients", "--csv").out)))
    assert [row["id"] for row in rows] == [newest["id"], older["id"]]
    assert hs.run("clients", "-f", "normal").out.count("---\n") == 2


def test_one_that_is_here_has_no_end_yet(hs: Hs) -> None:
    os.mkfifo(hs.folder / "gate")
    hs.file(["echo up; read x <gate"])
    process = hs.start("cluster", "tasks.in")
    try:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        while not (rows := json.loads(hs.run("clients", "--json").out)):  # it is recorded soon after the start
            assert process.poll() is None
        (row,) = rows
        assert (row["disconnected"], row["ended"], row["reason"]) == (None, None, None)
        assert row["id"][:13] in hs.run("clients", "-f", "table").out
        (hs.folder / "gate").write_text("go\n")
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


def test_one_that_was_lost_says_why(hs: Hs) -> None:
    hs.file(["echo 1"])
    hs.run("cluster", "tasks.in")
    with closing(sqlite3.connect(hs.db)) as link:
        link.execute("UPDATE client SET evicted = 1, reason = 'connection reset'")
        link.commit()
    (row,) = json.loads(hs.run("clients", "--json").out)
    assert (row["ended"], row["reason"]) == ("lost", "connection reset")
