"""What tests of the network share."""

from __future__ import annotations

from hypershell.proto.messages import ClientSettings, Welcome


def welcome() -> Welcome:
    """A message that a server sends first."""
    return Welcome(
        ClientSettings(1, None, 5.0, 10.0, None, None, None, {}, False, "", "warning", "default", "server", "host")
    )
