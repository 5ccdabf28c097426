"""Another user of this machine, as far as files go: what is given to it is not ours any more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["UID", "give_away"]

#: Nobody's.
UID = 65534


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `path` (a link itself, not what it leads to) be another user's.

    Root gives it away; anybody else becomes another user, to whom all that is here is foreign.
    """
    if os.geteuid() == 0:
        os.lchown(path, UID, UID)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
