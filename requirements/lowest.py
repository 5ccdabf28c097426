"""Print the requirements of pyproject.toml, each at its lowest version; arguments name the extras that are wanted.

``make test-lowest`` installs these. A bound is raised when that fails.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(extras: list[str]) -> list[str]:
    """``name==bound`` of every dependency."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(line for one in extras for line in project["optional-dependencies"][one])]
    return [line.replace(">=", "==") for line in wanted]


if __name__ == "__main__":
    print(*lowest(sys.argv[1:]), sep="\n")
