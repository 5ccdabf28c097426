"""The name of this machine, as messages, files and the database take it."""

from __future__ import annotations

import platform

from hypershell.ostext import escaped

__all__ = ["host_name"]


def host_name() -> str:
    """The name that the kernel knows; it may hold any bytes."""
    return escaped(platform.node())
