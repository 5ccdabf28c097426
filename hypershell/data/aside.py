"""A file that appears whole or not at all: written beside its place, synced, then given its name.

Knows nothing of what is in it. Called by ``export``.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hypershell.errors import HyperShellError
from hypershell.making import beside, sweep
from hypershell.trust import followed

__all__ = ["ExportError", "check_target", "written_aside"]


class ExportError(HyperShellError):
    """A file of an export that cannot be written or read."""


def check_target(path: Path, force: bool) -> None:
    """Make sure that `path` may be made, or with `force` replaced.

    Raises:
        ExportError: it is there, or is no regular file, or its folder is not there.
    """
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if not os.path.lexists(path):
        return
    if not force:
        raise ExportError(f"{path} exists: name another file, or replace it with --force")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ExportError(f"{path} is not a regular file: name another file")


@contextlib.contextmanager
def written_aside(path: Path, force: bool) -> Iterator[Path]:
    """A new empty file in the folder of `path`, which becomes `path` at the end; after any error it is removed.

    A symbolic link is replaced where it leads to. Without `force` a `path` that appeared meanwhile is kept.

    Raises:
        ExportError: the system does not let it be written; with the reason.
    """
    check_target(path, force)
    try:
        real = Path(followed(str(path)))
        sweep(str(real))
        descriptor, name = beside(str(real), None)
        os.close(descriptor)
        aside = Path(name)
        try:
            yield aside
            _sync(aside)
            _publish(aside, real, force)
            _sync(real.parent)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise ExportError(f"cannot write {path}: {reason}; nothing was left there") from error


def _publish(aside: Path, path: Path, force: bool) -> None:
    if force:
        os.replace(aside, path)
        return
    try:
        os.link(aside, path)  # unlike a renaming it fails where the name is taken
    except FileExistsError:
        raise ExportError(f"{path} was made meanwhile: name another file, or replace it with --force") from None
    except OSError:  # a file system without hard links
        check_target(path, force)
        os.rename(aside, path)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
