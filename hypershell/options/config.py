"""Words of ``hs config``."""

from __future__ import annotations

from hypershell.options.commands import CONFIG
from hypershell.options.kinds import Option

__all__ = ["CONFIG_OPTIONS"]

CONFIG_OPTIONS: tuple[Option, ...] = (
    Option(
        "config_words",
        CONFIG,
        "'which', and perhaps a key, such as server.bundlesize.",
        metavar="which [KEY]",
        many=True,
        group="arguments",
    ),
)
