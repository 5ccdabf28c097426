"""What we take from others: actions by commit, dependencies by hash, and bounds that the lock keeps."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {path.stem: path for path in (ROOT / "requirements").glob("*.txt")}


def locked(name: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a lock, each with its hashes."""
    whole = LOCKS[name].read_text().replace("\\\n", " ")
    lines = [line.split(" --hash=") for line in whole.splitlines() if line.strip()]
    return [(Requirement(words[0].strip()), [one.strip() for one in words[1:]]) for words in lines]


def test_actions_are_pinned_by_commit_with_their_version_beside() -> None:
    used = []
    for path in (ROOT / ".github" / "workflows").iterdir():
        used += re.findall(r"^\s*-?\s*uses:\s*(.+)$", path.read_text(), re.MULTILINE)
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", line)] == []


@pytest.mark.parametrize("name", ["dev", "mpich", "openmpi"])
def test_a_lock_names_versions_and_hashes_and_no_place(name: str) -> None:
    text = LOCKS[name].read_text()
    assert not re.search(r"://|@|^\s*-(?!-hash)|file:", text, re.MULTILINE)
    for requirement, hashes in locked(name):
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


def test_the_lock_has_every_dependency_in_a_version_that_is_allowed() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], "hatchling", "editables"]
    wanted += [line for name in LOCKS for line in extras[name]]
    versions: dict[str, list[str]] = {}
    for name in LOCKS:
        for requirement, _ in locked(name):
            versions.setdefault(canonicalize_name(requirement.name), []).extend(
                one.version for one in requirement.specifier
            )
    for line in wanted:
        asked = Requirement(line)
        found = versions[canonicalize_name(asked.name)]
        assert all(asked.specifier.contains(version) for version in found), line


def test_every_dependency_has_a_lowest_version_that_can_be_installed_as_such() -> None:
    extras = PROJECT["optional-dependencies"]
    lowest = runpy.run_path(str(ROOT / "requirements" / "lowest.py"))["lowest"]
    lines = lowest(list(extras))
    assert len(lines) == len(PROJECT["dependencies"]) + sum(map(len, extras.values()))
    assert [line for line in lines if not re.fullmatch(r"[\w.\[\]-]+==\d+(\.\d+)*", line)] == []
