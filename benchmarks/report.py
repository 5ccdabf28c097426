"""How every benchmark shows what it found: a table on stdout, and JSON in ``benchmarks/results/``."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["report"]

RESULTS = Path(__file__).resolve().parent / "results"


def report(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print `rows` (all with the same keys) under `name` and write them to ``results/NAME.json``."""
    keys = list(rows[0]) if rows else []
    table = [keys, *([_text(row[key]) for key in keys] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(keys))]
    print(name)
    for line in table:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    RESULTS.mkdir(exist_ok=True)
    told = {
        "name": name,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "rows": [dict(row) for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
