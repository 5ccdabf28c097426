"""``hs import FILE``: an HDF5 export back into an empty database."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hypershell.errors import ExitStatus, UsageError

__all__ = ["main"]

log = logging.getLogger("hypershell.data")


def main(argv: Sequence[str]) -> int:
    """Run ``hs import ARGV`` and return its exit status."""
    from hypershell.apps.frame import run_command

    return run_command(lambda: _import(argv))


def _import(argv: Sequence[str]) -> int:
    from hypershell.apps.frame import parse_import
    from hypershell.apps.progress import Bar

    settings, _ = parse_import(argv)
    if settings.source is None:
        raise UsageError("the following arguments are required: FILE, an export in HDF5")
    from hypershell.data.owner import Sharing
    from hypershell.data.restore import restore

    with Bar("restoring", None) as progress:
        done = restore(Path(settings.source), settings.place, progress, Sharing(settings.db_mode))
    counts = ", ".join(f"{number} {name}" for name, number in done.counts.items())
    log.info("Restored %s (%s)", counts, settings.place)
    if done.query:
        log.warning("The export holds only the tasks of: %s", done.query)
    if done.moved:
        log.warning("The export was made while a server wrote: it is not the state of one moment")
    return ExitStatus.SUCCESS
