"""How this program is started again: as a module of an interpreter, or from the file that it was bundled into."""

from __future__ import annotations

import sys

import hypershell

__all__ = ["own_words"]


def own_words() -> list[str]:
    """The words before the name of a command."""
    spec = hypershell.__spec__
    archive = getattr(spec.loader, "archive", None) if spec is not None else None
    # Without -P it would import first what somebody left in the current folder.
    return [sys.executable, "-P", *(["-m", "hypershell"] if archive is None else [str(archive)])]
