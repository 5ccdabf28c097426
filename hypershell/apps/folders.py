"""The folders of a site: made where they are missing, for us alone unless ``site.mode`` says otherwise."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from hypershell.making import set_mode
from hypershell.site import SiteError, ensure_directory
from hypershell.trust import is_exposed, is_foreign, open_to, owner_of

if TYPE_CHECKING:
    from hypershell.config import Config

__all__ = ["site_folder"]

log = logging.getLogger("hypershell")


def site_folder(config: Config, path: str, *, runs: bool = False) -> None:
    """Make the folder `path` of the site, or see whose it is and to whom it is open.

    :param runs: tasks that a database in it holds will run as us.
    Raises ``SiteError`` where it cannot be made, or is another user's and that is not said to be meant.
    """
    mode = config.folder_mode()
    if not os.path.isdir(path):
        ensure_directory(path, config.new_folder_mode())
    found = os.stat(path)
    if is_foreign(found):
        if mode is None or not mode & 0o070:
            _name_owner(path, found, runs)
    elif sys.platform == "win32" or found.st_uid != os.geteuid():
        return
    elif mode is not None:
        for one in {path} if config.sites.chosen else {path, config.sites.default.root}:
            set_mode(one, mode)
    elif open_to(found, 0) and is_exposed(path):
        log.warning(
            "folder %s of the site is open to other users (mode %04o): chmod 700 it, or set site.mode to share it",
            path, found.st_mode & 0o7777,
        )  # fmt: skip


def _name_owner(path: str, found: os.stat_result, runs: bool) -> None:
    text = f"folder {path} of the site belongs to another user, {owner_of(found)}"
    if runs:
        raise SiteError(
            f"{text}, who could have any command run as you: name another by HYPERSHELL_SITE, or set site.mode to "
            "0770 if you share it"
        )
    log.warning("%s; site.mode = 0770 says that you share it", text)
